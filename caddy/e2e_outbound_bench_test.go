//go:build cgo

// Benchmarks of operations as a guest sees them, with the real engine.

package gojinn

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkCallsFromInside measures operations from inside of a guest, on each backend: http.send beside Go's client alone, which
// asks the same server for the same, and kv.get of a store in memory. They take turns, so that all of them see the same machine.
// It reports medians.
func BenchmarkCallsFromInside(b *testing.B) {
	for _, backend := range backends {
		b.Run(backend, func(b *testing.B) { benchmarkCallsFromInside(b, backend) })
	}
}

func benchmarkCallsFromInside(b *testing.B, backend string) {
	const calls = 100
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer up.Close()
	s := newRealServer(b)
	module := buildGo(b, "testdata/timing", filepath.Join(s.dir, "timing.wasm"))
	function := func(name, operation, request string) string {
		return fmt.Sprintf(`
	handle /%s {
		gojinn {
			module %s
			name %[1]s
			backend %[3]s
			env OPERATION %[4]s
			env REQUEST %[5]s
			env CALLS %[6]d
			kv cache
			outbound {
				allow %[7]s
				allow_private 127.0.0.1
				max_requests %[6]d
			}
		}
	}`, name, module, backend, operation, "`"+request+"`", calls, up.URL)
	}
	s.mustLoad("{\n\tadmin ADMIN\n\tlog {\n\t\tlevel ERROR\n\t}\n\tgojinn {\n\t\tkv cache memory\n\t}\n}\nADDR {" +
		function("send", "http.send", `{"url":"`+up.URL+`","headers":{"Accept":["*/*"]}}`) +
		function("set", "kv.set", `{"store":"cache","key":"k"}`) +
		function("get", "kv.get", `{"store":"cache","key":"k"}`) + "\n}\n")
	from := func(uri string) (took []time.Duration) {
		res := s.get(uri)
		if err := json.Unmarshal([]byte(res.body), &took); err != nil || res.StatusCode != 200 || len(took) != calls {
			b.Fatalf("%s: %d %s, %v", uri, res.StatusCode, res.body, err)
		}
		return took
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	alone := func() (took []time.Duration) {
		for range calls {
			start := time.Now()
			r, err := http.NewRequest("GET", up.URL, nil)
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Accept", "*/*")
			res, err := client.Do(r)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				b.Fatal(err)
			}
			res.Body.Close()
			took = append(took, time.Since(start))
		}
		return took
	}
	from("/set")
	samples := map[string][]time.Duration{}
	for b.Loop() {
		samples["client"] = append(samples["client"], alone()...)
		samples["http.send"] = append(samples["http.send"], from("/send")...)
		samples["kv.get"] = append(samples["kv.get"], from("/get")...)
	}
	median := func(name string) float64 {
		list := samples[name]
		slices.Sort(list)
		return float64(list[len(list)/2]) / 1e3
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median("client"), "client-p50-µs")
	b.ReportMetric(median("http.send"), "http.send-p50-µs")
	b.ReportMetric(median("http.send")-median("client"), "overhead-µs")
	b.ReportMetric(median("kv.get"), "kv.get-p50-µs")
}
