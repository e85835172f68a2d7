// The natives of main.c.

export let native;

export function setNative(functions) {
  native = functions;
}

// The bytes of an ArrayBuffer or a view as an Uint8Array over the same memory; undefined for anything else.
export function bytesOf(source) {
  if (source instanceof Uint8Array) return source;
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (source instanceof ArrayBuffer || (globalThis.SharedArrayBuffer && source instanceof SharedArrayBuffer)) return new Uint8Array(source);
  return undefined;
}

export const encodeUTF8 = (text) => native.utf8Encode(text.isWellFormed() ? text : text.toWellFormed());

// Decodes UTF-8 and leaves out a byte order mark.
export function decodeUTF8(bytes) {
  const text = native.utf8Decode(bytes, false);
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}

export function concat(chunks) {
  if (chunks.length === 1) return chunks[0];
  const out = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0));
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.byteLength;
  }
  return out;
}
