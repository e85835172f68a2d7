package probe

import (
	"runtime"
	"time"
	"unsafe"
)

// timers are armed before the first read.
type timers struct {
	ticker *time.Ticker
	timer  *time.Timer
	fired  chan struct{}
}

func (t *timers) arm() {
	t.ticker = time.NewTicker(2 * time.Millisecond)
	t.timer = time.NewTimer(3 * time.Millisecond)
	t.fired = make(chan struct{}, 1)
	time.AfterFunc(4*time.Millisecond, func() { t.fired <- struct{}{} })
}

// wait tells which of them came: a ticker twice.
func (t *timers) wait() map[string]bool {
	if t.ticker == nil {
		return nil
	}
	come := map[string]bool{}
	deadline := time.After(5 * time.Second)
	for _, wait := range []struct {
		name string
		on   func() bool
	}{
		{"tick", func() bool { return received(t.ticker.C, deadline) }},
		{"tock", func() bool { return received(t.ticker.C, deadline) }},
		{"timer", func() bool { return received(t.timer.C, deadline) }},
		{"func", func() bool { return received(t.fired, deadline) }},
	} {
		come[wait.name] = wait.on()
	}
	return come
}

func received[T any](from <-chan T, deadline <-chan time.Time) bool {
	select {
	case <-from:
		return true
	case <-deadline:
		return false
	}
}

// finalizers sets some on garbage.
func (s *state) finalizers() {
	s.cleaned = make(chan int, 10)
	for i := 0; i < 10; i++ {
		garbage := &node{}
		garbage.pad[0] = uint64(i)
		runtime.SetFinalizer(garbage, func(n *node) { s.cleaned <- int(n.pad[0]) })
	}
	addCleanup(s.cleaned)
}

// finalized tells whether at least one of them has run within a second.
func (s *state) finalized() bool {
	if s.cleaned == nil {
		return false
	}
	select {
	case <-s.cleaned:
		return true
	case <-time.After(time.Second):
		return false
	}
}

// clocks are readings that a test can hold against its own.
func clocks() map[string]int64 {
	before := time.Now()
	time.Sleep(time.Millisecond)
	return map[string]int64{
		"realtime":    before.UnixNano(),
		"monotonic":   monotonic(),
		"since_start": monotonic() - started.began,
		"slept":       int64(time.Since(before)),
	}
}

// monotonic reads the monotonic clock alone: time.Now would read that of the day, too.
func monotonic() int64 {
	var now int64
	if errno := clockTimeGet(1, 1, unsafe.Pointer(&now)); errno != 0 {
		panic("probe: clock_time_get: errno " + string(rune('0'+errno)))
	}
	return now
}

//go:wasmimport wasi_snapshot_preview1 clock_time_get
//go:noescape
func clockTimeGet(id int32, precision int64, time unsafe.Pointer) int32
