// Tests of the fields that a function gets only if it includes them.

package gojinn

import (
	"slices"
	"strings"
	"testing"
)

func TestInclude(t *testing.T) {
	for _, c := range []struct {
		module, contract string
		include, want    []string
		wrong            string
	}{
		{"a.wasm", "json", nil, nil, ""},
		{"a.wasm", "json", []string{"original_uri", "client_ip"}, []string{"client_ip", "original_uri"}, ""},
		{"a.wasm", "json", requestFields, requestFields, ""},
		{"a.ts", "json", nil, requestFields, ""},
		{"a.ts", "json", []string{"host"}, requestFields, ""},
		{"a.wasm", "http-wasm", nil, nil, ""},
		{"a.wasm", "http-wasm", []string{"host"}, nil, "contract http-wasm have them"},
		{"a.wasm", "cgi", []string{"host"}, nil, "contract cgi have them"},
		{"a.wasm", "json", []string{""}, nil, `names ""`},
		{"a.wasm", "json", []string{"Host"}, nil, "did you mean host?"},
		{"a.wasm", "json", []string{"host", "proto", "host"}, nil, "host twice"},
		{"a.wasm", "json", []string{"trace_id"}, nil, "each request has"},
	} {
		h := &Handler{Include: c.include, Contract: c.contract}
		err := h.checkInclude()
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%q: got the error %v, want %s", c.include, err, c.wrong)
			}
			continue
		}
		if got := h.include(c.module); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s with %q: got %q, %v, want %q", c.module, c.include, got, err, c.want)
		}
	}
}
