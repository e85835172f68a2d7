// The layer between QuickJS and a script: the globals that a script finds, and the functions that main.c calls.
//
// main.c calls the function that this module exports, with the natives, and keeps what it returns.

import * as abort from "./abort.js";
import { Blob, File, FormData } from "./blob.js";
import { platform, structuredClone } from "./clone.js";
import { console } from "./console.js";
import * as crypto from "./crypto.js";
import * as encoding from "./encoding.js";
import { describe } from "./errors.js";
import * as handler from "./handler.js";
import { Headers } from "./headers.js";
import { Request, Response } from "./http.js";
import { fetch } from "./fetch.js";
import { defineStreams, streams } from "./lazy.js";
import { setNative } from "./native.js";
import { performance } from "./performance.js";
import { rehearse } from "./rehearse.js";
import * as timers from "./timers.js";
import { URL, URLSearchParams } from "./url.js";

export default function (native) {
  setNative(native);
  const { nextTimer, runTimers, ...timerGlobals } = timers;
  const globals = {
    ...abort, Blob, File, FormData, ...encoding, ...timerGlobals, Request, Response,
    Crypto: crypto.Crypto, CryptoKey: crypto.CryptoKey, SubtleCrypto: crypto.SubtleCrypto, crypto: crypto.crypto,
    Headers, URL, URLSearchParams, console, fetch, performance, structuredClone,
    navigator: Object.freeze({ userAgent: "Gojinn" }), self: globalThis,
  };
  for (const [name, value] of Object.entries(globals)) {
    const enumerable = typeof value === "function" ? !/^[A-Z]/.test(name) : true;
    if (typeof value === "function" && value.prototype) platform.add(value.prototype);
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable });
  }
  defineStreams();
  rehearse();
  return { loadStreams: streams, start: handler.start, answer: handler.answer, rejected: handler.rejected, describe, nextTimer, runTimers };
}
