package gojinnhttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

func TestRequestsAreThoseOfAServer(t *testing.T) {
	sent := &gojinn.Request{
		Method: "PUT", URI: "/a%2Fb?x=1", Header: gojinn.Header{"Host": {"example.org:8443"}, "X-A": {"1", "2"}}, Body: []byte("body"),
		TraceID: "abc", RemoteAddr: "192.0.2.1:4711", Scheme: "https", Host: "example.org", Proto: "HTTP/2.0",
	}
	Adapt(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "body" || r.ContentLength != 4 {
			t.Errorf("body %q of %d, %v", body, r.ContentLength, err)
		}
		if r.Method != "PUT" || r.URL.Path != "/a/b" || r.URL.EscapedPath() != "/a%2Fb" || r.FormValue("x") != "1" || r.RequestURI != sent.URI {
			t.Errorf("%s %v", r.Method, r.URL)
		}
		if r.Host != "example.org:8443" || r.Header.Get("Host") != "" || !reflect.DeepEqual(r.Header.Values("X-A"), []string{"1", "2"}) {
			t.Errorf("host %q, header %v", r.Host, r.Header)
		}
		if r.Proto != "HTTP/2.0" || !r.ProtoAtLeast(2, 0) || r.TLS == nil || r.RemoteAddr != sent.RemoteAddr {
			t.Errorf("%s %v %s", r.Proto, r.TLS, r.RemoteAddr)
		}
		if FromContext(r.Context()) != sent {
			t.Error("FromContext: another request")
		}
	}))(sent)
	if sent.Header.Get("Host") == "" {
		t.Error("the request that was sent has changed")
	}
	if FromContext(context.Background()) != nil {
		t.Error("a request out of nowhere")
	}

	Adapt(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "example.org" || r.Proto != "HTTP/1.1" || r.TLS != nil || r.Body != http.NoBody || r.ContentLength != 0 {
			t.Errorf("%+v", r)
		}
	}))(&gojinn.Request{Method: "GET", URI: "/", Host: "example.org"})
}

func TestAURIThatIsNoneIs400(t *testing.T) {
	response := Adapt(http.NotFoundHandler())(&gojinn.Request{Method: "GET", URI: "nowhere"})
	if response.Status != 400 {
		t.Errorf("status %d", response.Status)
	}
}

// handlers are answered as httptest's recorder does it.
func TestResponsesAreThoseOfAServer(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"nothing":   func(http.ResponseWriter, *http.Request) {},
		"body":      func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a"); w.Write([]byte("b\xff")) },
		"not found": http.NotFound,
		"redirect":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/there", http.StatusSeeOther) },
		"cookies": func(w http.ResponseWriter, _ *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
			http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
		},
		"late headers": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Early", "1")
			w.WriteHeader(http.StatusAccepted)
			w.Header().Set("X-Late", "1")
			w.Header().Set("X-Early", "2")
		},
		"two statuses": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); w.WriteHeader(500) },
	} {
		t.Run(name, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			handler(recorder, httptest.NewRequest("GET", "/here", nil))
			want := recorder.Result()
			// The recorder sniffs the type, which is the host's part here.
			if name == "body" {
				want.Header.Del("Content-Type")
			}
			got := Adapt(handler)(&gojinn.Request{Method: "GET", URI: "/here"})
			if got.Status != want.StatusCode || string(got.Body) != recorder.Body.String() || !reflect.DeepEqual(http.Header(got.Header), want.Header) {
				t.Errorf("status %d, headers %v, body %q; want %d, %v, %q", got.Status, got.Header, got.Body, want.StatusCode, want.Header, recorder.Body)
			}
		})
	}
}

func TestBodiesWhereThereMayBeNone(t *testing.T) {
	got := Adapt(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set(http.TrailerPrefix+"X-T", "1")
		w.WriteHeader(http.StatusNoContent)
		if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("wrote a body: %v", err)
		}
	}))(&gojinn.Request{Method: "GET", URI: "/"})
	if got.Status != 204 || len(got.Body) != 0 || len(got.Header) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestPanicsAreNotHidden(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a panic was swallowed")
		}
	}()
	Adapt(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))(&gojinn.Request{URI: "/"})
}
