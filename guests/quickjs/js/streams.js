// The Streams Standard by web-streams-polyfill, and the streams over TextEncoder and TextDecoder. This is a bundle by itself, which
// lazy.js loads.

import {
  ByteLengthQueuingStrategy, CountQueuingStrategy, ReadableByteStreamController, ReadableStream, ReadableStreamBYOBReader,
  ReadableStreamBYOBRequest, ReadableStreamDefaultController, ReadableStreamDefaultReader, TransformStream,
  TransformStreamDefaultController, WritableStream, WritableStreamDefaultController, WritableStreamDefaultWriter,
} from "web-streams-polyfill";

export default function ({ TextEncoder, TextDecoder }) {
  class TextEncoderStream {
    constructor() {
      const encoder = new TextEncoder();
      const { readable, writable } = new TransformStream({
        transform: (chunk, controller) => controller.enqueue(encoder.encode(chunk)),
      });
      Object.assign(this, { readable, writable, encoding: "utf-8" });
    }
  }

  class TextDecoderStream {
    constructor(label, options) {
      const decoder = new TextDecoder(label, options);
      const pass = (text, controller) => text && controller.enqueue(text);
      const { readable, writable } = new TransformStream({
        transform: (chunk, controller) => pass(decoder.decode(chunk, { stream: true }), controller),
        flush: (controller) => pass(decoder.decode(), controller),
      });
      Object.assign(this, { readable, writable, encoding: decoder.encoding, fatal: decoder.fatal, ignoreBOM: decoder.ignoreBOM });
    }
  }
  return {
    ByteLengthQueuingStrategy, CountQueuingStrategy, ReadableByteStreamController, ReadableStream, ReadableStreamBYOBReader,
    ReadableStreamBYOBRequest, ReadableStreamDefaultController, ReadableStreamDefaultReader, TransformStream,
    TransformStreamDefaultController, WritableStream, WritableStreamDefaultController, WritableStreamDefaultWriter,
    TextEncoderStream, TextDecoderStream,
  };
}
