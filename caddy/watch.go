// This file watches the files of a function, and replaces the function when they have changed.

package gojinn

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"time"
)

// A function's files are polled. The kernel's notifications would miss a symlink in the path that is replaced, a directory that
// is replaced, and files on a network; asking for a file's state costs some microseconds and misses none of these.
const (
	// pollInterval is the time between two polls.
	pollInterval = 250 * time.Millisecond
	// A changed file is read once it has not changed for settleTime; settlePoll is the time between two polls until then.
	settleTime = 200 * time.Millisecond
	settlePoll = 50 * time.Millisecond
	// clockGrain is how long after a change of a file another change may leave it with the same time.
	clockGrain = time.Second
)

// fileStates are the states of the files that a function is made from. A file that does not exist is nil.
type fileStates struct {
	module fs.FileInfo
	// sample is the warm-up's; nil if there is none.
	sample fs.FileInfo
	// inputs are those of a script, by their paths; nil for a module.
	inputs map[string]fs.FileInfo
}

// watch reloads the function whenever one of its files has changed, until ctx ends. The capacity of turn is how many functions
// may be reloaded at once: a reload sends to it, and receives when it is done.
func (d *deployment) watch(ctx context.Context, turn chan struct{}) {
	seen := d.seen
	for sleep(ctx, pollInterval) {
		now := d.look()
		if now.same(seen) {
			continue
		}
		now, ok := d.settle(ctx, now)
		if !ok {
			return
		}
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return
		}
		// Whatever changes from here on is seen as another change. The reason of a failure is in the log.
		_, _ = d.reload()
		<-turn
		seen = now
	}
}

// settle waits until the files have not changed for settleTime, and returns their state; ok is false if ctx ends before.
func (d *deployment) settle(ctx context.Context, now fileStates) (fileStates, bool) {
	since := time.Now()
	for time.Since(since) < settleTime {
		if !sleep(ctx, settlePoll) {
			return fileStates{}, false
		}
		if next := d.look(); !now.same(next) {
			now, since = next, time.Now()
		}
	}
	return now, true
}

// look returns the state of the function's files.
func (d *deployment) look() fileStates {
	now := fileStates{module: stat(d.module), inputs: statAll(d.watched())}
	if d.sample != "" {
		now.sample = stat(d.sample)
	}
	return now
}

// same reports whether no file has changed between the two states.
func (f fileStates) same(other fileStates) bool {
	return sameFile(f.module, other.module) && sameFile(f.sample, other.sample) &&
		maps.EqualFunc(f.inputs, other.inputs, sameFile)
}

// settled returns f without the files that changed so recently that another change might not be seen.
func (f fileStates) settled() fileStates {
	for _, file := range []*fs.FileInfo{&f.module, &f.sample} {
		if *file != nil && time.Since((*file).ModTime()) <= clockGrain {
			*file = nil
		}
	}
	settled := maps.Clone(f.inputs)
	for path, file := range f.inputs {
		if file != nil && time.Since(file.ModTime()) <= clockGrain {
			settled[path] = nil
		}
	}
	f.inputs = settled
	return f
}

// statAll returns the states of the files at these paths; nil if there are no paths.
func statAll(paths []string) map[string]fs.FileInfo {
	if paths == nil {
		return nil
	}
	states := make(map[string]fs.FileInfo, len(paths))
	for _, path := range paths {
		states[path] = stat(path)
	}
	return states
}

// stat returns the state of the file at a path, or nil if there is none.
func stat(path string) fs.FileInfo {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// sameFile reports whether a and b are states of one file that has not changed in between.
func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// sleep waits for d. It returns false if ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
