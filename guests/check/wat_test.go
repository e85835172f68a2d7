package check

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The guests that answer do so each with another body.
func TestWatAnswers(t *testing.T) {
	for name, body := range map[string]string{
		"hello":         "Hello from wat\n",
		"image-1m":      "Hello from a 1 MiB image\n",
		"names":         "Hello from named functions\n",
		"reactor":       "Hello from a wat reactor\n",
		"reactor-count": "request 1 of 9\n",
		"reactor-table": "Hello from behind a table\n",
		"sleep-hour":    "Hello from a guest that slept\n",
	} {
		t.Run(name, func(t *testing.T) {
			result := run(t, load(t, built(t, "wat-"+name)), Call{})
			got, err := result.Response()
			if err != nil || got.Body != body || got.Status != 200 {
				t.Errorf("%+v, %v; want body %q", got, err, body)
			}
			if want := time.Hour; name == "sleep-hour" && result.Slept != want {
				t.Errorf("slept %v, want %v", result.Slept, want)
			}
		})
	}
}

// The guests that must fail do so in the way that their first line says.
func TestWatFailures(t *testing.T) {
	for name, want := range map[string]string{
		"trap":       "unreachable",
		"grow":       "unreachable",
		"recurse":    "stack overflow",
		"spin":       "deadline",
		"start-spin": "deadline",
	} {
		t.Run(name, func(t *testing.T) {
			call := Call{}
			if want == "deadline" {
				call.Timeout = 200 * time.Millisecond
			}
			result := run(t, load(t, built(t, "wat-"+name)), call)
			if result.Trap == nil || !strings.Contains(result.Trap.Error(), want) {
				t.Errorf("trap %v, want one that says %q", result.Trap, want)
			}
			if complete := bytes.HasSuffix(result.Stdout, []byte("\"}\n")); complete != (name == "trap") {
				t.Errorf("stdout %q", result.Stdout)
			}
		})
	}
}

func TestWatOutputs(t *testing.T) {
	if got := run(t, load(t, built(t, "wat-no-output")), Call{}); len(got.Stdout) > 0 || got.Trap != nil || got.Exit != 0 {
		t.Errorf("no-output: %+v", got)
	}
	got := run(t, load(t, built(t, "wat-two-values")), Call{})
	half := len(got.Stdout) / 2
	if half == 0 || !bytes.Equal(got.Stdout[:half], got.Stdout[half:]) {
		t.Errorf("two-values: stdout %q", got.Stdout)
	}
	if _, err := got.Response(); err == nil || !strings.Contains(err.Error(), "more than one value") {
		t.Errorf("two-values: %v", err)
	}
}

func TestWatRefused(t *testing.T) {
	if _, err := load(t, built(t, "wat-unknown-import")).Run(t.Context(), Call{}); err == nil || !strings.Contains(err.Error(), "env") {
		t.Errorf("unknown-import: %v, want the import's module named", err)
	}
	if guest, err := Load(t.Context(), built(t, "wat-big-memory")); err == nil || !strings.Contains(err.Error(), "65536 pages") {
		t.Errorf("big-memory: %v, %v", guest, err)
	}
}

// Every .wat starts with a comment that says what it does, and names itself in it.
func TestWatSaysWhatItDoes(t *testing.T) {
	files, err := filepath.Glob("../wat/*.wat")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".wat")
		title := ";; " + strings.ToUpper(name[:1]) + name[1:] + ": "
		if !strings.HasPrefix(string(text), title) {
			t.Errorf("%s does not start with %q", file, title)
		}
	}
}
