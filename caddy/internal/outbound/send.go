// This file sends a request: it follows redirects, and reads the body of the response up to a limit.

package outbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/net/http/httpguts"
)

// Request is an HTTP request of a function.
type Request struct {
	// Method is a token. It is checked by CheckMethod.
	Method string
	URL    *url.URL
	Origin Origin
	Header http.Header
	Body   []byte
	// Follow says that redirects of GET and HEAD are followed.
	Follow bool
	// Before is asked before each request, also after a redirect, and may refuse it.
	Before func(Origin) error
}

// maxRedirects is how many redirects are followed.
const maxRedirects = 3

// The errors of Send and AppendBody that are not about the connection.
var (
	ErrRedirects = fmt.Errorf("there are more than %d redirects", maxRedirects)
	ErrTooLarge  = errors.New("the response's body is larger than max_response")
	ErrSwitched  = errors.New("the server switched to another protocol")
)

// CheckMethod refuses the methods that have no response, or would send back what the host added.
func CheckMethod(method string) error {
	switch method {
	case "":
		return errors.New("the method is empty")
	case http.MethodConnect, http.MethodTrace, "TRACK":
		return fmt.Errorf("the method %s is not available", method)
	}
	// The names of header fields are tokens, too.
	if !httpguts.ValidHeaderFieldName(method) {
		return fmt.Errorf("the method %q is not a token", method)
	}
	return nil
}

// Send sends a request and returns the response, whose body the caller closes, and the URL that it came from. The end of ctx ends
// the request, and the reading of the body.
func (c *Client) Send(ctx context.Context, request *Request) (*http.Response, *url.URL, error) {
	target, origin, body := request.URL, request.Origin, request.Body
	for redirects := 0; ; redirects++ {
		if err := request.Before(origin); err != nil {
			return nil, nil, err
		}
		response, err := c.sendOnce(ctx, request, target, body)
		if err != nil {
			return nil, nil, err
		}
		location := response.Header.Get("Location")
		follow := request.Follow && (request.Method == http.MethodGet || request.Method == http.MethodHead)
		if !follow || !isRedirect(response.StatusCode) || location == "" {
			return response, target, nil
		}
		response.Body.Close()
		if redirects == maxRedirects {
			return nil, nil, ErrRedirects
		}
		next, nextOrigin, err := redirected(target, location)
		if err != nil {
			return nil, nil, err
		}
		if nextOrigin != origin {
			// A copy, because the transport may still read the header of the request before.
			request.Header = request.Header.Clone()
			delete(request.Header, "Authorization")
			delete(request.Header, "Cookie")
		}
		if response.StatusCode != http.StatusTemporaryRedirect && response.StatusCode != http.StatusPermanentRedirect {
			body = nil
		}
		target, origin = next, nextOrigin
	}
}

func (c *Client) sendOnce(ctx context.Context, request *Request, target *url.URL, body []byte) (*http.Response, error) {
	// Made from parts: the URL was parsed once, and a second parser would be one more opinion of what the host is.
	r := (&http.Request{
		Method: request.Method, URL: target, Host: target.Host, Header: request.Header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if len(body) > 0 {
		r.ContentLength = int64(len(body))
		// The transport sends a request again if a kept connection turns out to be closed.
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
	}
	response, err := c.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < 200 {
		response.Body.Close()
		return nil, ErrSwitched
	}
	return response, nil
}

func isRedirect(status int) bool {
	return slices.Contains([]int{301, 302, 303, 307, 308}, status)
}

// redirected returns the target of a redirect.
func redirected(from *url.URL, location string) (*url.URL, Origin, error) {
	if len(location) > maxURL {
		return nil, Origin{}, fmt.Errorf("the redirect's target has %d bytes, more than %d", len(location), maxURL)
	}
	to, err := from.Parse(location)
	if err != nil {
		return nil, Origin{}, errors.New("the redirect's target cannot be parsed")
	}
	next, origin, err := NormalizeURL(to)
	if err != nil {
		return nil, Origin{}, fmt.Errorf("the redirect's target is refused: %w", err)
	}
	return next, origin, nil
}

// AppendBody appends a response's body to buffer, and returns ErrTooLarge if it has more than most bytes.
func AppendBody(buffer []byte, response *http.Response, most int64) ([]byte, error) {
	if response.ContentLength > most && response.Request.Method != http.MethodHead {
		return buffer, ErrTooLarge
	}
	if response.ContentLength > 0 && response.Request.Method != http.MethodHead {
		buffer = slices.Grow(buffer, int(response.ContentLength)+1)
	}
	limited := io.LimitedReader{R: response.Body, N: most + 1}
	for {
		if len(buffer) == cap(buffer) {
			buffer = slices.Grow(buffer, 4<<10)
		}
		n, err := limited.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		if limited.N == 0 {
			return buffer, ErrTooLarge
		}
		if err == io.EOF {
			return buffer, nil
		}
		if err != nil {
			return buffer, err
		}
	}
}
