//go:build cgo

// Tests of the contract's corners with the real engine: bytes, statuses, limits and log lines.

package gojinn

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestContract(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			s.mustLoad(fmt.Sprintf(`{
	admin ADMIN
	log {
		output file DIR/caddy.log
		level DEBUG
	}
	gojinn {
		backend %s
	}
}
ADDR {
	handle /missing {
		error 404
	}
	handle /newlines {
		gojinn {
			module %s
			name newlines
		}
	}
	handle {
		gojinn {
			module %[3]s
			name inspect
			max_output 1000
			timeout 30s
		}
	}
	handle_errors {
		vars answered {http.error.status_code}
		@answer query raw=*
		gojinn @answer {
			module %[3]s
			name page
			timeout 30s
		}
	}
}
`, backend, s.module("newlines.wasm", newlines(13_107)), guest(t, "go-inspect")))
			testHeaderBytes(t, s)
			testAnswers(t, s)
			testNewlines(t, s)
		})
	}
}

// raw is the URI that makes inspect write output to stdout.
func raw(path, output string) string {
	return path + "?raw=" + base64.RawURLEncoding.EncodeToString([]byte(output))
}

// A header value reads right, and leaves with the bytes it came with.
func testHeaderBytes(t *testing.T, s *server) {
	t.Helper()
	for _, sent := range []string{"plain", "Zoë Ångström", "日本 😀", "Zo\xeb", "\xff\xfeé\x80", "\U0010ff80 \U0010ffff", "\xf4\x8f\xbe"} {
		seen := s.inspect("/", "X-Name", sent)
		headers, _ := seen.Request["headers"].(map[string]any)
		values, _ := headers["X-Name"].([]any)
		if len(values) != 1 {
			t.Fatalf("%q: got %v", sent, headers)
		}
		if text := values[0].(string); sent == strings.ToValidUTF8(sent, "") && !strings.Contains(sent, "\U0010ff80") && text != sent {
			t.Errorf("%q: the function reads %q", sent, text)
		}
		answer, err := json.Marshal(map[string]any{"headers": map[string]any{"X-Hello": []any{values[0], "Hello " + values[0].(string)}}})
		if err != nil {
			t.Fatal(err)
		}
		got := s.get(raw("/", string(answer))).Header.Values("X-Hello")
		if want := []string{sent, "Hello " + sent}; fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%q came back as %q", sent, got)
		}
	}
}

func testAnswers(t *testing.T, s *server) {
	t.Helper()
	body := strings.Repeat("0123456789", 100)
	for i, c := range []struct {
		path, output string
		status       int
		body, reason string
	}{
		{"/", `{"body":"x"}`, 200, "x", ""},
		{"/", `{"status":0,"body":"x"}`, 200, "x", ""},
		{"/missing", `{"body":"sorry"}`, 404, "sorry", ""},
		{"/missing", `{"status":null,"body":"sorry"}`, 404, "sorry", ""},
		{"/missing", `{"status":200,"body":"found"}`, 200, "found", ""},
		{"/missing", `{"status":503}`, 503, "", ""},
		{"/", `{"status":205,"body":"x"}`, 205, "", ""},
		{"/", "\ufeff{\"body_base64\":\"eHl6\\r\\n\"}", 200, "xyz", ""},
		{"/", `{"statusCode":404,"body":"x"}`, 502, "", `write the status as "status"`},
		{"/", `{"isBase64Encoded":true,"body":"eHl6"}`, 502, "", `write base64 as "body_base64"`},
		// The output is longer than max_output, the body is not.
		{"/", `{"body":"` + body + `"}`, 200, body, ""},
		{"/", `{"body_base64":"` + base64.StdEncoding.EncodeToString([]byte(body)) + `"}`, 200, body, ""},
		{"/", `{"body":"` + strings.Repeat(`\"\n`, 500) + `"}`, 200, strings.Repeat("\"\n", 500), ""},
		{"/", `{"body":"` + body + `x"}`, 502, "", "1001 bytes, more than max_output (1000)"},
		{"/", `{"body_base64":"` + base64.StdEncoding.EncodeToString([]byte(body+"x")) + `"}`, 502, "", "1001 bytes, more than max_output (1000)"},
	} {
		id := fmt.Sprint("answer-", i)
		res := s.get(raw(c.path, c.output), "X-Request-Id", id)
		// The function for errors answers too; it has the same output.
		if c.status != 502 && (res.StatusCode != c.status || res.body != c.body) {
			t.Errorf("%s: %.80s: got %d %.80q, want %d", c.path, c.output, res.StatusCode, res.body, c.status)
		}
		if c.status == 502 {
			var reasons []string
			for _, record := range s.logs("trace_id", id) {
				if record["function"] == "inspect" {
					reasons = append(reasons, fmt.Sprint(record["reason"]))
				}
			}
			if len(reasons) != 1 || !strings.Contains(reasons[0], c.reason) {
				t.Errorf("%.80s: got %q, want %q", c.output, reasons, c.reason)
			}
		}
	}
	// An endless output is cut off: max_output bounds it, decoded or not.
	long := url.Values{"raw": {base64.RawURLEncoding.EncodeToString([]byte(`{"x":"` + strings.Repeat("x", 5000)))}}
	if res := s.get("/?" + long.Encode()); res.StatusCode < 500 {
		t.Errorf("half an answer: got %d", res.StatusCode)
	}
}

// Lines without a byte make a bounded number of records, and one that says how many there were.
func testNewlines(t *testing.T, s *server) {
	t.Helper()
	if res := s.get("/newlines", "X-Request-Id", "newlines"); res.StatusCode != http.StatusOK {
		t.Fatalf("got %d", res.StatusCode)
	}
	var lines int
	var dropped []map[string]any
	for _, record := range s.logs("function", "newlines") {
		switch {
		case record["dropped_lines"] != nil:
			dropped = append(dropped, record)
		case record["logger"] == "http.handlers.gojinn.stderr":
			lines++
		}
	}
	if lines != 1024 || len(dropped) != 1 || fmt.Sprint(dropped[0]["dropped_lines"], dropped[0]["dropped_bytes"]) != "12083 0" ||
		dropped[0]["trace_id"] != "newlines" || dropped[0]["level"] != "warn" {
		t.Errorf("%d records of lines, and %v", lines, dropped)
	}
}

// newlines is a module that answers, and writes so many newlines to stderr.
func newlines(count int) string {
	m := answering(`{"body":"x"}`, "")
	vector := int32(len(m.data))
	m.data += string(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(vector)+8), uint32(count))) +
		strings.Repeat("\n", count)
	m.code += i32(2) + i32(vector) + i32(1) + i32(writtenAt) + "\x10\x00" + drop
	return m.String()
}
