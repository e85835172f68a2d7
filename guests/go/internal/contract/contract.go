// Package contract reads the request and writes the response of Gojinn's JSON contract, for guests that need more of it than hello.
package contract

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"unicode/utf8"
)

// Request is what a guest finds on stdin.
type Request struct {
	Method      string              `json:"method"`
	URI         string              `json:"uri"`
	Headers     map[string][]string `json:"headers"`
	Body        string              `json:"body"`
	BodyBase64  *string             `json:"body_base64,omitempty"`
	TraceID     string              `json:"trace_id"`
	RemoteAddr  string              `json:"remote_addr,omitempty"`
	ClientIP    string              `json:"client_ip,omitempty"`
	Scheme      string              `json:"scheme,omitempty"`
	Host        string              `json:"host,omitempty"`
	Proto       string              `json:"proto,omitempty"`
	OriginalURI string              `json:"original_uri,omitempty"`
}

// Response is what a guest writes on stdout. Set its body with SetBody.
type Response struct {
	Status     int                 `json:"status"`
	Headers    map[string][]string `json:"headers,omitempty"`
	Body       string              `json:"body,omitempty"`
	BodyBase64 string              `json:"body_base64,omitempty"`
}

// Answer is the whole life of a function: it reads one request from stdin and writes the answer to stdout. An error ends the
// process with exit code 1 and a line on stderr that begins with name.
func Answer(name string, answer func(*Request) (*Response, error)) {
	req, err := Read(os.Stdin)
	var resp *Response
	if err == nil {
		resp, err = answer(req)
	}
	if err == nil {
		err = resp.Write(os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Read takes one request from r.
func Read(r io.Reader) (*Request, error) {
	var req Request
	if err := json.NewDecoder(r).Decode(&req); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	return &req, nil
}

// Text is a plain-text response.
func Text(status int, body string) *Response {
	return &Response{
		Status:  status,
		Headers: map[string][]string{"Content-Type": {"text/plain"}},
		Body:    body,
	}
}

// JSON is a response with value as its body.
func JSON(status int, value any) (*Response, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return &Response{
		Status:  status,
		Headers: map[string][]string{"Content-Type": {"application/json"}},
		Body:    string(body) + "\n",
	}, nil
}

// SetBody sends body as text where it is UTF-8 without many control characters, which take six bytes each in JSON, else as
// base64: no byte is ever lost.
func (r *Response) SetBody(body []byte) {
	controls := 0
	for _, c := range body {
		if c < 0x20 && c != '\n' && c != '\t' && c != '\r' {
			controls++
		}
	}
	if utf8.Valid(body) && (controls <= 64 || controls <= len(body)/16) {
		r.Body, r.BodyBase64 = string(body), ""
	} else {
		r.Body, r.BodyBase64 = "", base64.StdEncoding.EncodeToString(body)
	}
}

// Write sends the response to w.
func (r *Response) Write(w io.Writer) error {
	return json.NewEncoder(w).Encode(r)
}

// Bytes is the request's body as the client sent it.
func (r *Request) Bytes() ([]byte, error) {
	if r.BodyBase64 == nil {
		return []byte(r.Body), nil
	}
	body, err := base64.StdEncoding.DecodeString(*r.BodyBase64)
	if err != nil {
		return nil, fmt.Errorf("body_base64: %w", err)
	}
	return body, nil
}

// Query is the parsed query of the request's URI.
func (r *Request) Query() (url.Values, error) {
	uri, err := url.ParseRequestURI(r.URI)
	if err != nil {
		return nil, fmt.Errorf("uri: %w", err)
	}
	query, err := url.ParseQuery(uri.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return query, nil
}
