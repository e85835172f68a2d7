//go:build cgo

// Tests of the bound on all memory, with the real engine and clients that stall.

package gojinn

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
)

// memoryBound is the max_memory of these tests. The clients below would make Caddy hold several times as much.
const memoryBound = 128 << 20

// longAnswer is the length of the answer of /long.
const longAnswer = 6_000_000

func (s *server) loadBounded(t *testing.T) {
	t.Helper()
	long := answering(`{"body":"`+strings.Repeat("y", longAnswer)+`"}`, "")
	long.pages = longAnswer>>16 + 2
	s.module("long.wasm", long.String())
	s.module("short.wasm", answering(`{"body":"got it"}`, "").String())
	s.mustLoad(fmt.Sprintf(`{
	admin ADMIN
	log {
		output file DIR/caddy.log
	}
	gojinn {
		max_memory %d
	}
}
ADDR {
	gojinn /echo {
		module %s
		queue_timeout 50s
	}
	gojinn /long {
		module DIR/long.wasm
		queue_timeout 50s
	}
	gojinn /short {
		module DIR/short.wasm
		queue_timeout 50s
	}
	gojinn /hello %s
}
`, memoryBound, guest(t, "go-echo"), guest(t, "c-hello")))
}

// metric returns the value of a metric without labels.
func (s *server) metric(name string) int64 {
	s.t.Helper()
	for line := range strings.Lines(s.admin("/metrics").body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return int64(n)
		}
	}
	s.t.Fatalf("the metric %s is missing", name)
	return 0
}

// resident returns how much memory this process has that is in no file.
func resident(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("this system does not say how much memory a process has")
	}
	for line := range strings.Lines(string(text)) {
		if kib, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Skip("this system does not say how much of a process's memory is in no file")
	return 0
}

// othersAreServed fails if requests with and without bodies do not get their answers.
func (s *server) othersAreServed(t *testing.T) {
	t.Helper()
	for i := range 5 {
		if res := s.get("/hello"); res.StatusCode != 200 {
			t.Errorf("another request got %d", res.StatusCode)
		}
		want := strings.Repeat(strconv.Itoa(i), 1<<20)
		if res := s.do(s.request("POST", "/echo", want)); res.StatusCode != 200 || !strings.Contains(res.body, want[:1000]) {
			t.Errorf("another request with a body got %d", res.StatusCode)
		}
	}
	if used, most := s.metric("gojinn_engine_memory_bytes"), s.metric("gojinn_engine_memory_max_bytes"); used > most || most > memoryBound {
		t.Errorf("%d bytes of %d are used", used, most)
	}
}

// wholeResponse reads a response on a raw connection to its end.
func wholeResponse(t *testing.T, conn net.Conn) (status int, body string, err error) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// Uploads that stall before their ends take their share, whatever they are, and are answered if they go on.
func TestStalledUploadsAreBounded(t *testing.T) {
	const uploads, size = 40, 9_990_000
	s := newRealServer(t)
	s.loadBounded(t)
	s.othersAreServed(t)
	before := resident(t)
	body := bytes.Repeat([]byte("x"), size)
	conns := make([]net.Conn, uploads)
	for i := range conns {
		conns[i] = s.raw(fmt.Sprintf("POST /short HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", size))
		if _, err := conns[i].Write(body[1:]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all uploads to have arrived", func() bool {
		return spooledBytes(t)+started.engine().memory.arriving.Load() > uploads*(size-1<<20)
	})
	if now := resident(t); now-before > memoryBound {
		t.Errorf("the uploads take %d MiB, the bound is %d MiB", (now-before)>>20, memoryBound>>20)
	}
	s.othersAreServed(t)
	for i, conn := range conns {
		if i%6 != 0 {
			conn.Close()
			continue
		}
		if _, err := conn.Write(body[:1]); err != nil {
			t.Fatal(err)
		}
		if status, got, err := wholeResponse(t, conn); status != 200 || err != nil || got != "got it" {
			t.Errorf("upload %d: got %d %q, %v", i, status, got, err)
		}
	}
	s.emptied(t)
}

// spooledBytes returns how much of bodies is in files of this process.
func spooledBytes(t *testing.T) (size int64) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not list open files")
	}
	for _, file := range files {
		path := "/proc/self/fd/" + file.Name()
		if name, err := os.Readlink(path); err != nil || !strings.Contains(name, "gojinn-body-") {
			continue
		}
		if about, err := os.Stat(path); err == nil {
			size += about.Size()
		}
	}
	return size
}

// emptied waits until no request holds memory or a file.
func (s *server) emptied(t *testing.T) {
	t.Helper()
	eventually(t, "all memory to be given back", func() bool {
		// What the plugin has in reserve is not given back.
		return s.metric("gojinn_engine_memory_bytes") <= maxSpare+memoryUnit && spooledBytes(t) == 0
	})
}

// Answers that clients do not read take their share, and are whole if the clients read at last.
func TestAnswersThatAreNotReadAreBounded(t *testing.T) {
	const clients = 60
	s := newRealServer(t)
	s.loadBounded(t)
	s.othersAreServed(t)
	if res := s.get("/long"); res.StatusCode != 200 || len(res.body) != longAnswer {
		t.Fatalf("the long answer is %d, %d bytes", res.StatusCode, len(res.body))
	}
	before := resident(t)
	conns := make([]net.Conn, clients)
	for i := range conns {
		conns[i] = s.raw("GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		// One after the other: calls that run at the same moment may be refused memory for what they write. The metrics would be asked
		// too slowly: they have those of all functions of other tests.
		eventually(t, "the answer to be there", func() bool {
			return spooledBytes(t)+started.engine().memory.answers.Load() >= int64(i+1)*longAnswer
		})
	}
	if now := resident(t); now-before > memoryBound {
		t.Errorf("the answers take %d MiB, the bound is %d MiB", (now-before)>>20, memoryBound>>20)
	}
	s.othersAreServed(t)
	for i, conn := range conns {
		if i%4 != 0 {
			conn.Close()
			continue
		}
		if status, got, err := wholeResponse(t, conn); status != 200 || err != nil || len(got) != longAnswer {
			t.Errorf("answer %d: got %d, %d bytes, %v", i, status, len(got), err)
		}
	}
	s.emptied(t)
}
