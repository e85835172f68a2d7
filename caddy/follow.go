package gojinn

import (
	"context"
	"io/fs"
	"os"
	"time"
)

// A module's file is looked at again and again. Notifications of the kernel would be missed where a symlink in the path is
// swapped, a folder is replaced or the file lies on a network; a look costs some microseconds and misses none of that.
const (
	// followPoll is the time between two looks.
	followPoll = 250 * time.Millisecond
	// A changed file is taken once it has stayed as it is for settleTime; settlePoll is the time between two looks until then.
	settleTime = 200 * time.Millisecond
	settlePoll = 50 * time.Millisecond
	// clockGrain is how soon after a file's last change another one may leave its time as it is.
	clockGrain = time.Second
)

// follow reloads the function whenever its module's file has changed, until ctx ends. Whoever sends to turn may compile.
func (d *deployment) follow(ctx context.Context, turn chan struct{}) {
	seen := d.file
	for sleep(ctx, followPoll) {
		file := look(d.module)
		if sameFile(file, seen) {
			continue
		}
		file, ok := settled(ctx, d.module, file)
		if !ok {
			return
		}
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return
		}
		// What happens to the file from here on is a change again. The reason of a failure is in the log.
		_, _ = d.reload()
		<-turn
		seen = file
	}
}

// settled waits until a file stays as it is. It is not ok if ctx ends before.
func settled(ctx context.Context, path string, file fs.FileInfo) (fs.FileInfo, bool) {
	since := time.Now()
	for time.Since(since) < settleTime {
		if !sleep(ctx, settlePoll) {
			return nil, false
		}
		if next := look(path); !sameFile(file, next) {
			file, since = next, time.Now()
		}
	}
	return file, true
}

// look is the file that a path leads to; nil for none.
func look(path string) fs.FileInfo {
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
