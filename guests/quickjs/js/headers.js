// Headers of the Fetch Standard. A header's value is a string of bytes: one character for each.

import { encodeUTF8 } from "./native.js";

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function checkName(name) {
  name = String(name);
  if (!token.test(name)) throw new TypeError(`the header name ${JSON.stringify(name)} is not valid`);
  return name.toLowerCase();
}

function checkValue(value) {
  value = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code > 255) throw new TypeError(`the header value ${JSON.stringify(value)} has a character above U+00FF`);
    if (code === 0 || code === 10 || code === 13) throw new TypeError("a header value has NUL, CR or LF");
  }
  return value;
}

// The contract passes bytes that are not UTF-8 as the last 128 characters of Unicode.
const FIRST = 0x10ff00;
const plain = /^[\x00-\x7f]*$/;

// A value of the contract as a string of bytes.
function fromContract(value) {
  if (plain.test(value)) return value;
  let out = "";
  for (const character of value) {
    const code = character.codePointAt(0);
    if (code >= FIRST + 0x80) out += String.fromCharCode(code - FIRST);
    else if (code < 0x80) out += character;
    else for (const byte of encodeUTF8(character)) out += String.fromCharCode(byte);
  }
  return out;
}

const toContract = (value) =>
  plain.test(value) ? value : value.replace(/[\x80-\xff]/g, (character) => String.fromCodePoint(FIRST + character.charCodeAt(0)));

export class Headers {
  // Lower-case names to lists of values.
  #map = new Map();

  constructor(init) {
    if (init !== undefined) fill(this, init);
  }
  append(name, value) {
    name = checkName(name);
    value = checkValue(value);
    const values = this.#map.get(name);
    if (values) values.push(value);
    else this.#map.set(name, [value]);
  }
  delete(name) {
    this.#map.delete(checkName(name));
  }
  get(name) {
    return this.#map.get(checkName(name))?.join(", ") ?? null;
  }
  getSetCookie() {
    return [...(this.#map.get("set-cookie") ?? [])];
  }
  has(name) {
    return this.#map.has(checkName(name));
  }
  set(name, value) {
    this.#map.set(checkName(name), [checkValue(value)]);
  }
  forEach(callback, self) {
    if (typeof callback !== "function") throw new TypeError("forEach needs a function");
    for (const [name, value] of this) callback.call(self, value, name, this);
  }
  *entries() {
    for (const name of [...this.#map.keys()].sort()) {
      const values = this.#map.get(name);
      if (!values) continue;
      if (name === "set-cookie") for (const value of values) yield [name, value];
      else yield [name, values.join(", ")];
    }
  }
  *keys() {
    for (const [name] of this) yield name;
  }
  *values() {
    for (const [, value] of this) yield value;
  }
  get [Symbol.toStringTag]() {
    return "Headers";
  }

  // Of a request of the contract: an object of names and lists of values.
  static fromContract(object) {
    const headers = new Headers();
    for (const name in object) headers.#map.set(name.toLowerCase(), object[name].map(fromContract));
    return headers;
  }
  static toContract(headers) {
    const out = {};
    for (const [name, values] of headers.#map) out[name] = values.length === 1 ? toContract(values[0]) : values.map(toContract);
    return out;
  }
}
Object.defineProperty(Headers.prototype, Symbol.iterator, {
  value: Headers.prototype.entries, writable: true, configurable: true,
});

// They are ours, not of the standard.
export const { fromContract: headersFromContract, toContract: headersToContract } = Headers;
delete Headers.fromContract;
delete Headers.toContract;

function fill(headers, init) {
  if (init === null || (typeof init !== "object" && typeof init !== "function")) {
    throw new TypeError("Headers needs an object, pairs or other Headers");
  }
  if (init[Symbol.iterator] === undefined) {
    for (const name of Reflect.ownKeys(init)) {
      if (Object.getOwnPropertyDescriptor(init, name)?.enumerable) headers.append(name, init[name]);
    }
    return;
  }
  for (const entry of init) {
    const pair = [...entry];
    if (pair.length !== 2) throw new TypeError("each pair of Headers must have a name and a value");
    headers.append(pair[0], pair[1]);
  }
}
