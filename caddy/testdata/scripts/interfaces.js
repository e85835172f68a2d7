// Cases of the standards of URL, Headers, Encoding, Fetch, DOM, Streams and HTML, as one script that answers with what fails.

const cases = [];
const same = (name, got, want) => cases.push([name, async () => [await got(), want]]);
const fails = (name, make, error) =>
	cases.push([name, async () => {
		try {
			await make();
		} catch (e) {
			return [e.name, error];
		}
		return ["no error", error];
	}]);

// URL
for (const [input, base, href] of [
	["http://EXAMPLE.com/../x", undefined, "http://example.com/x"], ["//b/c", "https://a/", "https://b/c"],
	["http://a:80/", undefined, "http://a/"], ["https://a:443", undefined, "https://a/"], ["HTTP://a/%7e?q#f", undefined, "http://a/%7e?q#f"],
	["http://0x7f.1/", undefined, "http://127.0.0.1/"], ["http://[::1]:8080/", undefined, "http://[::1]:8080/"],
	["http://münchen.de/ü", undefined, "http://xn--mnchen-3ya.de/%C3%BC"], ["mailto:a@b", undefined, "mailto:a@b"],
	["a b", "http://h/d/", "http://h/d/a%20b"], ["?x=é", "http://h/p", "http://h/p?x=%C3%A9"], ["\thttp://h/\n", undefined, "http://h/"],
	["http://h/a/./b/../c", undefined, "http://h/a/c"], ["file:///C:/x", undefined, "file:///C:/x"], ["http:\\\\h\\p", undefined, "http://h/p"],
	["#f", "about:blank", "about:blank#f"], ["http://u:p@h/", undefined, "http://u:p@h/"], ["..", "http://h/a/b/c", "http://h/a/"],
]) same(`URL ${input}`, () => new URL(input, base).href, href);
for (const bad of ["", "http://", "//x", "http://a b/", "http://[::1", "http://h:99999/", "http://1.2.3.256/"]) {
	fails(`URL ${bad}`, () => new URL(bad), "TypeError");
	same(`canParse ${bad}`, () => URL.canParse(bad), false);
}
same("URL setters", () => {
	const u = new URL("http://a/b?c#d");
	Object.assign(u, { protocol: "https", hostname: "x.y", port: "81", pathname: "/ö", search: "q=1", hash: "", username: "me" });
	return u.href;
}, "https://me@x.y:81/%C3%B6?q=1");
same("URL bad setters", () => {
	const u = new URL("http://a:1/");
	u.port = "x";
	u.protocol = "mailto";
	u.host = "";
	return u.href;
}, "http://a:1/");
same("URL origin", () => [new URL("https://a:8443/x").origin, new URL("data:x").origin], ["https://a:8443", "null"]);
same("searchParams live", () => {
	const u = new URL("http://a/?x=1");
	const p = u.searchParams;
	p.append("y", "ä b&");
	const one = u.href;
	u.search = "?z=2";
	return [one, p.get("z"), p === u.searchParams];
}, ["http://a/?x=1&y=%C3%A4+b%26", "2", true]);
same("params parse", () => [...new URLSearchParams("?a=1&b&a=%32+3&=x&c=%")], [["a", "1"], ["b", ""], ["a", "2 3"], ["", "x"], ["c", "%"]]);
same("params object", () => new URLSearchParams({ a: "1", b: "x y" }).toString(), "a=1&b=x+y");
same("params sort", () => { const p = new URLSearchParams("z=1&a=2&z=0"); p.sort(); return p.toString(); }, "a=2&z=1&z=0");
same("params delete, has, size", () => {
	const p = new URLSearchParams("a=1&a=2&b=3");
	p.delete("a", "1");
	return [p.toString(), p.has("a", "2"), p.has("a", "1"), p.size, p.get("none")];
}, ["a=2&b=3", true, false, 2, null]);
same("params set", () => { const p = new URLSearchParams("a=1&b=2&a=3"); p.set("a", "x"); return p.toString(); }, "a=x&b=2");
fails("params pairs", () => new URLSearchParams([["a"]]), "TypeError");

// Headers
same("headers combine and sort", () => { const h = new Headers({ "X-B": "1" }); h.append("x-b", " 2 "); h.append("A", ""); return [...h]; }, [["a", ""], ["x-b", "1, 2"]]);
same("set-cookie", () => { const h = new Headers([["Set-Cookie", "a"], ["set-cookie", "b"]]); return [h.getSetCookie(), [...h].length]; }, [["a", "b"], 2]);
same("headers get, has, delete", () => { const h = new Headers({ A: "1" }); const one = [h.get("a"), h.has("A"), h.get("b")]; h.delete("a"); return [...one, h.has("a")]; }, ["1", true, null, false]);
for (const bad of ["", "a b", "ä", "a:"]) fails(`header name ${bad}`, () => new Headers([[bad, "x"]]), "TypeError");
for (const bad of ["a\nb", "\0", "€"]) fails(`header value ${bad}`, () => new Headers({ a: bad }), "TypeError");
same("header value trims", () => new Headers({ a: "\t x\r\n" }).get("a"), "x");

