// This file bounds how many guests run at the same moment, and shares the cores between functions: a turn is the right to run one.

package gojinn

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// lendAfter is how long a guest runs before it lends its turn to another one, and goes on without: a guest that computes for
	// long must not stop those that need microseconds.
	lendAfter = 5 * time.Millisecond
	// longAfter is how long a guest runs before another one of the same function may run beside it although there are as many as
	// cores. Until then more of them would end no sooner, and take the cores from everything else.
	longAfter = 100 * time.Millisecond
	// crowd is how many guests of one function may run for each core, with a turn or without.
	crowd = 4
	// credit is how much more of the cores a function may have used than others when its calls begin to wait, and be remembered:
	// what it used while there were turns for all took nothing from them.
	credit = 100 * time.Millisecond
)

// turns has a turn for each core. Guests that ran at once beyond that would take cores from each other in the middle of their
// work, and evict each other's caches. A guest that waits has no turn.
type turns struct {
	cores int

	mu   sync.Mutex
	free int
	// backlog has the lines in which calls wait for a turn.
	backlog []*line
	// reached is how much of the cores the line had used that got the last turn for which it had to wait.
	reached time.Duration
	// waiting counts the calls that wait for a turn, lent the guests that run without one.
	waiting, lent int
}

func newTurns(cores int) *turns {
	return &turns{cores: cores, free: cores}
}

// counts returns how many calls wait for a turn, and how many guests run without one.
func (t *turns) counts() (waiting, lent int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting, t.lent
}

// count returns how many calls wait for a turn.
func (t *turns) count() int {
	waiting, _ := t.counts()
	return waiting
}

// line has the calls of one function that wait for a turn. The line that has used the least of the cores is served first, but those
// that run fewer guests than there are cores before the others. Within a line, calls that have begun come first.
type line struct {
	turns *turns
	// blocks says that a guest which waits keeps its turn, or its thread if it has lent that: running says little then.
	blocks bool
	// most is how many guests may run at the same moment.
	most int
	// pace is that of the calls which have not begun.
	pace pace
	// waits says that a call of the function has waited.
	waits atomic.Bool

	// The rest is guarded by turns.mu.
	begun, fresh list.List
	// running counts the guests that run, with a turn or without; long counts those of them that have run for longAfter.
	running, long int
	// used is for how long guests have run, of all that counts.
	used time.Duration
}

// newLine returns the line of a function. suspends says that a guest which waits costs no thread.
func newLine(t *turns, suspends bool) *line {
	l := &line{turns: t, most: crowd * t.cores}
	if !suspends {
		l.blocks, l.most = true, max(l.most, maxBlocking())
	}
	return l
}

// enter runs a guest at once, if there is a turn that no earlier call may have.
func (l *line) enter() bool {
	t := l.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free == 0 || !l.mayRun() || l.begun.Len()+l.fresh.Len() > 0 {
		return false
	}
	t.free--
	l.running++
	return true
}

// mayRun reports whether one more guest may run, if there is a turn.
func (l *line) mayRun() bool {
	return l.running < l.most && l.running-l.long < l.turns.cores
}

// wait waits for a turn in one of the line's queues.
func (l *line) wait(ctx context.Context, queue *list.List) error {
	t, granted := l.turns, make(chan struct{})
	t.mu.Lock()
	if l.begun.Len()+l.fresh.Len() == 0 {
		t.backlog = append(t.backlog, l)
		l.used = min(max(l.used, t.reached), t.reached+credit)
	}
	place := queue.PushBack(granted)
	t.waiting++
	// A turn may have been returned since the call has looked for one.
	t.serve()
	t.mu.Unlock()

	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-granted:
		l.running--
		t.free++
		t.serve()
	default:
		l.remove(queue, place)
	}
	return ctx.Err()
}

// remove takes a call out of the line.
func (l *line) remove(queue *list.List, place *list.Element) chan struct{} {
	t := l.turns
	granted, _ := queue.Remove(place).(chan struct{})
	t.waiting--
	if l.begun.Len()+l.fresh.Len() == 0 {
		t.backlog = slices.DeleteFunc(t.backlog, func(other *line) bool { return other == l })
	}
	return granted
}

