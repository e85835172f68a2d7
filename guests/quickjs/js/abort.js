// Event, EventTarget and AbortController of the DOM Standard, without a tree of targets.

export class Event {
  #type;
  #cancelable;
  #prevented = false;
  stopped = false;
  target = null;
  currentTarget = null;

  constructor(type, init = {}) {
    this.#type = String(type);
    this.#cancelable = !!init.cancelable;
    this.bubbles = !!init.bubbles;
    Object.defineProperty(this, "stopped", { enumerable: false });
  }
  get type() {
    return this.#type;
  }
  get cancelable() {
    return this.#cancelable;
  }
  get defaultPrevented() {
    return this.#prevented;
  }
  preventDefault() {
    if (this.#cancelable) this.#prevented = true;
  }
  stopPropagation() {}
  stopImmediatePropagation() {
    this.stopped = true;
  }
}

export class CustomEvent extends Event {
  #detail;
  constructor(type, init = {}) {
    super(type, init);
    this.#detail = init.detail ?? null;
  }
  get detail() {
    return this.#detail;
  }
}

export class EventTarget {
  #listeners = [];

  addEventListener(type, listener, options) {
    if (!listener) return;
    const { once = false, signal } = typeof options === "object" && options !== null ? options : {};
    type = String(type);
    if (signal?.aborted || this.#listeners.some((other) => other.type === type && other.listener === listener)) return;
    this.#listeners.push({ type, listener, once });
    signal?.addEventListener("abort", () => this.removeEventListener(type, listener));
  }
  removeEventListener(type, listener) {
    type = String(type);
    this.#listeners = this.#listeners.filter((other) => other.type !== type || other.listener !== listener);
  }
  dispatchEvent(event) {
    event.target = event.currentTarget = this;
    const handler = this[`on${event.type}`];
    if (typeof handler === "function") run(() => handler.call(this, event));
    for (const entry of [...this.#listeners]) {
      if (event.stopped) break;
      if (entry.type !== event.type || !this.#listeners.includes(entry)) continue;
      if (entry.once) this.removeEventListener(entry.type, entry.listener);
      run(() => (typeof entry.listener === "function" ? entry.listener.call(this, event) : entry.listener.handleEvent(event)));
    }
    return !event.defaultPrevented;
  }
}

// A listener that throws stops neither the others nor who dispatched the event. The error is reported like a rejection that
// has no handler.
function run(listener) {
  try {
    listener();
  } catch (error) {
    Promise.reject(error);
  }
}

const key = Symbol();
let abortSignal;

export class AbortSignal extends EventTarget {
  #aborted = false;
  #reason;

  static {
    abortSignal = (signal, reason) => {
      if (signal.#aborted) return;
      signal.#aborted = true;
      signal.#reason = reason;
      signal.dispatchEvent(new Event("abort"));
    };
  }
  constructor(given) {
    if (given !== key) throw new TypeError("Illegal constructor");
    super();
    this.onabort = null;
  }
  get aborted() {
    return this.#aborted;
  }
  get reason() {
    return this.#reason;
  }
  throwIfAborted() {
    if (this.#aborted) throw this.#reason;
  }
  static abort(reason = new DOMException("This operation was aborted", "AbortError")) {
    const signal = new AbortSignal(key);
    abortSignal(signal, reason);
    return signal;
  }
  static timeout(milliseconds) {
    const signal = new AbortSignal(key);
    setTimeout(() => abortSignal(signal, new DOMException("The operation timed out", "TimeoutError")), milliseconds);
    return signal;
  }
  static any(signals) {
    const signal = new AbortSignal(key);
    for (const other of signals) {
      if (other.aborted) {
        abortSignal(signal, other.reason);
        break;
      }
      other.addEventListener("abort", () => abortSignal(signal, other.reason), { once: true });
    }
    return signal;
  }
}

export class AbortController {
  #signal = new AbortSignal(key);
  get signal() {
    return this.#signal;
  }
  abort(reason = new DOMException("This operation was aborted", "AbortError")) {
    abortSignal(this.#signal, reason);
  }
}
