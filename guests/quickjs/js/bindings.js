// What the Caddyfile gives a script besides variables: stores and secrets, as env.NAME.

import { bytesOf, concat, decodeUTF8, encodeUTF8 } from "./native.js";
import { ask } from "./host.js";

const toBytes = (value) => bytesOf(value) ?? encodeUTF8(String(value));

// A value as the caller wants it.
function convert(bytes, type = "text") {
  switch (type) {
    case "text":
      return decodeUTF8(bytes);
    case "json":
      return JSON.parse(decodeUTF8(bytes));
    case "bytes":
      return bytes.slice();
    case "arrayBuffer":
      return bytes.slice().buffer;
    default:
      throw new TypeError(`a value can be had as text, json, bytes or arrayBuffer, not as ${type}`);
  }
}

const ttl = ({ ttl } = {}) => (ttl === undefined ? {} : { ttl_ms: Math.round(ttl * 1000) });

class Store {
  #name;
  constructor(name) {
    this.#name = name;
  }
  #ask(operation, fields, bytes) {
    return ask(`kv.${operation}`, { store: this.#name, ...fields }, bytes);
  }
  async get(key, type) {
    const reply = this.#ask("get", { key });
    return reply === null ? null : convert(reply[1], type);
  }
  async put(key, value, options) {
    this.#ask("set", { key, ...ttl(options) }, toBytes(value));
  }
  async delete(key) {
    this.#ask("delete", { key });
  }
  async has(key) {
    return this.#ask("exists", { key })[0].exists;
  }
  async list(options = {}) {
    const { prefix, cursor, limit } = options;
    return this.#ask("list", { prefix, cursor, limit })[0];
  }
  async increment(key, delta = 1, options) {
    return this.#ask("increment", { key, delta, ...ttl(options) })[0].value;
  }
  // Sets the value if the present one is `expected`; null means that the key must not exist. Returns whether it did.
  async compareAndSwap(key, expected, value, options) {
    const old = expected === null ? new Uint8Array(0) : toBytes(expected);
    const fields = { key, expect: expected === null ? null : old.length, ...ttl(options) };
    return this.#ask("compare_and_swap", fields, concat([old, toBytes(value)]))[0].swapped;
  }
}

class Secret {
  #name;
  constructor(name) {
    this.#name = name;
  }
  async get() {
    const reply = ask("secret.get", { name: this.#name });
    return reply === null ? null : decodeUTF8(reply[1]);
  }
}

export function bindings({ stores = [], secrets = [] }) {
  const out = {};
  for (const name of stores) out[name] = new Store(name);
  for (const name of secrets) out[name] = new Secret(name);
  return out;
}
