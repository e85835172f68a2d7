// Benchmarks of operations: what they cost beside what they do.

package gojinn

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkSendHTTP compares http.send with Go's client alone, in turns, so that both see the same machine. It reports medians.
func BenchmarkSendHTTP(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{}}
	g := newTestGuest(b, &Handler{Outbound: &Outbound{Allow: []string{server.URL}, AllowPrivate: loopback}})
	request := []byte(`{"url":"` + server.URL + `","headers":{"Accept":["*/*"]}}` + "\n")
	var alone, ours []time.Duration
	for b.Loop() {
		start := time.Now()
		res, err := client.Get(server.URL)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		between := time.Now()
		if reply, code := g.h.hostCall(withCallUse(context.Background(), &callUse{}), "http.send", request); code < 0 {
			b.Fatal(string(reply))
		}
		alone, ours = append(alone, between.Sub(start)), append(ours, time.Since(between))
	}
	slices.Sort(alone)
	slices.Sort(ours)
	b.ReportMetric(float64(alone[len(alone)/2])/1e3, "client-p50-µs")
	b.ReportMetric(float64(ours[len(ours)/2])/1e3, "http.send-p50-µs")
}

// BenchmarkStore measures kv.get and kv.set in memory.
func BenchmarkStore(b *testing.B) {
	g := newTestGuest(b, &Handler{Stores: []StoreUse{{Store: "s"}}})
	for operation, request := range map[string]string{
		"kv.set": `{"store":"s","key":"k"}` + "\n" + strings.Repeat("x", 100), "kv.get": `{"store":"s","key":"k"}` + "\n",
	} {
		text := []byte(request)
		b.Run(operation, func(b *testing.B) {
			for b.Loop() {
				if reply, code := g.h.hostCall(withCallUse(context.Background(), &callUse{}), operation, text); code < 0 && code != codeNotFound {
					b.Fatal(string(reply))
				}
			}
		})
	}
}
