//! Hello in Zig: a JSON request on stdin, a JSON response on stdout, with raw WASI calls and nothing of the standard library.
//!
//! Strings are decoded in place (decoded text is never longer than its escaped form), so a text is a slice of the input.
//! What is not used is skipped without being checked: the request comes from the host.

const wasi = struct {
    const Iovec = extern struct { at: [*]const u8, len: usize };

    extern "wasi_snapshot_preview1" fn args_sizes_get(count: *usize, size: *usize) u16;
    extern "wasi_snapshot_preview1" fn args_get(argv: [*][*:0]u8, text: [*]u8) u16;
    extern "wasi_snapshot_preview1" fn fd_read(fd: u32, iovecs: *const Iovec, count: usize, got: *usize) u16;
    extern "wasi_snapshot_preview1" fn fd_write(fd: u32, iovecs: *const Iovec, count: usize, put: *usize) u16;
    extern "wasi_snapshot_preview1" fn proc_exit(code: u32) noreturn;
};

const stdin = 0;
const stdout = 1;
const stderr = 2;

pub export fn _start() callconv(.c) void {
    reportArgs();
    var reader: Reader = .{ .rest = readAll(stdin) };
    const request = reader.request();

    var out: Writer = .{ .fd = stdout };
    out.text("{\"status\":200,\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":\"Hello from Zig: ");
    out.escaped(request.method);
    out.text(" ");
    out.escaped(request.uri);
    out.text(" trace=");
    out.escaped(request.trace_id);
    out.text("\\n\"}\n");
    out.flush();
}

/// The part of the request that this function looks at.
const Request = struct {
    method: []const u8 = "",
    uri: []const u8 = "",
    trace_id: []const u8 = "",
};

const Reader = struct {
    rest: []u8,

    fn request(in: *Reader) Request {
        var out: Request = .{};
        in.expect('{', "request: want a JSON object");
        if (in.peek() == '}') return out;
        while (true) {
            const key = in.string();
            in.expect(':', "request: want a colon after a key");
            if (equal(key, "method")) {
                out.method = in.text();
            } else if (equal(key, "uri")) {
                out.uri = in.text();
            } else if (equal(key, "trace_id")) {
                out.trace_id = in.text();
            } else {
                in.skipValue();
            }
            if (in.peek() == '}') return out;
            in.expect(',', "request: want a comma or the object's end");
        }
    }

    /// A string, or null for the empty one.
    fn text(in: *Reader) []const u8 {
        if (in.peek() != 'n') return in.string();
        if (in.rest.len < 4 or !equal(in.rest[0..4], "null")) fail("request: want a string");
        in.rest = in.rest[4..];
        return "";
    }

    fn string(in: *Reader) []const u8 {
        in.expect('"', "request: want a string");
        const start = in.rest;
        var len: usize = 0;
        while (true) {
            const c = in.take();
            switch (c) {
                '"' => return start[0..len],
                0...0x1f => fail("request: a control character inside a string"),
                '\\' => len += in.escape(start[len..]),
                else => {
                    start[len] = c;
                    len += 1;
                },
            }
        }
    }

    /// Decodes the escape whose backslash was taken to the start of `to`, and tells its length.
    fn escape(in: *Reader, to: []u8) usize {
        const c = in.take();
        to[0] = switch (c) {
            '"', '\\', '/' => c,
            'b' => 8,
            'f' => 12,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return encodeUtf8(in.codePoint(), to),
            else => fail("request: an unknown escape inside a string"),
        };
        return 1;
    }

    /// The code point of a \u escape whose "\u" was taken; a surrogate without its other half is U+FFFD.
    fn codePoint(in: *Reader) u32 {
        const high = in.hex4();
        if (high < 0xD800 or high > 0xDFFF) return high;
        if (high <= 0xDBFF and in.rest.len >= 2 and equal(in.rest[0..2], "\\u")) {
            var ahead: Reader = .{ .rest = in.rest[2..] };
            const low = ahead.hex4();
            if (low >= 0xDC00 and low <= 0xDFFF) {
                in.rest = ahead.rest;
                return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            }
        }
        return 0xFFFD;
    }

    fn hex4(in: *Reader) u32 {
        var value: u32 = 0;
        for (0..4) |_| {
            const c = in.take();
            value = value << 4 | switch (c) {
                '0'...'9' => c - '0',
                'a'...'f' => c - 'a' + 10,
                'A'...'F' => c - 'A' + 10,
                else => fail("request: a \\u escape wants four hex digits"),
            };
        }
        return value;
    }

    /// Takes one value of any type. Brackets are counted and not matched by kind, so depth costs no stack.
    fn skipValue(in: *Reader) void {
        var depth: usize = 0;
        while (true) {
            switch (in.peek()) {
                0 => fail("request: a value is cut off"),
                '"' => in.skipString(),
                '{', '[' => {
                    depth += 1;
                    _ = in.take();
                },
                '}', ']', ',', ':' => |c| {
                    if (depth == 0) fail("request: want a value");
                    if (c == '}' or c == ']') depth -= 1;
                    _ = in.take();
                },
                // A number, true, false or null.
                else => while (in.rest.len > 0 and !endsWord(in.rest[0])) {
                    in.rest = in.rest[1..];
                },
            }
            if (depth == 0) return;
        }
    }

    fn skipString(in: *Reader) void {
        _ = in.take();
        while (true) {
            const c = in.take();
            if (c == '"') return;
            if (c == '\\') _ = in.take();
        }
    }

    /// The next character that is not space, without taking it; 0 at the end.
    fn peek(in: *Reader) u8 {
        while (in.rest.len > 0) {
            switch (in.rest[0]) {
                ' ', '\t', '\n', '\r' => in.rest = in.rest[1..],
                else => return in.rest[0],
            }
        }
        return 0;
    }

    fn take(in: *Reader) u8 {
        if (in.rest.len == 0) fail("request: the JSON is cut off");
        const c = in.rest[0];
        in.rest = in.rest[1..];
        return c;
    }

    fn expect(in: *Reader, wanted: u8, reason: []const u8) void {
        if (in.peek() != wanted) fail(reason);
        in.rest = in.rest[1..];
    }
};

