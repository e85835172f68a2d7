// This file logs what functions asked for and were not given, with the line of the Caddyfile that gives it.

package gojinn

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// denialInterval is the time after which the same denial is logged again.
	denialInterval = time.Minute
	// maxDenials is how many different denials of a function are logged in that time. A function may choose what it asks for.
	maxDenials = 16
)

// denials remembers what was logged of late, for one handler.
type denials struct {
	mu sync.Mutex
	// logged has the time of the last record, by what was wanted.
	logged map[string]time.Time
}

// isNew reports whether a denial is to be logged, and notes that it is.
func (d *denials) isNew(wanted string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for old, at := range d.logged {
		if now.Sub(at) >= denialInterval {
			delete(d.logged, old)
		}
	}
	if _, done := d.logged[wanted]; done || len(d.logged) >= maxDenials {
		return false
	}
	if d.logged == nil {
		d.logged = map[string]time.Time{}
	}
	d.logged[wanted] = now
	return true
}

// logDenied logs that a function was denied something, unless it was logged a short time ago.
func (h *Handler) logDenied(operation string, e *callError) {
	if !h.denials.isNew(e.line, time.Now()) {
		return
	}
	h.logger.Warn("a function asked for something that the Caddyfile does not give to it",
		zap.String("function", h.functionName()), zap.String("operation", operation),
		zap.String("wanted", escapeControl(e.wanted)), zap.String("add", escapeControl(e.line)))
}
