// Tests of the log of guests.

package gojinn

import (
	"encoding/json"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

func TestGuestLog(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	g := newGuestLog(zap.New(core).Named("http.handlers.gojinn"), "hello")
	answer := &engine.Answer{LogsDropped: 7, LogLinesDropped: 2}
	engine.NewAnswer(nil, answer, nil, "", []engine.LogLine{
		{Level: engine.LogStderr, Text: "plain"},
		{Level: engine.LogStderr, Text: "\x1b[31mred\r\n\xff\u009b é"},
		{Level: engine.LogStderr, Text: `{"level":"WARN","msg":"low disk","left":12,"trace_id":"forged"}`},
		{Level: engine.LogStderr, Text: `{"level":"fatal","message":"dying"}`},
		{Level: engine.LogStderr, Text: `{"level":"loud","msg":"x"}`},
		{Level: engine.LogStderr, Text: `{"no":"level"}`},
		{Level: engine.LogDebug, Text: "d"},
		{Level: engine.LogInfo, Text: `{"level":"error","msg":"host_log has its own level"}`},
		{Level: engine.LogWarn, Text: "w"},
		{Level: engine.LogError, Text: "e"},
	}, nil)
	g.write(answer, "trace")

	want := []struct{ level, message string }{
		{"info", "plain"},
		{"info", `\x1b[31mred\r\n\xff\u009b é`},
		{"warn", "low disk"},
		{"error", "dying"},
		{"info", `{"level":"loud","msg":"x"}`},
		{"info", `{"no":"level"}`},
		{"debug", "d"},
		{"info", `{"level":"error","msg":"host_log has its own level"}`},
		{"warn", "w"},
		{"error", "e"},
		{"warn", "the function logged more than is kept; the rest was dropped"},
	}
	all := logs.All()
	if len(all) != len(want) {
		t.Fatalf("got %d records, want %d", len(all), len(want))
	}
	for i, record := range all {
		fields := record.ContextMap()
		if record.Level.String() != want[i].level || record.Message != want[i].message ||
			record.LoggerName != "http.handlers.gojinn.stderr" || fields["function"] != "hello" || fields["trace_id"] != "trace" {
			t.Errorf("record %d: got %s %q of %s with %v, want %v", i, record.Level, record.Message, record.LoggerName, fields, want[i])
		}
	}
	fields := all[2].ContextMap()
	left, _ := json.Marshal(fields["left"])
	forged, _ := json.Marshal(fields["guest_trace_id"])
	if string(left) != "12" || string(forged) != `"forged"` {
		t.Errorf("the fields of a JSON line: %v", fields)
	}
	if dropped := all[len(all)-1].ContextMap(); dropped["dropped_bytes"] != uint64(7) || dropped["dropped_lines"] != uint64(2) {
		t.Errorf("dropped: %v", dropped)
	}
}

// The names of levels in structured loggers, in any case. No other name is a level.
func TestLogLevels(t *testing.T) {
	for name, want := range map[string]string{
		"trace": "debug", "DEBUG": "debug", "Info": "info", "notice": "info", "warn": "warn", "WARNING": "warn",
		"error": "error", "err": "error", "fatal": "error", "panic": "error", "critical": "error",
	} {
		if level, ok := logLevel(name); !ok || level.String() != want {
			t.Errorf("%s: got %s, %t", name, level, ok)
		}
	}
	for _, name := range []string{"", "loud", "info ", "30"} {
		if _, ok := logLevel(name); ok {
			t.Errorf("%q is taken for a level", name)
		}
	}
}

// A line is a record only if it is one JSON object with a level. Any other line is text.
func TestRecords(t *testing.T) {
	for line, want := range map[string]string{
		`{"level":"info","msg":"a"}`:               "a",
		`{"level":"info","message":"a\nb"}`:        `a\nb`,
		`{"level":"info","msg":"a","message":"b"}`: "a",
		`{"level":"info","msg":1}`:                 "",
		`{"level":30,"msg":"a"}`:                   "a",
		`{"level":true,"msg":"a"}`:                 "",
		`{"level":"info","msg":"a"} and more`:      "",
		`{"level":"info","msg":"a"`:                "",
		`{`:                                        "",
		``:                                         "",
		`["level"]`:                                "",
		` {"level":"info","msg":"a"}`:              "",
	} {
		record, ok := parseRecord([]byte(line))
		if ok != (want != "") || record.message != want {
			t.Errorf("%s: got %q, %t", line, record.message, ok)
		}
	}
	record, _ := parseRecord([]byte(`{"level":"info","msg":"a","ts":1,"caller":"x","logger":"y","function":"z","a\u001b":2,"nested":{"b":[3]}}`))
	var names []string
	for _, field := range record.fields {
		names = append(names, field.Key)
	}
	if got := strings.Join(names, " "); got != `a\x1b guest_caller guest_function guest_logger nested guest_ts` {
		t.Errorf("the fields are %s", got)
	}
}

// Whatever would act on a terminal or begin another record is escaped. Letters of all scripts are kept.
func TestEscapeControl(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "": "", "é 日本 😀": "é 日本 😀", "a\tb\n": `a\tb\n`, "\x1b[2J\x7f\x00": `\x1b[2J\x7f\x00`,
		"\u0085\u009b\u2028\u202e\ufeff": `\u0085\u009b\u2028\u202e\ufeff`, "\xff\xc3": `\xff\xc3`, "\U000e0001": `\U000e0001`,
		"a\\n": "a\\n",
	} {
		if got := escapeControl(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// Lines as loggers write them: log/slog, zap, zerolog, logrus, pino, bunyan, winston.
func TestLevelsOfJSONLines(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	g := newGuestLog(zap.New(core), "hello")
	for _, c := range []struct{ line, level, message string }{
		{`{"time":"2024-01-01T00:00:00Z","level":"DEBUG","msg":"m"}`, "debug", "m"},
		{`{"level":"DEBUG-4","msg":"m"}`, "debug", "m"},
		{`{"level":"DEBUG+2","msg":"m"}`, "debug", "m"},
		{`{"level":"INFO","msg":"m"}`, "info", "m"},
		{`{"level":"INFO+2","msg":"m"}`, "info", "m"},
		{`{"level":"WARN","msg":"m"}`, "warn", "m"},
		{`{"level":"WARN+3","msg":"m"}`, "warn", "m"},
		{`{"level":"WARN-1","msg":"m"}`, "info", "m"},
		{`{"level":"ERROR","msg":"m"}`, "error", "m"},
		{`{"level":"ERROR+4","msg":"m"}`, "error", "m"},
		{`{"level":"dpanic","ts":1.5,"caller":"main.go:1","msg":"m"}`, "error", "m"},
		{`{"level":"fatal","msg":"m"}`, "error", "m"},
		{`{"level":"trace","message":"m"}`, "debug", "m"},
		{`{"level":"panic","message":"m"}`, "error", "m"},
		{`{"level":"warn","error":"no message, as zerolog's Send"}`, "warn", ""},
		{`{"level":"warning","msg":"m"}`, "warn", "m"},
		{`{"level":10,"msg":"m"}`, "debug", "m"},
		{`{"level":20,"time":1700000000000,"pid":1,"hostname":"h","msg":"m"}`, "debug", "m"},
		{`{"level":30,"msg":"m","v":0}`, "info", "m"},
		{`{"level":35,"msg":"m"}`, "info", "m"},
		{`{"level":40,"msg":"m"}`, "warn", "m"},
		{`{"level":50,"msg":"m"}`, "error", "m"},
		{`{"level":60,"msg":"m"}`, "error", "m"},
		{`{"level":"verbose","message":"m"}`, "debug", "m"},
		// Unknown, so text.
		{`{"level":"INFO+","msg":"m"}`, "info", `{"level":"INFO+","msg":"m"}`},
		{`{"level":5,"msg":"m"}`, "info", `{"level":5,"msg":"m"}`},
		{`{"level":["WARN"],"msg":"m"}`, "info", `{"level":["WARN"],"msg":"m"}`},
		{`{"level":"warn","msg":7}`, "info", `{"level":"warn","msg":7}`},
		{`{"level":null,"msg":"m"}`, "info", `{"level":null,"msg":"m"}`},
	} {
		g.line(engine.LogStderr, []byte(c.line), "trace")
		all := logs.TakeAll()
		if len(all) != 1 || all[0].Level.String() != c.level || all[0].Message != c.message {
			t.Errorf("%s: got %v", c.line, all)
		}
	}
}

// Empty lines can be dropped too.
func TestDroppedLines(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	g := newGuestLog(zap.New(core), "hello")
	answer := &engine.Answer{LogLinesDropped: 12_083}
	engine.NewAnswer(nil, answer, nil, "", []engine.LogLine{{Level: engine.LogStderr, Text: ""}}, nil)
	g.write(answer, "trace")
	if all := logs.All(); len(all) != 2 || all[1].ContextMap()["dropped_lines"] != uint64(12_083) || all[1].ContextMap()["dropped_bytes"] != uint64(0) {
		t.Errorf("got %v", all)
	}
}
