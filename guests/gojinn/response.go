package gojinn

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Response is a function's answer.
type Response struct {
	// Status is the HTTP status, 200 to 599. 0 is 200, or in Caddy's handle_errors the status of the error.
	Status int
	// Header replaces what Caddy set under the same names; Set-Cookie, Vary and Link are added. Without Content-Type the
	// body's first bytes decide, as in net/http.
	Header Header
	// Body holds any bytes.
	Body []byte
	// Next lets the request go on to Caddy's next handler instead of being answered, see the function [Next]. Status and Body
	// must then be empty. Header is set on the response that a later handler writes; a name without values is removed from it.
	Next *Onward
}

// Onward is how a request changes when it goes on to Caddy's next handler.
type Onward struct {
	// Method and URI (path and query, percent-encoded) are empty if they stay.
	Method, URI string
	// Header has headers that replace those of the request; a name without values is removed. "Host" is the request's host.
	Header Header
	// Vars are the placeholders {http.vars.*} of later handlers. A name has letters, digits, _ and -.
	Vars map[string]string
}

// Next is a response that lets the request go on to Caddy's next handler, which gets the body, too:
//
//	next := gojinn.Next()
//	next.Next.Header.Set("X-User", user)             // on the request
//	next.Next.Vars["user"] = user                    // {http.vars.user} in the Caddyfile
//	next.Header.Set("Cache-Control", "private")      // on the response
//	return next
func Next() *Response {
	return &Response{Header: Header{}, Next: &Onward{Header: Header{}, Vars: map[string]string{}}}
}

// Text is a plain-text response.
func Text(status int, body string) *Response {
	return &Response{
		Status: status,
		Header: Header{"Content-Type": {"text/plain; charset=utf-8"}},
		Body:   []byte(body),
	}
}

// JSON is a response with value as its body. It panics if value has no form in JSON, as a channel or a cycle: that is a
// mistake in the program.
func JSON(status int, value any) *Response {
	body, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("gojinn: JSON: %v", err))
	}
	return &Response{
		Status: status,
		Header: Header{"Content-Type": {"application/json"}},
		Body:   append(body, '\n'),
	}
}

// wireNext is a response on stdout that lets the request go on.
type wireNext struct {
	Status     int    `json:"status"`
	Headers    Header `json:"headers,omitempty"`
	Body       string `json:"body,omitempty"`
	BodyBase64 []byte `json:"body_base64,omitempty"`

	Next            bool              `json:"next,omitempty"`
	Method          string            `json:"method,omitempty"`
	URI             string            `json:"uri,omitempty"`
	Vars            map[string]string `json:"vars,omitempty"`
	ResponseHeaders Header            `json:"response_headers,omitempty"`
}

// isText says whether a body is UTF-8 without many control characters, each of which takes six bytes in JSON.
func isText(body []byte) bool {
	controls := 0
	for _, c := range body {
		if c < 0x20 && c != '\n' && c != '\t' && c != '\r' {
			controls++
		}
	}
	return (controls <= 64 || controls <= len(body)/16) && utf8.Valid(body)
}
