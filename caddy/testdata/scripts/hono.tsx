/** @jsxImportSource hono/jsx */
// Cases of Hono: its routers, its context, its helpers and its middleware, after the examples in its documentation. They run in scripts
// and in Node.js, see TestScriptsRunHono.

import { Hono } from "hono";
import { accepts } from "hono/accepts";
import { getRuntimeKey, env } from "hono/adapter";
import { basicAuth } from "hono/basic-auth";
import { bearerAuth } from "hono/bearer-auth";
import { bodyLimit } from "hono/body-limit";
import { hc } from "hono/client";
import { every, except, some } from "hono/combine";
import { compress } from "hono/compress";
import { deleteCookie, generateCookie, getCookie, getSignedCookie, setCookie, setSignedCookie } from "hono/cookie";
import { cors } from "hono/cors";
import { css, cx, keyframes, Style } from "hono/css";
import { csrf } from "hono/csrf";
import { showRoutes } from "hono/dev";
import { etag } from "hono/etag";
import { createFactory, createMiddleware } from "hono/factory";
import { html, raw } from "hono/html";
import { HTTPException } from "hono/http-exception";
import { ipRestriction } from "hono/ip-restriction";
import { createContext, ErrorBoundary, Fragment, memo, useContext } from "hono/jsx";
import type { PropsWithChildren } from "hono/jsx";
import { renderToReadableStream, Suspense } from "hono/jsx/streaming";
import { jsxRenderer, useRequestContext } from "hono/jsx-renderer";
import { decode, jwt, sign, verify } from "hono/jwt";
import { languageDetector } from "hono/language";
import { logger } from "hono/logger";
import { methodOverride } from "hono/method-override";
import { poweredBy } from "hono/powered-by";
import { prettyJSON } from "hono/pretty-json";
import { requestId } from "hono/request-id";
import { matchedRoutes, routePath } from "hono/route";
import { LinearRouter } from "hono/router/linear-router";
import { PatternRouter } from "hono/router/pattern-router";
import { RegExpRouter } from "hono/router/reg-exp-router";
import { SmartRouter } from "hono/router/smart-router";
import { TrieRouter } from "hono/router/trie-router";
import { NONCE, secureHeaders } from "hono/secure-headers";
import { stream, streamSSE, streamText } from "hono/streaming";
import { testClient } from "hono/testing";
import { timeout } from "hono/timeout";
import { endTime, setMetric, startTime, timing } from "hono/timing";
import { appendTrailingSlash, trimTrailingSlash } from "hono/trailing-slash";
import { validator } from "hono/validator";

const cases: [string, () => unknown][] = [];
const test = (name: string, run: () => unknown) => cases.push([name, run]);

function equal(got: unknown, want: unknown) {
	const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
	if (a !== b) throw new Error(`got ${a}, want ${b}`);
}

// The status and the body of a response.
const answer = async (response: Response | Promise<Response>) => {
	const { status } = await response;
	return `${status} ${await (await response).text()}`;
};

// Requires that the app answers a request so.
const asks = async (app: { request: Hono["request"] }, path: string, want: string, init?: RequestInit) => equal(await answer(app.request(path, init)), want);

const post = (body: string | FormData | URLSearchParams, headers: Record<string, string> = {}, method = "POST") => ({ method, body, headers });
const json = (value: unknown) => post(JSON.stringify(value), { "Content-Type": "application/json" });
const header = async (response: Response | Promise<Response>, name: string) => (await response).headers.get(name);

// --- routing ---

