//go:build cgo

// Tests of the example scripts, and of what the Caddyfile gives scripts, with the real engine.

package gojinn

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// installExamples copies the example scripts with their packages. It skips the test where there is no npm, or no registry.
func installExamples(t *testing.T, dir string) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("there is no npm")
	}
	files, err := filepath.Glob("../examples/scripts/*.*")
	if err != nil || len(files) < 8 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("npm cannot install the examples' packages: %v\n%s", err, out)
	}
}

// The example scripts have no mistake in their types, and do what they say on each backend.
func TestScriptExamples(t *testing.T) {
	s := newRealServer(t)
	installExamples(t, s.dir)
	check := exec.Command("npm", "run", "--silent", "check")
	check.Dir = s.dir
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("tsc: %v\n%s", err, out)
	}
	for _, backend := range backends {
		s.mustLoad(fmt.Sprintf(`{
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
		gojinn /hello DIR/hello.js
		gojinn /api/* DIR/api.ts
		gojinn /webhook DIR/webhook.ts {
			env WEBHOOK_SECRET s3cret
		}
		gojinn /page DIR/page.tsx
		gojinn /guarded DIR/guard.ts {
			env TOKEN let-me-in
		}
		respond /guarded "{http.request.header.X-User} {http.vars.user} [{http.request.header.Authorization}]"
	}
}
`, backend))
		body := `{"action":"opened"}`
		mac := hmac.New(sha256.New, []byte("s3cret"))
		mac.Write([]byte(body))
		signature := "sha256=" + hex.EncodeToString(mac.Sum(nil))
		for _, c := range []struct {
			method, uri, body string
			headers           []string
			status            int
			want              string
		}{
			{"GET", "/hello?name=you", "", nil, 200, `{"greeting":"Hello, you"}`},
			{"GET", "/api/orders/7", "", nil, 200, `{"id":"7","status":"sent"}`},
			{"POST", "/api/orders", `{"item":"tea","amount":2}`, []string{"Content-Type", "application/json"}, 201, `"item":"tea","amount":2}`},
			{"POST", "/api/orders", `{"item":"tea"}`, nil, 400, "an order has an item and an amount"},
			{"GET", "/api/nothing", "", nil, 404, "there is no /api/nothing"},
			{"POST", "/webhook", body, []string{"X-Signature-256", signature}, 202, "thank you"},
			{"POST", "/webhook", body + " ", []string{"X-Signature-256", signature}, 401, "wrong signature"},
			{"POST", "/webhook", body, nil, 401, "no signature"},
			{"GET", "/webhook", "", nil, 405, "only POST"},
			{"GET", "/page?title=A+%3CB", "", nil, 200, "<!doctype html><html lang=\"en\"><head><title>A &lt;B</title></head><body><h1>A &lt;B</h1><ul><li>Tea: <b>3.00</b></li>"},
			{"GET", "/guarded", "", nil, 401, "who are you?"},
			{"GET", "/guarded", "", []string{"Authorization", "Bearer let-me-in"}, 200, "operator operator []"},
		} {
			res := s.do(s.request(c.method, c.uri, c.body, c.headers...))
			if res.StatusCode != c.status || !strings.Contains(res.body, c.want) {
				t.Errorf("%s: %s %s: got %d %s, want %d %s", backend, c.method, c.uri, res.StatusCode, res.body, c.status, c.want)
			}
		}
	}
}

