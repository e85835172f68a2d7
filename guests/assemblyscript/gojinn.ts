// Calls of Gojinn's operations from AssemblyScript: HTTP requests, key-value stores and secrets; and the response that lets a request
// go on to Caddy's next handler.
//
// docs/outbound.md describes the operations and the codes, docs/middleware.md the response. After an error, `errorCode` is below 0 and `errorText` is the host's text;
// after a success `errorCode` is 0.

@external("gojinn", "call")
declare function importedCall(operation: usize, operationLength: usize, request: usize, requestLength: usize): i32;
@external("gojinn", "reply")
declare function importedReply(bytes: usize, length: usize): i32;

export const NOT_FOUND: i32 = -7;
export const DENIED: i32 = -2;

/** The code of the last call: 0 if it succeeded. */
export let errorCode: i32 = 0;
/** The host's text of the last error. */
export let errorText: string = "";

/** The reply of an operation: its JSON object, and the bytes behind it. */
export class Reply {
  constructor(public head: string, public body: ArrayBuffer) {}
}

/** Calls an operation with a JSON object and bytes, or returns null after an error. */
export function call(operation: string, head: string, body: ArrayBuffer = new ArrayBuffer(0)): Reply | null {
  const name = String.UTF8.encode(operation);
  const object = String.UTF8.encode(head);
  const request = new Uint8Array(object.byteLength + 1 + body.byteLength);
  memory.copy(request.dataStart, changetype<usize>(object), object.byteLength);
  request[object.byteLength] = 0x0a;
  memory.copy(request.dataStart + object.byteLength + 1, changetype<usize>(body), body.byteLength);
  const n = importedCall(changetype<usize>(name), name.byteLength, request.dataStart, request.length);
  const reply = new ArrayBuffer(n < 0 ? 1024 : n);
  const got = max(importedReply(changetype<usize>(reply), reply.byteLength), 0);
  if (n < 0) {
    errorCode = n;
    errorText = String.UTF8.decode(reply.slice(0, got));
    return null;
  }
  errorCode = 0;
  let end = 0;
  while (end < got && load<u8>(changetype<usize>(reply) + end) != 0x0a) end++;
  return new Reply(String.UTF8.decode(reply.slice(0, end)), reply.slice(min(end + 1, got), got));
}

/** A text as a JSON string. */
export function quoted(text: string): string {
  let out = '"';
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c == 0x22 || c == 0x5c) out += "\\" + text.charAt(i);
    else if (c < 0x20) out += "\\u00" + (c < 0x10 ? "0" : "1") + "0123456789abcdef".charAt(c & 15);
    else out += text.charAt(i);
  }
  return out + '"';
}

/** What begins the value of a key in a JSON object, or "". Keys of objects inside of it do not count. */
export function field(object: string, key: string): string {
  let depth = 0;
  for (let i = 0; i < object.length; i++) {
    const c = object.charAt(i);
    if (c == "{" || c == "[") depth++;
    else if (c == "}" || c == "]") depth--;
    else if (c == '"') {
      const start = i + 1;
      for (i = start; i < object.length && object.charAt(i) != '"'; i++) {
        if (object.charAt(i) == "\\") i++;
      }
      if (depth == 1 && object.charAt(i + 1) == ":" && object.substring(start, i) == key) return object.substring(i + 2);
    }
  }
  return "";
}

/** The number with which a text begins. */
function parse(text: string): i64 {
  let value: i64 = 0;
  const negative = text.startsWith("-");
  for (let i = negative ? 1 : 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c < 0x30 || c > 0x39) break;
    // Down from 0, because the smallest number has no positive counterpart.
    value = value * 10 - (c - 0x30);
  }
  return negative ? value : -value;
}

export class Header {
  constructor(public name: string, public value: string) {}
}

export class Response {
  /** head is the JSON object with `status`, `url` and `headers`. */
  constructor(public status: i32, public head: string, public body: ArrayBuffer) {}

  text(): string {
    return String.UTF8.decode(this.body);
  }
}

/** Sends a request to a server that the Caddyfile allows, or returns null after an error. */
export function fetch(url: string, method: string = "GET", headers: Header[] = [], body: ArrayBuffer = new ArrayBuffer(0)): Response | null {
  let head = '{"method":' + quoted(method) + ',"url":' + quoted(url) + ',"headers":{';
  for (let i = 0; i < headers.length; i++) {
    head += (i > 0 ? "," : "") + quoted(headers[i].name) + ":" + quoted(headers[i].value);
  }
  const reply = call("http.send", head + "}}", body);
  if (reply == null) return null;
  return new Response(<i32>parse(field(reply.head, "status")), reply.head, reply.body);
}

/** A key-value store that the Caddyfile gives to the function. */
export class KV {
  constructor(private store: string) {}

  private head(key: string, more: string = ""): string {
    return '{"store":' + quoted(this.store) + ',"key":' + quoted(key) + more + "}";
  }

  private ttl(ttlMs: i64): string {
    return ttlMs != 0 ? ',"ttl_ms":' + ttlMs.toString() : "";
  }

  /** The value of a key, or null after an error; if there is none, errorCode is NOT_FOUND. */
  get(key: string): ArrayBuffer | null {
    const reply = call("kv.get", this.head(key));
    return reply == null ? null : reply.body;
  }