// Encoding
const enc = (text) => [...new TextEncoder().encode(text)];
const dec = (bytes, ...rest) => new TextDecoder(...rest).decode(new Uint8Array(bytes));
same("encode", () => enc("aä€😀"), [97, 195, 164, 226, 130, 172, 240, 159, 152, 128]);
same("encode lone surrogates", () => enc("\ud800x"), [239, 191, 189, 120]);
same("encodeInto", () => new TextEncoder().encodeInto("a€b", new Uint8Array(3)), { read: 1, written: 1 });
for (const [bytes, text] of [
	[[0xc0, 0x80], "\ufffd\ufffd"], [[0xe2, 0x82], "\ufffd"], [[0xed, 0xa0, 0x80], "\ufffd\ufffd\ufffd"], [[0xf4, 0x90, 0x80, 0x80], "\ufffd\ufffd\ufffd\ufffd"],
	[[0xf0, 0x9f, 0x41], "\ufffdA"], [[0xef, 0xbb, 0xbf, 0x61], "a"], [[0x61, 0xff, 0x62], "a\ufffdb"], [[0xf8, 0x80], "\ufffd\ufffd"],
]) same(`decode ${bytes}`, () => dec(bytes), text);
fails("decode fatal", () => dec([0xff], "utf-8", { fatal: true }), "TypeError");
fails("decode unknown", () => new TextDecoder("klingon"), "RangeError");
same("decode ignoreBOM", () => dec([0xef, 0xbb, 0xbf], "utf8", { ignoreBOM: true }), "\ufeff");
same("decode utf-16le", () => dec([0x61, 0, 0x3d, 0xd8, 0, 0xde], "utf-16"), "a😀");
same("decode latin1", () => dec([0x80, 0xe9], "latin1"), "€é");
same("decode stream", () => {
	const d = new TextDecoder();
	return [0xf0, 0x9f, 0x98, 0x80, 0xe2].map((byte) => d.decode(new Uint8Array([byte]), { stream: true })).join("|") + d.decode();
}, "|||😀|\ufffd");
same("base64", () => [atob(" aGk= "), btoa("hi\xff")], ["hi", "aGn/"]);
fails("atob", () => atob("a"), "InvalidCharacterError");
fails("btoa", () => btoa("€"), "InvalidCharacterError");

// Fetch
same("response json", () => Response.json({ a: 1 }, { status: 201 }).text(), '{"a":1}');
same("response type", () => [new Response("x").headers.get("content-type"), new Response(new URLSearchParams("a=1")).headers.get("content-type"), new Response(new Uint8Array(1)).headers.get("content-type")],
	["text/plain;charset=UTF-8", "application/x-www-form-urlencoded;charset=UTF-8", null]);
same("body used", async () => { const r = new Response("x"); const one = r.bodyUsed; await r.text(); return [one, r.bodyUsed]; }, [false, true]);
fails("body twice", async () => { const r = new Response("x"); await r.text(); await r.text(); }, "TypeError");
same("clone", async () => { const r = new Response("x", { status: 404 }); const c = r.clone(); return [await r.text(), await c.text(), c.status]; }, ["x", "x", 404]);
same("body stream", async () => { let n = 0; for await (const chunk of new Response("abc").body) n += chunk.length; return n; }, 3);
same("body from stream", () => new Response(new ReadableStream({ start(c) { c.enqueue(new Uint8Array([104])); c.enqueue(new Uint8Array([105])); c.close(); } })).text(), "hi");
fails("status", () => new Response("", { status: 99 }), "RangeError");
fails("null body", () => new Response("x", { status: 204 }), "TypeError");
same("redirect", () => { const r = Response.redirect("http://a/b", 307); return [r.status, r.headers.get("location")]; }, [307, "http://a/b"]);
same("request", async () => { const r = new Request("http://a/", { method: "post", body: "b", headers: { x: "1" } }); return [r.method, r.url, r.headers.get("x"), await r.text()]; }, ["POST", "http://a/", "1", "b"]);
same("request of request", async () => { const r = new Request(new Request("http://a/", { method: "PUT", body: "b" }), { headers: { y: "2" } }); return [r.method, r.headers.get("y"), await r.text()]; }, ["PUT", "2", "b"]);
fails("GET with body", () => new Request("http://a/", { body: "x" }), "TypeError");
same("form urlencoded", async () => [...(await new Response(new URLSearchParams("a=1&b=ü")).formData())], [["a", "1"], ["b", "ü"]]);
same("form multipart", async () => {
	const f = new FormData();
	f.append("a", "1");
	f.append("file", new File(["x\r\n--y"], "n\".txt", { type: "text/plain" }));
	const back = await new Response(f).formData();
	const file = back.get("file");
	return [back.get("a"), file.name, file.type, await file.text()];
}, ["1", 'n".txt', "text/plain", "x\r\n--y"]);
same("blob", async () => { const b = new Blob(["ab", new Uint8Array([99])], { type: "A/B" }); return [b.size, b.type, await b.slice(1, 3).text()]; }, [3, "a/b", "bc"]);

