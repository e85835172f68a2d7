package gojinn

import (
	"encoding/json"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// How sandboxes start is the engine's business; here is what the config says of it, and what the operator is told.

// Warmup runs a sample request into the snapshot of a function before requests start there.
type Warmup struct {
	// Rounds is how many times the sample is run, from 1 to 100. Required.
	Rounds int `json:"rounds"`

	// Sample is the path of a file with the sample, a request as the function reads it on stdin. It is relative to the
	// process's working directory. Placeholders that do not depend on a request may be used. Default: a GET of / without
	// headers or body.
	Sample string `json:"sample,omitempty"`
}

// functionFacts is what the engine tells about a deployed function.
type functionFacts struct {
	// Source is where its compiled code came from: `compiled` just now, the `cache`, or the `memory` of another function with
	// the same module.
	Source   string        `json:"source"`
	Snapshot snapshotFacts `json:"snapshot"`
	// PlainBecause says why the function's memory is copied for each sandbox; empty where it is not.
	PlainBecause string `json:"plain_because"`
	// Warnings are whatever else could not be done as configured.
	Warnings []string `json:"warnings"`
}

// snapshotFacts is how sandboxes start.
type snapshotFacts struct {
	// Kind is `none` (at the module's beginning), `initialised`, `parked` or `warmed`.
	Kind string `json:"kind"`
	// WhyNot says why it is not the snapshot that was asked for; empty if it is.
	WhyNot string `json:"why_not"`
	// Took is how long making and proving it took, in milliseconds.
	Took float64 `json:"took_ms"`
	// Stderr is what the program wrote there while the snapshot was made. No request will write it again.
	Stderr string `json:"stderr"`
}

const snapshotNone = "none"

// factsOf asks the engine about a function.
func factsOf(f engine.Function) functionFacts {
	var facts functionFacts
	text, err := f.Describe()
	if err != nil || json.Unmarshal(text, &facts) != nil {
		facts = functionFacts{}
	}
	if facts.Snapshot.Kind == "" {
		facts.Snapshot.Kind = snapshotNone
	}
	return facts
}

// fields are what the log tells of each function that serves from now on.
func (s *snapshotFacts) fields() []zap.Field {
	fields := []zap.Field{zap.String("snapshot", s.Kind)}
	if s.WhyNot != "" {
		fields = append(fields, zap.String("snapshot_why_not", escapeControl(s.WhyNot)))
	}
	if s.Took > 0 {
		fields = append(fields, zap.Duration("snapshot_duration", s.duration()))
	}
	return fields
}

func (s *snapshotFacts) duration() time.Duration {
	return time.Duration(s.Took * float64(time.Millisecond))
}

// lacks tells whether a function that config asked for did not get the snapshot that config insists on.
func (s *snapshotFacts) lacks(config *engine.FunctionConfig) bool {
	if s.Kind == snapshotNone {
		return config.Snapshot == snapshotOn || config.Warmup != nil
	}
	return config.Warmup != nil && s.Kind != "warmed"
}

// logStart logs what the program of a function that was deployed just now wrote to stderr while its snapshot was made.
func (d *deployment) logStart(s *snapshotFacts) {
	if s.Kind == snapshotNone {
		return // each request will write it again
	}
	said := newGuestLog(d.logger, d.config.Name)
	for line := range strings.Lines(s.Stderr) {
		said.line(engine.LogStderr, []byte(strings.TrimRight(line, "\r\n")), "")
	}
}
