// A request from its arrival to its answer.

import { bindings } from "./bindings.js";
import { bytesOfChunk, consume, streamOf } from "./body.js";
import { describe, show } from "./errors.js";
import { Headers, headersToContract } from "./headers.js";
import { incomingRequest, Response } from "./http.js";
import { encodeUTF8, native } from "./native.js";
import { beginRequest } from "./performance.js";

// The script's handler: a function of (request, env, ctx).
let handler;
// Stores and secrets of the Caddyfile, by their names in env.
let given;

// Takes the module's default export: a function, or an object with a function `fetch`.
export function start(module, settings) {
  given = bindings(settings);
  const main = module.default;
  if (typeof main === "function" && !(typeof main.fetch === "function")) {
    handler = main;
  } else if (main && typeof main.fetch === "function") {
    handler = (request, env, ctx) => main.fetch(request, env, ctx);
    makeRouter(main);
  } else {
    const found = "default" in module ? `its default export is ${show(main)}` : "it has no default export";
    throw new TypeError(`the script does not export a handler: ${found}; write export default { fetch(request, env, ctx) { … } }`);
  }
}

// Hono makes its router when the first path is to be matched. Here, that is before the snapshot.
function makeRouter(app) {
  try {
    app.router?.match?.("GET", "/");
  } catch {
    // The first request will meet it, too.
  }
}

// The responses that ctx.next made, with what is to change.
const nexts = new WeakMap();

// Returns a response that lets the request go on to the next handler of Caddy.
function next(options = {}) {
  const response = new Response();
  nexts.set(response, options);
  return response;
}

// Headers of ctx.next as the contract has them. null as a value deletes a header.
function changes(headers) {
  if (headers instanceof Headers || Array.isArray(headers)) return headersToContract(new Headers(headers));
  const out = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === null) out[name] = null;
    else Object.assign(out, headersToContract(new Headers([value].flat().map((one) => [name, one]))));
  }
  return out;
}

function nextAnswer({ method, uri, headers, vars, responseHeaders }) {
  const out = { next: true };
  if (method !== undefined) out.method = String(method);
  if (uri !== undefined) out.uri = String(uri);
  if (headers !== undefined) out.headers = changes(headers);
  if (vars !== undefined) out.vars = Object.fromEntries(Object.entries(vars).map(([name, value]) => [name, String(value)]));
  if (responseHeaders !== undefined) out.response_headers = changes(responseHeaders);
  return out;
}

// Promises that were rejected without a handler, with the reasons.
const unhandled = new Map();

export function rejected(promise, reason, handled) {
  if (handled) unhandled.delete(promise);
  else unhandled.set(promise, reason);
}

function report() {
  for (const reason of unhandled.values()) native.log(3, `a promise was rejected, and nothing handles that: ${describe(reason)}`);
  unhandled.clear();
}

// Writes a response whose body is a stream, and its body as it comes. Each chunk leaves at once, and the next one is read when the
// client has taken what came before it.
async function send(response, stream) {
  const head = { stream: true, status: response.status, headers: headersToContract(response.headers) };
  native.write(encodeUTF8(`${JSON.stringify(head)}\n`));
  native.flush();
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    native.write(bytesOfChunk(value));
    native.flush();
  }
}

// Without a method, a request only asks whether the script was loaded. Caddy sends it when a function is deployed; no client can.
const isCheck = (record) => record.method === "";

export async function answer(record) {
  unhandled.clear();
  if (isCheck(record)) return { status: 204 };
  beginRequest();
  const waiting = [];
  const ctx = {
    next,
    waitUntil: (promise) => void waiting.push(Promise.resolve(promise)),
    clientIP: record.client_ip ?? "",
    remoteAddress: record.remote_addr ?? "",
    traceId: record.trace_id,
    originalURI: record.original_uri ?? record.uri,
  };
  const response = await handler(incomingRequest(record), { ...native.environment(), ...given }, ctx);
  if (!(response instanceof Response)) {
    throw new TypeError(`the handler returned ${show(response)}; it must return a Response, or a promise of one`);
  }
  if (response.status === 0) throw new TypeError("the handler returned Response.error()");
  const stream = nexts.has(response) ? undefined : streamOf(response);
  if (stream) await send(response, stream);
  let body = stream || nexts.has(response) ? undefined : consume(response);
  if (body instanceof Promise) body = await body;
  if (waiting.length > 0) {
    for (const result of await Promise.allSettled(waiting)) {
      if (result.status === "rejected") native.log(3, `a promise of waitUntil was rejected: ${describe(result.reason)}`);
    }
  }
  report();
  if (stream) return undefined;
  if (nexts.has(response)) return nextAnswer(nexts.get(response));
  const out = { status: response.status, headers: headersToContract(response.headers) };
  if (typeof body === "string") out.body = body;
  else if (body.length > 0) out.body_base64 = native.base64Encode(body);
  return out;
}
