// Tests of the list of allowed servers.

package outbound

import (
	"strings"
	"testing"
)

func TestPatterns(t *testing.T) {
	for _, test := range []struct {
		pattern    string
		yes, no    []string
		writtenAs  string
		normalized string
	}{
		{
			pattern: "https://api.example.com",
			yes: []string{
				"https://api.example.com", "https://api.example.com/", "https://api.example.com:443/x?y#z", "HTTPS://API.Example.COM",
				"https://api.example.com:/x", "https://ａｐｉ.example.com", "https://api。example.com",
			},
			no: []string{
				"http://api.example.com", "https://api.example.com:8443", "https://example.com", "https://x.api.example.com",
				"https://api.example.com.evil.net", "https://apiexample.com", "https://api.example.co", "http://api.example.com:443",
			},
			writtenAs: "https://api.example.com",
		},
		{
			pattern:   "https://*.Example.org:8443/",
			yes:       []string{"https://a.example.org:8443", "https://A.EXAMPLE.org:8443/x"},
			no:        []string{"https://example.org:8443", "https://a.b.example.org:8443", "https://a.example.org", "https://aexample.org:8443"},
			writtenAs: "https://*.example.org:8443",
		},
		{
			pattern:   "http://bücher.example",
			yes:       []string{"http://bücher.example", "http://BÜCHER.example", "http://xn--bcher-kva.example", "http://b%C3%BCcher.example:80"},
			no:        []string{"http://bucher.example"},
			writtenAs: "http://xn--bcher-kva.example",
		},
		{
			pattern:   "http://192.0.2.1:8080",
			yes:       []string{"http://192.0.2.1:8080"},
			no:        []string{"http://[::ffff:192.0.2.1]:8080", "http://192.0.2.1"},
			writtenAs: "http://192.0.2.1:8080",
		},
		{
			pattern:   "http://[2001:DB8:0::1]",
			yes:       []string{"http://[2001:db8::1]", "http://[2001:0db8:0:0:0:0:0:1]:80"},
			no:        []string{"http://[2001:db8::2]"},
			writtenAs: "http://[2001:db8::1]",
		},
		{pattern: "http://my_service:9000", yes: []string{"http://MY_SERVICE:9000"}, writtenAs: "http://my_service:9000"},
		{pattern: "http://*.1.example", no: []string{"http://127.1.example.com"}, yes: []string{"http://x.1.example"}, writtenAs: "http://*.1.example"},
	} {
		p, err := ParsePattern(test.pattern)
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
			continue
		}
		if p.String() != test.writtenAs {
			t.Errorf("%s is written as %s, want %s", test.pattern, p, test.writtenAs)
		}
		for want, urls := range map[bool][]string{true: test.yes, false: test.no} {
			for _, text := range urls {
				_, origin, err := ParseURL(text)
				if err != nil {
					t.Errorf("%s: %v", text, err)
				} else if p.Matches(origin) != want {
					t.Errorf("%s matches %s: %v", test.pattern, text, !want)
				}
			}
		}
	}
}

func TestBadPatterns(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "no scheme",
		"api.example.com":           "no scheme",
		"ftp://example.com":         `the scheme "ftp"`,
		"https://":                  "no host",
		"https://user@example.com":  "a user",
		"https://example.com/v1":    "only a whole host",
		"https://example.com?x":     "only a whole host",
		"https://example.com#":      "only a whole host",
		"https://*":                 "a * may only be the first label",
		"https://*.":                "no host",
		"https://a.*.example.com":   "a * may only be the first label",
		"https://*.*.example.com":   "a * may only be the first label",
		"https://*example.com":      "a * may only be the first label",
		"https://*.192.0.2.1":       "an address has no labels",
		"https://example.com:0":     "the port",
		"https://example.com:99999": "the port",
		"https://example.com.":      "ends with a dot",
		"https://exa mple.com":      "not a URL",
		"https://127.1":             "usual notation",
		"https://2130706433":        "usual notation",
		"https://0x7f000001":        "usual notation",
		"https://0177.0.0.1":        "usual notation",
		"https://[fe80::1%25eth0]":  "a zone",
		"https://[::1":              "not a URL",
		"https://a..b":              "not a name",
		"https://a\\b.example":      "not a URL",
		"https://" + strings.Repeat("a", 64) + ".example": "not a name",
	} {
		if p, err := ParsePattern(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v %v, want %s", text, p, err, want)
		}
	}
}

// URLs that no list can allow, and which therefore never reach it.
func TestBadURLs(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "no url",
		"/x":                                     `the scheme ""`,
		"//example.com/x":                        `the scheme ""`,
		"file:///etc/passwd":                     `the scheme "file"`,
		"gopher://example.com":                   `the scheme "gopher"`,
		"https:example.com":                      "no host",
		"https:///x":                             "no host",
		"https://a@example.com":                  "a user",
		"https://@example.com":                   "a user",
		"https://example.com\\@evil.net":         "cannot be parsed",
		"https://example.com\t.evil.net":         "cannot be parsed",
		"https://exa%6Dple.com":                  "cannot be parsed",
		"https://example.com:80x":                "cannot be parsed",
		"https://[::1]x":                         "cannot be parsed",
		"https://[example.com]":                  "cannot be parsed",
		"https://[127.0.0.1]":                    "cannot be parsed",
		"https://example.com.":                   "ends with a dot",
		"https://127.0.0.1.":                     "ends with a dot",
		"https://127.0.1":                        "usual notation",
		"https://0x7f.0.0.1":                     "usual notation",
		"https://１２７.1":                          "usual notation",
		"https://" + strings.Repeat("a", maxURL): "more than",
	} {
		if u, _, err := ParseURL(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v %v, want %s", text, u, err, want)
		}
	}
	// Full-width digits are those of an address. It is checked as such.
	if _, origin, err := ParseURL("http://１２７.0.0.1/"); err == nil {
		t.Errorf("full-width digits became %s", origin)
	}
}

// What is dialled is what was checked.
func TestURLsAreWrittenAsChecked(t *testing.T) {
	for text, want := range map[string]string{
		"HTTP://EXAMPLE.com:80/A?b=C#d":      "http://example.com/A?b=C",
		"https://bücher.example:8443":        "https://xn--bcher-kva.example:8443",
		"https://[2001:DB8::0001]:443/x%2Fy": "https://[2001:db8::1]/x%2Fy",
	} {
		if u, _, err := ParseURL(text); err != nil || u.String() != want {
			t.Errorf("%s: %v %v, want %s", text, u, err, want)
		}
	}
}

func TestHeaderText(t *testing.T) {
	for _, value := range []string{"", "plain", "ü", "latin \xfc", "\xff\xfe", "\U0010FFFD is kept by the guest only"} {
		if got := FromText(ToText(value)); got != value && strings.ToValidUTF8(value, "") != value {
			t.Errorf("%q came back as %q", value, got)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, text := range []string{"https://a.example/x", "http://[::1]:8", "http://１２７.0.0.1", "http://a@b", "http://%31.x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, origin, err := ParseURL(text)
		if err != nil {
			return
		}
		again, same, err := ParseURL(u.String())
		if err != nil || same != origin || again.Host != u.Host {
			t.Errorf("%q is %s of %v, and then %v of %v: %v", text, u, origin, again, same, err)
		}
	})
}
