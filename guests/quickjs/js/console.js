// console: each call is one record in Caddy's log.

import { describe, show } from "./errors.js";
import { native } from "./native.js";

const text = (value) => (typeof value === "string" ? value : value instanceof Error ? describe(value) : show(value));

// The arguments as one text, with the placeholders of the Console Standard.
function format(args) {
  if (typeof args[0] !== "string" || args.length === 1) return args.map(text).join(" ");
  let next = 1;
  const first = args[0].replace(/%[sdifoOjc%]/g, (what) => {
    if (what === "%%") return "%";
    if (next >= args.length) return what;
    const value = args[next++];
    switch (what) {
      case "%s":
        return typeof value === "object" ? text(value) : String(value);
      case "%d":
      case "%i":
        return typeof value === "symbol" ? "NaN" : String(what === "%i" ? parseInt(value, 10) : Number(value));
      case "%f":
        return typeof value === "symbol" ? "NaN" : String(parseFloat(value));
      case "%c":
        return "";
      case "%j":
        return JSON.stringify(value);
      default:
        return show(value);
    }
  });
  return [first, ...args.slice(next).map(text)].join(" ");
}

const counts = new Map();
const times = new Map();
let indent = "";

const write = (level, args) => native.log(level, indent + format(args));

export const console = {
  debug: (...args) => write(0, args),
  log: (...args) => write(1, args),
  info: (...args) => write(1, args),
  dir: (value) => write(1, [show(value)]),
  table: (value) => write(1, [show(value)]),
  warn: (...args) => write(2, args),
  error: (...args) => write(3, args),
  trace: (...args) => write(0, [...args, `\n${new Error().stack.split("\n").filter((line) => line.includes("gojinn:script")).join("\n")}`]),
  assert(condition, ...args) {
    if (!condition) write(3, ["Assertion failed", ...args]);
  },
  count(label = "default") {
    counts.set(label, (counts.get(label) ?? 0) + 1);
    write(1, [`${label}: ${counts.get(label)}`]);
  },
  countReset: (label = "default") => void counts.delete(label),
  time: (label = "default") => void times.set(label, native.now()),
  timeLog(label = "default", ...args) {
    if (times.has(label)) write(1, [`${label}: ${(native.now() - times.get(label)).toFixed(3)} ms`, ...args]);
  },
  timeEnd(label = "default") {
    console.timeLog(label);
    times.delete(label);
  },
  group(...args) {
    if (args.length) write(1, args);
    indent += "  ";
  },
  groupEnd: () => void (indent = indent.slice(2)),
};
console.groupCollapsed = console.group;
