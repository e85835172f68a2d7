// Operations of the host by gojinn.call: a request and a reply are a JSON object, a newline, and bytes.

import { concat, decodeUTF8, encodeUTF8, native } from "./native.js";

export const NOT_FOUND = -7;

const codes = { "-1": "is not available here", "-2": "was denied", "-3": "was malformed", "-4": "failed", "-5": "was too large",
  "-6": "cannot be done before a request" };

export class HostError extends Error {
  constructor(operation, code, text) {
    super(`${operation} ${codes[code] ?? `failed with the code ${code}`}${text ? `: ${text}` : ""}`);
    this.name = "HostError";
    this.operation = operation;
    this.code = code;
  }
}

// Asks the host. Returns [object, bytes] of the reply, or null if what was asked for does not exist.
export function ask(operation, object, body) {
  const head = encodeUTF8(`${JSON.stringify(object)}\n`);
  const [code, reply] = native.call(operation, body?.length ? concat([head, body]) : head);
  if (code === NOT_FOUND) return null;
  if (code < 0) throw new HostError(operation, code, decodeUTF8(reply));
  const end = reply.indexOf(10);
  const text = decodeUTF8(end < 0 ? reply : reply.subarray(0, end));
  return [text ? JSON.parse(text) : {}, end < 0 ? new Uint8Array(0) : reply.subarray(end + 1)];
}
