// This file asks a script that was just deployed whether it was loaded.

package gojinn

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// scriptLoads is how long a script may take to be loaded: its top level, before any handler.
const scriptLoads = 10 * time.Second

// checkScript returns an error if the script of f throws at its top level, or never gets past it, or has no handler. The
// runtime answers a request without a method by itself. No client can send one.
func checkScript(ctx context.Context, f *sharedFunction, config *engine.FunctionConfig, p *positions) error {
	ctx, cancel := context.WithTimeout(ctx, scriptLoads)
	defer cancel()
	if _, err := f.admit(ctx, scriptLoads, nil); err != nil {
		return fmt.Errorf("the script cannot be tried: %w", err)
	}
	defer f.leave()
	id, err := f.engine.NewCall()
	if err != nil {
		return fmt.Errorf("the script cannot be tried: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { f.engine.Cancel(id) })
	defer stop()

	var head engine.Head
	head.Reset(&engine.Request{URI: "/"})
	head.EndHeaders()
	for _, pair := range config.Env {
		if pair[1] == nil {
			head.PerRequest("")
		}
	}
	for _, arg := range config.Args {
		if arg == nil {
			head.PerRequest("")
		}
	}
	answer, err := runAlone(ctx, f, id, head.Bytes())
	if err != nil {
		return err
	}
	switch answer.Outcome {
	case engine.OutcomeOK:
		return nil
	case engine.OutcomeCancelled, engine.OutcomeTimeout:
		at := ""
		log := guestLog{positions: p}
		lines := answer.Logs()
		for level, line, ok := lines.Next(); ok; level, line, ok = lines.Next() {
			if places, ok := log.running(level, line); ok {
				_, stack := p.split("\n" + string(places))
				at = " (" + strings.Join(stack, ", ") + ")"
			}
		}
		return fmt.Errorf("the script does not get to the end of its top level within %s%s; "+
			"move what takes so long into the handler", min(scriptLoads, config.Timeout), at)
	}
	// The last error is the one that ended it.
	said := ""
	lines := answer.Logs()
	for level, line, ok := lines.Next(); ok; level, line, ok = lines.Next() {
		if level == engine.LogError {
			said = string(line)
		}
	}
	if said == "" {
		return fmt.Errorf("the script cannot be loaded: %s", answer.Reason)
	}
	message, stack := p.split(said)
	if len(stack) > 0 {
		message += " (" + strings.Join(stack, ", ") + ")"
	}
	return errors.New("the script cannot be loaded: " + message)
}

// runAlone runs a call whose guest may sleep, and for which nothing else is done.
func runAlone(ctx context.Context, f *sharedFunction, id engine.CallID, head []byte) (*engine.Answer, error) {
	var result engine.Result
	out, err := f.Call(id, head, nil, nil, &result)
	for err == nil && result.Waits {
		var code int32
		var reply []byte
		switch event := &result.Event; {
		case event.Kind == engine.EventCall:
			code, reply = codeNotNow, []byte("a script is loaded before any request, and can call the host in its handler only")
		case event.Until < 0:
			<-ctx.Done()
		default:
			sleep(ctx, event.Until)
		}
		if ctx.Err() != nil {
			f.engine.Cancel(id)
		}
		out, err = f.engine.Resume(id, code, reply, out, &result)
	}
	return &result.Answer, err
}

// codeNotNow is the code of a call that can be made in a request only.
const codeNotNow int32 = -6
