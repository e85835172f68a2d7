// Timers. main.c waits until the next one may run, and then lets those run that may.

import { native } from "./native.js";

const timers = new Map();
let last = 0;

function add(callback, delay, args, repeat) {
  if (typeof callback !== "function") throw new TypeError("a timer needs a function");
  delay = Math.min(Math.max(Number(delay) || 0, 0), 0x7fffffff);
  timers.set(++last, { callback, args, due: native.now() + delay, repeat: repeat ? Math.max(delay, 1) : undefined });
  return last;
}

export function setTimeout(callback, delay, ...args) {
  return add(callback, delay, args, false);
}

export function setInterval(callback, delay, ...args) {
  return add(callback, delay, args, true);
}

export function clearTimeout(id) {
  timers.delete(Number(id));
}

export function clearInterval(id) {
  timers.delete(Number(id));
}

export function setImmediate(callback, ...args) {
  return add(callback, 0, args, false);
}

export function clearImmediate(id) {
  timers.delete(Number(id));
}

export function nextTimer() {
  if (timers.size === 0) return -1;
  let first = Infinity;
  for (const { due } of timers.values()) first = Math.min(first, due);
  return Math.max(0, first - native.now());
}

// Runs the timers that may run, in order. Each is followed by its microtasks, as main.c runs them before it asks again.
export function runTimers() {
  const now = native.now();
  let next;
  for (const [id, timer] of timers) {
    if (timer.due <= now && (!next || timer.due < next[1].due)) next = [id, timer];
  }
  if (!next) return;
  const [id, timer] = next;
  if (timer.repeat) timer.due = now + timer.repeat;
  else timers.delete(id);
  timer.callback(...timer.args);
}
