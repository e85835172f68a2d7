//go:build cgo

// Tests of scripts with the real engine.

package gojinn

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// scripts returns a Caddyfile with one function for each script, at the path of its name without the extension.
func (s *server) scripts(backend string, lines string, names ...string) string {
	var routes strings.Builder
	for _, name := range names {
		fmt.Fprintf(&routes, "gojinn /%s* DIR/%s {\n%s\n}\n", strings.SplitN(name, ".", 2)[0], name, lines)
	}
	return fmt.Sprintf(`{
	admin ADMIN
	log {
		output file DIR/caddy.log
		level DEBUG
	}
	gojinn {
		backend %s
	}
}
ADDR {
	route {
		%s
	}
}
`, backend, routes.String())
}

func onEachBackend(t *testing.T, test func(t *testing.T, s *server, backend string)) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) { test(t, newRealServer(t), backend) })
	}
}

// A script in TypeScript with an import answers from a snapshot. Nothing that must be fresh is the same in two requests.
// GOJINN_TEST_REQUESTS sets their number.
func TestScriptsAnswerAfresh(t *testing.T) {
	onEachBackend(t, func(t *testing.T, s *server, backend string) {
		s.module("lib.ts", `export const greet = (name: string): string => "Hello, " + name;`)
		s.module("api.ts", `
import { greet } from "./lib";
let count = 0;
interface Env { WHO: string }
export default {
	async fetch(request: Request, env: Env, ctx: { clientIP: string }): Promise<Response> {
		const url = new URL(request.url);
		const body = request.method === "POST" ? await request.json() : null;
		return Response.json({
			greeting: greet(env.WHO), count: ++count, random: Math.random(), id: crypto.randomUUID(), now: Date.now(),
			path: url.pathname, q: url.searchParams.get("q"), host: url.host, body, ip: ctx.clientIP,
			header: request.headers.get("x-test"), method: request.method,
		}, { status: 201, headers: { "X-Made-By": "caf\u00e9" } });
	},
};`)
		s.module("bytes.js", `export default async (request) => new Response(await request.arrayBuffer(), { headers: { "Content-Type": "a/b" } });`)
		s.mustLoad(s.scripts(backend, "env WHO world", "api.ts", "bytes.js"))
		s.wantSnapshot("api", "initialised")

		res := s.do(s.request("POST", "/api/x?q=1%202", `{"a":[1,"ü"]}`, "X-Test", "one", "Content-Type", "application/json"))
		var got struct {
			Greeting, Path, Q, Host, Header, Method, IP string
			Body                                        struct{ A []any }
		}
		if err := json.Unmarshal([]byte(res.body), &got); err != nil || res.StatusCode != 201 {
			t.Fatalf("%d %s %v", res.StatusCode, res.body, err)
		}
		if got.Greeting != "Hello, world" || got.Path != "/api/x" || got.Q != "1 2" || got.Header != "one" || got.Method != "POST" ||
			fmt.Sprint(got.Body.A) != "[1 ü]" || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") ||
			res.Header.Get("X-Made-By") != "caf\xe9" || got.IP != "127.0.0.1" {
			t.Errorf("%s %v", res.body, res.Header)
		}
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		if res := s.do(s.request("POST", "/bytes", string(every))); res.body != string(every) || res.Header.Get("Content-Type") != "a/b" {
			t.Errorf("bytes: %d %q", res.StatusCode, res.body)
		}

		requests := map[string]int{"wasmtime": 10_000, "wasmer": 400, "wasmi": 200}[backend]
		if n, err := strconv.Atoi(os.Getenv("GOJINN_TEST_REQUESTS")); err == nil {
			requests = n
		}
		s.wantFresh("/api", requests)
	})
}

// wantFresh makes so many requests to a script that reports count, random, id and now.
func (s *server) wantFresh(path string, requests int) {
	s.t.Helper()
	type seen struct {
		Count, Now int64
		Random     float64
		ID         string
	}
	const clients = 4
	answers := make(chan []seen, clients)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			var all []seen
			for range requests / clients {
				res, err := s.httpClient.Do(s.request("GET", path, ""))
				if err != nil {
					s.t.Error(err)
					break
				}
				var one seen
				err = json.NewDecoder(res.Body).Decode(&one)
				res.Body.Close()
				if err != nil || res.StatusCode != 201 {
					s.t.Errorf("%d %v", res.StatusCode, err)
					break
				}
				if len(all) > 0 && one.Now < all[len(all)-1].Now {
					s.t.Errorf("the time went back, from %d to %d", all[len(all)-1].Now, one.Now)
				}
				all = append(all, one)
			}
			answers <- all
		})
	}
	wg.Wait()
	close(answers)
	randoms, ids, times := map[float64]bool{}, map[string]bool{}, map[int64]bool{}
	total := 0
	for all := range answers {
		for _, one := range all {
			total++
			randoms[one.Random], ids[one.ID], times[one.Now] = true, true, true
			if one.Count != 1 {
				s.t.Fatalf("a request found the count of another one: %d", one.Count)
			}
		}
	}
	if len(randoms) != total || len(ids) != total || len(times) < 2 {
		s.t.Errorf("%d requests drew %d numbers and %d ids, at %d times", total, len(randoms), len(ids), len(times))
	}
}

