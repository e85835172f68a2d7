// TextEncoder and TextDecoder of the Encoding Standard, for UTF-8, UTF-16 and windows-1252.

import { bytesOf, encodeUTF8, native } from "./native.js";

export class TextEncoder {
  get encoding() {
    return "utf-8";
  }
  encode(text = "") {
    return encodeUTF8(String(text));
  }
  encodeInto(text, into) {
    if (!(into instanceof Uint8Array)) throw new TypeError("encodeInto needs an Uint8Array");
    let read = 0;
    let written = 0;
    for (const character of String(text)) {
      const bytes = encodeUTF8(character);
      if (written + bytes.length > into.length) break;
      into.set(bytes, written);
      written += bytes.length;
      read += character.length;
    }
    return { read, written };
  }
  get [Symbol.toStringTag]() {
    return "TextEncoder";
  }
}

const labels = new Map();
for (const [name, list] of Object.entries({
  "utf-8": "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8",
  "utf-16le": "csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le",
  "utf-16be": "unicodefffe utf-16be",
  "windows-1252":
    "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1 " +
    "iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252",
})) {
  for (const label of list.split(" ")) labels.set(label, name);
}

// What windows-1252 has at 0x80 to 0x9F.
const upper =
  "\u20ac\x81\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\x8d\u017d\x8f" +
  "\x90\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\x9d\u017e\u0178";

export class TextDecoder {
  #encoding;
  #fatal;
  #ignoreBOM;
  // The bytes of a character whose rest is in the next chunk, and whether a byte order mark may still come.
  #pending = new Uint8Array(0);
  #begin = true;

  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    const name = labels.get(String(label).replace(/^[\t\n\f\r ]+|[\t\n\f\r ]+$/g, "").toLowerCase());
    if (!name) throw new RangeError(`the encoding ${JSON.stringify(String(label))} is not supported`);
    this.#encoding = name;
    this.#fatal = !!fatal;
    this.#ignoreBOM = !!ignoreBOM;
  }
  get encoding() {
    return this.#encoding;
  }
  get fatal() {
    return this.#fatal;
  }
  get ignoreBOM() {
    return this.#ignoreBOM;
  }
  decode(input = new Uint8Array(0), { stream = false } = {}) {
    let bytes = bytesOf(input);
    if (!bytes) throw new TypeError("decode needs an ArrayBuffer or a view of one");
    if (this.#pending.length > 0) {
      const joined = new Uint8Array(this.#pending.length + bytes.length);
      joined.set(this.#pending);
      joined.set(bytes, this.#pending.length);
      bytes = joined;
    }
    const whole = stream ? wholeCharacters(bytes, this.#encoding) : bytes.length;
    this.#pending = bytes.slice(whole);
    if (whole < bytes.length) bytes = bytes.subarray(0, whole);
    let text;
    try {
      text = this.#text(bytes);
    } catch (error) {
      this.#pending = new Uint8Array(0);
      this.#begin = true;
      throw error;
    }
    if (this.#begin && text.length > 0) {
      this.#begin = false;
      if (!this.#ignoreBOM && this.#encoding !== "windows-1252" && text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    if (!stream) this.#begin = true;
    return text;
  }
  #text(bytes) {
    if (this.#encoding === "utf-8") {
      const text = native.utf8Decode(bytes, this.#fatal);
      if (text === null) throw new TypeError("the bytes are not valid UTF-8");
      return text;
    }
    const parts = [];
    if (this.#encoding === "windows-1252") {
      for (const byte of bytes) parts.push(byte >= 0x80 && byte < 0xa0 ? upper[byte - 0x80] : String.fromCharCode(byte));
      return parts.join("");
    }
    const [low, high] = this.#encoding === "utf-16le" ? [0, 1] : [1, 0];
    for (let at = 0; at + 1 < bytes.length; at += 2) parts.push(String.fromCharCode(bytes[at + low] | (bytes[at + high] << 8)));
    let text = parts.join("");
    if (bytes.length % 2 === 1) text += "\ufffd";
    if (this.#fatal && (bytes.length % 2 === 1 || !text.isWellFormed())) throw new TypeError("the bytes are not valid UTF-16");
    return text.toWellFormed();
  }
  get [Symbol.toStringTag]() {
    return "TextDecoder";
  }
}

// How many bytes there are up to a character that is cut off at the end.
function wholeCharacters(bytes, encoding) {
  const { length } = bytes;
  if (encoding === "windows-1252") return length;
  if (encoding !== "utf-8") {
    const even = length - (length % 2);
    const high = encoding === "utf-16le" ? bytes[even - 1] : bytes[even - 2];
    return even >= 2 && (high & 0xfc) === 0xd8 ? even - 2 : even;
  }
  for (let back = 1; back <= Math.min(3, length); back++) {
    const byte = bytes[length - back];
    if (byte < 0x80) return length;
    if (byte < 0xc0) continue;
    const needs = byte >= 0xf0 && byte < 0xf5 ? 4 : byte >= 0xe0 && byte < 0xf0 ? 3 : byte >= 0xc2 && byte < 0xe0 ? 2 : 1;
    if (needs <= back) return length;
    // What cannot become a character is not waited for.
    const tail = bytes.subarray(length - back);
    return native.utf8Decode(tail, false).length === 1 ? length - back : length;
  }
  return length;
}
