//go:build cgo

// Tests of functions as middleware with the real engine: the examples of docs/middleware.md, and hostile answers.

package gojinn

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The four examples, in front of one upstream.
func TestMiddlewareExamples(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			up := echoUpstream(t, "X-Powered-By", "php", "Server", "old")
			if err := os.Mkdir(filepath.Join(s.dir, "rules"), 0o755); err != nil {
				t.Fatal(err)
			}
			redirects := "# old paths\n/old /new\n/blog/* https://blog.example/* 301\n/blog/2020/* /archive/*\n\n/gone?x /never\n"
			if err := os.WriteFile(filepath.Join(s.dir, "rules", "redirects.txt"), []byte(redirects), 0o644); err != nil {
				t.Fatal(err)
			}
			const function = "gojinn %s {\n module %s\n timeout 30s\n %s\n }\n"
			s.mustLoad(fmt.Sprintf("{\n admin ADMIN\n log {\n output file DIR/caddy.log\n level DEBUG\n }\n gojinn {\n backend %s\n }\n}\nADDR {\n route {\n", backend) +
				fmt.Sprintf(function, "/private/*", guest(t, "go-cookie"), "env SESSION_KEY k3y\n env LOGIN /login") +
				fmt.Sprintf(function, "/shop/*", guest(t, "go-split"), "args 30") +
				fmt.Sprintf(function, "/rules/*", guest(t, "go-headers"), "args \"request / X-Client $client_ip\" \"request /rules/api Cookie\" "+
					"\"response / X-Powered-By\" \"response / X-Frame-Options DENY\" \"response /rules/api Cache-Control no-store\"") +
				fmt.Sprintf(function, "/pages/*", guest(t, "go-redirects"), "args /rules/redirects.txt\n mount DIR/rules /rules") +
				fmt.Sprintf(function, "*", guest(t, "go-redirects"), "name redirects\n args /rules/redirects.txt\n mount DIR/rules /rules") +
				"@b vars {http.vars.variant} b\n respond @b \"variant b\"\n reverse_proxy " + up.Listener.Addr().String() + "\n }\n}\n")

			t.Run("cookie", func(t *testing.T) { testCookies(t, s) })
			t.Run("split", func(t *testing.T) { testSplit(t, s) })
			t.Run("headers", func(t *testing.T) {
				res := s.get("/rules/api/x", "Cookie", "a=1", "X-Client", "forged")
				got := res.received(t)
				if got.Header.Get("Cookie") != "" || got.Header.Get("X-Client") != "127.0.0.1" {
					t.Errorf("the upstream got %v", got.Header)
				}
				if res.Header.Get("X-Powered-By") != "" || res.Header.Get("X-Frame-Options") != "DENY" || res.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("the client got %v", res.Header)
				}
				res = s.get("/rules/x", "Cookie", "a=1")
				if got := res.received(t); got.Header.Get("Cookie") != "a=1" || res.Header.Get("Cache-Control") != "" {
					t.Errorf("the upstream got %v, the client %v", got.Header, res.Header)
				}
			})
			t.Run("redirects", func(t *testing.T) {
				for uri, want := range map[string]string{
					"/old":            "308 /new",
					"/old?a=b":        "308 /new?a=b",
					"/blog/x%2Fy?z":   "301 https://blog.example/x%2Fy?z",
					"/blog/2020/post": "308 /archive/post",
				} {
					if res := s.get(uri); fmt.Sprintf("%d %s", res.StatusCode, res.Header.Get("Location")) != want {
						t.Errorf("%s: got %d %s, want %s", uri, res.StatusCode, res.Header.Get("Location"), want)
					}
				}
				for _, uri := range []string{"/older", "/blog", "/"} {
					if got := s.get(uri).received(t); got.URI != uri {
						t.Errorf("%s: the upstream got %+v", uri, got)
					}
				}
			})
		})
	}
}

func testCookies(t *testing.T, s *server) {
	session := func(key, user string, expiry time.Time) string {
		signed := fmt.Sprintf("%s.%d", user, expiry.Unix())
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(signed))
		return signed + "." + hex.EncodeToString(mac.Sum(nil))
	}
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	good := session("k3y", "alice", soon)
	for _, r := range []*http.Request{
		s.request("GET", "/private/a?b", "", "Cookie", "x=1; session="+good, "X-User", "root"),
		s.request("POST", "/private/a?b", "a body", "Cookie", "session="+good, "Connection", "X-User"),
		s.request("GET", "/private/a?b", "", "Cookie", "session="+session("k3y", "alice", soon)),
	} {
		res := s.do(r)
		got := res.received(t)
		if fmt.Sprint(got.Header["X-User"]) != "[alice]" || got.URI != "/private/a?b" || res.Header.Get("Cache-Control") != "private" {
			t.Errorf("the upstream got %+v, the client %v", got, res.Header)
		}
		if r.Method == "POST" && got.Body != "a body" {
			t.Errorf("the upstream got the body %q", got.Body)
		}
	}
	for name, cookie := range map[string]string{
		"none":      "x=1",
		"empty":     "session=",
		"expired":   "session=" + session("k3y", "alice", past),
		"other key": "session=" + session("key", "alice", soon),
		"other":     "session=" + strings.Replace(good, "alice", "admin", 1),
		"cut off":   "session=" + good[:len(good)-2],
		"no user":   "session=" + session("k3y", "", soon),
		"no dots":   "session=alice",
	} {
		res := s.get("/private/a?b", "Cookie", cookie, "X-User", "root")
		if res.StatusCode != 303 || res.Header.Get("Location") != "/login?to=%2Fprivate%2Fa%3Fb" {
			t.Errorf("%s: got %d %v %s", name, res.StatusCode, res.Header, res.body)
		}
	}
}

