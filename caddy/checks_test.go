// Tests of the checks of settings.

package gojinn

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A config that was written as JSON is checked by the rules of the Caddyfile.
func TestHandlerSettingsAreChecked(t *testing.T) {
	long := strings.Repeat("x", 65)
	for text, want := range map[string]string{
		`{}`:                                      "no module is given; name the .wasm file or the script",
		`{"module":"x","backend":"wasmtim"}`:      `backend "wasmtim" is not one of wasmtime, wasmer, wasmi; did you mean wasmtime?`,
		`{"module":"x","contract":"xml"}`:         `contract "xml" is unknown; use`,
		`{"module":"x","cgi":{"split":[".cgi"]}}`: "the settings of CGI are for functions with `contract cgi`",
		`{"module":"x","contract":"cgi","cgi":{"split":[""]}}`:                               "is no ending of a script",
		`{"module":"x","timeout":-1}`:                                                        "timeout is -1ns, want more than 0 and at most 24h0m0s",
		`{"module":"x","timeout":"25h"}`:                                                     "timeout is 25h0m0s, want more than 0",
		`{"module":"x","queue_timeout":-1}`:                                                  "queue_timeout is -1ns",
		`{"module":"x","memory_limit":65535}`:                                                "memory_limit is 65535 bytes, want at least 65536",
		`{"module":"x","memory_limit":4294967297}`:                                           "at most 4 GiB (4294967296)",
		`{"module":"x","max_body":-1}`:                                                       "max_body is -1 bytes, want at least 1",
		`{"module":"x","max_output":-1}`:                                                     "max_output is -1 bytes",
		`{"module":"x","max_logs":4294967297}`:                                               "max_logs is 4294967297 bytes",
		`{"module":"x","max_concurrency":-1}`:                                                "max_concurrency is -1, want a number from 1 to 8192",
		`{"module":"x","max_concurrency":8193}`:                                              "max_concurrency is 8193, want a number",
		`{"module":"x","name":"` + long + `"}`:                                               "want 1 to 64 bytes of printable characters",
		`{"module":"x","name":"a\nb"}`:                                                       `name "a\nb" cannot be a label of metrics`,
		`{"module":"x","env":{"":"a"}}`:                                                      "env has an empty name",
		`{"module":"x","env":{"A=B":"a"}}`:                                                   `the name "A=B" of env contains =`,
		`{"module":"x","env":{"A\u0000":"a"}}`:                                               `the name "A\x00" of env contains a NUL byte`,
		`{"module":"x","env":{"A":"\u0000"}}`:                                                "the value of env A has a NUL at byte 0",
		`{"module":"x","args":["a","b\u0000"]}`:                                              "the value of args, number 2 has a NUL at byte 1",
		`{"module":"x","mounts":[{"host":"","guest":"/a"}]}`:                                 "mount has an empty host path",
		`{"module":"x","mounts":[{"host":"a","guest":"a"}]}`:                                 `the guest path "a" of mount is not absolute`,
		`{"module":"x","mounts":[{"host":"a","guest":"/a\u0000"}]}`:                          "the value of mount has a NUL",
		`{"module":"x","mounts":[{"host":"a","guest":"/a"},{"host":"b","guest":"/x/../a"}]}`: "two mounts have the guest path /a",
		`{"module":"x","snapshot":"yes"}`:                                                    `snapshot "yes" is not one of auto, off, on`,
		`{"module":"x","warmup":{"rounds":0}}`:                                               "warmup is 0, want a number of rounds from 1 to 100",
		`{"module":"x","snapshot":"off","warmup":{"rounds":1}}`:                              "warmup makes a snapshot, and snapshot is off",
	} {
		var h Handler
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		h.setDefaults(&App{Backend: defaultBackend, Snapshot: snapshotAuto})
		if err := h.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v\nwant %s", text, err, want)
		}
	}
}

// So are the app's settings. A setting that is left out has its default, so zero is no mistake.
func TestAppSettingsAreChecked(t *testing.T) {
	for text, want := range map[string]string{
		`{"backend":"v8"}`:                              `backend "v8" is not one of`,
		`{"max_concurrency":-1}`:                        "max_concurrency is -1, want a number from 1 to 8192",
		`{"pool_slots":-2}`:                             "pool_slots is -2, want `off` or a number from 1 to 1048576",
		`{"pool_slots":1048577}`:                        "pool_slots is 1048577",
		`{"pool_keep_resident":-1}`:                     "pool_keep_resident is -1 bytes, want at least 1",
		`{"pool_keep_resident":4294967297}`:             "pool_keep_resident is 4294967297 bytes",
		`{"pool_reset":"scna"}`:                         `pool_reset "scna" is not one of auto, scan, copy, madvise; did you mean scan?`,
		`{"max_memory":1}`:                              "max_memory is 1 bytes, want at least 16 MiB",
		`{"isolation":"strct"}`:                         `isolation "strct" is not one of default, strict; did you mean strict?`,
		`{"isolation":"strict","pool_reset":"scan"}`:    "isolation strict needs pool_reset madvise, and pool_reset is scan",
		`{"isolation":"strict","pool_reset":"madvise"}`: "",
		`{"isolation":"default","pool_reset":"scan"}`:   "",
		`{"compile_timeout":-1}`:                        "compile_timeout is -1ns",
		`{"compile_timeout":"48h"}`:                     "compile_timeout is 48h0m0s, want more than 0 and at most 24h0m0s",
		`{"compile_memory":1048576}`:                    "compile_memory is 1048576 bytes, want at least 256 MiB",
		`{"compile_memory":-1}`:                         "compile_memory is -1 bytes",
		`{"compile_memory":1099511627777}`:              "at most 1 TiB",
		`{"compile_memory":1099511627776}`:              "",
		`{"snapshot":"maybe"}`:                          `snapshot "maybe" is not one of`,
		`{"backend":"v8","pool_slots":-2}`:              "pool_slots is -2", // all mistakes are reported
		`{"pool_slots":-1}`:                             "",
		`{}`:                                            "",
		`{"cache":"off","watch":true}`:                  "",
		`{"pool_keep_resident":4294967296}`:             "",
		`{"compile_timeout":"24h"}`:                     "",
		`{"max_concurrency":8192}`:                      "",
	} {
		var a App
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		err := a.Provision(ctx)
		cancel()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v\nwant %s", text, err, want)
		}
	}
}

// A typo gets a suggestion, another word does not.
func TestDidYouMean(t *testing.T) {
	known := []string{"timeout", "env", "args", "mount"}
	for word, want := range map[string]string{
		"timeot": "timeout", "timeuot": "timeout", "timeoutt": "timeout", "moutn": "mount", "envs": "env",
		"": "", "e": "", "xyz": "", "duration": "", "args": "args",
	} {
		if want != "" {
			want = "; did you mean " + want + "?"
		}
		if got := didYouMean(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

// All ways to write a size.
func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "64KiB": 65536, "128MB": 128_000_000, "4GiB": 4 << 30, "1.5 MB": 1_500_000,
	} {
		if got, err := parseSize("max_body", text); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "0", "x", "4.1GiB", "1e30", "99999999999999999999", "10 XB"} {
		if got, err := parseSize("max_body", text); err == nil || !strings.HasPrefix(err.Error(), "max_body ") {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	if err := checkDuration("timeout", caddy.Duration(24*time.Hour)); err != nil {
		t.Error(fmt.Errorf("a day: %w", err))
	}
}