  /** Sets the value of a key, which is deleted after ttlMs milliseconds, or stays if that is 0. */
  set(key: string, value: ArrayBuffer, ttlMs: i64 = 0): bool {
    return call("kv.set", this.head(key, this.ttl(ttlMs)), value) != null;
  }

  /** Deletes a key. It is no error if there is none. */
  delete(key: string): bool {
    return call("kv.delete", this.head(key)) != null;
  }

  exists(key: string): bool {
    const reply = call("kv.exists", this.head(key));
    return reply != null && field(reply.head, "exists").startsWith("true");
  }

  /** Adds delta to the number that is the value of a key. A missing key is 0, and gets the time ttlMs. Look at errorCode. */
  increment(key: string, delta: i64 = 1, ttlMs: i64 = 0): i64 {
    const reply = call("kv.increment", this.head(key, this.ttl(ttlMs) + ',"delta":' + delta.toString()));
    return reply == null ? 0 : parse(field(reply.head, "value"));
  }

  /** Sets the value of a key if the present one is expected; if that is null, the key must not exist. Look at errorCode. */
  compareAndSwap(key: string, expected: ArrayBuffer | null, value: ArrayBuffer): bool {
    const length = expected == null ? 0 : expected.byteLength;
    const both = new ArrayBuffer(length + value.byteLength);
    if (expected != null) memory.copy(changetype<usize>(both), changetype<usize>(expected), length);
    memory.copy(changetype<usize>(both) + length, changetype<usize>(value), value.byteLength);
    const reply = call("kv.compare_and_swap", this.head(key, ',"expect":' + (expected == null ? "null" : length.toString())), both);
    return reply != null && field(reply.head, "swapped").startsWith("true");
  }
}

/** A secret that the Caddyfile gives to the function, or null after an error. */
export function secret(name: string): string | null {
  const reply = call("secret.get", '{"name":' + quoted(name) + "}");
  return reply == null ? null : String.UTF8.decode(reply.body);
}

/** Headers that change. */
class Changes {
  private names: string[] = [];
  /** The values of each name; none removes the header. */
  private values: string[][] = [];

  /** Where the values of a name are. The case of letters does not matter. */
  private at(name: string): i32 {
    for (let i = 0; i < this.names.length; i++) {
      if (sameName(this.names[i], name)) return i;
    }
    this.values.push([]);
    return this.names.push(name) - 1;
  }

  set(name: string, values: string[]): void {
    this.values[this.at(name)] = values;
  }

  add(name: string, value: string): void {
    this.values[this.at(name)].push(value);
  }

  /** A part of the response's JSON object. */
  json(key: string): string {
    if (this.names.length == 0) return "";
    let out = ',"' + key + '":{';
    for (let i = 0; i < this.names.length; i++) {
      out += (i > 0 ? "," : "") + quoted(this.names[i]) + ":[";
      const values = this.values[i];
      for (let j = 0; j < values.length; j++) out += (j > 0 ? "," : "") + quoted(values[j]);
      out += "]";
    }
    return out + "}";
  }
}

/** Whether two names of headers are the same. */
function sameName(a: string, b: string): bool {
  if (a.length != b.length) return false;
  for (let i = 0; i < a.length; i++) {
    if (lower(a.charCodeAt(i)) != lower(b.charCodeAt(i))) return false;
  }
  return true;
}

function lower(c: i32): i32 {
  return c >= 0x41 && c <= 0x5a ? c + 0x20 : c;
}

/** How a request changes that goes on to Caddy's next handler in place of being answered. toString() is the function's response. */
export class Next {
  /** The method, or "" if it stays. */
  method: string = "";
  /** Path and query, percent-encoded, or "" if they stay. */
  uri: string = "";
  private headers: Changes = new Changes();
  private responseHeaders: Changes = new Changes();
  private names: string[] = [];
  private values: string[] = [];

  /** Replaces a header of the request. */
  setHeader(name: string, value: string): void {
    this.headers.set(name, [value]);
  }

  /** Adds one more value to those that this function sets. */
  addHeader(name: string, value: string): void {
    this.headers.add(name, value);
  }

  removeHeader(name: string): void {
    this.headers.set(name, []);
  }

  /** Replaces a header of the response, whichever handler writes it. */
  setResponseHeader(name: string, value: string): void {
    this.responseHeaders.set(name, [value]);
  }

  addResponseHeader(name: string, value: string): void {
    this.responseHeaders.add(name, value);
  }

  removeResponseHeader(name: string): void {
    this.responseHeaders.set(name, []);
  }

  /** Sets {http.vars.NAME} of later handlers. */
  setVar(name: string, value: string): void {
    const at = this.names.indexOf(name);
    if (at >= 0) {
      this.values[at] = value;
      return;
    }
    this.names.push(name);
    this.values.push(value);
  }

  toString(): string {
    let out = '{"next":true';
    if (this.method.length > 0) out += ',"method":' + quoted(this.method);
    if (this.uri.length > 0) out += ',"uri":' + quoted(this.uri);
    out += this.headers.json("headers");
    for (let i = 0; i < this.names.length; i++) {
      out += (i > 0 ? "," : ',"vars":{') + quoted(this.names[i]) + ":" + quoted(this.values[i]);
    }
    if (this.names.length > 0) out += "}";
    return out + this.responseHeaders.json("response_headers") + "}\n";
  }
}
