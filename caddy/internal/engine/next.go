// This file has what a function says instead of an answer: how the request goes on.

package engine

import (
	"encoding/binary"
	"errors"
)

// Next is what changes when a request goes on to the next handler. Names of headers are canonical.
type Next struct {
	// Method and URI (in origin form) are empty if they stay.
	Method, URI string
	// Headers are changes of the request's headers, ResponseHeaders those of the response that a later handler writes.
	Headers, ResponseHeaders HeaderChanges
	// Vars are pairs of name and value.
	Vars [][2]string
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

// Next returns how the request goes on. It shares no memory with the answer's buffer.
func (a *Answer) Next() (*Next, error) {
	c := cursor{rest: a.next}
	text := func() string { return string(c.bytes()) }
	pairs := func() (list [][2]string) {
		for n := c.uint32(); n > 0 && !c.failed; n-- {
			list = append(list, [2]string{text(), text()})
		}
		return list
	}
	next := &Next{Method: text(), URI: text()}
	for _, changes := range [...]*HeaderChanges{&next.Headers, &next.ResponseHeaders} {
		changes.Set = pairs()
		for n := c.uint32(); n > 0 && !c.failed; n-- {
			changes.Delete = append(changes.Delete, text())
		}
	}
	next.Vars = pairs()
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
	for _, changes := range [...]*HeaderChanges{&n.Headers, &n.ResponseHeaders} {
		pairs(changes.Set)
		count(len(changes.Delete))
		for _, name := range changes.Delete {
			frame = appendString(frame, name)
		}
	}
	pairs(n.Vars)
	return frame
}
