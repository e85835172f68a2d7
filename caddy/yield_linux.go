// This file lets the goroutines run that are ready. See turns.go for why Go's scheduler needs help with that.

package gojinn

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// yieldEvery is how often goroutines give way at most.
const yieldEvery = time.Millisecond

// giveWay lets the goroutines run that are ready, or whose connections are, unless that was done less than yieldEvery before now.
var giveWay = (&yielder{open: sync.OnceValue(openPolled)}).yield

// yielder waits for what is readable at once, in a pipe. A goroutine that waits for a pipe is run again after Go has run the goroutines
// that were ready, and has asked the kernel which connections are.
type yielder struct {
	// open returns the pipe, or nil if there are no descriptors for it.
	open func() *polled
	// last is when a goroutine has given way, in nanoseconds since 1970.
	last atomic.Int64
	busy sync.Mutex
}

// polled is a pipe, and what reads from it through Go's poller.
type polled struct {
	read  syscall.RawConn
	write *os.File
}

func openPolled() *polled {
	r, w, err := os.Pipe()
	if err != nil {
		return nil
	}
	read, err := r.SyscallConn()
	if err != nil {
		return nil
	}
	return &polled{read, w}
}

func (y *yielder) yield(at time.Time) {
	last, now := y.last.Load(), at.UnixNano()
	if now-last < int64(yieldEvery) || !y.last.CompareAndSwap(last, now) {
		return
	}
	if y.busy.TryLock() {
		if p := y.open(); p != nil {
			p.poll()
		}
		y.busy.Unlock()
	}
	// The poller may have run this goroutine before the others that it has found.
	runtime.Gosched()
}

// poll returns after Go has asked the kernel what is readable.
func (p *polled) poll() {
	var one [1]byte
	written := false
	_ = p.read.Read(func(fd uintptr) bool {
		if !written {
			// Written here, and not earlier, the byte is an event that the poller has not seen when Read begins to wait.
			_, err := p.write.Write(one[:])
			written = err == nil
			return !written
		}
		n, err := syscall.Read(int(fd), one[:])
		return n == 1 || err != syscall.EAGAIN && err != syscall.EINTR
	})
}
