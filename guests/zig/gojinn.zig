//! Calls of Gojinn's operations from Zig: HTTP requests, key-value stores and secrets; and the response that lets a request go on
//! to Caddy's next handler.
//!
//! docs/outbound.md describes the operations and the codes, docs/middleware.md the response. What a function returns was allocated with the allocator that it got,
//! and is the caller's. After an error, `errorText` is the host's text.

const std = @import("std");

const host = struct {
    extern "gojinn" fn call(operation: [*]const u8, operation_len: usize, request: [*]const u8, request_len: usize) i32;
    extern "gojinn" fn reply(bytes: [*]u8, len: usize) i32;
};

pub const Error = error{ Unknown, Denied, BadRequest, Failed, TooLarge, NotNow, NotFound, OutOfMemory };

var error_buffer: [1024]u8 = undefined;
var error_len: usize = 0;

/// The host's text of the last error.
pub fn errorText() []const u8 {
    return error_buffer[0..error_len];
}

fn errorOf(code: i32) Error {
    return switch (code) {
        -1 => error.Unknown,
        -2 => error.Denied,
        -3 => error.BadRequest,
        -5 => error.TooLarge,
        -6 => error.NotNow,
        -7 => error.NotFound,
        else => error.Failed,
    };
}

/// Calls an operation by its name. The functions below do it for their operations.
pub fn call(allocator: std.mem.Allocator, operation: []const u8, request: []const u8) Error![]u8 {
    const n = host.call(operation.ptr, operation.len, request.ptr, request.len);
    if (n < 0) {
        error_len = @intCast(@max(host.reply(&error_buffer, error_buffer.len), 0));
        return errorOf(n);
    }
    const bytes = try allocator.alloc(u8, @intCast(n));
    _ = host.reply(bytes.ptr, bytes.len);
    return bytes;
}

/// A text that grows: a request, or the response of the function.
pub const Text = struct {
    allocator: std.mem.Allocator,
    bytes: std.ArrayList(u8) = .empty,

    pub fn add(self: *Text, more: []const u8) Error!void {
        try self.bytes.appendSlice(self.allocator, more);
    }

    /// Adds a JSON string. The text is UTF-8.
    pub fn string(self: *Text, text: []const u8) Error!void {
        const digits = "0123456789abcdef";
        try self.add("\"");
        for (text) |c| {
            switch (c) {
                '"', '\\' => try self.add(&.{ '\\', c }),
                0...0x1f => try self.add(&.{ '\\', 'u', '0', '0', digits[c >> 4], digits[c & 15] }),
                else => try self.add(&.{c}),
            }
        }
        try self.add("\"");
    }

    pub fn number(self: *Text, n: i64) Error!void {
        var digits: [20]u8 = undefined;
        var rest: u64 = @abs(n);
        var at: usize = digits.len;
        while (at == digits.len or rest > 0) {
            at -= 1;
            digits[at] = '0' + @as(u8, @intCast(rest % 10));
            rest /= 10;
        }
        if (n < 0) try self.add("-");
        try self.add(digits[at..]);
    }

    pub fn free(self: *Text) void {
        self.bytes.deinit(self.allocator);
    }
};

/// The JSON object of a reply, and the bytes behind it.
const Parts = struct { head: []const u8, body: []u8 };

fn split(reply: []u8) Parts {
    for (reply, 0..) |c, i| {
        if (c == '\n') return .{ .head = reply[0..i], .body = reply[i + 1 ..] };
    }
    return .{ .head = reply, .body = reply[reply.len..] };
}

/// What begins the value of a key in a JSON object, or nothing. Keys of objects inside of it do not count.
pub fn field(object: []const u8, key: []const u8) []const u8 {
    var depth: usize = 0;
    var i: usize = 0;
    while (i < object.len) : (i += 1) {
        switch (object[i]) {
            '{', '[' => depth += 1,
            '}', ']' => depth -|= 1,
            '"' => {
                const start = i + 1;
                i = start;
                while (i < object.len and object[i] != '"') : (i += 1) {
                    if (object[i] == '\\') i += 1;
                }
                if (i + 1 >= object.len) return "";
                if (depth == 1 and object[i + 1] == ':' and std.mem.eql(u8, object[start..i], key)) return object[i + 2 ..];
            },
            else => {},
        }
    }
    return "";
}

