package gojinn

import (
	"context"
	"io/fs"
	"os"
	"time"
)

// A function's files are looked at again and again. Notifications of the kernel would be missed where a symlink in the path is
// swapped, a folder is replaced or the file lies on a network; a look costs some microseconds and misses none of that.
const (
	// pollInterval is the time between two looks.
	pollInterval = 250 * time.Millisecond
	// A changed file is taken once it has stayed as it is for settleTime; settlePoll is the time between two looks until then.
	settleTime = 200 * time.Millisecond
	settlePoll = 50 * time.Millisecond
	// clockGrain is how soon after a file's last change another one may leave its time as it is.
	clockGrain = time.Second
)

// fileStates are the ones that a function is made of.
type fileStates struct {
	module fs.FileInfo
	// sample is the warm-up's; nil where there is none.
	sample fs.FileInfo
}

// watch reloads the function whenever one of its files has changed, until ctx ends. Whoever sends to turn may compile.
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
		// What happens to the files from here on is a change again. The reason of a failure is in the log.
		_, _ = d.reload()
		<-turn
		seen = now
	}
}

// settle lets time pass until the files stay as they are. It is not ok if ctx ends before.
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

// look is the state of the function's files.
func (d *deployment) look() fileStates {
	now := fileStates{module: stat(d.module)}
	if d.sample != "" {
		now.sample = stat(d.sample)
	}
	return now
}

// same tells whether nobody wrote to any file between two looks.
func (f fileStates) same(other fileStates) bool {
	return sameFile(f.module, other.module) && sameFile(f.sample, other.sample)
}

// settled leaves out the files that were changed so recently that another change might not be seen.
func (f fileStates) settled() fileStates {
	for _, file := range []*fs.FileInfo{&f.module, &f.sample} {
		if *file != nil && time.Since((*file).ModTime()) <= clockGrain {
			*file = nil
		}
	}
	return f
}

// stat is the file that a path leads to; nil for none.
func stat(path string) fs.FileInfo {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// sameFile tells whether two looks saw one file, and nobody wrote to it in between.
func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// sleep waits; it is false if ctx ends before.
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
