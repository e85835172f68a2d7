package gojinn

import (
	"time"
)

// FetchRequest is an HTTP request to another server.
type FetchRequest struct {
	// Method is GET if it is empty.
	Method string
	// URL names a server that the Caddyfile allows, in `outbound`.
	URL    string
	Header Header
	Body   []byte
	// Timeout is shorter than the one of `outbound`, or 0.
	Timeout time.Duration
	// Manual returns a redirect in place of following it.
	Manual bool
}

// FetchResponse is the response of a server.
type FetchResponse struct {
	Status int
	// URL is where the response came from, after redirects.
	URL    string
	Header Header
	Body   []byte
}

// Fetch sends a request to a server that the Caddyfile allows, and returns the response, whatever its status is. For an
// http.Client see gojinnhttp.Transport.
//
//	response, err := gojinn.Fetch(&gojinn.FetchRequest{URL: "https://api.example.com/v1/rates"})
func Fetch(request *FetchRequest) (*FetchResponse, error) {
	head := struct {
		Method   string `json:"method,omitempty"`
		URL      string `json:"url"`
		Headers  Header `json:"headers,omitempty"`
		Redirect string `json:"redirect,omitempty"`
		Timeout  int64  `json:"timeout_ms,omitempty"`
	}{Method: request.Method, URL: request.URL, Headers: request.Header.toHost(), Timeout: milliseconds(request.Timeout)}
	if request.Manual {
		head.Redirect = "manual"
	}
	var answer struct {
		Status  int    `json:"status"`
		URL     string `json:"url"`
		Headers Header `json:"headers"`
	}
	body, err := callJSON("http.send", head, request.Body, &answer)
	if err != nil {
		return nil, err
	}
	for _, values := range answer.Headers {
		for i, value := range values {
			values[i] = fromHost(value)
		}
	}
	return &FetchResponse{Status: answer.Status, URL: answer.URL, Header: answer.Headers, Body: body}, nil
}

// milliseconds is a time for the host, rounded up, and below 0 if it is: the host refuses a time that is over.
func milliseconds(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
