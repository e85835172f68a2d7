package gojinnhttp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"time"

	"github.com/pauloappbr/gojinn/guests/gojinn"
)

// Transport sends the requests of an http.Client through Gojinn, to the servers that the Caddyfile allows:
//
//	client := &http.Client{Transport: gojinnhttp.Transport{}}
//
// Programs that use http.DefaultClient or http.DefaultTransport, as most clients of APIs do, need an import only:
//
//	import _ "github.com/pauloappbr/gojinn/guests/gojinn/gojinnhttp/defaulttransport"
//
// A request waits for its whole response, and blocks the program meanwhile. Caddy keeps the connections.
type Transport struct{}

// RoundTrip implements http.RoundTripper.
func (Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	if r.URL == nil {
		return nil, errors.New("gojinnhttp: the request has no URL")
	}
	request := &gojinn.FetchRequest{Method: r.Method, URL: r.URL.String(), Header: gojinn.Header{}, Body: body, Manual: true}
	for name, values := range r.Header {
		request.Header[name] = values
	}
	if r.Host != "" && r.Host != r.URL.Host {
		request.Header["Host"] = []string{r.Host}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if deadline, ok := r.Context().Deadline(); ok {
		if request.Timeout = time.Until(deadline); request.Timeout <= 0 {
			return nil, context.DeadlineExceeded
		}
	}
	answer, err := gojinn.Fetch(request)
	if err != nil {
		if deadlineErr := r.Context().Err(); deadlineErr != nil {
			return nil, deadlineErr
		}
		return nil, err
	}
	header := make(http.Header, len(answer.Header))
	for name, values := range answer.Header {
		header[textproto.CanonicalMIMEHeaderKey(name)] = values
	}
	response := &http.Response{
		Status:        strconv.Itoa(answer.Status) + " " + http.StatusText(answer.Status),
		StatusCode:    answer.Status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          io.NopCloser(bytes.NewReader(answer.Body)),
		ContentLength: int64(len(answer.Body)),
		Request:       r,
	}
	if r.Method == http.MethodHead {
		response.Body, response.ContentLength = http.NoBody, -1
		if n, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil {
			response.ContentLength = n
		}
	}
	return response, nil
}
