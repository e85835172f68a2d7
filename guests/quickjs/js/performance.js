// performance.now(): milliseconds since the request began.

import { native } from "./native.js";

let origin = 0;
let wall;

export function beginRequest() {
  origin = native.now();
  wall = undefined;
}

export const performance = {
  now: () => native.now() - origin,
  get timeOrigin() {
    return (wall ??= Date.now() - (native.now() - origin));
  },
};
