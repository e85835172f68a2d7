// This file has what the config and the operator see of snapshots. The engine makes them.

package gojinn

import (
	"encoding/json"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// Warmup runs a sample request into the snapshot of a function before requests start there.
type Warmup struct {
	// Rounds is how many times the sample runs, from 1 to 100. Required.
	Rounds int `json:"rounds"`

	// Sample is the path of the file with the sample request, in the form in which the function reads it from stdin, relative
	// to the process's working directory. Placeholders that do not depend on a request may be used. Default: a POST with
	// JSON and a GET, in turns.
	Sample string `json:"sample,omitempty"`
}

// functionFacts is the part of the engine's description of a function that the plugin uses.
type functionFacts struct {
	// Source is where the compiled code came from: `compiled`, `cache`, or `memory` if another function has the same module.
	Source   string        `json:"source"`
	Snapshot snapshotFacts `json:"snapshot"`
	// Suspends says that a guest which waits costs no thread.
	Suspends bool `json:"suspends"`
	// ReadsBody says that the function needs the request's body.
	ReadsBody bool `json:"reads_body"`
	// Frames says that the function takes requests and answers in frames, in place of JSON.
	Frames bool `json:"frames"`
	// Warnings says what could not be done as configured, although the function serves.
	Warnings []string `json:"warnings"`
}

// snapshotFacts is what the sandboxes of a function start from.
type snapshotFacts struct {
	// Kind is `none` (the beginning of the module), `initialised`, `parked` or `warmed`.
	Kind string `json:"kind"`
	// WhyNot says why it is not the snapshot that the config asks for; empty if it is.
	WhyNot string `json:"why_not"`
	// Took is how long it took to make and check the snapshot, in milliseconds.
	Took float64 `json:"took_ms"`
	// Stderr is what the program wrote to stderr while the snapshot was made. No request will write it again.
	Stderr string `json:"stderr"`
}

const snapshotNone = "none"

// factsOf returns the facts of a function, from the engine.
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

// fields returns the log's fields for a function that serves from now on.
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

// lacks reports whether a function did not get a snapshot that config demands.
func (s *snapshotFacts) lacks(config *engine.FunctionConfig) bool {
	if s.Kind == snapshotNone {
		return config.Snapshot == snapshotOn || config.Warmup != nil
	}
	return config.Warmup != nil && s.Kind != "warmed"
}

// logStart logs what the program of a function that was deployed just now wrote to stderr while its snapshot was made.
func (d *deployment) logStart(s *snapshotFacts) {
	if s.Kind == snapshotNone {
		return // each request runs the whole program, and logs what it writes
	}
	said := newGuestLog(d.logger, d.config.Name)
	for line := range strings.Lines(s.Stderr) {
		said.line(engine.LogStderr, []byte(strings.TrimRight(line, "\r\n")), "")
	}
}
