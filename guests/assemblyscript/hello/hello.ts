// Hello in AssemblyScript: a JSON request on stdin, a JSON response on stdout, with hand-declared WASI imports.
//
// What is not used is skipped without being checked: the request comes from the host.

@external("wasi_snapshot_preview1", "args_sizes_get")
declare function args_sizes_get(count: usize, size: usize): u16;
@external("wasi_snapshot_preview1", "args_get")
declare function args_get(argv: usize, text: usize): u16;
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: u32, iovecs: usize, count: usize, got: usize): u16;
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: u32, iovecs: usize, count: usize, put: usize): u16;
@external("wasi_snapshot_preview1", "proc_exit")
declare function proc_exit(code: u32): void;

const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/** Where the WASI calls find an iovec (address, length) and leave their result. */
const scratch = memory.data(16);

export function _start(): void {
  reportArgs();
  const request = new Reader(readAll(STDIN)).request();
  const body = "Hello from AssemblyScript: " + request.method + " " + request.uri + " trace=" + request.traceId + "\n";
  write(STDOUT, '{"status":200,"headers":{"Content-Type":["text/plain"]},"body":' + quoted(body) + "}\n");
}

/** The part of the request that this function looks at. */
class Request {
  method: string = "";
  uri: string = "";
  traceId: string = "";
}

/** Reads the JSON it is asked for. */
class Reader {
  private at: i32 = 0;

  constructor(private source: string) {}

  request(): Request {
    const request = new Request();
    this.expect(Char.OpenBrace, "request: want a JSON object");
    if (this.peek() == Char.CloseBrace) return request;
    while (true) {
      const key = this.string();
      this.expect(Char.Colon, "request: want a colon after a key");
      if (key == "method") request.method = this.text();
      else if (key == "uri") request.uri = this.text();
      else if (key == "trace_id") request.traceId = this.text();
      else this.skipValue();
      if (this.peek() == Char.CloseBrace) return request;
      this.expect(Char.Comma, "request: want a comma or the object's end");
    }
  }

  /** A string, or null for the empty one. */
  private text(): string {
    if (this.peek() != Char.n) return this.string();
    if (this.source.substr(this.at, 4) != "null") fail("request: want a string");
    this.at += 4;
    return "";
  }

  private string(): string {
    this.expect(Char.Quote, "request: want a string");
    let out = "";
    let plain = this.at;
    while (true) {
      const c = this.take();
      if (c == Char.Quote) return out + this.source.substring(plain, this.at - 1);
      if (c < 0x20) fail("request: a control character inside a string");
      if (c == Char.Backslash) {
        out += this.source.substring(plain, this.at - 1) + this.escape();
        plain = this.at;
      }
    }
  }

  /** The character of an escape whose backslash was taken. Strings are UTF-16, so each half of a surrogate pair is one character. */
  private escape(): string {
    const c = this.take();
    switch (c) {
      case Char.Quote:
      case Char.Backslash:
      case Char.Slash: return String.fromCharCode(c);
      case Char.b: return "\b";
      case Char.f: return "\f";
      case Char.n: return "\n";
      case Char.r: return "\r";
      case Char.t: return "\t";
      case Char.u: return String.fromCharCode(this.hex4());
    }
    fail("request: an unknown escape inside a string");
    return "";
  }

  private hex4(): i32 {
    let value = 0;
    for (let i = 0; i < 4; i++) {
      const c = this.take();
      const lower = c | 32;
      if (c >= 0x30 && c <= 0x39) value = (value << 4) | (c - 0x30);
      else if (lower >= 0x61 && lower <= 0x66) value = (value << 4) | (lower - 0x61 + 10);
      else fail("request: a \\u escape wants four hex digits");
    }
    return value;
  }

  /** Takes one value of any type. Brackets are counted and not matched by kind, so depth costs no stack. */
  private skipValue(): void {
    let depth = 0;
    do {
      const c = this.peek();
      switch (c) {
        case Char.Quote:
          this.skipString();
          break;
        case Char.OpenBrace:
        case Char.OpenBracket:
          depth++;
          this.at++;
          break;
        case Char.CloseBrace:
        case Char.CloseBracket:
        case Char.Comma:
        case Char.Colon:
          if (depth == 0) fail("request: want a value");
          if (c == Char.CloseBrace || c == Char.CloseBracket) depth--;
          this.at++;
          break;
        case 0:
          fail("request: a value is cut off");
        default: // A number, true, false or null.
          while (this.at < this.source.length && !endsWord(this.source.charCodeAt(this.at))) this.at++;
      }
    } while (depth > 0);
  }