const routers = {
	linear: () => new LinearRouter<never>(),
	pattern: () => new PatternRouter<never>(),
	regexp: () => new RegExpRouter<never>(),
	smart: () => new SmartRouter<never>({ routers: [new RegExpRouter(), new TrieRouter()] }),
	trie: () => new TrieRouter<never>(),
};
for (const [name, router] of Object.entries(routers)) {
	test(`routing with the router ${name}`, async () => {
		const app = new Hono({ router: router() as never });
		app.get("/", (c) => c.text("GET /"));
		app.put("/", (c) => c.text("PUT /"));
		app.get("/wild/*/card", (c) => c.text("wild"));
		app.all("/hello", (c) => c.text(`any ${c.req.method}`));
		app.on("PURGE", "/cache", (c) => c.text("purged"));
		app.on(["PUT", "DELETE"], "/post", (c) => c.text(`on ${c.req.method}`));
		app.get("/user/:name", (c) => c.text(c.req.param("name")));
		app.get("/posts/:id/comment/:comment", (c) => c.text(`${c.req.param("id")} ${c.req.param("comment")}`));
		app.get("/post/:date{[0-9]+}/:title{[a-z]+}", (c) => c.text(`${c.req.param("date")}: ${c.req.param("title")}`));
		await asks(app, "/", "200 GET /");
		await asks(app, "/", "200 PUT /", { method: "PUT" });
		await asks(app, "/wild/x/card", "200 wild");
		await asks(app, "/hello", "200 any PATCH", { method: "PATCH" });
		await asks(app, "/cache", "200 purged", { method: "PURGE" });
		await asks(app, "/post", "200 on DELETE", { method: "DELETE" });
		await asks(app, "/user/me%20too", "200 me too");
		await asks(app, "/posts/1/comment/2", "200 1 2");
		await asks(app, "/post/20261129/hello", "200 20261129: hello");
		await asks(app, "/post/x/hello", "404 404 Not Found");
		await asks(app, "/none", "404 404 Not Found");
	});
}
test("several paths and parameters that may be missing", async () => {
	const app = new Hono();
	app.on("GET", ["/hello", "/ja/hello"], (c) => c.text("hello"));
	app.get("/api/animal/:type?", (c) => c.text(`animal ${c.req.param("type")}`));
	app.get("/file/:name{.+\\.png}", (c) => c.text(c.req.param("name")));
	await asks(app, "/ja/hello", "200 hello");
	await asks(app, "/api/animal", "200 animal undefined");
	await asks(app, "/api/animal/cat", "200 animal cat");
	await asks(app, "/file/a/b.png", "200 a/b.png");
	await asks(app, "/file/a/b.jpg", "404 404 Not Found");
});
test("chained routes, grouping and base paths", async () => {
	const book = new Hono().basePath("/book");
	book.get("/", (c) => c.text("books")).post((c) => c.text("made", 201));
	const users = new Hono();
	users.get("/users/:id", (c) => c.text(c.req.param("id")));
	const outer = new Hono();
	outer.route("/v1", book).route("/", users);
	outer.mount("/mounted", (request: Request) => new Response(new URL(request.url).pathname));
	await asks(outer, "/v1/book", "200 books");
	await asks(outer, "/v1/book", "201 made", { method: "POST" });
	await asks(outer, "/users/7", "200 7");
	await asks(outer, "/mounted/x/y", "200 /x/y");
});
test("routing by host", async () => {
	const app = new Hono({ getPath: (request) => request.url.replace(/^https?:\/([^?]+).*$/, "$1") });
	app.get("/www1.example.com/hello", (c) => c.text("one"));
	app.get("/www2.example.com/hello", (c) => c.text("two"));
	equal(await answer(app.request("http://www1.example.com/hello")), "200 one");
	equal(await answer(app.request("http://www2.example.com/hello")), "200 two");
});
test("the order of handlers, fallbacks and middleware", async () => {
	const app = new Hono();
	const order: string[] = [];
	app.use(async (_, next) => {
		order.push("first in");
		await next();
		order.push("first out");
	});
	app.use("/deep/*", async (_, next) => {
		order.push("second in");
		await next();
		order.push("second out");
	});
	app.get("/deep/x", (c) => {
		order.push("handler");
		return c.text("x");
	});
	app.get("*", (c) => c.text("common"));
	app.get("/never", (c) => c.text("never"));
	await asks(app, "/deep/x", "200 x");
	equal(order, ["first in", "second in", "handler", "second out", "first out"]);
	await asks(app, "/never", "200 common");
});
test("strict paths", async () => {
	await asks(new Hono().get("/hello", (c) => c.text("x")), "/hello/", "404 404 Not Found");
	await asks(new Hono({ strict: false }).get("/hello", (c) => c.text("x")), "/hello/", "200 x");
});
test("notFound, onError and HTTPException", async () => {
	const app = new Hono();
	app.notFound((c) => c.text(`no ${c.req.path}`, 404));
	app.onError((error, c) => (error instanceof HTTPException ? error.getResponse() : c.text(`caught ${error.message}`, 500)));
	app.get("/throw", () => {
		throw new Error("oops");
	});
	app.get("/late", async () => {
		await new Promise((done) => setTimeout(done, 1));
		throw new Error("late");
	});
	app.get("/teapot", () => {
		throw new HTTPException(418, { message: "short", cause: new Error("stout") });
	});
	app.get("/response", () => {
		throw new HTTPException(401, { res: new Response("who?", { status: 401, headers: { "WWW-Authenticate": "x" } }) });
	});
	await asks(app, "/a", "404 no /a");
	await asks(app, "/throw", "500 caught oops");
	await asks(app, "/late", "500 caught late");
	await asks(app, "/teapot", "418 short");
	equal(await header(app.request("/response"), "www-authenticate"), "x");
});

// --- the context and the request ---

