package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Response is a guest's answer.
type Response struct {
	Status     int                 `json:"status"`
	Headers    map[string][]string `json:"headers"`
	Body       string              `json:"body"`
	BodyBase64 []byte              `json:"body_base64"`
}

// Bytes is the body as the client would see it.
func (r *Response) Bytes() []byte {
	if r.BodyBase64 != nil {
		return r.BodyBase64
	}
	return []byte(r.Body)
}

// Response reads stdout as exactly one response; a trap and a non-zero exit are errors whatever was written.
func (r *Result) Response() (*Response, error) {
	if r.Trap != nil {
		return nil, fmt.Errorf("trap: %w; stderr: %s", r.Trap, r.Stderr)
	}
	if r.Exit != 0 {
		return nil, fmt.Errorf("exit code %d; stderr: %s", r.Exit, r.Stderr)
	}
	decoder := json.NewDecoder(bytes.NewReader(r.Stdout))
	decoder.DisallowUnknownFields()
	var response Response
	if err := decoder.Decode(&response); err != nil {
		return nil, fmt.Errorf("stdout %q: %w", r.Stdout, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("stdout %q holds more than one value", r.Stdout)
	}
	return &response, nil
}