// A script fetches from a server that it may call, keeps values in a store and reads a secret; what it was not given is denied.
func TestScriptsReachTheWorld(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Method", r.Method)
		w.WriteHeader(203)
		fmt.Fprintf(w, `{"got":"%s"}`, r.Header.Get("X-Asked"))
	}))
	defer upstream.Close()
	host, _, _ := net.SplitHostPort(upstream.Listener.Addr().String())
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			s.module("secret.txt", "s3cret")
			s.module("world.ts", `
const cases: Record<string, (env: any) => unknown> = {
	async fetch() {
		const response = await fetch("`+upstream.URL+`/x", { method: "POST", headers: { "X-Asked": "yes" }, body: "b" });
		return [response.status, response.ok, response.headers.get("x-method"), await response.json()];
	},
	async denied() {
		return fetch("https://example.com/").then(() => "allowed", (error) => [error.name, error.cause.code]);
	},
	async kv(env) {
		const { sessions } = env;
		await sessions.put("a", JSON.stringify({ n: 1 }), { ttl: 60 });
		await sessions.put("b", new Uint8Array([0, 255]));
		return [
			await sessions.get("a", "json"), [...(await sessions.get("b", "bytes"))], await sessions.get("c"), await sessions.has("a"),
			await sessions.increment("n", 2), await sessions.increment("n"), await sessions.compareAndSwap("c", null, "new"),
			await sessions.compareAndSwap("c", "old", "newer"), (await sessions.list({ prefix: "n" })).keys, await sessions.delete("a"),
			await sessions.get("a"), await sessions.delete("n"), await sessions.delete("c"),
		];
	},
	secret: (env) => env.KEY.get(),
	async sleep() {
		const start = performance.now();
		await new Promise((done) => setTimeout(done, 30));
		return performance.now() - start >= 29;
	},
};
export default async (request: Request, env: unknown) => Response.json(await cases[new URL(request.url).pathname.slice(1)](env));
`)
			s.mustLoad(fmt.Sprintf(`{
	admin ADMIN
	log {
		output file DIR/caddy.log
	}
	gojinn {
		backend %s
		kv sessions memory
	}
}
ADDR {
	gojinn {
		module DIR/world.ts
		outbound {
			allow %s
			allow_private %s/32
		}
		kv sessions
		secret KEY {file.DIR/secret.txt}
	}
}
`, backend, upstream.URL, host))
			for path, want := range map[string]string{
				"fetch":  `[203,true,"POST",{"got":"yes"}]`,
				"denied": `["TypeError",-2]`,
				"kv":     `[{"n":1},[0,255],null,true,2,3,true,false,["n"],null,null,null,null]`,
				"secret": `"s3cret"`,
				"sleep":  `true`,
			} {
				if res := s.get("/" + path); res.StatusCode != 200 || res.body != want {
					t.Errorf("%s: got %d %s, want %s", path, res.StatusCode, res.body, want)
				}
			}
		})
	}
}

// The interfaces of the web are as their standards say, in the cases of testdata/scripts/interfaces.js.
func TestScriptInterfaces(t *testing.T) {
	text, err := os.ReadFile("testdata/scripts/interfaces.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			s.module("interfaces.js", string(text))
			s.mustLoad(s.scripts(backend, "", "interfaces.js"))
			var result struct {
				Cases  int
				Failed []string
			}
			res := s.get("/interfaces")
			if err := json.Unmarshal([]byte(res.body), &result); err != nil {
				t.Fatalf("%d %s: %v", res.StatusCode, res.body, err)
			}
			if result.Cases < 100 || len(result.Failed) > 0 {
				t.Errorf("%d of %d cases fail: %s", len(result.Failed), result.Cases, strings.Join(result.Failed, "\n"))
			}
			t.Logf("%d cases of the standards pass", result.Cases-len(result.Failed))
		})
	}
}

// differsFromNode has the cases of standards.js in which scripts and Node.js 20 differ, by what they begin with, and why.
var differsFromNode = map[string]string{
	`URL: new URL("http://h/a|b^c{d}"`:   "^ in a path is percent-encoded since 2024",
	`URL: a://h:1/p host = ":81"`:        "a host that is empty before a port is refused",
	`URL: a:/p host = "x:81"`:            "a host may bring its port",
	`URL: a:/p host = "[::1]:2"`:         "a host may bring its port",
	`URL: a:/p host = "x:80"`:            "a host may bring its port",
	`URL: a:/p host = "x:443"`:           "a host may bring its port",
	`URL: new URLSearchParams(null)`:     "null is the text null",
	`Headers: new Headers(function)`:     "what is not enumerable is no header",
	`Encoding: windows-1252`:             "Node.js decodes ISO 8859-1 instead",
	`Encoding: encodeInto undefined`:     "any value is made a text",
	`Encoding: encodeInto null`:          "any value is made a text",
	`Encoding: encodeInto 1`:             "any value is made a text",
	`structuredClone: exception`:         "a DOMException can be cloned",
	`structuredClone: headers`:           "a platform object that cannot be cloned is refused",
	`structuredClone: url`:               "a platform object that cannot be cloned is refused",
	`structuredClone: response`:          "a platform object that cannot be cloned is refused",
	`structuredClone: abort`:             "a platform object that cannot be cloned is refused",
	`structuredClone: transfer detached`: "what was transferred cannot be transferred again",
	`structuredClone: transfer object`:   "the error is a DataCloneError",
}

