// Request and Response of the Fetch Standard.

import { AbortController, AbortSignal } from "./abort.js";
import { Body, move, own, share, take } from "./body.js";
import { Headers, headersFromContract } from "./headers.js";
import { native } from "./native.js";
import { URL } from "./url.js";

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const upper = /^(delete|get|head|options|post|put)$/i;

const incoming = Symbol();

export class Request extends Body {
  #method = "GET";
  #url;
  #headers;
  #signal;
  #redirect = "follow";
  // The request of the contract that this one is, or undefined.
  #record;

  constructor(input, init = {}) {
    super();
    if (init === incoming) {
      this.#record = input;
      this.#method = input.method;
      if (input.body_base64) own(this, native.base64Decode(input.body_base64));
      else if (input.body) own(this, input.body);
      return;
    }
    init ??= {};
    const from = input instanceof Request ? input : undefined;
    if (from) {
      this.#url = from.url;
      this.#method = from.method;
      this.#redirect = from.redirect;
    } else {
      const url = new URL(input);
      if (url.username || url.password) throw new TypeError("the URL of a request must have no user name and no password");
      this.#url = url.href;
    }
    if (init.method !== undefined) {
      const method = String(init.method);
      if (!token.test(method) || /^(connect|trace|track)$/i.test(method)) {
        throw new TypeError(`the method ${JSON.stringify(method)} is not allowed`);
      }
      this.#method = upper.test(method) ? method.toUpperCase() : method;
    }
    if (init.redirect !== undefined) {
      if (!["follow", "error", "manual"].includes(init.redirect)) throw new TypeError(`redirect cannot be ${init.redirect}`);
      this.#redirect = init.redirect;
    }
    this.#headers = new Headers(init.headers ?? from?.headers);
    this.#signal = init.signal ?? from?.signal;
    if (init.signal && !(init.signal instanceof AbortSignal)) throw new TypeError("signal must be an AbortSignal");
    if (init.body !== undefined && init.body !== null) {
      if (this.#method === "GET" || this.#method === "HEAD") throw new TypeError(`a ${this.#method} request cannot have a body`);
      const type = take(this, init.body);
      if (type && !this.#headers.has("content-type")) this.#headers.set("content-type", type);
    } else if (from) {
      move(from, this);
    }
  }
  get method() {
    return this.#method;
  }
  get url() {
    if (this.#url === undefined) {
      const { scheme = "http", host, uri = "/" } = this.#record;
      const path = uri.startsWith("/") ? uri : `/${uri}`;
      const parts = native.urlParse(`${scheme}://${host || "localhost"}${path}`) ?? native.urlParse(`http://localhost${path}`);
      this.#url = parts ? parts[0] : `http://localhost/`;
    }
    return this.#url;
  }
  get headers() {
    return (this.#headers ??= headersFromContract(this.#record.headers));
  }
  get signal() {
    return (this.#signal ??= new AbortController().signal);
  }
  get redirect() {
    return this.#redirect;
  }
  get cache() {
    return "default";
  }
  get credentials() {
    return "same-origin";
  }
  get destination() {
    return "";
  }
  get integrity() {
    return "";
  }
  get keepalive() {
    return false;
  }
  get mode() {
    return "cors";
  }
  get referrer() {
    return "about:client";
  }
  get referrerPolicy() {
    return "";
  }
  clone() {
    const copy = new Request(this.url, { method: this.method, headers: this.headers, redirect: this.redirect, signal: this.signal });
    share(this, copy);
    return copy;
  }
  get [Symbol.toStringTag]() {
    return "Request";
  }
}

// The request that the contract's JSON describes.
export const incomingRequest = (record) => new Request(record, incoming);

const nullBody = (status) => status === 101 || status === 103 || status === 204 || status === 205 || status === 304;

export class Response extends Body {
  #status = 200;
  #statusText = "";
  #headers;
  #type = "default";
  #url = "";
  #redirected = false;

  constructor(body = null, init = {}) {
    super();
    init ??= {};
    const status = init.status === undefined ? 200 : Math.trunc(Number(init.status));
    if (!(status >= 200 && status <= 599)) throw new RangeError(`the status of a response must be from 200 to 599, not ${init.status}`);
    this.#status = status;
    this.#statusText = init.statusText === undefined ? "" : String(init.statusText);
    if (this.#statusText !== "" && !/^[\t\x20-\x7e\x80-\xff]*$/.test(this.#statusText)) throw new TypeError("statusText has characters that are not allowed");
    this.#headers = new Headers(init.headers);
    if (body !== null && body !== undefined) {
      if (nullBody(status)) throw new TypeError(`a response with the status ${status} cannot have a body`);
      const type = take(this, body);
      if (type && !this.#headers.has("content-type")) this.#headers.set("content-type", type);
    }
  }
  static error() {
    const response = new Response();
    response.#status = 0;
    response.#type = "error";
    return response;
  }
  static redirect(url, status = 302) {
    const { href } = new URL(url);
    if (![301, 302, 303, 307, 308].includes(status)) throw new RangeError(`${status} is not the status of a redirect`);
    return new Response(null, { status, headers: { location: href } });
  }
  static json(data, init = {}) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("the value cannot be written as JSON");
    const response = new Response(text, init);
    // It is text/plain if init does not say otherwise.
    if (init?.headers === undefined || !new Headers(init.headers).has("content-type")) response.#headers.set("content-type", "application/json");
    return response;
  }
  static fetched({ status, statusText = "", url, redirected }, headers, body) {
    const response = new Response(null, { statusText });
    response.#status = status;
    response.#headers = headersFromContract(headers);
    response.#type = "basic";
    response.#url = url;
    response.#redirected = !!redirected;
    if (!nullBody(status)) own(response, body);
    return response;
  }
  get status() {
    return this.#status;
  }
  get statusText() {
    return this.#statusText;
  }
  get ok() {
    return this.#status >= 200 && this.#status <= 299;
  }
  get headers() {
    return this.#headers;
  }
  get type() {
    return this.#type;
  }
  get url() {
    return this.#url;
  }
  get redirected() {
    return this.#redirected;
  }
  clone() {
    const copy = new Response(null, { headers: this.#headers, statusText: this.#statusText });
    copy.#status = this.#status;
    copy.#type = this.#type;
    copy.#url = this.#url;
    copy.#redirected = this.#redirected;
    share(this, copy);
    return copy;
  }
  get [Symbol.toStringTag]() {
    return "Response";
  }
}

// It is ours, not of the standard.
export const { fetched: fetchedResponse } = Response;
delete Response.fetched;