/// The number with which a text begins.
fn parse(text: []const u8) i64 {
    var value: i64 = 0;
    const negative = text.len > 0 and text[0] == '-';
    for (text[@intFromBool(negative)..]) |c| {
        if (c < '0' or c > '9') break;
        // Down from 0, because the smallest number has no positive counterpart.
        value = value *% 10 -% (c - '0');
    }
    return if (negative) value else -%value;
}

pub const Header = struct { name: []const u8, value: []const u8 };

pub const Request = struct {
    method: []const u8 = "GET",
    url: []const u8,
    headers: []const Header = &.{},
    body: []const u8 = "",
    /// 0 for the time of the Caddyfile.
    timeout_ms: i64 = 0,
    /// Return a redirect, in place of following it.
    manual: bool = false,
};

pub const Response = struct {
    status: u16,
    /// The JSON object with `status`, `url` and `headers`.
    head: []const u8,
    body: []const u8,
};

/// Sends a request to a server that the Caddyfile allows.
pub fn fetch(allocator: std.mem.Allocator, request: Request) Error!Response {
    var text: Text = .{ .allocator = allocator };
    defer text.free();
    try text.add("{\"method\":");
    try text.string(request.method);
    try text.add(",\"url\":");
    try text.string(request.url);
    try text.add(",\"headers\":{");
    for (request.headers, 0..) |header, i| {
        if (i > 0) try text.add(",");
        try text.string(header.name);
        try text.add(":");
        try text.string(header.value);
    }
    try text.add("}");
    if (request.manual) try text.add(",\"redirect\":\"manual\"");
    if (request.timeout_ms != 0) {
        try text.add(",\"timeout_ms\":");
        try text.number(request.timeout_ms);
    }
    try text.add("}\n");
    try text.add(request.body);
    const parts = split(try call(allocator, "http.send", text.bytes.items));
    const status = parse(field(parts.head, "status"));
    return .{ .status = @intCast(status), .head = parts.head, .body = parts.body };
}

/// A key-value store that the Caddyfile gives to the function.
pub const Kv = struct {
    store: []const u8,
    allocator: std.mem.Allocator,

    /// Calls an operation on a key. more is a part of the JSON object, and body and rest are the bytes behind it.
    fn ask(self: Kv, operation: []const u8, key: []const u8, ttl_ms: i64, more: []const u8, body: []const u8, rest: []const u8) Error!Parts {
        var text: Text = .{ .allocator = self.allocator };
        defer text.free();
        try text.add("{\"store\":");
        try text.string(self.store);
        try text.add(",\"key\":");
        try text.string(key);
        if (ttl_ms != 0) {
            try text.add(",\"ttl_ms\":");
            try text.number(ttl_ms);
        }
        try text.add(more);
        try text.add("}\n");
        try text.add(body);
        try text.add(rest);
        return split(try call(self.allocator, operation, text.bytes.items));
    }

    /// The value of a key, or null if there is none.
    pub fn get(self: Kv, key: []const u8) Error!?[]u8 {
        const parts = self.ask("kv.get", key, 0, "", "", "") catch |err| {
            return if (err == error.NotFound) null else err;
        };
        return parts.body;
    }

    /// Sets the value of a key, which is deleted after ttl_ms milliseconds, or stays if that is 0.
    pub fn set(self: Kv, key: []const u8, value: []const u8, ttl_ms: i64) Error!void {
        _ = try self.ask("kv.set", key, ttl_ms, "", value, "");
    }

    /// Deletes a key. It is no error if there is none.
    pub fn delete(self: Kv, key: []const u8) Error!void {
        _ = try self.ask("kv.delete", key, 0, "", "", "");
    }

    pub fn exists(self: Kv, key: []const u8) Error!bool {
        const parts = try self.ask("kv.exists", key, 0, "", "", "");
        return std.mem.startsWith(u8, field(parts.head, "exists"), "true");
    }

    /// Adds delta to the number that is the value of a key. A missing key is 0, and gets the time ttl_ms.
    pub fn increment(self: Kv, key: []const u8, delta: i64, ttl_ms: i64) Error!i64 {
        var more: Text = .{ .allocator = self.allocator };
        defer more.free();
        try more.add(",\"delta\":");
        try more.number(delta);
        const parts = try self.ask("kv.increment", key, ttl_ms, more.bytes.items, "", "");
        return parse(field(parts.head, "value"));
    }

    /// Sets the value of a key if the present one is expected; if that is null, the key must not exist.
    pub fn compareAndSwap(self: Kv, key: []const u8, expected: ?[]const u8, value: []const u8) Error!bool {
        var more: Text = .{ .allocator = self.allocator };
        defer more.free();
        try more.add(",\"expect\":");
        if (expected) |bytes| try more.number(@intCast(bytes.len)) else try more.add("null");
        const parts = try self.ask("kv.compare_and_swap", key, 0, more.bytes.items, expected orelse "", value);
        return std.mem.startsWith(u8, field(parts.head, "swapped"), "true");
    }
};

