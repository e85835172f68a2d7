// fetch, over the operation http.send.

import { consume } from "./body.js";
import { headersToContract } from "./headers.js";
import { ask } from "./host.js";
import { fetchedResponse, Request } from "./http.js";
import { encodeUTF8 } from "./native.js";
import { setImmediate } from "./timers.js";

export async function fetch(input, init) {
  const request = new Request(input, init);
  request.signal.throwIfAborted();
  let body = await consume(request);
  if (typeof body === "string") body = encodeUTF8(body);
  // The host is asked when nothing else is left to do, so that what a stream has got before leaves before.
  await new Promise((done) => setImmediate(done));
  request.signal.throwIfAborted();
  let reply;
  try {
    reply = ask("http.send", {
      method: request.method, url: request.url, headers: headersToContract(request.headers), redirect: request.redirect === "follow" ? "follow" : "manual",
    }, body);
  } catch (error) {
    throw new TypeError(`fetch of ${request.url} failed: ${error.message}`, { cause: error });
  }
  if (reply === null) throw new TypeError(`fetch of ${request.url} failed`);
  const [head, bytes] = reply;
  if (request.redirect === "error" && [301, 302, 303, 307, 308].includes(head.status)) {
    throw new TypeError(`fetch of ${request.url} was redirected, and redirect is "error"`);
  }
  const headers = {};
  for (const [name, values] of Object.entries(head.headers ?? {})) headers[name] = [values].flat();
  return fetchedResponse({ url: request.url, redirected: head.url !== undefined && head.url !== request.url, ...head }, headers, bytes.slice());
}
