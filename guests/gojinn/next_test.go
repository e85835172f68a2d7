package gojinn

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestNextIsWrittenAsTheHostReadsIt(t *testing.T) {
	full := Next()
	full.Next.Method, full.Next.URI = "PUT", "/a?b"
	full.Next.Header.Set("x-user", "caf\xe9")
	full.Next.Header.Remove("cookie")
	full.Next.Vars["user"] = "alice"
	full.Header.Add("Set-Cookie", "a=1")
	full.Header.Add("Set-Cookie", "b=2")
	for want, response := range map[string]*Response{
		`{"next":true,"status":0}`: Next(),
		`{"next":true,"status":0,"method":"PUT","uri":"/a?b","headers":{"X-User":["caf\udbff\udfe9"],"Cookie":null},` +
			`"vars":{"user":"alice"},"response_headers":{"Set-Cookie":["a=1","b=2"]}}`: full,
		// The host refuses it, and says why.
		`{"next":true,"status":200,"body":"x"}`: {Status: 200, Body: []byte("x"), Next: &Onward{}},
	} {
		stdout, err := exchange(t, "{}", func(*Request) *Response { return response })
		if err != nil {
			t.Fatal(err)
		}
		var got, expected any
		if err := json.Unmarshal([]byte(stdout), &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want), &expected); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, expected) {
			t.Errorf("got %s, want %s", stdout, want)
		}
	}
}
