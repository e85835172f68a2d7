// This file carries the engine's warnings to the operator: what could not be done as configured, although functions serve.
//
// The log has each warning once, GET /gojinn/warnings has the whole list, and GET /gojinn/functions those of each function.

package gojinn

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// warningsInterval is how often a running config asks its engine for new warnings. Most come while a function is deployed,
// and are logged then; a full disk is noticed later, when compiled code is written to the cache.
var warningsInterval = 10 * time.Second

// warning is one entry of the list that the admin API shows.
type warning struct {
	// Function and Module are empty where the warning is about the engine.
	Function string `json:"function,omitempty"`
	Module   string `json:"module,omitempty"`
	Warning  string `json:"warning"`
}

// warnings are all of the engine's, oldest first. The list only grows at its end.
func (e *sharedEngine) warnings() []string {
	var facts struct {
		// PoolProblem says why there is no memory pool although one was wanted.
		PoolProblem string   `json:"pool_problem"`
		Warnings    []string `json:"warnings"`
	}
	text, err := e.Describe()
	if err != nil || json.Unmarshal(text, &facts) != nil {
		return nil
	}
	if facts.PoolProblem == "" || slices.Contains(facts.Warnings, facts.PoolProblem) {
		return facts.Warnings
	}
	return append([]string{"there is no memory pool, so each sandbox gets new memory: " + facts.PoolProblem}, facts.Warnings...)
}

// logWarnings logs those of the engine's warnings that were not logged before.
func (e *sharedEngine) logWarnings(logger *zap.Logger) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.warnings()
	for _, text := range all[min(e.logged, len(all)):] {
		logger.Warn(escapeControl(text))
	}
	e.logged = max(e.logged, len(all))
}

// watchWarnings logs the engine's warnings as they come, until ctx ends.
func (e *sharedEngine) watchWarnings(ctx context.Context, logger *zap.Logger, interval time.Duration) {
	for sleep(ctx, interval) {
		e.logWarnings(logger)
	}
}

// warnings are what the operator should know about a function that serves: what the engine says, that its memory is not
// shared, and that it lacks the snapshot that config asks for.
func (f *functionFacts) warnings(config *engine.FunctionConfig) []string {
	all := slices.Clone(f.Warnings)
	if f.PlainBecause != "" && !slices.Contains(all, f.PlainBecause) {
		all = append(all, withReason(memoryNotShared, f.PlainBecause))
	}
	if f.Snapshot.lacks(config) {
		all = append(all, withReason(snapshotLacking, f.Snapshot.WhyNot))
	}
	return all
}

// The messages of a function's warnings in the log, where the reason has a field.
const (
	memoryNotShared = "each sandbox of the function gets a copy of its memory instead of a view of one image"
	snapshotLacking = "the function does not start from the snapshot that was asked for"
)

func withReason(message, reason string) string {
	if reason == "" {
		return message
	}
	return message + ": " + reason
}

// logWarnings logs the warnings of a function that was deployed just now.
func (d *deployment) logWarnings(facts *functionFacts) {
	logger := d.logger.With(zap.String("function", d.config.Name), zap.String("module", d.module))
	for _, text := range facts.Warnings {
		logger.Warn(escapeControl(text))
	}
	if reason := facts.PlainBecause; reason != "" && !slices.Contains(facts.Warnings, reason) {
		logger.Warn(memoryNotShared, zap.String("reason", escapeControl(reason)))
	}
	if s := &facts.Snapshot; s.lacks(d.config) {
		logger.Warn(snapshotLacking, zap.String("snapshot", s.Kind), zap.String("reason", escapeControl(s.WhyNot)))
	}
}