// DOM
same("abort", () => { const c = new AbortController(); let n = 0; c.signal.addEventListener("abort", () => n++); c.abort("r"); c.abort(); return [c.signal.aborted, c.signal.reason, n]; }, [true, "r", 1]);
fails("throwIfAborted", () => AbortSignal.abort().throwIfAborted(), "AbortError");
same("timeout", () => new Promise((done) => { const s = AbortSignal.timeout(1); s.onabort = () => done(s.reason.name); }), "TimeoutError");
same("once", () => { const t = new EventTarget(); let n = 0; t.addEventListener("x", () => n++, { once: true }); t.dispatchEvent(new Event("x")); t.dispatchEvent(new Event("x")); return n; }, 1);

// HTML
same("timers in order", () => new Promise((done) => { const out = []; setTimeout(() => out.push(3), 5); setTimeout(() => out.push(2), 1); queueMicrotask(() => out.push(1)); setTimeout(() => done(out), 8); }), [1, 2, 3]);
same("clearTimeout, interval", () => new Promise((done) => { let n = 0; clearTimeout(setTimeout(() => (n = 99), 1)); const i = setInterval(() => { if (++n === 3) { clearInterval(i); done(n); } }, 1); }), 3);
same("structuredClone", () => {
	const a = { d: new Date(5), m: new Map([[1, new Set([2])]]), r: /x/gi, n: [1, , 3], b: new Uint8Array([1, 2]).subarray(1), u: undefined, e: new RangeError("no") };
	a.self = a;
	const c = structuredClone(a);
	return [c !== a, c.self === c, c.d.getTime(), [...c.m.get(1)], c.r.flags, 1 in c.n, c.b[0], "u" in c, c.e instanceof RangeError, c.e.message];
}, [true, true, 5, [2], "gi", false, 2, true, true, "no"]);
same("structuredClone transfer", () => { const b = new ArrayBuffer(4); const c = structuredClone(b, { transfer: [b] }); return [b.byteLength, c.byteLength]; }, [0, 4]);
for (const bad of [() => {}, Symbol("x"), { f() {} }, new WeakMap(), Promise.resolve(), new Response()]) fails(`structuredClone ${String(bad?.[Symbol.toStringTag] ?? typeof bad)}`, () => structuredClone(bad), "DataCloneError");

// Streams
same("pipeThrough", async () => {
	const source = new ReadableStream({ start(c) { c.enqueue("ä"); c.enqueue("b"); c.close(); } });
	return new Response(source.pipeThrough(new TextEncoderStream())).text();
}, "äb");
same("tee", async () => { const [a, b] = new Response("xy").body.tee(); return [await new Response(a).text(), await new Response(b).text()]; }, ["xy", "xy"]);

// Crypto
const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, "0")).join("");
for (const [hash, want] of [["SHA-1", "a9993e36"], ["SHA-256", "ba7816bf"], ["SHA-384", "cb00753f"], ["SHA-512", "ddaf35a1"]]) {
	same(hash, async () => hex(await crypto.subtle.digest(hash, new TextEncoder().encode("abc"))).slice(0, 8), want);
}
same("HMAC", async () => {
	const key = await crypto.subtle.importKey("raw", new TextEncoder().encode("Jefe"), { name: "HMAC", hash: "SHA-256" }, true, ["sign", "verify"]);
	const data = new TextEncoder().encode("what do ya want for nothing?");
	const mac = await crypto.subtle.sign("HMAC", key, data);
	const again = await crypto.subtle.importKey("jwk", await crypto.subtle.exportKey("jwk", key), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
	return [hex(mac).slice(0, 8), await crypto.subtle.verify("HMAC", again, mac, data), await crypto.subtle.verify("HMAC", again, mac, data.slice(1))];
}, ["5bdcc146", true, false]);
fails("digest MD5", () => crypto.subtle.digest("MD5", new Uint8Array()), "NotSupportedError");
fails("getRandomValues floats", () => crypto.getRandomValues(new Float32Array(1)), "TypeMismatchError");
fails("getRandomValues many", () => crypto.getRandomValues(new Uint8Array(65537)), "QuotaExceededError");
same("randomUUID", () => /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()), true);

export default async () => {
	const failed = [];
	for (const [name, run] of cases) {
		try {
			const [got, want] = (await run()).map((value) => JSON.stringify(value));
			if (got !== want) failed.push(`${name}: got ${got}, want ${want}`);
		} catch (error) {
			failed.push(`${name}: ${error}`);
		}
	}
	return Response.json({ cases: cases.length, failed });
};