/// Collects output for `fd`; call `flush` at the end.
const Writer = struct {
    fd: u32,
    bytes: []u8 = &.{},
    len: usize = 0,

    fn text(out: *Writer, bytes: []const u8) void {
        for (bytes) |c| out.byte(c);
    }

    /// UTF-8 text as the inside of a JSON string.
    fn escaped(out: *Writer, bytes: []const u8) void {
        const hex = "0123456789abcdef";
        for (bytes) |c| switch (c) {
            '"', '\\' => {
                out.byte('\\');
                out.byte(c);
            },
            0...0x1f => {
                out.text("\\u00");
                out.byte(hex[c >> 4]);
                out.byte(hex[c & 15]);
            },
            else => out.byte(c),
        };
    }

    fn byte(out: *Writer, c: u8) void {
        if (out.bytes.len == 0) out.bytes = allocate(1);
        if (out.len == out.bytes.len) out.flush();
        out.bytes[out.len] = c;
        out.len += 1;
    }

    fn flush(out: *Writer) void {
        var rest: []const u8 = out.bytes[0..out.len];
        while (rest.len > 0) {
            var put: usize = 0;
            const errno = wasi.fd_write(out.fd, &.{ .at = rest.ptr, .len = rest.len }, 1, &put);
            if (errno != 0 or put == 0) wasi.proc_exit(1);
            rest = rest[put..];
        }
        out.len = 0;
    }
};

/// With --verbose among the arguments, writes them on stderr as a JSON array.
fn reportArgs() void {
    var count: usize = 0;
    var size: usize = 0;
    if (wasi.args_sizes_get(&count, &size) != 0) fail("the arguments cannot be read");
    const pointers = count * @sizeOf([*:0]u8);
    const room = allocate(pointers + size);
    const argv: [*][*:0]u8 = @ptrCast(@alignCast(room.ptr));
    if (wasi.args_get(argv, room.ptr + pointers) != 0) fail("the arguments cannot be read");

    var verbose = false;
    for (1..@max(count, 1)) |i| verbose = verbose or equal(span(argv[i]), "--verbose");
    if (!verbose) return;
    var line: Writer = .{ .fd = stderr };
    line.text("hello: verbose, args=[");
    for (1..count) |i| {
        line.text(if (i == 1) "\"" else ",\"");
        line.escaped(span(argv[i]));
        line.text("\"");
    }
    line.text("]\n");
    line.flush();
}

/// All of `fd`. The pages it grows the memory by lie side by side, so the input is one slice.
fn readAll(fd: u32) []u8 {
    var room = allocate(64 * 1024);
    var len: usize = 0;
    while (true) {
        if (len == room.len) room.len += allocate(room.len).len;
        var got: usize = 0;
        if (wasi.fd_read(fd, &.{ .at = room.ptr + len, .len = room.len - len }, 1, &got) != 0)
            fail("stdin cannot be read");
        if (got == 0) return room[0..len];
        len += got;
    }
}

/// Grows the memory by at least `len` bytes, in whole pages. Nothing is ever freed: the program serves one request.
fn allocate(len: usize) []u8 {
    const page = 64 * 1024;
    const pages = @max(1, (len + page - 1) / page);
    const old = @wasmMemoryGrow(0, pages);
    if (old < 0) fail("out of memory");
    const at: [*]u8 = @ptrFromInt(@as(usize, @intCast(old)) * page);
    return at[0 .. pages * page];
}

/// Ends the function without a response: the host answers 502 and logs the reason.
fn fail(reason: []const u8) noreturn {
    // Written piece by piece, without the Writer: the reason may be that there is no memory.
    for ([_][]const u8{ "hello: ", reason, "\n" }) |piece| {
        var put: usize = 0;
        _ = wasi.fd_write(stderr, &.{ .at = piece.ptr, .len = piece.len }, 1, &put);
    }
    wasi.proc_exit(1);
}

fn encodeUtf8(code: u32, to: []u8) usize {
    if (code < 0x80) {
        to[0] = @intCast(code);
        return 1;
    }
    const len: u5 = if (code < 0x800) 2 else if (code < 0x10000) 3 else 4;
    const lead = [_]u8{ 0xC0, 0xE0, 0xF0 };
    for (0..len) |i| {
        const shift: u5 = @intCast(6 * (len - 1 - i));
        const bits: u8 = @truncate(code >> shift);
        to[i] = if (i == 0) lead[len - 2] | bits else 0x80 | (bits & 0x3F);
    }
    return len;
}

fn endsWord(c: u8) bool {
    return switch (c) {
        ' ', '\t', '\r', '\n', '"', '{', '}', '[', ']', ',', ':' => true,
        else => false,
    };
}

fn equal(a: []const u8, b: []const u8) bool {
    if (a.len != b.len) return false;
    for (a, b) |x, y| if (x != y) return false;
    return true;
}

fn span(text: [*:0]const u8) []const u8 {
    var len: usize = 0;
    while (text[len] != 0) len += 1;
    return text[0..len];
}
