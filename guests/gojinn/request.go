package gojinn

import (
	"net/url"
	"strings"
)

// Request is one HTTP request, as Gojinn hands it to a function.
type Request struct {
	Method string
	// URI is the path and query after Caddy's rewrites, percent-encoded, as in "/shop/caf%C3%A9?sort=price".
	URI string
	// Header has canonical names. "Host" is the host that the client asked for.
	Header Header
	// Body holds the client's bytes, whatever they are.
	Body []byte
	// TraceID is never empty: that of the active span, or of the client, or a random one.
	TraceID string
	// Host is the host that the client asked for, with its port if there was one.
	Host string

	// The others are empty where a request on stdin is JSON without them, as it may be outside of Gojinn.

	// RemoteAddr is the peer's address and port; ClientIP is the client's behind trusted proxies.
	RemoteAddr, ClientIP string
	// Scheme is "http" or "https", and Proto as in "HTTP/2.0".
	Scheme, Proto string
	// OriginalURI is the URI before any rewrite.
	OriginalURI string
}

// Path is the URI's path, decoded. One that is not well encoded comes as it is.
func (r *Request) Path() string {
	path, _, _ := strings.Cut(r.URI, "?")
	if decoded, err := url.PathUnescape(path); err == nil {
		return decoded
	}
	return path
}

// Query is the URI's query. Pairs that are not well encoded are left out, as in net/http.
func (r *Request) Query() url.Values {
	_, query, _ := strings.Cut(r.URI, "?")
	values, _ := url.ParseQuery(query)
	return values
}

// wireRequest is a request on stdin.
type wireRequest struct {
	Method      string `json:"method"`
	URI         string `json:"uri"`
	Headers     Header `json:"headers"`
	Body        string `json:"body"`
	BodyBase64  []byte `json:"body_base64"`
	TraceID     string `json:"trace_id"`
	RemoteAddr  string `json:"remote_addr"`
	ClientIP    string `json:"client_ip"`
	Scheme      string `json:"scheme"`
	Host        string `json:"host"`
	Proto       string `json:"proto"`
	OriginalURI string `json:"original_uri"`
}

// request is the request that was on stdin.
func (wire *wireRequest) request() *Request {
	request := &Request{
		Method:      wire.Method,
		URI:         wire.URI,
		Header:      wire.Headers,
		Body:        wire.BodyBase64,
		TraceID:     wire.TraceID,
		RemoteAddr:  wire.RemoteAddr,
		ClientIP:    wire.ClientIP,
		Scheme:      wire.Scheme,
		Host:        wire.Host,
		Proto:       wire.Proto,
		OriginalURI: wire.OriginalURI,
	}
	if request.Body == nil {
		request.Body = []byte(wire.Body)
	}
	if request.Header == nil {
		request.Header = Header{}
	}
	if request.Host == "" {
		if hosts := request.Header["Host"]; len(hosts) > 0 {
			request.Host = hosts[0]
		}
	}
	for _, values := range request.Header {
		for i, value := range values {
			values[i] = fromHost(value)
		}
	}
	return request
}