// What is wrong with a script refuses the config, with the place.
func TestScriptsThatAreRefused(t *testing.T) {
	onEachBackend(t, func(t *testing.T, s *server, backend string) {
		for _, c := range []struct{ name, text, want string }{
			{"throws.ts", "type A = number;\nconst a: A = 1;\nfunction f() {\n\tthrow new Error('at the top');\n}\nf();\nexport default f;",
				"the script cannot be loaded: Error: at the top (at f (throws.ts:4:12), at <anonymous> (throws.ts:6:1))"},
			{"rejects.js", "await Promise.reject(new TypeError('not so'));\nexport default () => {};", "TypeError: not so (at <anonymous> (rejects.js:1:"},
			{"nothing.js", "export const handler = 1;", "it has no default export; write export default"},
			{"number.js", "export default 7;", "its default export is 7; write"},
			{"waits.js", "await new Promise(() => {});\nexport default () => {};", "waits at its top level for something that never happens"},
			{"spins.js", "let n = 0;\nwhile (n >= 0) {\n\tn = Math.abs(n);\n}\nexport default () => {};",
				"does not get to the end of its top level within 1s (at <anonymous> (spins.js:"},
			{"value.js", "throw { code: 7 };", "a value that is no Error was thrown: { code: 7 }"},
		} {
			s.module(c.name, c.text)
			err := s.load(s.scripts(backend, "timeout 1s", c.name))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Join(s.dir, c.name)) {
				t.Errorf("%s: got %v\nwant %s", c.name, err, c.want)
			}
		}
	})
}

// What happens in a handler: what the client gets, and what the operator reads.
func TestScriptsThatFail(t *testing.T) {
	onEachBackend(t, func(t *testing.T, s *server, backend string) {
		text := `type Cause = "throw" | "reject";
class Broken extends Error {}
const cases: Record<string, () => unknown> = {
	throw: () => {
		throw new Broken("on purpose", { cause: new RangeError("below") });
	},
	reject: () => Promise.reject(new TypeError("no")),
	text: () => { throw "just text"; },
	string: () => "not a response",
	nothing: () => undefined,
	never: () => new Promise(() => {}),
	spin: () => { let n = 0; for (;;) n = Math.sin(n); },
	bomb: () => { const a: unknown[] = []; for (;;) a.push(new Array(1000).fill(a.length)); },
	deep: () => { const f = (n: number): number => (n === 0 ? 0 : 1 + f(n - 1)); return new Response(String(f(20_000))); },
	depth: () => { let n = 0; const f = () => { n++; f(); }; try { f(); } catch { return new Response(String(n)); } },
	deepest: () => { const f = (): number => 1 + f(); return f(); },
	floating: () => { Promise.reject(new Error("adrift")); return new Response("fine"); },
	later: () => new Promise((done) => setTimeout(() => done(new Response("in time")), 20)),
	background: (async () => new Response("sent")) as () => unknown,
	microtasks: async () => { for (;;) await null; },
	"text bomb": () => { let s = "x"; for (;;) s = (s + s).toUpperCase(); },
	"deep json": () => { return JSON.parse("[".repeat(100_000)); },
	"deep code": () => Function("return " + "(".repeat(100_000)),
};
export default (request: Request) => cases[decodeURIComponent(new URL(request.url).pathname.slice("/fails/".length)) as Cause]();
`
		s.module("fails.ts", text)
		// On a busy machine memory takes its time to run out.
		s.module("bombs.ts", text)
		config := s.scripts(backend, "timeout 2s\nmemory_limit 32MiB", "fails.ts", "bombs.ts")
		s.mustLoad(strings.Replace(config, "bombs.ts {\ntimeout 2s", "bombs.ts {\ntimeout 60s", 1))
		for _, c := range []struct {
			path   string
			status int
			// message and stack are of the record in the log; none if message is empty.
			message, stack string
		}{
			{"throw", 502, "Error: on purpose", "at throw (fails.ts:5:"},
			{"reject", 502, "TypeError: no", "at reject (fails.ts:7:"},
			{"text", 502, `a value that is no Error was thrown: 'just text'`, ""},
			{"string", 502, "TypeError: the handler returned 'not a response'; it must return a Response, or a promise of one", ""},
			{"nothing", 502, "TypeError: the handler returned undefined; it must return a Response, or a promise of one", ""},
			{"never", 502, "TypeError: the handler waits for something that never happens: no timer is left that could end the wait", ""},
			{"missing", 502, "TypeError: not a function", "fails.ts:25:"},
			{"spin", 504, stillRunning, "at spin (fails.ts:12:"},
			{"microtasks", 504, stillRunning, "at microtasks (fails.ts:20:"},
			{"bomb", 502, "InternalError: out of memory", "at bomb (bombs.ts:13:"},
			{"text bomb", 502, "InternalError: out of memory", "at text bomb (bombs.ts:21:"},
			{"deep", 502, "RangeError: Maximum call stack size exceeded", "at f (fails.ts:14:"},
			{"deep json", 502, "RangeError: Maximum call stack size exceeded", "at deep json (fails.ts:22:"},
			{"deep code", 502, "RangeError: Maximum call stack size exceeded", ""},
			{"deepest", 502, "RangeError: Maximum call stack size exceeded", "at f (fails.ts:16:"},
			{"floating", 200, "a promise was rejected, and nothing handles that: Error: adrift", "at floating (fails.ts:17:"},
			{"later", 200, "", ""},
			{"background", 200, "", ""},
		} {
			script := "/fails/"
			if strings.HasSuffix(c.path, "bomb") {
				script = "/bombs/"
			}
			res := s.get(script + url.PathEscape(c.path))
			if res.StatusCode != c.status {
				t.Errorf("%s: got %d %q, want %d", c.path, res.StatusCode, res.body, c.status)
			}
			if c.message == "" {
				continue
			}
			records := s.logs("msg", c.message)
			if len(records) == 0 {
				t.Errorf("%s: the log has no record %q: %v", c.path, c.message, s.logs("logger", "http.handlers.gojinn.stderr"))
				continue
			}
			if stack := fmt.Sprint(records[len(records)-1]["stack"]); !strings.Contains(stack, c.stack) || records[0]["level"] != "error" {
				t.Errorf("%s: got the stack %s, want %s", c.path, stack, c.stack)
			}
		}
		if records := s.logs("msg", "the function's answer was refused"); len(records) != 15 {
			t.Errorf("%d refusals were logged", len(records))
		}
		if res := s.get("/fails/depth"); res.StatusCode != 200 || len(res.body) != 4 || res.body < "8000" {
			t.Errorf("a simple function recurses %s levels deep", res.body)
		}
	})
}

