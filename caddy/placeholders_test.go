// Tests of placeholders.

package gojinn

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestValue(t *testing.T) {
	t.Setenv("GOJINN_A", "alpha")
	t.Setenv("GOJINN_NESTED", "{env.GOJINN_A}")
	request := caddy.NewReplacer()
	request.Set("http.request.host", "{env.GOJINN_A}")
	request.Set("http.empty", "")
	for _, c := range []struct {
		text, want string
		perRequest bool
		unset      string
	}{
		{text: "", want: ""},
		{text: "plain", want: "plain"},
		{text: "<{env.GOJINN_A}>", want: "<alpha>"},
		{text: "{env.GOJINN_NESTED}", want: "{env.GOJINN_A}"},
		{text: "{env.GOJINN_NONE}", want: "", unset: "{env.GOJINN_NONE}"},
		{text: "{http.request.host}", want: "{env.GOJINN_A}", perRequest: true},
		{text: "a {http.request.host} {env.GOJINN_A}", want: "a {env.GOJINN_A} alpha", perRequest: true},
		{text: "{http.empty}", want: "", perRequest: true},
		{text: "{nobody.knows}", want: "{nobody.knows}", perRequest: true},
		{text: `\{env.GOJINN_A\}`, want: "{env.GOJINN_A}"},
		{text: "open { end", want: "open { end"},
		{text: "}{", want: "}{"},
	} {
		v, unset := parseValue(c.text, caddy.NewReplacer())
		got, static := v.static()
		if !static {
			var err error
			if got, err = v.expand(request); err != nil {
				t.Error(err)
			}
		}
		if got != c.want || static == c.perRequest || strings.Join(unset, " ") != c.unset {
			t.Errorf("%s: got %q, per request %t, unset %v", c.text, got, !static, unset)
		}
	}
}
