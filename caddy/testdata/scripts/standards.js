// Cases of URL, Headers, Encoding and structured clone, derived from what their standards distinguish. Each is an expression whose
// value is shown as text. They have no expected values: the same file runs in Node.js, and the test compares.

const cases = [];
const add = (group, name, run) => cases.push({ group, name, run });

// A value as text, with its type, its own properties and the sharing in it.
function show(value, seen = []) {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (Object.is(value, -0)) return "-0";
  if (typeof value !== "object" || value === null) return typeof value === "function" ? "function" : String(value);
  if (seen.includes(value)) return `@${seen.indexOf(value)}`;
  seen.push(value);
  const type = Object.prototype.toString.call(value).slice(8, -1);
  const inner = (one) => show(one, seen);
  const keys = () => Object.keys(value).map((key) => `${key}: ${inner(value[key])}`).join(", ");
  if (Array.isArray(value)) return `[${value.length}|${keys()}]`;
  if (value instanceof Map) return `Map{${[...value].map(([k, v]) => `${inner(k)} => ${inner(v)}`).join(", ")}}`;
  if (value instanceof Set) return `Set{${[...value].map(inner).join(", ")}}`;
  if (value instanceof Date) return `Date ${value.getTime()}`;
  if (value instanceof RegExp) return `RegExp ${value} ${value.lastIndex}`;
  if (value instanceof DOMException) return `DOMException ${value.name} ${value.message} ${value.code}`;
  if (value instanceof Error) {
    const cause = "cause" in value ? ` because ${inner(value.cause)}` : "";
    return `${Object.getPrototypeOf(value).constructor.name} ${value.name}: ${value.message}${cause} ${keys()}`;
  }
  if (value instanceof ArrayBuffer) return `ArrayBuffer ${value.byteLength} ${[...new Uint8Array(value)]}`;
  if (ArrayBuffer.isView(value)) return `${type} ${value.byteOffset} ${value.byteLength} of ${inner(value.buffer)}`;
  if (value instanceof Boolean || value instanceof Number || value instanceof String) return `Object(${inner(value.valueOf())})`;
  if (type === "BigInt") return `Object(${value}n)`;
  return `${type}{${keys()}}`;
}