  private skipString(): void {
    this.at++;
    for (let c = this.take(); c != Char.Quote; c = this.take()) {
      if (c == Char.Backslash) this.at++;
    }
  }

  /** The next character that is not space, without taking it; 0 at the end. */
  private peek(): i32 {
    for (; this.at < this.source.length; this.at++) {
      const c = this.source.charCodeAt(this.at);
      if (!isSpace(c)) return c;
    }
    return 0;
  }

  private take(): i32 {
    if (this.at >= this.source.length) fail("request: the JSON is cut off");
    return this.source.charCodeAt(this.at++);
  }

  private expect(wanted: i32, reason: string): void {
    if (this.peek() != wanted) fail(reason);
    this.at++;
  }
}

const enum Char {
  Quote = 0x22,
  Comma = 0x2c,
  Slash = 0x2f,
  Colon = 0x3a,
  OpenBracket = 0x5b,
  Backslash = 0x5c,
  CloseBracket = 0x5d,
  b = 0x62,
  f = 0x66,
  n = 0x6e,
  r = 0x72,
  t = 0x74,
  u = 0x75,
  OpenBrace = 0x7b,
  CloseBrace = 0x7d,
}

/** Text as a JSON string, with its quotes. */
function quoted(text: string): string {
  let out = '"';
  let plain = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 0x20 && c != Char.Quote && c != Char.Backslash) continue;
    out += text.substring(plain, i);
    out += c < 0x20 ? (c < 0x10 ? "\\u000" : "\\u00") + c.toString(16) : "\\" + String.fromCharCode(c);
    plain = i + 1;
  }
  return out + text.substring(plain) + '"';
}

/** With --verbose among the arguments, writes them on stderr as a JSON array. */
function reportArgs(): void {
  if (args_sizes_get(scratch, scratch + 4) != 0) fail("the arguments cannot be read");
  const count = load<u32>(scratch);
  const argv = new StaticArray<u32>(count);
  const text = new StaticArray<u8>(load<u32>(scratch, 4));
  if (args_get(changetype<usize>(argv), changetype<usize>(text)) != 0) fail("the arguments cannot be read");

  let verbose = false;
  let list = "";
  for (let i: u32 = 1; i < count; i++) {
    const start = <usize>argv[i];
    let end = start;
    while (load<u8>(end) != 0) end++;
    const arg = String.UTF8.decodeUnsafe(start, end - start);
    verbose = verbose || arg == "--verbose";
    list += (i == 1 ? "" : ",") + quoted(arg);
  }
  if (verbose) write(STDERR, "hello: verbose, args=[" + list + "]\n");
}

/** All of `fd`, as text. */
function readAll(fd: u32): string {
  let room = new ArrayBuffer(64 * 1024);
  let length = 0;
  while (true) {
    if (length == room.byteLength) {
      const larger = new ArrayBuffer(2 * length);
      memory.copy(changetype<usize>(larger), changetype<usize>(room), length);
      room = larger;
    }
    store<u32>(scratch, changetype<usize>(room) + length);
    store<u32>(scratch, room.byteLength - length, 4);
    if (fd_read(fd, scratch, 1, scratch + 8) != 0) fail("stdin cannot be read");
    const got = load<u32>(scratch, 8);
    if (got == 0) return String.UTF8.decodeUnsafe(changetype<usize>(room), length);
    length += got;
  }
}

/** Writes text as UTF-8; half of a surrogate pair becomes U+FFFD. */
function write(fd: u32, text: string): void {
  const bytes = String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE);
  for (let done = 0; done < bytes.byteLength; ) {
    store<u32>(scratch, changetype<usize>(bytes) + done);
    store<u32>(scratch, bytes.byteLength - done, 4);
    if (fd_write(fd, scratch, 1, scratch + 8) != 0 || load<u32>(scratch, 8) == 0) proc_exit(1);
    done += load<u32>(scratch, 8);
  }
}

/** Ends the function without a response: the host answers 502 and logs the reason. */
function fail(reason: string): void {
  write(STDERR, "hello: " + reason + "\n");
  proc_exit(1);
}

function isSpace(c: i32): bool {
  return c == 0x20 || c == 0x09 || c == 0x0a || c == 0x0d;
}

function endsWord(c: i32): bool {
  switch (c) {
    case Char.Quote:
    case Char.Comma:
    case Char.Colon:
    case Char.OpenBrace:
    case Char.CloseBrace:
    case Char.OpenBracket:
    case Char.CloseBracket:
      return true;
  }
  return isSpace(c);
}