test("status, headers and bodies of the context", async () => {
	const app = new Hono();
	app.get("/text", (c) => c.text("hi", 201, { "X-A": "1" }));
	app.get("/body", (c) => {
		c.status(206);
		c.header("X-B", "1");
		c.header("X-B", "2", { append: true });
		return c.body(new Uint8Array([104, 105]), { headers: { "Content-Type": "a/b" } });
	});
	app.get("/html", (c) => c.html("<p>"));
	app.get("/redirect", (c) => c.redirect("/日本", 303));
	app.get("/res", async (c, next) => {
		await next();
		c.res.headers.append("X-Late", "yes");
		c.res = new Response(`[${await c.res.text()}]`, c.res);
	}, (c) => c.text("inner"));
	app.get("/new", (c) => c.newResponse("new", { status: 202, headers: { "X-C": "3" } }));
	let response = await app.request("/text");
	equal([response.status, response.headers.get("x-a"), response.headers.get("content-type")], [201, "1", "text/plain; charset=UTF-8"]);
	response = await app.request("/body");
	equal([response.status, response.headers.get("x-b"), response.headers.get("content-type"), await response.text()], [206, "1, 2", "a/b", "hi"]);
	equal(await header(app.request("/html"), "content-type"), "text/html; charset=UTF-8");
	response = await app.request("/redirect");
	equal([response.status, response.headers.get("location")], [303, "/%E6%97%A5%E6%9C%AC"]);
	response = await app.request("/res");
	equal([await response.text(), response.headers.get("x-late")], ["[inner]", "yes"]);
	await asks(app, "/new", "202 new");
});
test("variables and the renderer of the context", async () => {
	const app = new Hono<{ Variables: { message: string; echo: (text: string) => string } }>();
	app.use(async (c, next) => {
		c.set("message", "hot");
		c.set("echo", (text) => text);
		c.setRenderer(((content: string) => c.html(`<main>${content}</main>`)) as never);
		await next();
	});
	app.get("/get", (c) => c.text(`${c.get("message")} ${c.var.echo("x")}`));
	app.get("/render", (c) => (c.render as (text: string) => Response)("inside"));
	await asks(app, "/get", "200 hot x");
	await asks(app, "/render", "200 <main>inside</main>");
});
test("env and executionCtx of the context", async () => {
	const app = new Hono<{ Bindings: { NAME: string } }>();
	const waited: unknown[] = [];
	app.get("/", (c) => {
		c.executionCtx.waitUntil(Promise.resolve());
		return c.text(`${c.env.NAME} ${env<{ NAME: string }>(c, "workerd").NAME} ${typeof getRuntimeKey()}`);
	});
	const context = { waitUntil: (promise: Promise<unknown>) => void waited.push(promise), passThroughOnException() {}, props: {} };
	equal(await answer(app.request("/", {}, { NAME: "n" }, context)), "200 n n string");
	equal(waited.length, 1);
});
test("queries, headers and paths of the request", async () => {
	const app = new Hono();
	app.get("/search", (c) => c.json([c.req.query("q"), c.req.query("none") ?? null, c.req.queries("tag"), c.req.query(), c.req.header("X-A"), c.req.path, c.req.method]));
	app.get("/url", (c) => c.text(c.req.url));
	app.get("/route/:id", (c) => c.text(`${routePath(c)} ${matchedRoutes(c).length}`));
	await asks(app, "/search?q=a%20b+c&tag=1&tag=%C3%BC", `200 ["a b c",null,["1","ü"],{"q":"a b c","tag":"1"},"1","/search","GET"]`, { headers: { "X-A": "1" } });
	await asks(app, "/url?a=b", "200 http://localhost/url?a=b");
	await asks(app, "/route/7", "200 /route/:id 1");
});
test("bodies of the request", async () => {
	const app = new Hono();
	app.post("/json", async (c) => c.json(await c.req.json()));
	app.post("/text", async (c) => c.text(await c.req.text()));
	app.post("/buffer", async (c) => c.text(String((await c.req.arrayBuffer()).byteLength)));
	app.post("/blob", async (c) => {
		const blob = await c.req.blob();
		return c.text(`${blob.size} ${blob.type}`);
	});
	app.post("/form", async (c) => c.text([...((await c.req.formData()) as unknown as Iterable<[string, string]>)].join(" ")));
	app.post("/parse", async (c) => {
		const { file, name, "list[]": list } = await c.req.parseBody();
		return c.json([file instanceof File ? [file.name, file.type, await file.text()] : file, name, list]);
	});
	app.post("/all", async (c) => c.json(await c.req.parseBody({ all: true })));
	app.post("/dot", async (c) => c.json(await c.req.parseBody({ dot: true })));
	app.post("/twice", async (c) => c.text(`${await c.req.text()} ${JSON.stringify(await c.req.json())}`));
	await asks(app, "/json", `200 {"a":["ü"]}`, json({ a: ["ü"] }));
	await asks(app, "/text", "200 ü", post("ü"));
	await asks(app, "/buffer", "200 2", post("ü"));
	await asks(app, "/blob", "200 1 a/b", post("x", { "Content-Type": "a/b" }));
	await asks(app, "/form", "200 a,1 b,2 3", post(new URLSearchParams({ a: "1", b: "2 3" })));
	const form = new FormData();
	form.set("file", new File(["content"], "a.txt", { type: "text/plain" }));
	form.set("name", "n");
	form.append("list[]", "1");
	form.append("list[]", "2");
	await asks(app, "/parse", `200 [["a.txt","text/plain","content"],"n",["1","2"]]`, post(form));
	await asks(app, "/all", `200 {"x":["1","2"],"y":"3"}`, post(new URLSearchParams("x=1&x=2&y=3")));
	await asks(app, "/dot", `200 {"obj":{"a":"1","b":"2"}}`, post(new URLSearchParams("obj.a=1&obj.b=2")));
	await asks(app, "/twice", `200 [1] [1]`, post("[1]"));
});

