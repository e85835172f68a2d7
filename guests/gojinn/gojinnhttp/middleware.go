package gojinnhttp

import (
	"context"
	"net/http"
	"slices"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

// ServeMiddleware serves middleware for net/http: Caddy's next handler is the one that it wraps.
//
//	func main() {
//		gojinnhttp.ServeMiddleware(func(next http.Handler) http.Handler {
//			return http.StripPrefix("/app", next)
//		})
//	}
//
// If it calls next, the request goes on to Caddy's next handler with its method, URL, host and header as they are then, and with the
// client's body. The headers of the ResponseWriter are set on the response. The middleware sees nothing of that response, and its
// body cannot change: next returns before Caddy's next handler begins.
func ServeMiddleware(middleware func(next http.Handler) http.Handler) {
	gojinn.Serve(AdaptMiddleware(middleware))
}

// AdaptMiddleware makes a function of middleware, see [ServeMiddleware].
func AdaptMiddleware(middleware func(next http.Handler) http.Handler) func(*gojinn.Request) *gojinn.Response {
	handler := middleware(http.HandlerFunc(pass))
	return func(r *gojinn.Request) *gojinn.Response {
		request, err := request(r)
		if err != nil {
			return gojinn.Text(http.StatusBadRequest, err.Error()+"\n")
		}
		var passed passage
		before := request.Header.Clone()
		host, target := request.Host, request.URL.RequestURI()
		request = request.WithContext(context.WithValue(request.Context(), passageKey{}, &passed))
		w := &responseWriter{header: http.Header{}}
		handler.ServeHTTP(w, request)
		if passed.request == nil {
			return w.response()
		}
		if w.status != 0 {
			panic("gojinnhttp: the middleware wrote a response and called next for " + r.Method + " " + r.URI + "; it can do one of them")
		}

		next := gojinn.Next()
		if passed.request.Method != r.Method {
			next.Next.Method = passed.request.Method
		}
		if uri := passed.request.URL.RequestURI(); uri != target {
			next.Next.URI = uri
		}
		for name, values := range passed.request.Header {
			if !slices.Equal(values, before[name]) {
				next.Next.Header[name] = values
			}
		}
		for name := range before {
			if len(passed.request.Header[name]) == 0 {
				next.Next.Header[name] = nil
			}
		}
		if passed.request.Host != host {
			next.Next.Header.Set("Host", passed.request.Host)
		}
		next.Header = gojinn.Header(w.header)
		return next
	}
}

// passage is a request as the middleware gave it to next.
type passage struct{ request *http.Request }

type passageKey struct{}

// pass is the handler that the middleware wraps.
func pass(_ http.ResponseWriter, r *http.Request) {
	passed, ok := r.Context().Value(passageKey{}).(*passage)
	if !ok {
		panic("gojinnhttp: the middleware called next with a request of another context")
	}
	passed.request = r
}