// A script that is saved answers from then on, an npm package that appears is found, and a mistake changes nothing.
func TestScriptsAreWatched(t *testing.T) {
	s := newRealServer(t)
	s.module("api.js", `export default () => new Response("one");`)
	s.mustLoad(s.scripts("wasmtime", "watch", "api.js"))
	answers := func(want string) {
		t.Helper()
		eventually(t, want, func() bool { return s.get("/api").body == want })
	}
	answers("one")
	s.module("part.js", `export const text = "two";`)
	s.module("api.js", `import { text } from "./part.js"; export default () => new Response(text);`)
	answers("two")
	s.module("part.js", `export const text = "three";`)
	answers("three")

	s.module("api.js", `import { text } from "some-package"; export default () => new Response(text);`)
	hint := fmt.Sprintf("api.js:1:22: Could not resolve \"some-package\" in the line `import { text } from \"some-package\"; "+
		"export default () => new Response(text);`; run `npm install some-package` in %s", s.dir)
	eventually(t, "the refusal", func() bool { return len(s.logs("reason", hint)) == 1 })
	answers("three")
	dir := filepath.Join(s.dir, "node_modules", "some-package")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"package.json": `{"main":"main.js"}`, "main.js": `exports.text = "four";`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	answers("four")
	s.module("api.js", `export default () => {`)
	eventually(t, "the refusal", func() bool {
		return len(s.logs("reason", "api.js:1:23: Unexpected end of file in the line `export default () => {`")) == 1
	})
	answers("four")
	if res := s.post("/gojinn/functions/api/reload"); res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("the reload of a bad script: got %d %s", res.StatusCode, res.body)
	}
}

// Two scripts share the code of the module that runs them.
func TestScriptsShareTheirCode(t *testing.T) {
	s := newRealServer(t)
	s.module("a.js", `export default () => new Response("a");`)
	s.module("b.js", `export default () => new Response("b");`)
	s.mustLoad(s.scripts("wasmtime", "", "a.js", "b.js"))
	if a, b := s.get("/a").body, s.get("/b").body; a != "a" || b != "b" {
		t.Errorf("got %q and %q", a, b)
	}
	records := s.logs("msg", "function is ready")
	if len(records) != 2 || records[1]["code_from"] != "memory" {
		t.Errorf("%v", records)
	}
}