// The interfaces of the web do what those of Node.js do, in the cases of testdata/scripts/standards.js.
func TestScriptStandards(t *testing.T) {
	text, err := os.ReadFile("testdata/scripts/standards.js")
	if err != nil {
		t.Fatal(err)
	}
	reference := filepath.Join(t.TempDir(), "standards.mjs")
	if err := os.WriteFile(reference, append(text, "\nconsole.log(JSON.stringify(await results()));\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node")
	}
	out, err := exec.Command(node, reference).Output()
	if err != nil {
		t.Fatal(err)
	}
	// Each is a group, a name, and what came of the case.
	var want [][3]string
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			s := newRealServer(t)
			s.module("standards.js", string(text))
			s.mustLoad(s.scripts(backend, "", "standards.js"))
			var got [][3]string
			if res := s.get("/standards"); json.Unmarshal([]byte(res.body), &got) != nil || len(got) != len(want) || len(got) < 2000 {
				t.Fatalf("%d %.200s, %d results and not %d", res.StatusCode, res.body, len(got), len(want))
			}
			type count struct{ same, known, cases int }
			counts := map[string]*count{}
			for i := range got {
				group := want[i][0]
				if counts[group] == nil {
					counts[group] = &count{}
				}
				counts[group].cases++
				switch {
				case got[i] == want[i]:
					counts[group].same++
				case knownDifference(want[i]):
					counts[group].known++
				default:
					t.Errorf("%s: %s\n\there    %s\n\tNode.js %s", group, want[i][1], got[i][2], want[i][2])
				}
			}
			for _, group := range slices.Sorted(maps.Keys(counts)) {
				c := counts[group]
				t.Logf("%s: %d of %d cases as in Node.js, %d differ as is known", group, c.same, c.cases, c.known)
			}
		})
	}
}

func knownDifference(result [3]string) bool {
	for name := range differsFromNode {
		if strings.HasPrefix(result[0]+": "+result[1], name) {
			return true
		}
	}
	return false
}

