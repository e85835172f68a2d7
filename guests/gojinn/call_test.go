//go:build !wasip1

package gojinn

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fakeHost answers one operation, and notes what was asked.
func fakeHost(t *testing.T, reply string, code int32) *string {
	t.Helper()
	before := host
	t.Cleanup(func() { host = before })
	var asked string
	host = func(operation string, request []byte) ([]byte, int32) {
		asked = operation + " " + string(request)
		return []byte(reply), code
	}
	return &asked
}

// What the functions of the package write is what docs/outbound.md says.
func TestRequestsOfOperations(t *testing.T) {
	store := KV("s")
	for _, test := range []struct {
		call  func() (any, error)
		asked string
		reply string
		want  any
	}{
		{func() (any, error) { return store.Get("k\"") }, `kv.get {"store":"s","key":"k\""}` + "\n", "{}\na\nb", []byte("a\nb")},
		{func() (any, error) { return nil, store.Set("k", []byte("\x00\n")) }, `kv.set {"store":"s","key":"k"}` + "\n\x00\n", "{}\n", nil},
		{func() (any, error) { return nil, store.SetFor("k", nil, 1500*time.Microsecond) }, `kv.set {"store":"s","key":"k","ttl_ms":2}` + "\n", "{}\n", nil},
		{func() (any, error) { return nil, store.Delete("k") }, `kv.delete {"store":"s","key":"k"}` + "\n", "{}\n", nil},
		{func() (any, error) { return store.Exists("k") }, `kv.exists {"store":"s","key":"k"}` + "\n", `{"exists":true}` + "\n", true},
		{func() (any, error) { return store.Increment("k", 0) }, `kv.increment {"store":"s","key":"k","delta":0}` + "\n", `{"value":-9223372036854775808}` + "\n", int64(-1 << 63)},
		{func() (any, error) { return store.IncrementFor("k", 2, time.Minute) }, `kv.increment {"store":"s","key":"k","ttl_ms":60000,"delta":2}` + "\n", `{"value":2}` + "\n", int64(2)},
		{func() (any, error) { return store.CompareAndSwap("k", nil, []byte("v")) }, `kv.compare_and_swap {"store":"s","key":"k","expect":null}` + "\nv", `{"swapped":true}` + "\n", true},
		{func() (any, error) { return store.CompareAndSwap("k", []byte{}, []byte("v")) }, `kv.compare_and_swap {"store":"s","key":"k","expect":0}` + "\nv", `{"swapped":false}` + "\n", false},
		{func() (any, error) { return store.CompareAndSwap("k", []byte("old"), []byte("v")) }, `kv.compare_and_swap {"store":"s","key":"k","expect":3}` + "\noldv", `{"swapped":true}` + "\n", true},
		{func() (any, error) { return store.Keys("p") }, `kv.list {"store":"s","prefix":"p","limit":1000}` + "\n", `{"keys":["a","b","a"]}` + "\n", []string{"a", "b"}},
		{func() (any, error) { return Secret("KEY") }, `secret.get {"name":"KEY"}` + "\n", "{}\nx\ny", "x\ny"},
		{
			func() (any, error) {
				return Fetch(&FetchRequest{Method: "PUT", URL: "https://a.example", Header: Header{"A": {"\xff"}}, Body: []byte("b"), Timeout: time.Second, Manual: true})
			},
			`http.send {"method":"PUT","url":"https://a.example","headers":{"A":["` + "\U0010ffff" + `"]},"redirect":"manual","timeout_ms":1000}` + "\nb",
			`{"status":404,"url":"https://a.example/","headers":{"B":["` + "\U0010fffe" + `"]}}` + "\nbody",
			&FetchResponse{Status: 404, URL: "https://a.example/", Header: Header{"B": {"\xfe"}}, Body: []byte("body")},
		},
		{func() (any, error) { r, err := Fetch(&FetchRequest{URL: "u"}); return r.Status, err }, `http.send {"url":"u"}` + "\n", `{"status":200}` + "\n", 200},
	} {
		asked := fakeHost(t, test.reply, 0)
		got, err := test.call()
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v %v, want %v", test.asked, got, err, test.want)
		}
		if *asked != test.asked {
			t.Errorf("asked %s\nwant  %s", *asked, test.asked)
		}
	}
}

func TestErrorsOfOperations(t *testing.T) {
	fakeHost(t, strings.Repeat("x", 2000), CodeNotFound)
	_, err := KV("s").Get("k")
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeNotFound || len(e.Text) != maxErrorText || !errors.Is(err, ErrNotFound) || errors.Is(err, ErrDenied) {
		t.Errorf("got %.80v", err)
	}
	fakeHost(t, "no newline", 0)
	if _, err := Secret("x"); err == nil {
		t.Error("a reply without a newline is taken")
	}
	host = func(operation string, _ []byte) ([]byte, int32) {
		return []byte(fmt.Sprint("no ", operation)), CodeUnknown
	}
	if _, _, err := KV("s").Page("", "", 1); err == nil || err.Error() != "kv.list: no kv.list" {
		t.Errorf("got %v", err)
	}
}
