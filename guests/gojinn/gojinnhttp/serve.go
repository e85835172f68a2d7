// Package gojinnhttp serves an http.Handler as a function for Gojinn: a mux, a router, middleware, as they are.
//
//	func main() {
//		gojinnhttp.Serve(http.FileServerFS(pages))
//	}
//
// A request has RemoteAddr, Proto and TLS in Gojinn. Outside of it, they are made of `remote_addr`, `proto` and `scheme`, if the
// request on stdin has them.
//
// It is a separate package, so that functions that use only gojinn.Serve do not contain net/http.
package gojinnhttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

// Serve answers every request with handler, until there are no more. It ends as gojinn.Serve does: a panic of the handler
// (http.ErrAbortHandler too) ends the process, and the client gets 502.
//
// A response is sent as a whole when the handler returns: there is no flushing, no hijacking, and there are no trailers.
func Serve(handler http.Handler) {
	gojinn.Serve(Adapt(handler))
}

// Adapt makes a handler of the one kind into one of the other.
func Adapt(handler http.Handler) func(*gojinn.Request) *gojinn.Response {
	return func(r *gojinn.Request) *gojinn.Response {
		request, err := request(r)
		if err != nil {
			return gojinn.Text(http.StatusBadRequest, err.Error()+"\n")
		}
		w := &responseWriter{header: http.Header{}}
		handler.ServeHTTP(w, request)
		return w.response()
	}
}

// FromContext is the request as Gojinn sent it, with its trace id and the client's IP; ctx is that of the http.Request. It is
// nil where Gojinn sent none, as in a test that calls the handler itself.
func FromContext(ctx context.Context) *gojinn.Request {
	request, _ := ctx.Value(requestKey{}).(*gojinn.Request)
	return request
}

type requestKey struct{}

// request is r as net/http's server would have made it.
func request(r *gojinn.Request) (*http.Request, error) {
	target, err := url.ParseRequestURI(r.URI)
	if err != nil {
		return nil, err
	}
	header := http.Header(r.Header).Clone()
	host := header.Get("Host")
	if host == "" {
		host = r.Host
	}
	header.Del("Host")
	request := &http.Request{
		Method:        r.Method,
		URL:           target,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          http.NoBody,
		ContentLength: int64(len(r.Body)),
		Host:          host,
		RemoteAddr:    r.RemoteAddr,
		RequestURI:    r.URI,
	}
	if len(r.Body) > 0 {
		request.Body = io.NopCloser(bytes.NewReader(r.Body))
	}
	if major, minor, ok := http.ParseHTTPVersion(r.Proto); ok {
		request.Proto, request.ProtoMajor, request.ProtoMinor = r.Proto, major, minor
	}
	if r.Scheme == "https" {
		// Handlers ask whether it is there, as net/http/cgi knows too; Caddy keeps what would be in it.
		request.TLS = &tls.ConnectionState{HandshakeComplete: true}
	}
	return request.WithContext(context.WithValue(context.Background(), requestKey{}, r)), nil
}
