// URL and URLSearchParams of the URL Standard, over Ada.

import { native } from "./native.js";

const HREF = 0, PROTOCOL = 1, USERNAME = 2, PASSWORD = 3, HOST = 4, HOSTNAME = 5, PORT = 6, PATHNAME = 7, SEARCH = 8, HASH = 9,
  ORIGIN = 10;

const text = (value) => `${value}`.toWellFormed();

// Sets the list of parameters of a URL's own URLSearchParams. It is set by a static block below.
let attach;

export class URL {
  #parts;
  #params;

  constructor(url, base) {
    this.#parts = native.urlParse(text(url), base === undefined ? undefined : text(base));
    if (!this.#parts) {
      const error = new TypeError(`Invalid URL: ${text(url)}`);
      error.code = "ERR_INVALID_URL";
      throw error;
    }
  }
  static canParse(url, base) {
    return native.urlParse(text(url), base === undefined ? undefined : text(base)) !== null;
  }
  static parse(url, base) {
    return URL.canParse(url, base) ? new URL(url, base) : null;
  }
  #set(part, value) {
    const parts = native.urlSet(this.#parts[HREF], part, text(value));
    if (parts) this.#parts = parts;
    if (this.#params && (part === SEARCH || part === HREF)) attach(this.#params, this, this.#parts[SEARCH]);
  }
  get href() {
    return this.#parts[HREF];
  }
  set href(value) {
    if (!URL.canParse(value)) throw new TypeError(`Invalid URL: ${text(value)}`);
    this.#set(HREF, value);
  }
  get origin() {
    return this.#parts[ORIGIN];
  }
  get protocol() {
    return this.#parts[PROTOCOL];
  }
  set protocol(value) {
    this.#set(PROTOCOL, value);
  }
  get username() {
    return this.#parts[USERNAME];
  }
  set username(value) {
    this.#set(USERNAME, value);
  }
  get password() {
    return this.#parts[PASSWORD];
  }
  set password(value) {
    this.#set(PASSWORD, value);
  }
  get host() {
    return this.#parts[HOST];
  }
  set host(value) {
    this.#set(HOST, value);
  }
  get hostname() {
    return this.#parts[HOSTNAME];
  }
  set hostname(value) {
    this.#set(HOSTNAME, value);
  }
  get port() {
    return this.#parts[PORT];
  }
  set port(value) {
    this.#set(PORT, value);
  }
  get pathname() {
    return this.#parts[PATHNAME];
  }
  set pathname(value) {
    this.#set(PATHNAME, value);
  }
  get search() {
    return this.#parts[SEARCH];
  }
  set search(value) {
    this.#set(SEARCH, value);
  }
  get hash() {
    return this.#parts[HASH];
  }
  set hash(value) {
    this.#set(HASH, value);
  }
  get searchParams() {
    if (!this.#params) {
      this.#params = new URLSearchParams();
      attach(this.#params, this, this.#parts[SEARCH]);
    }
    return this.#params;
  }
  toString() {
    return this.#parts[HREF];
  }
  toJSON() {
    return this.#parts[HREF];
  }
  get [Symbol.toStringTag]() {
    return "URL";
  }
  // The URL's query was changed through its URLSearchParams.
  static updateQuery(url, query) {
    const parts = native.urlSet(url.#parts[HREF], SEARCH, query);
    if (parts) url.#parts = parts;
  }
}
const { updateQuery } = URL;
delete URL.updateQuery;

const parse = (query) => {
  const flat = native.paramsParse(query);
  const list = [];
  for (let i = 0; i < flat.length; i += 2) list.push([flat[i], flat[i + 1]]);
  return list;
};

export class URLSearchParams {
  #list = [];
  #url;

  static {
    attach = (params, url, query) => {
      params.#url = url;
      params.#list = parse(query);
    };
  }

  constructor(init = "") {
    if (init === null || (typeof init !== "object" && typeof init !== "function")) {
      // The parser leaves out one ? at the beginning.
      this.#list = parse(text(init));
      return;
    }
    const iterator = init[Symbol.iterator];
    if (iterator === undefined || iterator === null) {
      const map = new Map();
      for (const key of Reflect.ownKeys(init)) {
        if (Object.getOwnPropertyDescriptor(init, key)?.enumerable) map.set(text(key), text(init[key]));
      }
      this.#list = [...map];
      return;
    }
    if (typeof iterator !== "function") throw new TypeError("URLSearchParams needs a string, an object or pairs");
    for (const entry of init) {
      if (entry === null || typeof entry !== "object") throw new TypeError("each pair of URLSearchParams must be an array");
      const pair = [...entry];
      if (pair.length !== 2) throw new TypeError("each pair of URLSearchParams must have a name and a value");
      this.#list.push(pair.map(text));
    }
  }
  #changed() {
    if (this.#url) updateQuery(this.#url, this.toString());
  }
  get size() {
    return this.#list.length;
  }
  append(name, value) {
    need(arguments, 2);
    this.#list.push([text(name), text(value)]);
    this.#changed();
  }
  delete(name, value) {
    need(arguments, 1);
    name = text(name);
    if (value !== undefined) value = text(value);
    this.#list = this.#list.filter((pair) => pair[0] !== name || (value !== undefined && pair[1] !== value));
    this.#changed();
  }
  get(name) {
    need(arguments, 1);
    name = text(name);
    return this.#list.find((pair) => pair[0] === name)?.[1] ?? null;
  }
  getAll(name) {
    need(arguments, 1);
    name = text(name);
    return this.#list.filter((pair) => pair[0] === name).map((pair) => pair[1]);
  }
  has(name, value) {
    need(arguments, 1);
    name = text(name);
    if (value !== undefined) value = text(value);
    return this.#list.some((pair) => pair[0] === name && (value === undefined || pair[1] === value));
  }
  set(name, value) {
    need(arguments, 2);
    name = text(name);
    const first = this.#list.find((pair) => pair[0] === name);
    if (first) {
      first[1] = text(value);
      this.#list = this.#list.filter((pair) => pair === first || pair[0] !== name);
    } else {
      this.#list.push([name, text(value)]);
    }
    this.#changed();
  }
  sort() {
    // By code units, and stable, as the standard demands.
    this.#list.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this.#changed();
  }
  forEach(callback, self) {
    if (typeof callback !== "function") throw new TypeError("forEach needs a function");
    for (const [name, value] of this) callback.call(self, value, name, this);
  }
  *entries() {
    for (let i = 0; i < this.#list.length; i++) yield [...this.#list[i]];
  }
  *keys() {
    for (let i = 0; i < this.#list.length; i++) yield this.#list[i][0];
  }
  *values() {
    for (let i = 0; i < this.#list.length; i++) yield this.#list[i][1];
  }
  toString() {
    return native.paramsWrite(this.#list.flat());
  }
  get [Symbol.toStringTag]() {
    return "URLSearchParams";
  }
}
Object.defineProperty(URLSearchParams.prototype, Symbol.iterator, {
  value: URLSearchParams.prototype.entries, writable: true, configurable: true,
});

function need(args, count) {
  if (args.length < count) throw new TypeError(`${count} argument${count > 1 ? "s" : ""} required, but only ${args.length} given`);
}