// --- helpers ---

test("accepts", async () => {
	const app = new Hono().get("/", (c) => c.text(accepts(c, { header: "Accept-Language", supports: ["en", "ja", "zh"], default: "en" })));
	await asks(app, "/", "200 ja", { headers: { "Accept-Language": "en;q=0.8,ja" } });
	await asks(app, "/", "200 en");
});
test("cookies", async () => {
	const app = new Hono();
	app.get("/get", (c) => c.json([getCookie(c, "a"), getCookie(c, "none") ?? null, getCookie(c)]));
	app.get("/set", (c) => {
		setCookie(c, "plain", "v w");
		setCookie(c, "great", "banana", { path: "/", secure: true, domain: "example.com", httpOnly: true, maxAge: 1000, expires: new Date(Date.UTC(2000, 11, 24)), sameSite: "Strict" });
		setCookie(c, "host", "x", { prefix: "host" });
		return c.text(generateCookie("g", "1"));
	});
	app.get("/delete", (c) => c.text(String(deleteCookie(c, "a"))));
	await asks(app, "/get", `200 ["1",null,{"a":"1","b":"2 3"}]`, { headers: { Cookie: "a=1; b=2%203" } });
	equal((await app.request("/set")).headers.getSetCookie(), [
		"plain=v%20w; Path=/",
		"great=banana; Max-Age=1000; Domain=example.com; Path=/; Expires=Sun, 24 Dec 2000 00:00:00 GMT; HttpOnly; Secure; SameSite=Strict",
		"__Host-host=x; Path=/; Secure",
	]);
	equal((await app.request("/delete", { headers: { Cookie: "a=1" } })).headers.getSetCookie(), ["a=; Max-Age=0; Path=/"]);
});
test("signed cookies", async () => {
	const app = new Hono();
	app.get("/set", async (c) => {
		await setSignedCookie(c, "taste", "sweet", "secret", { path: "/" });
		return c.text("set");
	});
	app.get("/get", async (c) => c.json([await getSignedCookie(c, "secret", "taste"), await getSignedCookie(c, "other", "taste")]));
	const [cookie] = (await app.request("/set")).headers.getSetCookie();
	equal(/^taste=sweet\.[^;]{44,};? /.test(cookie), true);
	await asks(app, "/get", `200 ["sweet",false]`, { headers: { Cookie: cookie.split(";")[0] } });
	await asks(app, "/get", `200 [false,false]`, { headers: { Cookie: cookie.split(";")[0].replace("sweet", "bitter") } });
});
test("css", async () => {
	const fade = keyframes`from { opacity: 0 } to { opacity: 1 }`;
	const card = css`color: red; animation: ${fade} 1s; & > a { color: blue }`;
	const app = new Hono().get("/", (c) => c.html(<html><head><Style /></head><body class={cx(card, "x")}>hi</body></html>));
	const text = await (await app.request("/")).text();
	equal([/<style id="hono-css">/.test(text), text.includes("color:red"), /class="css-\d+ x"|class="cx-\d+/.test(text)], [true, true, true]);
});
test("factories of handlers and middleware", async () => {
	const factory = createFactory<{ Variables: { foo: string } }>({ initApp: (app) => app.use(async (c, next) => { c.set("foo", "init"); await next(); }) });
	const middleware = factory.createMiddleware(async (c, next) => {
		c.set("foo", `${c.var.foo}!`);
		await next();
	});
	const handlers = factory.createHandlers(middleware, (c) => c.text(c.var.foo));
	const app = factory.createApp().get("/api", ...handlers);
	await asks(app as never, "/api", "200 init!");
	const log = createMiddleware(async (c, next) => {
		await next();
		c.header("X-Made", "1");
	});
	equal(await header(new Hono().use(log).get("/", (c) => c.text("")).request("/"), "x-made"), "1");
});
test("html", async () => {
	const app = new Hono().get("/:name", (c) => c.html(html`<h1>${c.req.param("name")}</h1>${raw("<hr>")}${[1, 2].map((n) => html`<i>${n}</i>`)}${Promise.resolve("<p>")}`));
	await asks(app, "/%3Cb%3E", "200 <h1>&lt;b&gt;</h1><hr><i>1</i><i>2</i>&lt;p&gt;");
});
test("streams", async () => {
	const app = new Hono();
	app.get("/stream", (c) => stream(c, async (out) => {
		await out.write(new Uint8Array([104, 101]));
		await out.pipe(new Response("llo").body as ReadableStream);
	}));
	app.get("/text", (c) => streamText(c, async (out) => {
		await out.writeln("hello");
		await out.sleep(2);
		await out.write("world");
	}));
	app.get("/events", (c) => streamSSE(c, async (out) => {
		for (let id = 0; id < 2; id++) {
			await out.writeSSE({ data: `a\nb${id}`, event: "time", id: String(id), retry: 10 });
			await out.sleep(1);
		}
	}));
	await asks(app, "/stream", "200 hello");
	await asks(app, "/text", "200 hello\nworld");
	await asks(app, "/events", "200 event: time\ndata: a\ndata: b0\nid: 0\nretry: 10\n\nevent: time\ndata: a\ndata: b1\nid: 1\nretry: 10\n\n");
	equal(await header(app.request("/events"), "content-type"), "text/event-stream");
});
test("clients", async () => {
	const app = new Hono()
		.get("/posts/:id", (c) => c.json({ id: c.req.param("id"), q: c.req.query("q") ?? "" }))
		.post("/posts", validator("json", (value) => value as { title: string }), (c) => c.json({ title: c.req.valid("json").title }, 201));
	const client = testClient(app);
	const get = await client.posts[":id"].$get({ param: { id: "7" }, query: { q: "a b" } } as never);
	equal(await get.json(), { id: "7", q: "a b" });
	const made = await client.posts.$post({ json: { title: "t" } });
	equal([made.status, await made.json()], [201, { title: "t" }]);
	const remote = hc<typeof app>("http://h/", { fetch: ((input: string | Request, init?: RequestInit) => app.request(input, init)) as never });
	equal(remote.posts[":id"].$url({ param: { id: "7" } } as never).href, "http://h/posts/7");
	equal(await (await remote.posts.$post({ json: { title: "u" } })).json(), { title: "u" });
});
test("showRoutes", () => {
	showRoutes(new Hono().get("/", (c) => c.text("")), { verbose: false, colorize: false });
});

// --- JSX ---

test("components", async () => {
	const Layout = ({ children, title }: PropsWithChildren<{ title: string }>) => <html lang="en"><head><title>{title}</title></head><body>{children}</body></html>;
	const List = memo(({ items }: { items: string[] }) => <ul>{items.map((item) => <li key={item}>{item}</li>)}</ul>);
	const Later = async () => {
		await new Promise((done) => setTimeout(done, 1));
		return <b>later</b>;
	};
	const app = new Hono().get("/", (c) =>
		c.html(<Layout title={"<T>"}><Fragment><List items={["a", "&"]} /><Later /></Fragment><input type="checkbox" checked disabled={false} /><div style={{ fontSize: "2px" }} dangerouslySetInnerHTML={{ __html: "<i>" }} /></Layout>));
	await asks(app, "/", `200 <html lang="en"><head><title>&lt;T&gt;</title></head><body><ul><li>a</li><li>&amp;</li></ul><b>later</b><input type="checkbox" checked=""/><div style="font-size:2px"><i></div></body></html>`);
});
test("contexts of JSX", async () => {
	const Theme = createContext("light");
	const Button = () => <button class={useContext(Theme)}>x</button>;
	equal(String(<Theme.Provider value="dark"><Button /></Theme.Provider>), `<button class="dark">x</button>`);
	equal(String(<Button />), `<button class="light">x</button>`);
});
test("Suspense and ErrorBoundary", async () => {
	const Later = async () => {
		await new Promise((done) => setTimeout(done, 2));
		return <p>done</p>;
	};
	const Broken = () => {
		throw new Error("broken");
	};
	const app = new Hono().get("/", (c) =>
		c.body(renderToReadableStream(<main><Suspense fallback={<i>wait</i>}><Later /></Suspense><ErrorBoundary fallback={<b>sorry</b>}><Broken /></ErrorBoundary></main>)));
	const text = await (await app.request("/")).text();
	equal([text.includes("<i>wait</i>"), text.includes("<p>done</p>"), text.includes("<b>sorry</b>")], [true, true, true]);
});
test("jsxRenderer", async () => {
	const app = new Hono();
	app.use("/page/*", jsxRenderer(({ children }) => <html><body><header>Menu</header>{children}</body></html>));
	const Path = () => <em>{useRequestContext().req.path}</em>;
	app.get("/page/about", (c) => c.render(<h1>About <Path /></h1>));
	await asks(app, "/page/about", `200 <!DOCTYPE html><html><body><header>Menu</header><h1>About <em>/page/about</em></h1></body></html>`);
	const streaming = new Hono().use(jsxRenderer(({ children }) => <html><body>{children}</body></html>, { stream: true }));
	streaming.get("/", (c) => c.render(<Suspense fallback={<i>wait</i>}><Path /></Suspense>));
	equal((await (await streaming.request("/")).text()).includes("<em>/</em>"), true);
});

// --- middleware ---

const basic = (user: string, password: string) => ({ headers: { Authorization: `Basic ${btoa(`${user}:${password}`)}` } });
test("basicAuth", async () => {
	const app = new Hono();
	app.use("/a/*", basicAuth({ username: "hono", password: "acoolproject" }, { username: "other", password: "ü" }));
	app.use("/b/*", basicAuth({ verifyUser: async (user, password) => user === "dyn" && password === "amic" }));
	app.get("*", (c) => c.text("in"));
	await asks(app, "/a/x", "401 Unauthorized");
	await asks(app, "/a/x", "401 Unauthorized", basic("hono", "wrong"));
	await asks(app, "/a/x", "200 in", basic("hono", "acoolproject"));
	await asks(app, "/b/x", "200 in", basic("dyn", "amic"));
	equal(await header(app.request("/a/x"), "www-authenticate"), `Basic realm="Secure Area"`);
});
test("bearerAuth", async () => {
	const app = new Hono();
	app.use("/a/*", bearerAuth({ token: ["honoiscool", "other"] }));
	app.use("/b/*", bearerAuth({ verifyToken: async (token) => token === "dynamic" }));
	app.get("*", (c) => c.text("in"));
	const bearer = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });
	await asks(app, "/a/x", "401 Unauthorized");
	await asks(app, "/a/x", "401 Unauthorized", bearer("no"));
	await asks(app, "/a/x", "200 in", bearer("other"));
	await asks(app, "/b/x", "200 in", bearer("dynamic"));
	await asks(app, "/b/x", "400 Bad Request", { headers: { Authorization: "Beer x" } });
});
test("bodyLimit", async () => {
	const app = new Hono();
	app.post("/", bodyLimit({ maxSize: 10, onError: (c) => c.text("overflow", 413) }), async (c) => c.text(await c.req.text()));
	await asks(app, "/", "200 short", post("short"));
	await asks(app, "/", "413 overflow", post("longer than ten bytes"));
	await asks(app, "/", "413 overflow", post("longer than ten bytes", { "Content-Length": "21" }));
	const streamed = new Request("http://localhost/", { method: "POST", body: new Response("also longer than ten").body, duplex: "half" } as RequestInit);
	equal(await answer(app.request(streamed)), "413 overflow");
});
test("combinations", async () => {
	const app = new Hono();
	const token = (value: string) => bearerAuth({ token: value });
	app.use("/some/*", some(token("one"), basicAuth({ username: "u", password: "p" })));
	app.use("/every/*", every(token("one"), async (c, next) => {
		await next();
		c.header("X-Every", "1");
	}));
	app.use("/except/*", except("/except/open", token("one")));
	app.get("*", (c) => c.text("in"));
	await asks(app, "/some/x", "200 in", basic("u", "p"));
	await asks(app, "/some/x", "401 Unauthorized");
	equal(await header(app.request("/every/x", { headers: { Authorization: "Bearer one" } }), "x-every"), "1");
	await asks(app, "/every/x", "401 Unauthorized");
	await asks(app, "/except/open", "200 in");
	await asks(app, "/except/x", "401 Unauthorized");
});
test("compress, for a client that takes no encoding", async () => {
	await asks(new Hono().use(compress()).get("/", (c) => c.text("x".repeat(2000))), "/", `200 ${"x".repeat(2000)}`);
});
test("cors", async () => {
	const app = new Hono();
	app.use("/a/*", cors());
	app.use("/b/*", cors({ origin: ["http://example.com", "http://example.org"], allowHeaders: ["X-Custom"], allowMethods: ["POST", "GET"], exposeHeaders: ["Content-Length", "X-B"], maxAge: 600, credentials: true }));
	app.use("/c/*", cors({ origin: (origin) => (origin.endsWith(".example.com") ? origin : "http://example.com") }));
	app.all("*", (c) => c.text("in"));
	equal(await header(app.request("/a/x"), "access-control-allow-origin"), "*");
	const from = (origin: string, method = "GET") => ({ method, headers: { Origin: origin } });
	let response = await app.request("/b/x", from("http://example.org", "OPTIONS"));
	equal([response.status, response.statusText, ...["allow-origin", "allow-methods", "allow-headers", "max-age", "allow-credentials", "expose-headers"].map((name) => response.headers.get(`access-control-${name}`))],
		[204, "No Content", "http://example.org", "POST,GET", "X-Custom", "600", "true", "Content-Length,X-B"]);
	response = await app.request("/b/x", from("http://evil.com"));
	equal([response.headers.get("access-control-allow-origin"), response.headers.get("vary")], [null, "Origin"]);
	equal(await header(app.request("/c/x", from("http://a.example.com")), "access-control-allow-origin"), "http://a.example.com");
});
test("csrf", async () => {
	const app = new Hono();
	app.use("/a/*", csrf());
	app.use("/b/*", csrf({ origin: "https://good.example.com" }));
	app.all("*", (c) => c.text("in"));
	const form = (headers: Record<string, string>) => post("a=1", { "Content-Type": "application/x-www-form-urlencoded", ...headers });
	await asks(app, "/a/x", "200 in", form({ Origin: "http://localhost" }));
	await asks(app, "/a/x", "403 Forbidden", form({ Origin: "http://evil.com" }));
	await asks(app, "/a/x", "200 in", form({ Origin: "http://evil.com", "Sec-Fetch-Site": "same-origin" }));
	await asks(app, "/a/x", "200 in", { ...json({}), headers: { "Content-Type": "application/json", Origin: "http://evil.com" } });
	await asks(app, "/b/x", "200 in", form({ Origin: "https://good.example.com" }));
	await asks(app, "/b/x", "403 Forbidden", form({ Origin: "http://localhost" }));
});
test("etag", async () => {
	const app = new Hono();
	app.use("/strong/*", etag());
	app.use("/weak/*", etag({ weak: true }));
	app.get("*", (c) => c.text("Hono is cool", 200, { "Cache-Control": "no-cache", "X-Other": "1" }));
	equal(await header(app.request("/strong/x"), "etag"), `"4e32298b1cb4edc595237405e5b696e105c2399a"`);
	const tag = (await header(app.request("/weak/x"), "etag")) ?? "";
	equal(tag.slice(0, 3), `W/"`);
	const response = await app.request("/weak/x", { headers: { "If-None-Match": tag } });
	equal([response.status, response.headers.get("cache-control"), response.headers.get("x-other"), await response.text()], [304, "no-cache", null, ""]);
});
test("ipRestriction", async () => {
	const app = new Hono<{ Bindings: { address: string } }>();
	app.use("*", ipRestriction((c) => ({ remote: { address: c.env.address, addressType: c.env.address.includes(":") ? "IPv6" : "IPv4" } }), { denyList: ["192.168.2.0/24"], allowList: ["127.0.0.1", "::1", "192.168.0.0/16", "2001:db8::/32"] }));
	app.get("/", (c) => c.text("in"));
	const from = (address: string) => answer(app.request("/", {}, { address }));
	equal(await from("127.0.0.1"), "200 in");
	equal(await from("192.168.7.1"), "200 in");
	equal(await from("192.168.2.1"), "403 Forbidden");
	equal(await from("10.0.0.1"), "403 Forbidden");
	equal(await from("2001:db8::7"), "200 in");
	equal(await from("2001:db9::7"), "403 Forbidden");
});
for (const alg of ["HS256", "HS384", "HS512"] as const) {
	test(`jwt with ${alg}`, async () => {
		const app = new Hono<{ Variables: { jwtPayload: { sub: string } } }>();
		app.use("/auth/*", jwt({ secret: "it-is-very-secret", alg }));
		app.use("/cookie/*", jwt({ secret: "it-is-very-secret", alg, cookie: "token" }));
		app.get("*", (c) => c.text(c.get("jwtPayload").sub));
		const now = Math.floor(Date.now() / 1000);
		const token = await sign({ sub: "you", exp: now + 60 }, "it-is-very-secret", alg);
		equal((await verify(token, "it-is-very-secret", alg)).sub, "you");
		equal(decode(token).header, { alg, typ: "JWT" });
		await asks(app, "/auth/x", "200 you", { headers: { Authorization: `Bearer ${token}` } });
		await asks(app, "/cookie/x", "200 you", { headers: { Cookie: `token=${token}` } });
		await asks(app, "/auth/x", "401 Unauthorized");
		const old = await sign({ sub: "you", exp: now - 60 }, "it-is-very-secret", alg);
		equal((await app.request("/auth/x", { headers: { Authorization: `Bearer ${old}` } })).status, 401);
		equal((await app.request("/auth/x", { headers: { Authorization: `Bearer ${token.slice(0, -4)}AAAA` } })).status, 401);
	});
}
test("languageDetector", async () => {
	const app = new Hono().use(languageDetector({ supportedLanguages: ["en", "ar", "ja"], fallbackLanguage: "en" }));
	app.get("/", (c) => c.text(c.get("language")));
	await asks(app, "/?lang=ar", "200 ar");
	await asks(app, "/", "200 ja", { headers: { "Accept-Language": "ja,en;q=0.5" } });
	await asks(app, "/", "200 en");
});
test("logger", async () => {
	const lines: string[] = [];
	const app = new Hono().use(logger((...parts) => void lines.push(parts.join(" ")))).get("/", (c) => c.text("x"));
	await app.request("/");
	equal([lines.length, lines[0], /--> GET \/ .*200.* \d+m?s$/.test(lines[1])], [2, "<-- GET /", true]);
});
test("methodOverride", async () => {
	const app = new Hono();
	app.use("/posts", methodOverride({ app }));
	app.delete("/posts", (c) => c.text("deleted"));
	await asks(app, "/posts", "200 deleted", post(new URLSearchParams({ _method: "DELETE" })));
});
test("poweredBy and prettyJSON", async () => {
	const app = new Hono().use(poweredBy()).use(prettyJSON()).get("/", (c) => c.json({ a: [1] }));
	await asks(app, "/?pretty", `200 {\n  "a": [\n    1\n  ]\n}`);
	await asks(app, "/", `200 {"a":[1]}`);
	equal(await header(app.request("/"), "x-powered-by"), "Hono");
});
test("requestId", async () => {
	const app = new Hono<{ Variables: { requestId: string } }>().use(requestId()).get("/", (c) => c.text(c.get("requestId")));
	const [one, two] = [await app.request("/"), await app.request("/")];
	equal(/^[0-9a-f-]{36}$/.test(one.headers.get("x-request-id") ?? ""), true);
	equal(one.headers.get("x-request-id") === two.headers.get("x-request-id"), false);
	await asks(app, "/", "200 mine", { headers: { "X-Request-Id": "mine" } });
});
test("secureHeaders", async () => {
	const app = new Hono();
	app.use("/a", secureHeaders());
	app.use("/b", secureHeaders({ xFrameOptions: false, strictTransportSecurity: "max-age=1", contentSecurityPolicy: { defaultSrc: ["'self'"], scriptSrc: ["'self'", NONCE] }, permissionsPolicy: { fullscreen: ["self"], camera: [] } }));
	app.get("*", (c) => c.text(String(c.get("secureHeadersNonce" as never))));
	let { headers } = await app.request("/a");
	equal(["x-frame-options", "x-content-type-options", "strict-transport-security", "referrer-policy"].map((name) => headers.get(name)), ["SAMEORIGIN", "nosniff", "max-age=15552000; includeSubDomains", "no-referrer"]);
	const response = await app.request("/b");
	({ headers } = response);
	equal([headers.get("x-frame-options"), headers.get("strict-transport-security"), headers.get("permissions-policy")], [null, "max-age=1", "fullscreen=(self), camera=()"]);
	equal(headers.get("content-security-policy"), `default-src 'self'; script-src 'self' 'nonce-${await response.text()}'`);
});
test("timeout", async () => {
	const app = new Hono();
	app.use("/a/*", timeout(5));
	app.use("/b/*", timeout(5, (c) => new HTTPException(408, { message: `late: ${c.req.path}` })));
	const slow = () => new Promise((done) => setTimeout(done, 200));
	app.get("/:which/slow", async (c) => {
		await slow();
		return c.text("slow");
	});
	app.get("/:which/quick", (c) => c.text("quick"));
	await asks(app, "/a/quick", "200 quick");
	await asks(app, "/a/slow", "504 Gateway Timeout");
	await asks(app, "/b/slow", "408 late: /b/slow");
});
test("timing", async () => {
	const app = new Hono().use(timing());
	app.get("/", async (c) => {
		setMetric(c, "region", "europe");
		setMetric(c, "custom", 23.8, "My custom");
		startTime(c, "db");
		await new Promise((done) => setTimeout(done, 1));
		endTime(c, "db");
		return c.text("x");
	});
	const value = (await header(app.request("/"), "server-timing")) ?? "";
	equal([/region;desc="europe"/.test(value), /custom;dur=23.8;desc="My custom"/.test(value), /db;dur=[\d.]+/.test(value), /total;dur=[\d.]+/.test(value)], [true, true, true, true]);
});
test("trailing slashes", async () => {
	const trim = new Hono().use(trimTrailingSlash()).get("/about", (c) => c.text("x"));
	const response = await trim.request("/about/");
	equal([response.status, response.headers.get("location")], [301, "http://localhost/about"]);
	equal(await header(new Hono().use(appendTrailingSlash()).get("/about/", (c) => c.text("x")).request("/about"), "location"), "http://localhost/about/");
});
test("validators", async () => {
	const app = new Hono();
	const named = (value: Record<string, unknown>, c: { text: (text: string, status: 400) => Response }) => (typeof value.name === "string" && value.name ? { name: value.name } : c.text("invalid", 400));
	app.post("/form", validator("form", named as never), (c) => c.json(c.req.valid("form" as never)));
	app.post("/json", validator("json", named as never), (c) => c.json(c.req.valid("json" as never)));
	app.get("/query", validator("query", named as never), (c) => c.json(c.req.valid("query" as never)));
	app.get("/header", validator("header", named as never), (c) => c.json(c.req.valid("header" as never)));
	app.get("/cookie", validator("cookie", named as never), (c) => c.json(c.req.valid("cookie" as never)));
	app.get("/param/:name", validator("param", named as never), (c) => c.json(c.req.valid("param" as never)));
	await asks(app, "/form", `200 {"name":"n"}`, post(new URLSearchParams({ name: "n" })));
	await asks(app, "/form", "400 invalid", post(new URLSearchParams({ other: "n" })));
	await asks(app, "/json", `200 {"name":"n"}`, json({ name: "n" }));
	await asks(app, "/json", "400 invalid", json({}));
	await asks(app, "/json", "400 Malformed JSON in request body", post("{", { "Content-Type": "application/json" }));
	await asks(app, "/query?name=n", `200 {"name":"n"}`);
	await asks(app, "/header", `200 {"name":"n"}`, { headers: { Name: "n" } });
	await asks(app, "/cookie", `200 {"name":"n"}`, { headers: { Cookie: "name=n" } });
	await asks(app, "/param/n", `200 {"name":"n"}`);
});

// Runs the cases. Returns their number, and what is wrong.
export async function results() {
	const failed: string[] = [];
	for (const [name, run] of cases) {
		try {
			await run();
		} catch (error) {
			failed.push(`${name}: ${error instanceof Error ? `${error.message}\n${error.stack}` : error}`);
		}
	}
	return { cases: cases.length, failed };
}

export default async () => Response.json(await results());