// --- URL ---
const bases = [undefined, "http://user:pass@host:8080/a/b/c?q#f", "file:///C:/x/y", "mailto:a@b", "about:blank", "non-special://h:1/p/q?s", "ws://h", "data:text/plain,x"];
const inputs = [
  "", "#", "?", "/", "//", "///", "////", ".", "..", "./x", "../x", "../../../../x", "/./a/.././b/..", "%2e/%2E%2e/x", "a b", "?a b", "#a b", "?a'b\"c<d>e`f", "#a'b\"c<d>e`f",
  "//other", "//other:80/x", "///x", "\\\\h\\p", "/\\h", "http:x", "http:/x", "http:///x", "http:////x", "HTTP://EXAMPLE.COM:80/%7Efoo/%zz", "https://h:443", "https://h:080", "https://h:", "https://h:65535",
  "https://h:65536", "https://h:x", "https://h:-1", "http://1.2.3.4", "http://1.2.3", "http://1.2", "http://16909060", "http://0x1.0x2.3.04", "http://256.1.1.1", "http://1.2.3.4.5", "http://1.2.3.4.",
  "http://0x", "http://08.1", "http://a.1", "http://[::1]", "http://[1:2:3:4:5:6:7:8]", "http://[::1.2.3.4]", "http://[1::2::3]", "http://[:1]", "http://[1:0:0:2:0:0:0:3]", "http://[fe80::1%25eth0]", "http://[::1", "http://::1]",
  "http://münchen.DE", "http://xn--mnchen-3ya.de", "http://faß.de", "http://☃.net", "http://a%20b", "http://a%41b", "http://%zz", "http://a_b", "http://a..b", "http://.", "http://-a-", "http://a\u00adb", "http://\u200d", "http://xn--", "http://ＧＯ.com",
  "http://u@h", "http://u:@h", "http://:p@h", "http://@h", "http://u:p:q@h", "http://u@v@h", "http://u%40:p/@h", "http://ü:é@h/", "http://u@", "file:", "file:/", "file:x", "file://h/x", "file:///c|/x", "file:c:/../..", "file://localhost/x", "/c:/x", "/c|", "c:/x",
  "javascript:alert(1)", "javascript://x", "data:,a b", "data:a b  ", "mailto:x?y#z", "blob:https://h:1/x", "blob:x", "a:b:c", "a:/b", "a://b", "a:///b", "a://[::1]:5/x", "a://b c", "1:x", "a+b-c.d:x", "ö:x", ":x", "x:",
  " \t http://h \n ", "ht\ntp://h/\tx\r", "http://h/\u0000x", "\u0000http://h/\u001f", "http://h\u0000", "http://h/\ud800x", "http://h/😀?😀#😀", "http://h/?é", "a:é?é#é", "http://h/a|b^c{d}", "a:|^{}", "ws://h:80/", "wss://h:443/", "ftp://h:21/", "ws://h?#",
];
for (const base of bases) {
  for (const input of inputs) {
    add("URL", `new URL(${JSON.stringify(input)}, ${JSON.stringify(base)})`, () => {
      const u = new URL(input, base);
      return [u.href, u.origin, u.protocol, u.username, u.password, u.host, u.hostname, u.port, u.pathname, u.search, u.hash];
    });
  }
}
const setters = {
  href: ["http://x", "x", ""],
  protocol: ["https", "https:", "ws:x", "mailto", "file", "a b", "", "1", "h\u0000", "HTTP"],
  username: ["me", "", "a:b@c/d", "ü", "%41"],
  password: ["me", "", "a:b@c/d", "ü"],
  host: ["x", "x:81", "x:", "x:y", ":81", "", "x/y", "x?y", "x#y", "x@y", "[::1]:2", "a b", "1.2", "x:99999", "x:80", "x:443"],
  hostname: ["x", "x:81", "", "x/y", "[::1]", "[::1", "ü.de", "0x7f", "a\tb"],
  port: ["81", "", "0", "65535", "65536", "x", "8x", "-1", "80", "443", "\t9", " 9", "9.5", "00080"],
  pathname: ["x", "/x", "", "/a/../b", "?", "#", "a b", "%2e%2e/x", "\\x", "//x", "é", "/c:"],
  search: ["x", "?x", "", "?", "??", "#", "a b", "é", "'"],
  hash: ["x", "#x", "", "#", "##", "a b", "é", "`"],
};
for (const start of ["http://u:p@h:8080/p/q?s#f", "https://h/", "file:///C:/p", "mailto:x@y?z", "a://h:1/p", "a:/p"]) {
  for (const [name, values] of Object.entries(setters)) {
    for (const value of values) {
      add("URL", `${start} ${name} = ${JSON.stringify(value)}`, () => {
        const u = new URL(start);
        u[name] = value;
        return [u.href, u[name], u.origin];
      });
    }
  }
}
for (const query of ["", "?", "&", "&&a&&", "=", "=x", "a", "a=", "a=b=c", "a=1&a=2", "a+b=c+d", "%61=%62", "%", "%z=%4", "a=%ff", "a=%F0%9F%98%80", "é=ü", "a=b;c=d", "?a", "??a", "a\u0000=\n", "+=+", "\ud800=\udc00"]) {
  add("URL", `new URLSearchParams(${JSON.stringify(query)})`, () => {
    const p = new URLSearchParams(query);
    return [[...p], p.toString(), p.size];
  });
}
for (const init of [{}, { a: 1, b: null, c: undefined }, [["a", "b"], ["a", "c"]], [["a"]], [["a", "b", "c"]], [], new Map([["x", "y"]]), new URLSearchParams("q=1"), null, undefined, 7, true, Object.create({ inherited: 1 }), [new Set(["k", "v"])], { "\ud800": "\udfff" }, "?x"]) {
  add("URL", `new URLSearchParams(${show(init)})`, () => new URLSearchParams(init).toString());
}
for (const text of ["a b", "~!*()'-._", "é", "😀", "\n\r", "%", "+", "&=", "\u0000", "/?:@"]) {
  add("URL", `params write ${JSON.stringify(text)}`, () => new URLSearchParams([[text, text]]).toString());
}
for (const [name, change] of Object.entries({
  append: (p) => p.append("z", 1), set: (p) => p.set("a", "x"), "set new": (p) => p.set("n", "x"), delete: (p) => p.delete("a"), "delete value": (p) => p.delete("a", "2"),
  sort: (p) => p.sort(), "append one": (p) => p.append("z"), "get none": (p) => p.get(), "has value": (p) => p.has("a", "2"), "has undefined": (p) => p.has("a", undefined), getAll: (p) => p.getAll("a"),
  forEach: (p) => { const out = []; p.forEach(function (v, k) { out.push(k, v, this.x); }, { x: 1 }); return out; }, keys: (p) => [...p.keys()], values: (p) => [...p.values()],
  iterate: (p) => { const out = []; for (const [k] of p) { out.push(k); if (out.length < 4) p.append("more", "1"); } return out; }, forEachBad: (p) => p.forEach(1),
})) {
  add("URL", `params ${name}`, () => {
    const u = new URL("http://h/?b=3&a=1&a=2&ﬃ=x&🌈=y");
    const result = change(u.searchParams);
    return [result, u.href];
  });
}

