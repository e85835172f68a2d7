// Says in a text what an exception is: its message, its causes, and where in the script it came from.

import inspect from "object-inspect";

// The lines of a stack that are in the script. The natives and this layer are left out.
function script(stack) {
  return String(stack ?? "")
    .split("\n")
    .filter((line) => line.includes("gojinn:script"))
    .join("\n");
}

export function describe(error, depth = 0) {
  if (!(error instanceof Error) && !(error instanceof DOMException)) return `a value that is no Error was thrown: ${show(error)}`;
  let text = `${error.name}: ${error.message}`;
  const where = script(error.stack);
  if (where) text += `\n${where}`;
  if (depth < 8) {
    if (error instanceof AggregateError) {
      for (const one of error.errors) text += `\nbecause of ${describe(one, depth + 1)}`;
    }
    if (error.cause !== undefined) text += `\ncaused by ${describe(error.cause, depth + 1)}`;
  }
  return text;
}

export function show(value) {
  try {
    return inspect(value, { depth: 4, maxStringLength: 10000 });
  } catch {
    return "a value that cannot be shown";
  }
}
