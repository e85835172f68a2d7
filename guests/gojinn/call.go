package gojinn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Error is why an operation has no reply.
type Error struct {
	// Operation is the name of the operation, such as "kv.get".
	Operation string
	// Code is one of the codes below, or another number below 0.
	Code int
	// Text says what was wrong.
	Text string
}

// The codes of operations, as docs/outbound.md lists them.
const (
	CodeUnknown    = -1 // the host has no such operation
	CodeDenied     = -2 // the Caddyfile does not give it to the function; Caddy's log names the line to add
	CodeBadRequest = -3
	CodeFailed     = -4
	CodeTooLarge   = -5
	CodeNotNow     = -6 // a snapshot is being taken
	CodeNotFound   = -7
)

// Error returns the operation and the text.
func (e *Error) Error() string { return e.Operation + ": " + e.Text }

// Is reports whether target is an error with the same code and without an operation, as those below are.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Operation == "" && other.Code == e.Code
}

// Errors to compare with, by errors.Is.
var (
	ErrDenied   = &Error{Code: CodeDenied, Text: "the function was not given this"}
	ErrNotFound = &Error{Code: CodeNotFound, Text: "not found"}
	ErrTooLarge = &Error{Code: CodeTooLarge, Text: "too large"}
)

// maxErrorText is the longest text that the host says why there is no reply.
const maxErrorText = 1024

// Call calls an operation of the host by its name. The package has a function for each of them, so few programs need this one.
// Request and reply are a JSON object, a newline and bytes; see docs/outbound.md. Outside wasip1 there is no host, and each
// call fails.
func Call(operation string, request []byte) (reply []byte, err error) {
	n := hostCall(operation, request)
	if n < 0 {
		text := make([]byte, maxErrorText)
		text = text[:hostReply(text)]
		return nil, &Error{Operation: operation, Code: int(n), Text: string(text)}
	}
	reply = make([]byte, n)
	return reply[:hostReply(reply)], nil
}

// callJSON calls an operation with head and body, and reads the head of the reply into result. It returns the bytes of the reply.
func callJSON(operation string, head any, body []byte, result any) ([]byte, error) {
	request, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("gojinn: %s: %w", operation, err)
	}
	request = append(append(request, '\n'), body...)
	reply, err := Call(operation, request)
	if err != nil {
		return nil, err
	}
	object, rest, ok := bytes.Cut(reply, []byte{'\n'})
	if !ok {
		return nil, errors.New("gojinn: " + operation + ": the reply has no newline")
	}
	if result != nil {
		if err := json.Unmarshal(object, result); err != nil {
			return nil, fmt.Errorf("gojinn: %s: %w", operation, err)
		}
	}
	return rest, nil
}
