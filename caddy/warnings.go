// This file brings warnings to the operator: what could not be done as configured, although functions serve.
//
// The log has each warning once, GET /gojinn/warnings the whole list, and GET /gojinn/functions those of each function.

package gojinn

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// warningsInterval is the time after which a running config asks its engine for new warnings. Most arise while a function is
// deployed and are logged then. A full disk is noticed later, when compiled code is written to the cache.
var warningsInterval = 10 * time.Second

// warning is one entry of the list that the admin API shows.
type warning struct {
	// Function and Module are empty if the warning is about the engine.
	Function string `json:"function,omitempty"`
	Module   string `json:"module,omitempty"`
	Warning  string `json:"warning"`
}

// warnings returns all warnings of the engine, oldest first. The list only grows at its end.
func (e *sharedEngine) warnings() []string {
	var about struct {
		Warnings []string `json:"warnings"`
	}
	text, err := e.Describe()
	if err != nil || json.Unmarshal(text, &about) != nil {
		return nil
	}
	return about.Warnings
}

// logWarnings logs the engine's warnings that were not logged before.
func (e *sharedEngine) logWarnings(logger *zap.Logger) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.warnings()
	for _, text := range all[min(e.logged, len(all)):] {
		logger.Warn(escapeControl(text))
	}
	e.logged = max(e.logged, len(all))
}

// watchWarnings logs new warnings of the engine until ctx ends.
func (e *sharedEngine) watchWarnings(ctx context.Context, logger *zap.Logger, interval time.Duration) {
	for sleep(ctx, interval) {
		e.logWarnings(logger)
	}
}

// warnings returns the engine's warnings about a function that serves, and that it lacks the snapshot which config demands.
func (f *functionFacts) warnings(config *engine.FunctionConfig) []string {
	if !f.Snapshot.lacks(config) {
		return f.Warnings
	}
	text := snapshotLacking
	if f.Snapshot.WhyNot != "" {
		text += ": " + f.Snapshot.WhyNot
	}
	return append(slices.Clip(f.Warnings), text)
}

const snapshotLacking = "the function does not start from the snapshot that was asked for"

// logWarnings logs the warnings of a function that was deployed just now.
func (d *deployment) logWarnings(facts *functionFacts) {
	logger := d.logger.With(zap.String("function", d.config.Name), zap.String("module", d.module))
	for _, text := range facts.Warnings {
		logger.Warn(escapeControl(text))
	}
	if s := &facts.Snapshot; s.lacks(d.config) {
		logger.Warn(snapshotLacking, zap.String("snapshot", s.Kind), zap.String("reason", escapeControl(s.WhyNot)))
	}
}