// --- Headers ---
for (const name of ["a", "A-B", "", "a b", "a:", "a\n", "é", "!#$%&'*+-.^_`|~0", "\u0000", "a\tb", "Ⓐ", "constructor", "__proto__", "set-cookie"]) {
  for (const method of ["append", "set", "get", "has", "delete"]) {
    add("Headers", `${method}(${JSON.stringify(name)})`, () => {
      const h = new Headers({ a: "1", "A-B": "2" });
      return [h[method](name, "v"), [...h]];
    });
  }
}
for (const value of ["", " x ", "\t\r\n x \n\t", "a\nb", "a\rb", "a\u0000b", "a\u0001b", "é", "ÿ", "Ā", "😀", "a\u007fb", "a  b", 1, null, undefined, [1, 2], { toString: () => "s" }, "\u000bx", "\u00a0x"]) {
  for (const method of ["append", "set"]) {
    add("Headers", `${method}("n", ${show(value)})`, () => {
      const h = new Headers([["n", "first"]]);
      h[method]("n", value);
      return [h.get("n"), [...h]];
    });
  }
}
for (const init of [undefined, null, 1, "x", [], {}, [["a", "b"]], [["a"]], [["a", "b", "c"]], [[]], ["ab"], new Map([["a", "b"]]), new Headers({ x: "y" }), { a: "1", A: "2" }, { b: "1", a: "2", C: "3" }, [["a", "1"], ["A", "2"]],
  [["Set-Cookie", "a=1"], ["set-cookie", "b=2"], ["x", "1"]], { a: undefined }, Object.create({ inherited: "1" }), new Set([["a", "b"]]), { [Symbol.iterator]: 1 }, { [Symbol.iterator]: undefined, a: "b" }, () => {}, new URLSearchParams("a=b")]) {
  add("Headers", `new Headers(${show(init)})`, () => {
    const h = new Headers(init);
    return [[...h], [...h.keys()], [...h.values()], h.getSetCookie(), h.get("set-cookie"), h.get("a")];
  });
}
for (const [name, run] of Object.entries({
  "sorted and combined": () => { const h = new Headers([["b", "1"], ["A", "2"], ["b", "3"], ["Set-Cookie", "x"], ["set-cookie", "y"]]); return [...h]; },
  "iteration is live": () => { const h = new Headers({ a: "1", b: "2" }); const out = []; for (const [k] of h) { out.push(k); h.delete("b"); if (out.length < 3) h.append("c", "1"); } return out; },
  forEach: () => { const out = []; new Headers({ a: "1" }).forEach(function (v, k, h) { out.push(k, v, h instanceof Headers, this.x); }, { x: 7 }); return out; },
  "delete set-cookie": () => { const h = new Headers([["set-cookie", "a"], ["set-cookie", "b"]]); h.delete("Set-Cookie"); return [...h]; },
  "set set-cookie": () => { const h = new Headers([["set-cookie", "a"], ["set-cookie", "b"]]); h.set("Set-Cookie", "c"); return h.getSetCookie(); },
  "get with none": () => new Headers().get("x"), "append with one": () => new Headers().append("x"), "has with none": () => new Headers().has(), tag: () => String(new Headers()),
  "without new": () => Headers(), "entries is iterator": () => Headers.prototype[Symbol.iterator] === Headers.prototype.entries, length: () => [Headers.length, Headers.prototype.append.length, Headers.prototype.get.length],
  "next at the end": () => { const i = new Headers().entries(); return [i.next(), i.next()]; },
  "response copies": () => { const h = new Headers({ a: "1" }); const r = new Response("", { headers: h }); h.set("a", "2"); return [r.headers.get("a"), r.headers.get("content-type")]; },
  "request copies": () => new Request(new Request("http://h", { headers: { a: "1" } }), { headers: { b: "2" } }).headers.get("a"),
})) add("Headers", name, run);

