package gojinn

import (
	"encoding/json"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

func TestGuestLog(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	g := newGuestLog(zap.New(core).Named("http.handlers.gojinn"), "hello")
	answer := &engine.Answer{LogsDropped: 7}
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
	if dropped := all[len(all)-1].ContextMap()["dropped_bytes"]; dropped != uint64(7) {
		t.Errorf("dropped: %v", dropped)
	}
}
