package gojinnhttp

import (
	"io"
	"net/http"
	"reflect"
	"testing"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

func TestMiddlewareLetsRequestsGoOn(t *testing.T) {
	sent := func() *gojinn.Request {
		return &gojinn.Request{
			Method: "POST", URI: "/app/a%2Fb?x=1", Body: []byte("body"),
			Header: gojinn.Header{"Host": {"example.org"}, "Cookie": {"a=1"}, "X-Two": {"1", "2"}},
		}
	}
	for name, c := range map[string]struct {
		middleware func(next http.Handler) http.Handler
		want       *gojinn.Response
	}{
		"as it is": {
			func(next http.Handler) http.Handler { return next },
			gojinn.Next(),
		},
		"strip prefix": {
			func(next http.Handler) http.Handler { return http.StripPrefix("/app", next) },
			&gojinn.Response{Header: gojinn.Header{}, Next: &gojinn.Onward{URI: "/a%2Fb?x=1", Header: gojinn.Header{}, Vars: map[string]string{}}},
		},
		"changes": {
			func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r.Method, r.Host = "PUT", "inner"
					r.Header.Set("X-User", "alice")
					r.Header.Del("Cookie")
					w.Header().Set("X-Frame-Options", "DENY")
					next.ServeHTTP(w, r)
				})
			},
			&gojinn.Response{Header: gojinn.Header{"X-Frame-Options": {"DENY"}}, Next: &gojinn.Onward{
				Method: "PUT", Header: gojinn.Header{"X-User": {"alice"}, "Cookie": nil, "Host": {"inner"}}, Vars: map[string]string{},
			}},
		},
		"answer": {
			func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(http.StatusForbidden)
					io.WriteString(w, "no")
				})
			},
			&gojinn.Response{Status: 403, Header: gojinn.Header{}, Body: []byte("no")},
		},
	} {
		got := AdaptMiddleware(c.middleware)(sent())
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v %+v, want %+v %+v", name, got, got.Next, c.want, c.want.Next)
		}
	}
}

func TestMiddlewareCannotAnswerAndGoOn(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it did both")
		}
	}()
	AdaptMiddleware(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "early")
			next.ServeHTTP(w, r)
		})
	})(&gojinn.Request{Method: "GET", URI: "/"})
}
