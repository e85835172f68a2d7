// Blob, File and FormData.

import { bytesOf, concat, decodeUTF8, encodeUTF8 } from "./native.js";
import { streams } from "./lazy.js";

// The bytes of a Blob; set by a static block.
export let blobBytes;

export class Blob {
  #bytes;
  #type;

  static {
    blobBytes = (blob) => blob.#bytes;
  }
  constructor(parts = [], { type = "" } = {}) {
    if (typeof parts !== "object" || parts === null || !parts[Symbol.iterator]) throw new TypeError("Blob needs an array of parts");
    const chunks = [];
    for (const part of parts) {
      if (part instanceof Blob) chunks.push(part.#bytes);
      else chunks.push(bytesOf(part)?.slice() ?? encodeUTF8(String(part)));
    }
    this.#bytes = chunks.length ? concat(chunks) : new Uint8Array(0);
    type = String(type);
    this.#type = /^[\x20-\x7e]*$/.test(type) ? type.toLowerCase() : "";
  }
  get size() {
    return this.#bytes.length;
  }
  get type() {
    return this.#type;
  }
  async arrayBuffer() {
    return this.#bytes.slice().buffer;
  }
  async bytes() {
    return this.#bytes.slice();
  }
  async text() {
    return decodeUTF8(this.#bytes);
  }
  slice(start = 0, end = this.size, type = "") {
    const blob = new Blob([], { type });
    const at = (index) => (index < 0 ? Math.max(this.size + index, 0) : Math.min(index, this.size));
    blob.#bytes = this.#bytes.slice(at(start), at(end));
    return blob;
  }
  stream() {
    const bytes = this.#bytes;
    return new (streams().ReadableStream)({
      start(controller) {
        if (bytes.length) controller.enqueue(bytes.slice());
        controller.close();
      },
    });
  }
  get [Symbol.toStringTag]() {
    return "Blob";
  }
}

export class File extends Blob {
  #name;
  #lastModified;
  constructor(parts, name, options = {}) {
    super(parts, options);
    this.#name = String(name);
    this.#lastModified = options.lastModified ?? Date.now();
  }
  get name() {
    return this.#name;
  }
  get lastModified() {
    return this.#lastModified;
  }
  get [Symbol.toStringTag]() {
    return "File";
  }
}

export class FormData {
  #list = [];

  #entry(name, value, filename) {
    name = String(name).toWellFormed();
    if (!(value instanceof Blob)) return [name, String(value).toWellFormed()];
    if (value instanceof File && filename === undefined) return [name, value];
    return [name, new File([value], filename ?? value.name ?? "blob", { type: value.type })];
  }
  append(name, value, filename) {
    this.#list.push(this.#entry(name, value, filename));
  }
  delete(name) {
    this.#list = this.#list.filter((entry) => entry[0] !== String(name));
  }
  get(name) {
    return this.#list.find((entry) => entry[0] === String(name))?.[1] ?? null;
  }
  getAll(name) {
    return this.#list.filter((entry) => entry[0] === String(name)).map((entry) => entry[1]);
  }
  has(name) {
    return this.#list.some((entry) => entry[0] === String(name));
  }
  set(name, value, filename) {
    const entry = this.#entry(name, value, filename);
    const at = this.#list.findIndex((other) => other[0] === entry[0]);
    if (at < 0) this.#list.push(entry);
    else this.#list = this.#list.toSpliced(at, 1, entry).filter((other, i) => i <= at || other[0] !== entry[0]);
  }
  forEach(callback, self) {
    for (const [name, value] of this) callback.call(self, value, name, this);
  }
  *entries() {
    for (const entry of this.#list) yield [...entry];
  }
  *keys() {
    for (const [name] of this.#list) yield name;
  }
  *values() {
    for (const [, value] of this.#list) yield value;
  }
  [Symbol.iterator]() {
    return this.entries();
  }
  get [Symbol.toStringTag]() {
    return "FormData";
  }
}
