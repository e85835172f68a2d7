// The streams, which are loaded when they are first used: most scripts do without, and their snapshots are smaller then. main.c loads
// them before the first request if the script's text suggests that it uses them.

import { platform } from "./clone.js";
import { TextDecoder, TextEncoder } from "./encoding.js";
import { native } from "./native.js";

let loaded;

export function streams() {
  if (!loaded) {
    loaded = native.streams()({ TextEncoder, TextDecoder });
    for (const name of names) platform.add(loaded[name].prototype);
  }
  return loaded;
}

// Whether the value is a ReadableStream. There is none before the streams are loaded.
export const isStream = (value) => loaded !== undefined && value instanceof loaded.ReadableStream;

const names = [
  "ByteLengthQueuingStrategy", "CountQueuingStrategy", "ReadableByteStreamController", "ReadableStream", "ReadableStreamBYOBReader",
  "ReadableStreamBYOBRequest", "ReadableStreamDefaultController", "ReadableStreamDefaultReader", "TextDecoderStream", "TextEncoderStream",
  "TransformStream", "TransformStreamDefaultController", "WritableStream", "WritableStreamDefaultController",
  "WritableStreamDefaultWriter",
];

// Defines the streams' globals.
export function defineStreams() {
  for (const name of names) {
    const define = (value) => Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
    Object.defineProperty(globalThis, name, {
      get() {
        const value = streams()[name];
        define(value);
        return value;
      },
      set: define,
      configurable: true,
      enumerable: false,
    });
  }
}