// serve gives the free turns to calls that wait.
func (t *turns) serve() {
	for t.free > 0 {
		var next *line
		for _, l := range t.backlog {
			if l.mayRun() && (next == nil || l.before(next)) {
				next = l
			}
		}
		if next == nil {
			return
		}
		queue := &next.begun
		if queue.Len() == 0 {
			queue = &next.fresh
		}
		t.free--
		next.running++
		t.reached = max(t.reached, next.used)
		close(next.remove(queue, queue.Front()))
	}
}

// before reports whether a line is served before another one.
func (l *line) before(other *line) bool {
	if crowded := l.crowded(); crowded != other.crowded() {
		return !crowded
	}
	return l.used < other.used
}

func (l *line) crowded() bool { return !l.blocks && l.running >= l.turns.cores }

// leave ends what enter or wait began: a guest has run for so long, and holds its turn or has lent it.
func (l *line) leave(held, long bool, ran time.Duration) {
	if l.blocks {
		ran = min(ran, lendAfter)
	}
	t := l.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	l.running--
	if long {
		l.long--
	}
	l.used += ran
	if held {
		t.free++
	} else {
		t.lent--
	}
	t.serve()
}

// lend returns the turn of a guest that goes on.
func (l *line) lend() {
	t := l.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lent++
	t.free++
	t.serve()
}

// lengthen counts a guest as one that runs for long.
func (l *line) lengthen() {
	l.turns.mu.Lock()
	defer l.turns.mu.Unlock()
	l.long++
	l.turns.serve()
}

// turn is one call's part in the turns. It is used again by the next call.
type turn struct {
	timer *time.Timer
	began time.Time

	mu   sync.Mutex
	line *line
	// held says that the turn is neither returned nor lent, long that the guest counts as one that runs for long.
	held, long bool
}

// begin waits for the turn of a call that has not begun, for as long as patience or until the end of ctx, and says how long that
// took. Those that wait are counted in queued, if it is not nil. After nil, the caller must call release.
func (t *turn) begin(ctx context.Context, l *line, patience time.Duration, queued prometheus.Gauge) (waited time.Duration, err error) {
	if l.enter() {
		t.take(l)
		return 0, nil
	}
	if queued != nil {
		queued.Inc()
		defer queued.Dec()
	}
	start := time.Now()
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l.pace.enter()
	err = l.wait(wait, &l.fresh)
	l.pace.leave(err == nil)
	waited = time.Since(start)
	if err == nil {
		t.take(l)
		return waited, nil
	}
	if ctx.Err() != nil {
		return waited, ctx.Err()
	}
	return waited, errQueueTimeout
}

// goOn waits for the turn of a call that has begun, until the end of ctx. After nil, the caller must call release.
func (t *turn) goOn(ctx context.Context, l *line) error {
	if !l.enter() {
		if err := l.wait(ctx, &l.begun); err != nil {
			return err
		}
	}
	t.take(l)
	return nil
}

func (t *turn) take(l *line) {
	t.began = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line, t.held, t.long = l, true, false
	if t.timer == nil {
		t.timer = time.AfterFunc(lendAfter, t.lend)
	} else {
		t.timer.Reset(lendAfter)
	}
}

// lend returns the turn, although its guest goes on, and later counts the guest as one that runs for long. It may run late, when the
// turn has been returned or belongs to the next call of the exchange; that call then lends its turn early, which is harmless.
func (t *turn) lend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.line == nil:
	case t.held:
		t.held = false
		t.line.lend()
		// A guest that blocks a thread may do nothing, so it is in nothing's way.
		if t.long = t.line.blocks; t.long {
			t.line.lengthen()
		} else {
			t.timer.Reset(longAfter - lendAfter)
		}
	case !t.long:
		t.long = true
		t.line.lengthen()
	}
}

// release returns the turn, if it was not lent.
//
// Before that, goroutines run that have become ready in the meantime, so that they can ask for the turn. Go's scheduler does not see to
// that by itself. A guest runs within a call from Go to C, which keeps one of Go's processors. Go takes the processor away when it sees
// the same call twice, and it may look every 10 ms only. A call that gets a turn runs next on the processor of the call that has returned
// the turn, and so on: while calls of 5 ms followed each other, goroutines that were ready, and connections that were readable, have
// waited for 100 ms.
func (t *turn) release() {
	t.timer.Stop()
	now := time.Now()
	giveWay(now)
	t.mu.Lock()
	l, held, long := t.line, t.held, t.long
	t.line, t.held, t.long = nil, false, false
	t.mu.Unlock()
	l.leave(held, long, now.Sub(t.began))
}
