// Tests of responses that are sent while their guests run.

package gojinn

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

// streamHead returns the head of a stream.
func streamHead(status int, headers ...[2]string) engine.Answer {
	head := engine.Answer{Status: status, NamesStatus: true}
	engine.NewAnswer(nil, &head, headers, "", nil, nil)
	return head
}

// streaming makes functions that stream: each step is sent when the test lets it.
func streaming(s *server, end enginetest.Reply, steps ...string) (next chan<- struct{}) {
	let := make(chan struct{})
	s.fake.Steps = func(_ *enginetest.Call, step int, _ int32, _ []byte) (*engine.Event, enginetest.Reply) {
		if step > 0 {
			<-let
		}
		if step == len(steps) {
			end.IsRest = true
			return nil, end
		}
		event := &engine.Event{Kind: engine.EventOutput, Deadline: hour, Output: []byte(steps[step])}
		if step == 0 {
			event.HasHead = true
			event.Head = streamHead(201, [2]string{"X-Guest", "fake"})
		}
		return event, enginetest.Reply{}
	}
	return let
}

// Each part of a stream arrives before the next one is written, and the rest at the end.
func TestStream(t *testing.T) {
	s := newServer(t)
	next := streaming(s, enginetest.OK("the end"), "one\n", "two\n")
	s.mustLoad(s.simple())
	res, err := newClient().Do(s.request("GET", "/", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 201 || res.Header.Get("X-Guest") != "fake" || res.ContentLength != -1 {
		t.Errorf("got %d, %v, length %d", res.StatusCode, res.Header, res.ContentLength)
	}
	body := bufio.NewReader(res.Body)
	for _, want := range []string{"one\n", "two\n"} {
		if line, err := body.ReadString('\n'); line != want || err != nil {
			t.Fatalf("got %q, %v", line, err)
		}
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(body); string(rest) != "the end" || err != nil {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	if n := s.fake.Permits.Load(); n != 0 {
		t.Errorf("%d permits were not returned", n)
	}
}

// A guest that fails after the head has been sent cuts the connection.
func TestAStreamThatFailsIsCut(t *testing.T) {
	s := newServer(t)
	next := streaming(s, enginetest.Refused(engine.OutcomeTrap, 502, "it fell"), "part")
	s.mustLoad(s.simple())
	res, err := newClient().Do(s.request("GET", "/", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	next <- struct{}{}
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("a part was taken for the whole: %q", body)
	}
	eventually(t, "the permit to be returned", func() bool { return s.fake.Permits.Load() == 0 })
}

// For HEAD the guest is ended when the head has been sent.
func TestAStreamForHead(t *testing.T) {
	s := newServer(t)
	streaming(s, enginetest.OK(""), "one", "two")
	s.mustLoad(s.simple())
	res := s.do(s.request("HEAD", "/", ""))
	if res.StatusCode != 201 || res.Header.Get("X-Guest") != "fake" || res.body != "" {
		t.Errorf("got %d, %v, %q", res.StatusCode, res.Header, res.body)
	}
	eventually(t, "the permit to be returned", func() bool { return s.fake.Permits.Load() == 0 })
}

// A client that goes in the middle of a stream ends its guest.
func TestClientGoneInTheMiddleOfAStream(t *testing.T) {
	s := newServer(t)
	part := strings.Repeat("x", 32<<10)
	s.fake.Steps = func(call *enginetest.Call, step int, _ int32, _ []byte) (*engine.Event, enginetest.Reply) {
		event := &engine.Event{Kind: engine.EventOutput, Deadline: hour, Output: []byte(part)}
		if event.HasHead = step == 0; event.HasHead {
			event.Head = streamHead(200)
		}
		return event, enginetest.Reply{}
	}
	s.mustLoad(s.simple())
	res, err := newClient().Do(s.request("GET", "/", ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 3*len(part))); err != nil {
		t.Error(err)
	}
	res.Body.Close()
	eventually(t, "the endless guest to be gone", func() bool { return s.fake.Permits.Load() == 0 })
}