func testSplit(t *testing.T, s *server) {
	variants := map[bool]int{}
	for i := range 60 {
		cookie := fmt.Sprintf("visitor=v%d", i)
		res := s.get("/shop/", "Cookie", cookie)
		isB := res.body == "variant b"
		variants[isB]++
		if res.Header.Get("Set-Cookie") != "" || res.Header.Get("Vary") != "Cookie" {
			t.Errorf("%s: got %v", cookie, res.Header)
		}
		if again := s.get("/shop/", "Cookie", cookie); (again.body == "variant b") != isB {
			t.Errorf("%s: got another variant", cookie)
		}
	}
	// 30 percent of 60, with an ample margin; the ids are always the same.
	if variants[true] < 8 || variants[true] > 30 {
		t.Errorf("%d of 60 visitors got b", variants[true])
	}
	first := s.get("/shop/")
	cookies := first.Cookies()
	if len(cookies) != 1 || cookies[0].Name != "visitor" {
		t.Fatalf("got the cookies %v", cookies)
	}
	if again := s.get("/shop/", "Cookie", "visitor="+cookies[0].Value); (again.body == "variant b") != (first.body == "variant b") {
		t.Error("a visitor got another variant with its new cookie")
	}
}

// The function `next` of each language changes requests and responses by its package, on each backend.
func TestGuestsLetRequestsGoOn(t *testing.T) {
	s := newRealServer(t)
	up := echoUpstream(t, "Server", "old", "X-Frame-Options", "SAMEORIGIN")
	site := "{\n admin ADMIN\n}\nADDR {\n"
	for language := range guestLanguages {
		for _, backend := range backends {
			site += fmt.Sprintf(" handle /%s-%s {\n gojinn {\n module %s\n backend %[2]s\n timeout 30s\n }\n", language, backend, languageGuest(t, language, "next")) +
				"header >X-Var \"{http.vars.language} {http.gojinn.vars.language}\"\n reverse_proxy " + up.Listener.Addr().String() + "\n }\n"
		}
	}
	s.mustLoad(site + "}\n")
	for language, name := range guestLanguages {
		for _, backend := range backends {
			for range 2 {
				res := s.do(s.request("POST", "/"+language+"-"+backend, "a body", "Cookie", "a=1", "X-Language", "none", "X-Two", "0", "X-Kept", "1"))
				got := res.received(t)
				if got.Method != "PUT" || got.URI != "/v2/"+language+"?a=b" || got.Body != "a body" {
					t.Errorf("%s on %s: the upstream got %+v", language, backend, got)
				}
				for header, want := range map[string][]string{"X-Language": {name}, "X-Two": {"1", "2"}, "Cookie": nil, "X-Kept": {"1"}} {
					if !slices.Equal(got.Header[header], want) {
						t.Errorf("%s on %s: the upstream got %s %q, want %q", language, backend, header, got.Header[header], want)
					}
				}
				for header, want := range map[string][]string{
					"X-Frame-Options": {"DENY"}, "Link": {`</a>; rel="preload"`, "</b>"}, "Server": nil, "X-Var": {name + " " + name},
				} {
					if !slices.Equal(res.Header[header], want) {
						t.Errorf("%s on %s: the client got %s %q, want %q", language, backend, header, res.Header[header], want)
					}
				}
			}
		}
	}
}