// --- Encoding ---
const sequences = [[], [0x41], [0x80], [0xbf], [0xc0, 0x80], [0xc1, 0xbf], [0xc2], [0xc2, 0x41], [0xc2, 0x80], [0xdf, 0xbf], [0xe0, 0x80, 0x80], [0xe0, 0x9f, 0xbf], [0xe0, 0xa0, 0x80], [0xe0, 0xa0], [0xe0], [0xe1, 0x80, 0x41], [0xed, 0x9f, 0xbf],
  [0xed, 0xa0, 0x80], [0xed, 0xbf, 0xbf], [0xee, 0x80, 0x80], [0xef, 0xbb, 0xbf], [0xef, 0xbb, 0xbf, 0xef, 0xbb, 0xbf, 0x41], [0xef, 0xbb], [0xef, 0xbf, 0xbd], [0xf0, 0x80, 0x80, 0x80], [0xf0, 0x8f, 0xbf, 0xbf], [0xf0, 0x90, 0x80, 0x80], [0xf0, 0x90, 0x80],
  [0xf0, 0x90], [0xf0], [0xf4, 0x8f, 0xbf, 0xbf], [0xf4, 0x90, 0x80, 0x80], [0xf5, 0x80, 0x80, 0x80], [0xff, 0xfe], [0xfe, 0xff], [0xf1, 0x80, 0x80, 0xe1, 0x80, 0xc2, 0x62, 0x80, 0x63, 0x80, 0xbf, 0x64], [0, 0xd8], [0, 0xd8, 0, 0xdc], [0, 0xdc], [0x3d, 0xd8, 0, 0xde, 0x41],
  [0xff, 0xfe, 0x41, 0], [0xfe, 0xff, 0, 0x41], [0x41, 0, 0x42], [0, 0xd8, 0x41, 0], [0xd8, 0, 0xdc, 0], Array.from({ length: 256 }, (_, i) => i)];
