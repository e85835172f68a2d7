// Does what requests do, before the snapshot is taken. QuickJS makes each function of the language when it is first asked for, which
// every request would have to do again.

import { consume } from "./body.js";
import { headersToContract } from "./headers.js";
import { incomingRequest, Response } from "./http.js";
import { native } from "./native.js";
import { URL } from "./url.js";

const used = [
  Array, Array.prototype, Function.prototype, JSON, Map.prototype, Math, Number, Object, Object.prototype, Promise, Promise.prototype, Reflect,
  RegExp.prototype, Set.prototype, String.prototype,
];

export function rehearse() {
  for (const object of [native, ...used]) Object.getOwnPropertyDescriptors(object);
  const headers = { "content-type": ["application/json"] };
  const request = incomingRequest({ method: "POST", uri: "/?a=b", host: "localhost", headers, body: "{}" });
  request.headers.get("content-type");
  new URL(request.url).searchParams.get("a");
  request.json();
  const response = Response.json({}, { headers: { "x-a": "b" } });
  for (const _ of response.headers);
  headersToContract(response.headers);
  consume(response);
}
