// Tests of what a function says instead of an answer.

package engine

import (
	"bytes"
	"reflect"
	"testing"
)

func TestNextIsReadAsItWasWritten(t *testing.T) {
	for _, want := range []Next{
		{},
		{
			Method: "PUT", URI: "/a?b",
			Headers:         HeaderChanges{Set: [][2]string{{"A", "1"}, {"A", "2"}}, Delete: []string{"B", "C"}},
			ResponseHeaders: HeaderChanges{Set: [][2]string{{"D", "\xff"}}, Delete: []string{"E"}},
			Vars:            [][2]string{{"user", "alice"}, {"empty", ""}},
			Trailers:        HeaderChanges{Set: [][2]string{{"T", "1"}}, Delete: []string{"U"}},
			ReplacesBody:    true,
		},
		{BuffersResponse: true, EarlyStatus: 201, EarlyBody: "x"},
	} {
		var a Answer
		frame := NewGoesOn(nil, &a, &want, []LogLine{{LogInfo, "x"}})
		got, err := a.Next()
		if err != nil || !reflect.DeepEqual(*got, want) || !a.GoesOn() {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		clear(frame)
		if !reflect.DeepEqual(*got, want) {
			t.Error("it shares memory with the frame")
		}
	}
	var a Answer
	NewAnswer(nil, &a, nil, "", nil, []byte("body"))
	if a.GoesOn() {
		t.Error("an answer goes on")
	}
}

func TestNextIsBounded(t *testing.T) {
	next := &Next{Method: "PUT", URI: "/a", Headers: HeaderChanges{Set: [][2]string{{"A", "1"}}, Delete: []string{"B"}}, Vars: [][2]string{{"v", "1"}}}
	whole := next.encode(nil)
	for n := range whole {
		if _, err := (&Answer{next: whole[:n]}).Next(); err == nil {
			t.Errorf("accepted the first %d of %d bytes", n, len(whole))
		}
		mangled := bytes.Clone(whole)
		mangled[n] = 0xff
		_, _ = (&Answer{next: mangled}).Next() // must not panic, nor allocate by a length that is a lie
	}
	if _, err := (&Answer{next: append(bytes.Clone(whole), 0)}).Next(); err == nil {
		t.Error("accepted a byte too many")
	}
}