// Hostile middleware: what each function writes, and what the client gets. The next handler answers 299.
func TestHostileMiddleware(t *testing.T) {
	var many []string
	for i := range 257 {
		many = append(many, fmt.Sprintf(`"a%d":"b"`, i))
	}
	cases := []struct {
		name, output, code string
		status             int
	}{
		{"goes on", `{"next":true}`, "", 299},
		{"status 0", `{"next":true,"status":0,"body":null}`, "", 299},
		{"an answer", `{"next":false,"status":201}`, "", 201},
		{"status", `{"next":true,"status":200}`, "", 502},
		{"body", `{"next":true,"body":"x"}`, "", 502},
		{"base64", `{"body_base64":"eA==","next":true}`, "", 502},
		{"twice", `{"next":true}{"next":true}`, "", 502},
		{"key twice", `{"next":true,"next":true}`, "", 502},
		{"not a boolean", `{"next":"true"}`, "", 502},
		{"method", `{"next":true,"method":"GET /admin HTTP/1.1\r\nX:"}`, "", 502},
		{"uri split", `{"next":true,"uri":"/a HTTP/1.1\r\nX: y"}`, "", 502},
		{"absolute uri", `{"next":true,"uri":"http://169.254.169.254/"}`, "", 502},
		{"half an escape", `{"next":true,"uri":"/%"}`, "", 502},
		{"header name", `{"next":true,"headers":{"A: b\r\nC":"d"}}`, "", 502},
		{"header value", `{"next":true,"headers":{"A":"b\r\nC: d"}}`, "", 502},
		{"response header", `{"next":true,"response_headers":{"A":"b\r\n\r\n<script>"}}`, "", 502},
		{"no host", `{"next":true,"headers":{"Host":null}}`, "", 502},
		{"host", `{"next":true,"headers":{"Host":"a/b"}}`, "", 502},
		{"framing", `{"next":true,"headers":{"Content-Length":"99","Transfer-Encoding":"chunked","Connection":"close"},` +
			`"response_headers":{"Content-Length":"99","Transfer-Encoding":"chunked"}}`, "", 299},
		{"variable of Caddy", `{"next":true,"vars":{"trusted_proxy":true}}`, "", 502},
		{"variable name", `{"next":true,"vars":{"a}{b":"c"}}`, "", 502},
		{"variable value", `{"next":true,"vars":{"a":{"b":"c"}}}`, "", 502},
		{"header twice", `{"next":true,"headers":{"a":"b","A":"b"}}`, "", 502},
		{"many headers", `{"next":true,"headers":{` + strings.Join(many, ",") + `}}`, "", 502},
		{"many values", `{"next":true,"response_headers":{"a":["b"` + strings.Repeat(`,"b"`, 256) + `]}}`, "", 502},
		{"large headers", `{"next":true,"response_headers":{"a":"` + strings.Repeat("b", 33_000) + `","c":"` + strings.Repeat("b", 33_000) + `"}}`, "", 502},
		{"many variables", `{"next":true,"vars":{` + strings.Join(many, ",") + `}}`, "", 502},
		{"variable twice", `{"next":true,"vars":{"a":"b","A":"b"}}`, "", 502},
		{"beyond max_output", `{"next":true,"vars":{"a":"` + strings.Repeat("b", 200_000) + `"}}`, "", 502},
		{"cut off", `{"next":true,"uri":"/a`, "", 502},
		{"another key's spelling", `{"next":true,"responseHeaders":{"X-Frame-Options":"DENY"}}`, "", 502},
		{"trap behind", `{"next":true}`, unreachable, 502},
		{"deadline behind", `{"next":true}`, loop, 504},
		{"stack behind", `{"next":true}`, recurse, 502},
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			s.module("well.wasm", answering(`{"status":222}`, "").String())
			site := fmt.Sprintf("{\n admin ADMIN\n log {\n output file DIR/caddy.log\n level DEBUG\n }\n gojinn {\n backend %s\n }\n}\nADDR {\n handle /well {\n gojinn {\n module DIR/well.wasm\n }\n }\n", backend)
			for i, c := range cases {
				m := answering(c.output, c.code)
				m.pages = 4
				s.module(fmt.Sprintf("case%d.wasm", i), m.String())
				timeout := "30s"
				if c.code == loop {
					timeout = "100ms"
				}
				site += fmt.Sprintf(" handle /%d {\n route {\n gojinn {\n module DIR/case%[1]d.wasm\n max_output 150kB\n max_body 1kB\n timeout %s\n }\n respond \"next {http.vars.a}\" 299\n }\n }\n", i, timeout)
			}
			s.mustLoad(site + "}\n")
			for i, c := range cases {
				res := s.do(s.request("POST", fmt.Sprintf("/%d", i), "a body"))
				if res.StatusCode != c.status {
					t.Errorf("%s: got %d %q, want %d", c.name, res.StatusCode, res.body, c.status)
				}
				if c.status == 299 && res.body != "next " || c.status != 299 && strings.HasPrefix(res.body, "next") {
					t.Errorf("%s: got the body %q", c.name, res.body)
				}
				if well := s.get("/well"); well.StatusCode != 222 {
					t.Errorf("after %s, another function answers %d", c.name, well.StatusCode)
				}
			}
			// A body that is larger than the function may get is refused before it runs.
			if res := s.do(s.request("POST", "/0", strings.Repeat("b", 1001))); res.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("a large body: got %d %q", res.StatusCode, res.body)
			}
			refused := 0
			for _, c := range cases {
				if c.status >= 500 {
					refused++
				}
			}
			if records := s.logs("msg", "the function's answer was refused"); len(records) != refused {
				t.Errorf("%d refusals are in the log, want %d", len(records), refused)
			}
		})
	}
}
