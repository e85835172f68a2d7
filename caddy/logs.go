// This file logs what guests write to stderr and by host_log.

package gojinn

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
)

// guestLog logs what a guest wrote: one record for each line, on the child logger "stderr".
type guestLog struct {
	logger   *zap.Logger
	function string
	// positions leads to the sources of a script; nil for a module.
	positions *positions
}

func newGuestLog(logger *zap.Logger, function string) guestLog {
	return guestLog{logger: logger.Named("stderr"), function: function}
}

// write logs all lines of the answer. traceID is empty if there is no request.
func (g *guestLog) write(answer *engine.Answer, traceID string) {
	lines := answer.Logs()
	var last []byte
	for level, line, ok := lines.Next(); ok; level, line, ok = lines.Next() {
		if places, ok := g.running(level, line); ok {
			last = places
			continue
		}
		g.line(level, line, traceID)
	}
	if last != nil && answer.Outcome == engine.OutcomeTimeout {
		g.line(engine.LogError, append([]byte(stillRunning+"\n"), last...), traceID)
	}
	if answer.LogsDropped > 0 || answer.LogLinesDropped > 0 {
		if c := g.logger.Check(zapcore.WarnLevel, "the function logged more than is kept; the rest was dropped"); c != nil {
			c.Write(g.fields(traceID,
				zap.Uint64("dropped_lines", answer.LogLinesDropped), zap.Uint64("dropped_bytes", answer.LogsDropped))...)
		}
	}
}

// stillRunning is the message about a script that was running when its time was over.
const stillRunning = "the script was still running when its time was over"

// runningMark is the first line of a record in which a script says where it is, see guests/quickjs/src/main.c.
var runningMark = []byte("gojinn:running\n")

// running returns the places that a script was at, if it says so in this record.
func (g *guestLog) running(level engine.LogLevel, line []byte) (places []byte, ok bool) {
	if g.positions == nil || level != engine.LogDebug {
		return nil, false
	}
	return bytes.CutPrefix(line, runningMark)
}

func (g *guestLog) line(level engine.LogLevel, line []byte, traceID string) {
	record := record{level: zapcore.InfoLevel}
	switch level {
	case engine.LogDebug:
		record.level = zapcore.DebugLevel
	case engine.LogWarn:
		record.level = zapcore.WarnLevel
	case engine.LogError:
		record.level = zapcore.ErrorLevel
	case engine.LogStderr:
		if parsed, ok := parseRecord(line); ok {
			record = parsed
			break
		}
		record.message = escapeControl(string(line))
	}
	switch {
	case level == engine.LogStderr:
	case g.positions == nil:
		record.message = escapeControl(string(line))
	default:
		// An error of a script has its stack in further lines.
		message, stack := g.positions.split(string(line))
		record.message = escapeControl(message)
		for i := range stack {
			stack[i] = escapeControl(stack[i])
		}
		if len(stack) > 0 {
			record.fields = append(record.fields, zap.Strings("stack", stack))
		}
	}
	if c := g.logger.Check(record.level, record.message); c != nil {
		c.Write(g.fields(traceID, record.fields...)...)
	}
}

func (g *guestLog) fields(traceID string, more ...zap.Field) []zap.Field {
	fields := make([]zap.Field, 0, 2+len(more))
	fields = append(fields, zap.String("function", g.function))
	if traceID != "" {
		fields = append(fields, zap.String("trace_id", traceID))
	}
	return append(fields, more...)
}

// record is a log line, parsed.
type record struct {
	level   zapcore.Level
	message string
	fields  []zap.Field
}

// parseRecord parses a line that is a JSON object with a level, as structured loggers of all languages write them. The message
// may be missing, because some records have only fields. Any other line is plain text.
func parseRecord(line []byte) (record, bool) {
	if len(line) < 2 || line[0] != '{' {
		return record{}, false
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(line, &object) != nil {
		return record{}, false
	}
	parsed, ok := recordLevel(object["level"])
	if !ok {
		return record{}, false
	}
	key := "msg"
	if _, ok := object[key]; !ok {
		key = "message"
	}
	var message string
	if text, ok := object[key]; ok && json.Unmarshal(text, &message) != nil {
		return record{}, false
	}
	r := record{level: parsed, message: escapeControl(message)}
	delete(object, "level")
	delete(object, key)
	for _, name := range slices.Sorted(maps.Keys(object)) {
		label := escapeControl(name)
		if slices.Contains(ownFields, label) {
			// A guest must not forge these, and no record may have a field twice.
			label = "guest_" + label
		}
		r.fields = append(r.fields, zap.Any(label, object[name]))
	}
	return r, true
}

// ownFields are the fields that Caddy and this plugin add to a record.
var ownFields = []string{"level", "ts", "logger", "msg", "caller", "stacktrace", "function", "trace_id"}

// recordLevel parses a level as loggers write it in JSON: a word or a number.
func recordLevel(value json.RawMessage) (zapcore.Level, bool) {
	var name string
	if json.Unmarshal(value, &name) == nil {
		return logLevel(name)
	}
	var number float64
	if json.Unmarshal(value, &number) != nil {
		return 0, false
	}
	// The numbers of pino and bunyan: 10 trace, 20 debug, 30 info, 40 warn, 50 error, 60 fatal.
	switch {
	case number < 10:
		return 0, false
	case number < 30:
		return zapcore.DebugLevel, true
	case number < 40:
		return zapcore.InfoLevel, true
	case number < 50:
		return zapcore.WarnLevel, true
	default:
		return zapcore.ErrorLevel, true
	}
}

// logLevel parses the name of a level in one of the common loggers.
func logLevel(name string) (zapcore.Level, bool) {
	switch strings.ToLower(name) {
	case "trace", "debug", "verbose", "silly":
		return zapcore.DebugLevel, true
	case "info", "information", "notice":
		return zapcore.InfoLevel, true
	case "warn", "warning":
		return zapcore.WarnLevel, true
	case "error", "err", "fatal", "dpanic", "panic", "crit", "critical", "alert", "emerg", "emergency":
		// A guest that ends fatally does not end Caddy, so this is an error at most.
		return zapcore.ErrorLevel, true
	}
	// log/slog also has levels between these, such as INFO+2 and DEBUG-4.
	var level slog.Level
	if level.UnmarshalText([]byte(name)) != nil {
		return 0, false
	}
	switch {
	case level < slog.LevelInfo:
		return zapcore.DebugLevel, true
	case level < slog.LevelWarn:
		return zapcore.InfoLevel, true
	case level < slog.LevelError:
		return zapcore.WarnLevel, true
	default:
		return zapcore.ErrorLevel, true
	}
}

// escapeControl escapes control characters and invalid UTF-8, because a log line must neither move the cursor of a terminal nor
// begin another record.
func escapeControl(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[s[i]>>4])
			b.WriteByte(hexDigits[s[i]&15])
		case unicode.IsPrint(r):
			b.WriteString(s[i : i+size])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

const hexDigits = "0123456789abcdef"