/// A secret that the Caddyfile gives to the function.
pub fn secret(allocator: std.mem.Allocator, name: []const u8) Error![]u8 {
    var text: Text = .{ .allocator = allocator };
    defer text.free();
    try text.add("{\"name\":");
    try text.string(name);
    try text.add("}\n");
    return split(try call(allocator, "secret.get", text.bytes.items)).body;
}

/// A header that is set, or removed if its value is null.
pub const Change = struct { name: []const u8, value: ?[]const u8 };

/// How a request changes that goes on to Caddy's next handler in place of being answered. What is empty changes nothing.
pub const Next = struct {
    method: []const u8 = "",
    /// Path and query, percent-encoded.
    uri: []const u8 = "",
    /// Headers of the request. Several of one name are several values.
    headers: []const Change = &.{},
    /// {http.vars.NAME} of later handlers. The last one of a name counts.
    vars: []const Header = &.{},
    /// Headers of the response, whichever handler writes it.
    response_headers: []const Change = &.{},
};

/// The response of a function that lets the request go on. Write it to stdout, as any response.
pub fn next(allocator: std.mem.Allocator, changes: Next) Error![]u8 {
    var out: Text = .{ .allocator = allocator };
    errdefer out.free();
    try out.add("{\"next\":true");
    if (changes.method.len > 0) {
        try out.add(",\"method\":");
        try out.string(changes.method);
    }
    if (changes.uri.len > 0) {
        try out.add(",\"uri\":");
        try out.string(changes.uri);
    }
    try addChanges(&out, ",\"headers\":{", changes.headers);
    var before: []const u8 = ",\"vars\":{";
    for (changes.vars, 1..) |v, after| {
        const again = for (changes.vars[after..]) |later| {
            if (std.mem.eql(u8, later.name, v.name)) break true;
        } else false;
        if (again) continue;
        try out.add(before);
        try out.string(v.name);
        try out.add(":");
        try out.string(v.value);
        before = ",";
    }
    if (changes.vars.len > 0) try out.add("}");
    try addChanges(&out, ",\"response_headers\":{", changes.response_headers);
    try out.add("}\n");
    return out.bytes.toOwnedSlice(allocator);
}

/// Adds a JSON object of headers: each name with an array of its values, which is empty if the header is removed.
fn addChanges(out: *Text, start: []const u8, changes: []const Change) Error!void {
    if (changes.len == 0) return;
    try out.add(start);
    for (changes, 0..) |change, i| {
        const seen = for (changes[0..i]) |earlier| {
            if (std.ascii.eqlIgnoreCase(earlier.name, change.name)) break true;
        } else false;
        if (seen) continue;
        if (i > 0) try out.add(",");
        try out.string(change.name);
        try out.add(":[");
        var before: []const u8 = "";
        for (changes[i..]) |other| {
            const value = other.value orelse continue;
            if (!std.ascii.eqlIgnoreCase(other.name, change.name)) continue;
            try out.add(before);
            try out.string(value);
            before = ",";
        }
        try out.add("]");
    }
    try out.add("}");
}
