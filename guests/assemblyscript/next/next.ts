// Lets each request go on to Caddy's next handler, changed in each way that there is, in AssemblyScript.

import * as gojinn from "../gojinn";

@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: u32, iovecs: usize, count: usize, got: usize): u16;
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: u32, iovecs: usize, count: usize, put: usize): u16;

/** Where the WASI calls find an iovec (address, length) and leave their result. */
const scratch = memory.data(16);
const ignored = memory.data(4096);

export function _start(): void {
  // This function changes each request alike, so it only reads to the end.
  do {
    store<usize>(scratch, ignored);
    store<usize>(scratch, 4096, 4);
    store<usize>(scratch, 0, 8);
  } while (fd_read(0, scratch, 1, scratch + 8) == 0 && load<usize>(scratch, 8) > 0);

  const next = new gojinn.Next();
  next.method = "PUT";
  next.uri = "/v2/assemblyscript?a=b";
  next.setHeader("X-Language", "AssemblyScript");
  next.setHeader("X-Two", "1");
  next.removeHeader("Cookie");
  next.addHeader("x-two", "2");
  next.setVar("language", "AssemblyScript");
  next.setResponseHeader("X-Frame-Options", "DENY");
  next.setResponseHeader("Link", '</a>; rel="preload"');
  next.addResponseHeader("Link", "</b>");
  next.removeResponseHeader("Server");
  write(String.UTF8.encode(next.toString()));
}

function write(out: ArrayBuffer): void {
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
