// Tests of calls that wait.

package gojinn

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pauloappbr/gojinn/caddy/internal/engine"
	"github.com/pauloappbr/gojinn/caddy/internal/enginetest"
)

const hour = time.Hour

// A call that waits goes on as often as it waits, and its answer is the last.
func TestCallsThatWait(t *testing.T) {
	s := newServer(t)
	s.fake.Steps = func(call *enginetest.Call, step int, code int32, reply []byte) (*engine.Event, enginetest.Reply) {
		switch step {
		case 0:
			return &engine.Event{Kind: engine.EventSleep, Until: time.Millisecond, Deadline: hour}, enginetest.Reply{}
		case 1:
			if code != 0 || len(reply) > 0 {
				t.Errorf("a sleep was answered by %d %q", code, reply)
			}
			return &engine.Event{Kind: engine.EventCall, Operation: []byte("no.such"), Deadline: hour}, enginetest.Reply{}
		default:
			if code != codeUnknown || !strings.Contains(string(reply), `no operation "no.such"`) {
				t.Errorf("an unknown operation was answered by %d %q", code, reply)
			}
			return nil, enginetest.OK(string(call.Body) + call.Header("X-Name"))
		}
	}
	s.mustLoad(s.simple())
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if r := s.do(s.request("POST", "/", "body ", "X-Name", "name")); r.StatusCode != 200 || r.body != "body name" {
				t.Errorf("got %d %q", r.StatusCode, r.body)
			}
		})
	}
	all.Wait()
	if n := s.fake.Permits.Load(); n != 0 {
		t.Errorf("%d permits were not returned", n)
	}
}

// A client that goes while the guest waits ends the call.
func TestClientGoneWhileTheGuestWaits(t *testing.T) {
	s := newServer(t)
	waits := make(chan struct{}, 1)
	s.fake.Steps = func(*enginetest.Call, int, int32, []byte) (*engine.Event, enginetest.Reply) {
		waits <- struct{}{}
		return &engine.Event{Kind: engine.EventSleep, Until: -1, Deadline: hour}, enginetest.Reply{}
	}
	s.mustLoad(s.simple())
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := newClient().Do(s.request("GET", "/", "").WithContext(ctx))
		gone <- err
	}()
	await(t, "the guest to wait", waits)
	cancel()
	if err := await(t, "the client to go", gone); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	eventually(t, "the permit to be returned", func() bool { return s.fake.Permits.Load() == 0 })
}

// An operation that panics loses no call.
func TestAnEventThatPanicsDropsItsCall(t *testing.T) {
	s := newServer(t)
	s.fake.Steps = func(*enginetest.Call, int, int32, []byte) (*engine.Event, enginetest.Reply) {
		return &engine.Event{Kind: engine.EventCall, Operation: []byte("test.panic"), Deadline: hour}, enginetest.Reply{}
	}
	operations["test.panic"] = func(*guestCall, []byte) ([]byte, error) { panic(http.ErrAbortHandler) }
	t.Cleanup(func() { delete(operations, "test.panic") })
	s.mustLoad(s.simple())
	if _, err := newClient().Do(s.request("GET", "/", "")); err == nil {
		t.Error("the connection should have been cut")
	}
	eventually(t, "the call to be dropped", func() bool { return s.fake.Dropped.Load() == 1 && s.fake.Permits.Load() == 0 })
}
