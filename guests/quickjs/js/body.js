// The body of a request or a response: what was given, and how it is read.

import { Blob, blobBytes, FormData } from "./blob.js";
import { isStream, streams } from "./lazy.js";
import { bytesOf, concat, decodeUTF8, encodeUTF8 } from "./native.js";
import { readMultipart, writeMultipart } from "./multipart.js";
import { URLSearchParams } from "./url.js";

const empty = new Uint8Array(0);

export class Body {
  // A string, an Uint8Array, a ReadableStream or null.
  #source = null;
  // The stream that `body` gave out, if it was asked for and the source is no stream.
  #stream;
  #used = false;

  // Sets the source. Returns the Content-Type that it implies, or undefined.
  static take(body, source) {
    if (source === null || source === undefined) return undefined;
    if (typeof source === "string") {
      body.#source = source.isWellFormed() ? source : source.toWellFormed();
      return "text/plain;charset=UTF-8";
    }
    const bytes = bytesOf(source);
    if (bytes) {
      body.#source = bytes.slice();
      return undefined;
    }
    if (isStream(source)) {
      if (source.locked) throw new TypeError("the stream of the body is locked");
      body.#source = source;
      return undefined;
    }
    if (source instanceof Blob) {
      body.#source = blobBytes(source);
      return source.type || undefined;
    }
    if (source instanceof URLSearchParams) {
      body.#source = source.toString();
      return "application/x-www-form-urlencoded;charset=UTF-8";
    }
    if (source instanceof FormData) {
      const [form, type] = writeMultipart(source);
      body.#source = form;
      return type;
    }
    return take(body, String(source));
  }
  // Sets the source without a copy.
  static own(body, source) {
    body.#source = source;
  }
  // A string or an Uint8Array at once, or a promise of an Uint8Array. The body is used then.
  static consume(body) {
    if (body.bodyUsed) throw new TypeError("the body has been used already");
    const source = body.#stream ?? body.#source;
    if (source === null) return empty;
    body.#used = true;
    return isStream(source) ? drain(source) : source;
  }
  // The stream that the body was given as, or undefined. The body is used then.
  static streamOf(body) {
    const source = body.#source;
    if (!isStream(source)) return undefined;
    if (body.bodyUsed || source.locked) throw new TypeError("the body of the response has been used already");
    body.#used = true;
    return source;
  }
  // Gives `copy` the same body.
  static share(body, copy) {
    if (body.bodyUsed || body.#source?.locked) throw new TypeError("a body that has been used cannot be cloned");
    const source = body.#stream ?? body.#source;
    if (isStream(source)) {
      const [one, other] = source.tee();
      body.#source = one;
      body.#stream = undefined;
      copy.#source = other;
    } else {
      copy.#source = source;
    }
  }
  // Moves the body to another one, as `new Request(request)` does.
  static move(body, to) {
    if (body.bodyUsed) throw new TypeError("the body has been used already");
    to.#source = body.#stream ?? body.#source;
    if (to.#source !== null) body.#used = true;
  }

  get body() {
    const source = this.#source;
    if (source === null || isStream(source)) return source;
    if (!this.#stream) {
      const used = this.#used;
      this.#stream = new (streams().ReadableStream)({
        type: "bytes",
        pull: (controller) => {
          const bytes = typeof source === "string" ? encodeUTF8(source) : source.slice();
          if (!used && bytes.length > 0) controller.enqueue(bytes);
          controller.close();
          controller.byobRequest?.respond(0);
        },
      });
    }
    return this.#stream;
  }
  get bodyUsed() {
    const stream = this.#stream ?? this.#source;
    // A stream that has been read from without us is locked, or disturbed and closed, which only its own state shows.
    return this.#used || (isStream(stream) && stream._disturbed === true);
  }
  async bytes() {
    const source = await consume(this);
    return typeof source === "string" ? encodeUTF8(source) : source.slice();
  }
  async arrayBuffer() {
    return (await this.bytes()).buffer;
  }
  async text() {
    const source = await consume(this);
    if (typeof source !== "string") return decodeUTF8(source);
    return source.charCodeAt(0) === 0xfeff ? source.slice(1) : source;
  }
  async json() {
    const source = consume(this);
    // Nothing has to be awaited for a body that is here.
    if (typeof source === "string" && source.charCodeAt(0) !== 0xfeff) return JSON.parse(source);
    return JSON.parse(decodeUTF8(typeof source === "string" ? encodeUTF8(source) : await source));
  }
  async blob() {
    return new Blob([await this.bytes()], { type: this.headers.get("content-type") ?? "" });
  }
  async formData() {
    const type = this.headers.get("content-type") ?? "";
    if (/^multipart\/form-data\s*(;|$)/i.test(type)) return readMultipart(await this.bytes(), type);
    if (/^application\/x-www-form-urlencoded\s*(;|$)/i.test(type)) {
      const form = new FormData();
      for (const [name, value] of new URLSearchParams(await this.text())) form.append(name, value);
      return form;
    }
    throw new TypeError(`a body of the type ${JSON.stringify(type)} is not a form`);
  }
}

// They are ours, not of the standard.
export const { take, own, consume, streamOf, share, move } = Body;
for (const name of ["take", "own", "consume", "streamOf", "share", "move"]) delete Body[name];

// The bytes of a chunk of a body's stream.
export function bytesOfChunk(chunk) {
  if (chunk instanceof Uint8Array) return chunk;
  throw new TypeError("a body's stream may have chunks of Uint8Array only; pipe text through a TextEncoderStream");
}

async function drain(stream) {
  const chunks = [];
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(bytesOfChunk(value));
  }
  return chunks.length ? concat(chunks) : empty;
}
