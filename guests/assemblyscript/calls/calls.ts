// Calls an API and counts visits, in AssemblyScript: the key of the API is a secret, and the number of visits is in a key-value store.

import * as gojinn from "../gojinn";

@external("wasi_snapshot_preview1", "environ_sizes_get")
declare function environ_sizes_get(count: usize, size: usize): u16;
@external("wasi_snapshot_preview1", "environ_get")
declare function environ_get(environ: usize, text: usize): u16;
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: u32, iovecs: usize, count: usize, got: usize): u16;
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: u32, iovecs: usize, count: usize, put: usize): u16;

/** Where the WASI calls find an iovec (address, length) and leave their result. */
const scratch = memory.data(16);
const ignored = memory.data(4096);

export function _start(): void {
  // This function answers each request alike, so it only reads to the end.
  do {
    store<usize>(scratch, ignored);
    store<usize>(scratch, 4096, 4);
    store<usize>(scratch, 0, 8);
  } while (fd_read(0, scratch, 1, scratch + 8) == 0 && load<usize>(scratch, 8) > 0);
  answer();
}

function answer(): void {
  const key = gojinn.secret("API_KEY");
  if (key == null) return respond(500, "the secret: " + gojinn.errorText);
  const headers = [new gojinn.Header("Authorization", "Bearer " + key), new gojinn.Header("Content-Type", "text/plain")];
  const response = gojinn.fetch(environment("API_URL="), "POST", headers, String.UTF8.encode("from AssemblyScript"));
  if (response == null) return respond(500, "the API: " + gojinn.errorText);

  const visits = new gojinn.KV("visits");
  const n = visits.increment("assemblyscript");
  if (gojinn.errorCode < 0) return respond(500, "the visits: " + gojinn.errorText);
  // The answer of the API is kept for later.
  if (!visits.set("assemblyscript/last", response.body, 60000)) return respond(500, "the last answer: " + gojinn.errorText);
  const last = visits.get("assemblyscript/last");
  if (last == null) return respond(500, "the last answer: " + gojinn.errorText);
  respond(response.status, String.UTF8.decode(last) + ", visit " + n.toString() + "\n");
}

/** The value of the variable that begins with a name and =. */
function environment(name: string): string {
  if (environ_sizes_get(scratch, scratch + 4) != 0) return "";
  const count = load<usize>(scratch);
  const pointers = new ArrayBuffer(<i32>count * 4);
  const text = new ArrayBuffer(load<i32>(scratch, 4));
  if (environ_get(changetype<usize>(pointers), changetype<usize>(text)) != 0) return "";
  for (let i: usize = 0; i < count; i++) {
    const pair = String.UTF8.decodeUnsafe(load<usize>(changetype<usize>(pointers) + i * 4), <usize>text.byteLength, true);
    if (pair.startsWith(name)) return pair.substring(name.length);
  }
  return "";
}

function respond(status: i32, body: string): void {
  const out = String.UTF8.encode(
    '{"status":' + status.toString() + ',"headers":{"Content-Type":["text/plain"]},"body":' + gojinn.quoted(body) + "}\n",
  );
  let at = changetype<usize>(out);
  let left = <usize>out.byteLength;
  while (left > 0) {
    store<usize>(scratch, at);
    store<usize>(scratch, left, 4);
    if (fd_write(1, scratch, 1, scratch + 8) != 0) return;
    at += load<usize>(scratch, 8);
    left -= load<usize>(scratch, 8);
  }
}