for (const label of ["utf-8", "utf-16le", "utf-16be", "windows-1252"]) {
  for (const bytes of sequences) {
    for (const options of [{}, { fatal: true }, { ignoreBOM: true }]) {
      const what = `${label} ${JSON.stringify(options)} ${bytes.length > 16 ? "all bytes" : bytes}`;
      add("Encoding", what, () => new TextDecoder(label, options).decode(new Uint8Array(bytes)));
      if (bytes.length > 1 && bytes.length < 16) {
        add("Encoding", `${what}, byte by byte`, () => {
          const decoder = new TextDecoder(label, options);
          return [bytes.map((byte) => decoder.decode(new Uint8Array([byte]), { stream: true })), decoder.decode()];
        });
      }
    }
  }
}
for (const label of ["UTF8", " utf-8\n", "utf8 x", "", "unicode-1-1-utf-8", "UTF-16", "utf-16be", "ucs-2", "latin1", "iso-8859-1", "ascii", "us-ascii", "cp1252", "x", "\u000butf-8", "utf-7", "replacement", null]) {
  add("Encoding", `label ${show(label)}`, () => new TextDecoder(label).encoding);
}
for (const text of ["", "a", "é", "€", "😀", "\ud800", "\udc00", "\ud800\ud800\udc00", "a\ud800", "\udc00a", "\u0000", "\ufeffx", undefined, null, 1]) {
  add("Encoding", `encode ${show(text)}`, () => [...new TextEncoder().encode(text)]);
  for (const room of [0, 1, 2, 3, 4, 5]) {
    add("Encoding", `encodeInto ${show(text)} ${room}`, () => {
      const into = new Uint8Array(room);
      const { read, written } = new TextEncoder().encodeInto(text, into);
      return [read, written, [...into]];
    });
  }
}
for (const [name, input] of Object.entries({ undefined: undefined, null: null, text: "x", array: [1], buffer: new Uint8Array([65, 66]).buffer, view: new DataView(new Uint8Array([65, 66, 67]).buffer, 1), words: new Uint16Array([0x4241]), part: new Uint8Array([65, 66, 67]).subarray(1, 2) })) {
  add("Encoding", `decode ${name}`, () => new TextDecoder().decode(input));
}
for (const text of ["", "a", "ab", "abc", "é", "Ā", "\u0000\u00ff", "a b"]) add("Encoding", `btoa ${show(text)}`, () => btoa(text));
for (const text of ["", "YQ==", "YQ=", "YQ", "Y", "YWI=", "YWJj", " Y W J j ", "YQ===", "=", "Y=Q=", "YR==", "-_", "+/8=", "é", "YQ\n==", "YQ==x", "\u00a0YQ=="]) add("Encoding", `atob ${show(text)}`, () => [...atob(text)].map((c) => c.charCodeAt(0)));

