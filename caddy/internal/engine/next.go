// This file has what a function says instead of an answer: how the request goes on.

package engine

import (
	"encoding/binary"
	"errors"
	"time"
)

// Next is what changes when a request goes on to the next handler. Names of headers are canonical.
type Next struct {
	// Method and URI (in origin form) are empty if they stay.
	Method, URI string
	// Headers are changes of the request's headers, ResponseHeaders those of the response that a later handler writes.
	Headers, ResponseHeaders HeaderChanges
	// Vars are pairs of name and value.
	Vars [][2]string

	// With the contract http-wasm: Trailers are changes of the trailers of the request, or of the response that is answered;
	// ReplacesBody says that there is another body than the client or the next handler has sent, and BuffersResponse that the
	// function gets the whole response, which is not sent before.
	Trailers                      HeaderChanges
	ReplacesBody, BuffersResponse bool
	// EarlyStatus and EarlyBody are a part of the response that the function has written before. Without one the status is 0.
	EarlyStatus int
	EarlyBody   string
}

// HeaderChanges are changes of headers. No name is in both lists.
type HeaderChanges struct {
	// Set are pairs of name and value, which replace all others of their name. The values of one name are next to each other.
	Set [][2]string
	// Delete are names.
	Delete []string
}

// GoesOn reports whether the function does not answer, so that the request goes on to the next handler.
func (a *Answer) GoesOn() bool { return len(a.next) > 0 }

// Next returns how the request goes on; with the contract http-wasm, how the response changes. It shares no memory with the
// answer's buffer.
func (a *Answer) Next() (*Next, error) { return decodeNext(a.next) }

// Next returns how the request goes on, for an EventNext. It shares no memory with the event's buffer.
func (e *Event) Next() (*Next, error) { return decodeNext(e.Operation) }

// NewEventNext builds an event of a guest that waits for the next handler, for fakes and tests.
func NewEventNext(next *Next, body []byte) *Event {
	return &Event{Kind: EventNext, Until: -1, Deadline: time.Minute, Operation: next.encode(nil), Request: body}
}

func decodeNext(frame []byte) (*Next, error) {
	c := cursor{rest: frame}
	text := func() string { return string(c.bytes()) }
	pairs := func() (list [][2]string) {
		for n := c.uint32(); n > 0 && !c.failed; n-- {
			list = append(list, [2]string{text(), text()})
		}
		return list
	}
	changes := func() (changes HeaderChanges) {
		changes.Set = pairs()
		for n := c.uint32(); n > 0 && !c.failed; n-- {
			changes.Delete = append(changes.Delete, text())
		}
		return changes
	}
	next := &Next{Method: text(), URI: text(), Headers: changes(), ResponseHeaders: changes(), Vars: pairs(), Trailers: changes()}
	next.ReplacesBody, next.BuffersResponse = c.uint32() != 0, c.uint32() != 0
	next.EarlyStatus, next.EarlyBody = int(c.uint32()), text()
	if c.failed || len(c.rest) > 0 {
		return nil, errors.New("the changes of the request in the answer's frame are malformed")
	}
	return next, nil
}

// encode appends the last part of an answer's frame.
func (n *Next) encode(frame []byte) []byte {
	count := func(n int) { frame = binary.LittleEndian.AppendUint32(frame, uint32(n)) }
	pairs := func(list [][2]string) {
		count(len(list))
		for _, p := range list {
			frame = appendString(appendString(frame, p[0]), p[1])
		}
	}
	frame = appendString(appendString(frame, n.Method), n.URI)
	changes := func(changes *HeaderChanges) {
		pairs(changes.Set)
		count(len(changes.Delete))
		for _, name := range changes.Delete {
			frame = appendString(frame, name)
		}
	}
	flag := func(flag bool) {
		if flag {
			count(1)
		} else {
			count(0)
		}
	}
	changes(&n.Headers)
	changes(&n.ResponseHeaders)
	pairs(n.Vars)
	changes(&n.Trailers)
	flag(n.ReplacesBody)
	flag(n.BuffersResponse)
	count(n.EarlyStatus)
	return appendString(frame, n.EarlyBody)
}
