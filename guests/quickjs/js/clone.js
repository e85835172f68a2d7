// structuredClone of the HTML Standard, for the types that there are here.

import { Blob } from "./blob.js";
import { native } from "./native.js";

// The classes of native.classOf that matter here.
const OBJECT = 1, PROXY = 2;

// The prototypes of the layer's classes, whose objects cannot be cloned unless copy says how.
export const platform = new Set();

const errors = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

function refuse(value) {
  const what = typeof value === "function" ? `the function ${value.name || "(anonymous)"}` : String(value?.[Symbol.toStringTag] ?? typeof value);
  throw new DOMException(`${what} could not be cloned`, "DataCloneError");
}

export function structuredClone(value, options = {}) {
  if (arguments.length === 0) throw new TypeError("1 argument required, but only 0 given");
  const transfer = [...(options?.transfer ?? [])];
  const seen = new Map();
  for (const item of transfer) {
    if (!(item instanceof ArrayBuffer) || item.detached || transfer.indexOf(item) !== transfer.lastIndexOf(item)) refuse(item);
  }
  // Nothing is taken before all else has succeeded.
  for (const item of transfer) seen.set(item, new ArrayBuffer(item.byteLength));
  const clone = copy(value, seen);
  for (const item of transfer) {
    if (item.detached) refuse(item);
    new Uint8Array(seen.get(item)).set(new Uint8Array(item));
    item.transfer();
  }
  return clone;
}

function copy(value, seen) {
  if (typeof value === "symbol" || typeof value === "function") refuse(value);
  if (typeof value !== "object" || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  if (native.classOf(value) === PROXY) refuse(value);
  const keep = (made) => {
    seen.set(value, made);
    return made;
  };
  const again = (inner) => copy(inner, seen);
  switch (Object.prototype.toString.call(value)) {
    case "[object Boolean]":
      if (value instanceof Boolean) return keep(Object(value.valueOf()));
      break;
    case "[object Number]":
      if (value instanceof Number) return keep(Object(value.valueOf()));
      break;
    case "[object String]":
      if (value instanceof String) return keep(Object(value.valueOf()));
      break;
    case "[object BigInt]":
      if (value instanceof BigInt) return keep(Object(value.valueOf()));
      break;
  }
  if (value instanceof Symbol) refuse(value);
  if (value instanceof Date) return keep(new Date(value.getTime()));
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (value instanceof ArrayBuffer) {
    if (value.detached) refuse(value);
    return keep(value.slice(0));
  }
  if (ArrayBuffer.isView(value)) {
    const { byteOffset, byteLength } = value;
    const length = value instanceof DataView ? byteLength : value.length;
    const buffer = again(value.buffer);
    return keep(new value.constructor(buffer, byteOffset, length));
  }
  if (value instanceof Map) {
    const made = keep(new Map());
    for (const [key, inner] of [...value]) made.set(again(key), again(inner));
    return made;
  }
  if (value instanceof Set) {
    const made = keep(new Set());
    for (const inner of [...value]) made.add(again(inner));
    return made;
  }
  if (value instanceof DOMException) return keep(new DOMException(value.message, value.name));
  if (value instanceof Error) {
    const message = Object.getOwnPropertyDescriptor(value, "message");
    const error = keep(new (errors[value.name] ?? Error)(message ? String(value.message) : undefined));
    if (!message) delete error.message;
    Object.defineProperty(error, "stack", { value: value.stack, writable: true, configurable: true });
    if ("cause" in value) Object.defineProperty(error, "cause", { value: again(value.cause), writable: true, configurable: true });
    return error;
  }
  if (value instanceof Blob) return keep(value.slice(0, value.size, value.type));
  if (Array.isArray(value)) {
    const made = keep(new Array(value.length));
    for (const key of Object.keys(value)) if (Object.hasOwn(value, key)) made[key] = again(value[key]);
    return made;
  }
  // What is neither a plain object nor one of a class of the script has state that would be lost.
  if (native.classOf(value) !== OBJECT) refuse(value);
  for (let proto = Object.getPrototypeOf(value); proto; proto = Object.getPrototypeOf(proto)) if (platform.has(proto)) refuse(value);
  const made = keep({});
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(value, key)) continue;
    Object.defineProperty(made, key, { value: again(value[key]), writable: true, enumerable: true, configurable: true });
  }
  return made;
}