// --- structured clone ---
const circular = () => { const o = { list: [] }; o.self = o; o.list.push(o, o.list); return o; };
const withGetter = () => Object.defineProperty({ a: 1 }, "b", { get: () => 2, enumerable: true });
for (const [name, make] of Object.entries({
  primitives: () => [undefined, null, true, 0, -0, NaN, Infinity, "x", "\ud800", 10n, -1n], objects: () => [Object(true), Object(1), Object("s"), Object(5n), new Date(5), new Date(NaN)], regexps: () => { const r = /a(?<n>b)/dgimsuy; r.lastIndex = 3; return r; },
  "regexp v": () => /[a&&b]/v, symbol: () => Symbol("x"), "object symbol": () => Object(Symbol("x")), function: () => () => 1, "function inside": () => ({ a: { f() {} } }), "symbol inside": () => [Symbol.iterator],
  "symbol keys": () => ({ [Symbol("k")]: 1, a: 2 }), hidden: () => Object.defineProperty({ a: 1 }, "b", { value: 2 }), getter: withGetter, "throwing getter": () => ({ get a() { throw new RangeError("no"); } }),
  circular, shared: () => { const a = { x: 1 }; return [a, a, new Map([[a, a]]), new Set([a])]; }, sparse: () => { const a = [1, , 3]; a.extra = "e"; a.length = 5; return a; }, "null prototype": () => Object.assign(Object.create(null), { a: 1 }),
  class: () => new (class A { constructor() { this.a = 1; } get b() { return 2; } #c = 3; })(), "array subclass": () => new (class A extends Array {})(1, 2), "map subclass": () => new (class M extends Map {})([[1, 2]]), "date subclass": () => new (class D extends Date {})(7),
  map: () => Object.assign(new Map([[1, { a: new Set([NaN, -0]) }], ["k", new Map()]]), { dropped: 1 }), "map order": () => new Map([["b", 1], ["a", 2]]), set: () => new Set([1, "1", {}, []]), weakmap: () => new WeakMap(), weakset: () => new WeakSet(), weakref: () => new WeakRef({}),
  promise: () => Promise.resolve(1), proxy: () => new Proxy({ a: 1 }, {}), "proxy of array": () => new Proxy([1], {}), arguments: () => (function () { return arguments; })(1, 2), generator: () => (function* () {})(), "map iterator": () => new Map().entries(), "global": () => Math, json: () => JSON,
  buffer: () => new Uint8Array([1, 2, 3]).buffer, views: () => { const b = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]).buffer; return [new Uint8Array(b, 1, 2), new Int16Array(b, 2), new Float64Array(b), new DataView(b, 3, 2), new BigInt64Array(b), new Uint8ClampedArray(b), b]; },
  "view extra": () => Object.assign(new Uint8Array([1]), { extra: 1 }), error: () => new Error("m"), errors: () => [new EvalError("e"), new RangeError("r"), new ReferenceError("f"), new SyntaxError("s"), new TypeError("t"), new URIError("u")], "error cause": () => new Error("m", { cause: { a: 1 } }),
  "error cause error": () => new TypeError("m", { cause: new RangeError("c") }), "error extra": () => Object.assign(new Error("m"), { code: 7 }), "error name": () => { const e = new Error("m"); e.name = "TypeError"; return e; }, "error odd name": () => { const e = new Error("m"); e.name = "Odd"; return e; },
  "error no message": () => new Error(), "error subclass": () => new (class E extends RangeError {})("m"), "error message object": () => { const e = new Error(); Object.defineProperty(e, "message", { value: { toString: () => "o" } }); return e; }, "aggregate error": () => new AggregateError([1], "m"),
  exception: () => new DOMException("m", "AbortError"), "boxed extra": () => Object.assign(Object("s"), { extra: 1 }), long: () => Array.from({ length: 1000 }, (_, i) => i).slice(995), "own __proto__": () => JSON.parse('{"__proto__": {"x": 1}, "y": 2}'), "toString tag": () => ({ [Symbol.toStringTag]: "Map", a: 1 }),
  "nested deep": () => { let o = {}; for (let i = 0; i < 100; i++) o = { o }; return o; }, "frozen": () => Object.freeze([Object.freeze({ a: 1 })]), "integer keys": () => ({ b: 1, 2: 1, a: 1, 1: 1 }), headers: () => new Headers(), url: () => new URL("http://h"), response: () => new Response("x"), abort: () => new AbortController().signal, file: () => [new Blob(["x"]).size, structuredClone(1)],
})) {
  add("structuredClone", name, () => structuredClone(make()));
}
for (const [name, run] of Object.entries({
  transfer: () => { const b = new Uint8Array([1, 2]).buffer; const c = structuredClone({ b }, { transfer: [b] }); return [c, b.byteLength, b.detached ?? b.byteLength === 0]; },
  "transfer view": () => { const v = new Uint8Array([1, 2, 3]).subarray(1); const c = structuredClone(v, { transfer: [v.buffer] }); return [c, v.length]; },
  "transfer twice": () => { const b = new ArrayBuffer(1); return structuredClone(b, { transfer: [b, b] }); }, "transfer detached": () => { const b = new ArrayBuffer(1); structuredClone(b, { transfer: [b] }); return structuredClone(b, { transfer: [b] }); },
  "clone detached": () => { const b = new ArrayBuffer(1); structuredClone(b, { transfer: [b] }); return structuredClone(b); }, "transfer object": () => structuredClone(1, { transfer: [{}] }), "transfer unused": () => { const b = new ArrayBuffer(2); structuredClone(1, { transfer: [b] }); return b.byteLength; },
  "transfer fails": () => { const b = new ArrayBuffer(2); try { structuredClone({ b, f() {} }, { transfer: [b] }); } catch (e) { return [e.name, b.byteLength]; } }, "no argument": () => structuredClone(), "prototype is plain": () => Object.getPrototypeOf(structuredClone(new (class A {})())) === Object.prototype,
  "identity": () => { const o = { a: [] }; const c = structuredClone(o); return [c !== o, c.a !== o.a]; }, "getter once": () => { let n = 0; structuredClone({ get a() { return ++n; } }); return n; }, "writable": () => Object.getOwnPropertyDescriptor(structuredClone(Object.freeze({ a: 1 })), "a"),
  "removed while cloning": () => { const o = { get a() { delete o.b; return 1; }, b: 2 }; return structuredClone(o); }, "grown while cloning": () => { const m = new Map([[1, { get a() { m.set(2, 2); return 1; } }]]); return structuredClone(m); },
})) add("structuredClone", name, run);

export async function results() {
  const out = [];
  for (const { group, name, run } of cases) {
    let text;
    try {
      text = show(await run());
    } catch (e) {
      text = `throws ${e?.name}`;
    }
    out.push([group, name, text]);
  }
  return out;
}

export default async () => Response.json(await results());