// Widely used packages run as they are.
func TestScriptPackages(t *testing.T) {
	s := newRealServer(t)
	installExamples(t, s.dir)
	s.module("itty.ts", `import { AutoRouter, error, json } from "itty-router";
const router = AutoRouter();
router
	.get("/itty/hello/:name", ({ name }) => "Hello, " + name + "!")
	.get("/itty/json", () => ({ a: [1, 2] }))
	.get("/itty/error", () => error(418, "short and stout"))
	.post("/itty/echo", async (request) => json(await request.json(), { status: 201 }));
export default router;`)
	s.module("zod.ts", `import { z } from "zod";
const Order = z.object({ item: z.string().min(1), amount: z.number().int().positive(), mail: z.email().optional() });
export default async (request: Request) => {
	const parsed = Order.safeParse(await request.json());
	return parsed.success ? Response.json(parsed.data) : Response.json(parsed.error.issues.map((issue) => issue.path.join(".")), { status: 400 });
};`)
	s.module("hono.ts", `import { Hono } from "hono";
import { html } from "hono/html";
import { basicAuth } from "hono/basic-auth";
import { streamSSE } from "hono/streaming";
const app = new Hono().basePath("/hono");
app.get("/page/:name", (c) => c.html(html`+"`<p>${c.req.param('name')}</p>`"+`));
app.use("/private/*", basicAuth({ username: "me", password: "secret" }));
app.get("/private/x", (c) => c.text("in"));
app.get("/events", (c) => streamSSE(c, async (stream) => {
	for (let id = 0; id < 3; id++) {
		await stream.writeSSE({ data: "tick", event: "time", id: String(id) });
		await stream.sleep(5);
	}
}));
export default app;`)
	// The router of Hono is made before the snapshot. One that cannot be is left to the first request.
	s.module("router.js", `const asked = [];
export default { router: { match: (...path) => { asked.push(path.join(" ")); throw new Error("no"); } }, fetch: () => Response.json(asked) };`)
	for _, backend := range backends {
		s.mustLoad(s.scripts(backend, "", "itty.ts", "zod.ts", "hono.ts", "router.js"))
		for _, c := range []struct {
			method, uri, body string
			status            int
			want              string
		}{
			{"GET", "/itty/hello/you", "", 200, `Hello, you!`},
			{"GET", "/itty/json", "", 200, `{"a":[1,2]}`},
			{"GET", "/itty/error", "", 418, `short and stout`},
			{"POST", "/itty/echo", `{"x":"ü"}`, 201, `{"x":"ü"}`},
			{"GET", "/itty/none", "", 404, `404`},
			{"GET", "/hono/page/%3Cb%3E", "", 200, `<p>&lt;b&gt;</p>`},
			{"GET", "/hono/private/x", "", 401, "Unauthorized"},
			{"GET", "/hono/events", "", 200, "event: time\ndata: tick\nid: 1\n\nevent: time\ndata: tick\nid: 2\n\n"},
			{"GET", "/router", "", 200, `["GET /"]`},
			{"POST", "/zod", `{"item":"tea","amount":2,"more":1}`, 200, `{"item":"tea","amount":2}`},
			{"POST", "/zod", `{"item":"","amount":0.5,"mail":"x"}`, 400, `["item","amount","mail"]`},
		} {
			res := s.do(s.request(c.method, c.uri, c.body))
			if res.StatusCode != c.status || !strings.Contains(res.body, c.want) {
				t.Errorf("%s: %s %s: got %d %s, want %d %s", backend, c.method, c.uri, res.StatusCode, res.body, c.status, c.want)
			}
		}
	}
}

// Hono's routers, helpers and middleware do in scripts what they do in Node.js, in the cases of testdata/scripts/hono.tsx.
func TestScriptsRunHono(t *testing.T) {
	text, err := os.ReadFile("testdata/scripts/hono.tsx")
	if err != nil {
		t.Fatal(err)
	}
	s := newRealServer(t)
	installExamples(t, s.dir)
	s.module("hono.tsx", string(text))
	type results struct {
		Cases  int
		Failed []string
	}
	check := func(where string, out []byte) {
		t.Helper()
		var got results
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s: %.500s: %v", where, out, err)
		}
		if got.Cases < 50 || len(got.Failed) > 0 {
			t.Errorf("%s: %d of %d cases fail: %s", where, len(got.Failed), got.Cases, strings.Join(got.Failed, "\n"))
		}
		t.Logf("%s: %d of %d cases", where, got.Cases-len(got.Failed), got.Cases)
	}
	if node, err := exec.LookPath("node"); err == nil {
		script, err := bundle(filepath.Join(s.dir, "hono.tsx"), &scriptSettings{})
		if err != nil {
			t.Fatal(err)
		}
		_, code, _ := bytes.Cut(script.data, []byte("\n"))
		module := filepath.Join(s.dir, "hono.mjs")
		if err := os.WriteFile(module, code, 0o644); err != nil {
			t.Fatal(err)
		}
		run := exec.Command(node, "--input-type=module", "--eval", `console.log = () => {};
const { results } = await import(process.argv[1]);
process.stdout.write(JSON.stringify(await results()));`, module)
		out, err := run.Output()
		if err != nil {
			t.Fatal(err)
		}
		check("Node.js", out)
	}
	for _, backend := range backends {
		s.mustLoad(s.scripts(backend, "timeout 60s", "hono.tsx"))
		check(backend, []byte(s.get("/hono").body))
	}
}
