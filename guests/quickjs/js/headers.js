// Headers of the Fetch Standard. A header's value is a string of bytes: one character for each.

import { encodeUTF8, native } from "./native.js";

function checkName(name) {
  name = String(name);
  return native.headerName(name) ?? invalidName(name);
}

function invalidName(name) {
  throw new TypeError(`the header name ${JSON.stringify(name)} is not valid`);
}

function checkValue(value) {
  value = String(value);
  return native.headerValue(value) ?? checkOddValue(value);
}

// A value that is not ASCII, or not valid.
function checkOddValue(value) {
  value = value.replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code > 255) throw new TypeError(`the header value ${JSON.stringify(value)} has a character above U+00FF`);
    if (code === 0 || code === 10 || code === 13) throw new TypeError("a header value has NUL, CR or LF");
  }
  return value;
}

// The contract passes bytes that are not UTF-8 as the last 128 characters of Unicode.
const FIRST = 0x10ff00;

// A value of the contract as a string of bytes.
function fromContract(value) {
  if (native.isASCII(value)) return value;
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
  native.isASCII(value) ? value : value.replace(/[\x80-\xff]/g, (character) => String.fromCodePoint(FIRST + character.charCodeAt(0)));

export class Headers {
  // Lower-case names to lists of values.
  #map = new Map();

  constructor(init = undefined) {
    if (init === undefined) return;
    // Other Headers have been checked, and their iterator is not the script's.
    if (typeof init === "object" && init !== null && #map in init && init[Symbol.iterator] === entries) {
      for (const [name, values] of init.#map) this.#map.set(name, values.slice());
    } else {
      fill(this, init);
    }
  }
  append(name, value) {
    need(arguments, 2);
    name = checkName(name);
    value = checkValue(value);
    const values = this.#map.get(name);
    if (values) values.push(value);
    else this.#map.set(name, [value]);
  }
  delete(name) {
    need(arguments, 1);
    this.#map.delete(checkName(name));
  }
  get(name) {
    need(arguments, 1);
    return this.#map.get(checkName(name))?.join(", ") ?? null;
  }
  getSetCookie() {
    return [...(this.#map.get("set-cookie") ?? [])];
  }
  has(name) {
    need(arguments, 1);
    return this.#map.has(checkName(name));
  }
  set(name, value) {
    need(arguments, 2);
    this.#map.set(checkName(name), [checkValue(value)]);
  }
  forEach(callback, self) {
    if (typeof callback !== "function") throw new TypeError("forEach needs a function");
    for (const [name, value] of this) callback.call(self, value, name, this);
  }
  // The names with their values, in order. Set-Cookie is the one that is not combined.
  #pairs() {
    const pairs = [];
    for (const name of [...this.#map.keys()].sort()) {
      const values = this.#map.get(name);
      if (name === "set-cookie") for (const value of values) pairs.push([name, value]);
      else pairs.push([name, values.join(", ")]);
    }
    return pairs;
  }
  // An iterator sees what is changed meanwhile: it knows how many pairs it has given, and nothing else.
  *entries() {
    for (let at = 0, pairs; at < (pairs = this.#pairs()).length; at++) yield pairs[at];
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
const { entries } = Headers.prototype;
Object.defineProperty(Headers.prototype, Symbol.iterator, { value: entries, writable: true, configurable: true });

// They are ours, not of the standard.
export const { fromContract: headersFromContract, toContract: headersToContract } = Headers;
delete Headers.fromContract;
delete Headers.toContract;

function need(args, count) {
  if (args.length < count) throw new TypeError(`${count} argument${count > 1 ? "s" : ""} required, but only ${args.length} given`);
}

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
    if (entry === null || (typeof entry !== "object" && typeof entry !== "function")) throw new TypeError("each pair of Headers must be an array");
    const pair = [...entry];
    if (pair.length !== 2) throw new TypeError("each pair of Headers must have a name and a value");
    headers.append(pair[0], pair[1]);
  }
}
