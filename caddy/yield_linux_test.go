// Tests of giving way to goroutines that are ready.

package gojinn

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A goroutine whose pipe is readable has read before one goes on that gives way, although no processor is idle that could ask the
// kernel. Without that, Go asks after up to 10 ms.
func TestGivingWay(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 100 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var read atomic.Bool
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := r.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
			read.Store(true)
		})
		// The goroutine waits in the poller.
		runtime.Gosched()
		if _, err := w.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		y := yielder{open: sync.OnceValue(openPolled)}
		// Once is not always enough: Go's scheduler prefers the goroutine that gives way each 61st time.
		for n := 1; !read.Load(); n++ {
			if n > 5 {
				t.Fatal("a goroutine that could go on did not")
			}
			y.last.Store(0)
			y.yield(time.Now())
		}
		group.Wait()
		_, _ = r.Close(), w.Close()
		y.open().write.Close()
	}
}

// No more than one in a while gives way, and none must wait for another one that does, or fail where there are no descriptors.
func TestGivingWayAtOnce(t *testing.T) {
	y := yielder{open: sync.OnceValue(openPolled)}
	without := yielder{open: func() *polled { return nil }}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for at := range 500 {
				y.yield(time.Unix(0, int64(at)*int64(yieldEvery)))
				without.yield(time.Now())
			}
		})
	}
	group.Wait()
	if last := y.last.Load(); last != 499*int64(yieldEvery) {
		t.Errorf("the last gave way at %d", last)
	}
}
