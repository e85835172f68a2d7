// What tests of operations share: a handler whose guest is the test, and a look-up of names that the test chooses.

package gojinn

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/pauloappbr/gojinn/caddy/internal/outbound"
)

// testGuest calls operations as a guest does, of one handler.
type testGuest struct {
	t    testing.TB
	h    *Handler
	use  *callUse
	ctx  context.Context
	logs *observer.ObservedLogs
}

// guests numbers the guests, so that each has its own metrics.
var guests atomic.Int64

// newTestGuest provisions what a handler may reach.
func newTestGuest(t testing.TB, h *Handler) *testGuest {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	h.logger = zap.New(core)
	h.hostCallMeters, h.denials = hostCallMeters{function: fmt.Sprintf("%s-%d", t.Name(), guests.Add(1))}, new(denials)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	app := &App{StoresRaw: map[string]json.RawMessage{}}
	for _, use := range h.Stores {
		app.StoresRaw[use.Store] = json.RawMessage(`{"module":"memory"}`)
	}
	if err := errors.Join(app.provisionStores(ctx), h.provisionReach(ctx, app, caddy.NewReplacer())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(app.closeStores(), h.Outbound.cleanup()); err != nil {
			t.Error(err)
		}
	})
	return &testGuest{t: t, h: h, use: &callUse{}, ctx: context.Background(), logs: logs}
}

// request returns a guest for the next request to the same function.
func (g *testGuest) request() *testGuest {
	next := *g
	next.use = &callUse{}
	return &next
}

// call calls an operation. head is the JSON object of the reply, and body what follows, or the text of an error.
func (g *testGuest) call(operation, request string) (head map[string]any, body string, code int32) {
	g.t.Helper()
	reply, code := g.h.hostCall(withCallUse(g.ctx, g.use), operation, []byte(request))
	if code < 0 {
		return nil, string(reply), code
	}
	object, body, ok := strings.Cut(string(reply), "\n")
	if !ok {
		g.t.Errorf("%s: the reply has no newline: %q", operation, reply)
	}
	if err := json.Unmarshal([]byte(object), &head); err != nil {
		g.t.Errorf("%s: the reply is %q: %v", operation, reply, err)
	}
	return head, body, code
}

// counted returns how often an operation had an outcome.
func (g *testGuest) counted(operation, outcome string) float64 {
	return testutil.ToFloat64(hostCalls.WithLabelValues(g.h.functionName(), operation, outcome))
}

// get sends a GET request.
func (g *testGuest) get(url string, more ...string) (head map[string]any, body string, code int32) {
	g.t.Helper()
	text, err := json.Marshal(url)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.call("http.send", `{"url":`+string(text)+strings.Join(more, "")+`}`)
}

// world looks up names for clients, and records the addresses that they connect to. It lets them reach loopback only.
type world struct {
	mu sync.Mutex
	// names has the addresses of each name; a query takes the next list, and the last one stays.
	names     map[string][][]string
	connected []string
	queries   int
}

// newWorld makes all clients use the world.
func newWorld(t testing.TB, names map[string][][]string) *world {
	w := &world{names: names}
	newOutboundClient = func(policy outbound.Policy) *outbound.Client {
		policy.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go w.serve(theirs)
			return ours, nil
		}}
		policy.Connect = w.connect
		return outbound.NewClient(policy)
	}
	t.Cleanup(func() { newOutboundClient = outbound.NewClient })
	return w
}

type notLoopback struct{}

func (notLoopback) Error() string { return "the test connects to loopback only" }

func (w *world) connect(address string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connected = append(w.connected, address)
	if addr, err := netip.ParseAddrPort(address); err != nil || !addr.Addr().Unmap().IsLoopback() {
		return notLoopback{}
	}
	return nil
}

// takeConnected returns what was connected to since the last call.
func (w *world) takeConnected() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.connected
	w.connected = nil
	return taken
}

// serve answers queries as a server of names does over TCP.
func (w *world) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, packet); err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(packet) != nil || len(query.Questions) != 1 {
			return
		}
		answer, err := w.answer(&query).Pack()
		if err != nil {
			return
		}
		binary.BigEndian.PutUint16(length[:], uint16(len(answer)))
		if _, err := conn.Write(append(length[:], answer...)); err != nil {
			return
		}
	}
}

func (w *world) answer(query *dnsmessage.Message) *dnsmessage.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queries++
	question := query.Questions[0]
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: query.ID, Response: true, RecursionAvailable: true},
		Questions: query.Questions,
	}
	name := strings.TrimSuffix(question.Name.String(), ".")
	lists, known := w.names[name]
	if !known {
		answer.RCode = dnsmessage.RCodeNameError
		return &answer
	}
	header := dnsmessage.ResourceHeader{Name: question.Name, Class: question.Class}
	for _, text := range lists[0] {
		addr := netip.MustParseAddr(text)
		switch {
		case question.Type == dnsmessage.TypeA && addr.Is4():
			answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: addr.As4()}})
		case question.Type == dnsmessage.TypeAAAA && addr.Is6():
			answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	if len(lists) > 1 && question.Type == dnsmessage.TypeA {
		w.names[name] = lists[1:]
	}
	return &answer
}

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mapText(fields map[string]any) string { return fmt.Sprint(fields) }
