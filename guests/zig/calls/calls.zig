//! Calls an API and counts visits, in Zig: the key of the API is a secret, and the number of visits is in a key-value store.

const std = @import("std");
const gojinn = @import("gojinn");

const wasi = struct {
    const Iovec = extern struct { at: [*]const u8, len: usize };

    extern "wasi_snapshot_preview1" fn environ_sizes_get(count: *usize, size: *usize) u16;
    extern "wasi_snapshot_preview1" fn environ_get(environ: [*][*:0]u8, text: [*]u8) u16;
    extern "wasi_snapshot_preview1" fn fd_read(fd: u32, iovecs: *const Iovec, count: usize, got: *usize) u16;
    extern "wasi_snapshot_preview1" fn fd_write(fd: u32, iovecs: *const Iovec, count: usize, put: *usize) u16;
};

/// Nothing is freed: the sandbox is made again for each request.
const allocator = std.heap.wasm_allocator;

pub export fn _start() callconv(.c) void {
    // This function answers each request alike, so it only reads to the end.
    var ignored: [4096]u8 = undefined;
    var got: usize = 1;
    while (got > 0) {
        const buffer: wasi.Iovec = .{ .at = &ignored, .len = ignored.len };
        if (wasi.fd_read(0, &buffer, 1, &got) != 0) break;
    }
    answer() catch |err| {
        var text: gojinn.Text = .{ .allocator = allocator };
        text.add(@errorName(err)) catch return;
        text.add(": ") catch return;
        text.add(gojinn.errorText()) catch return;
        respond(500, text.bytes.items) catch return;
    };
}

fn answer() gojinn.Error!void {
    var bearer: gojinn.Text = .{ .allocator = allocator };
    try bearer.add("Bearer ");
    try bearer.add(try gojinn.secret(allocator, "API_KEY"));
    const response = try gojinn.fetch(allocator, .{
        .method = "POST",
        .url = try environment("API_URL="),
        .headers = &.{ .{ .name = "Authorization", .value = bearer.bytes.items }, .{ .name = "Content-Type", .value = "text/plain" } },
        .body = "from Zig",
    });

    const visits: gojinn.Kv = .{ .store = "visits", .allocator = allocator };
    const n = try visits.increment("zig", 1, 0);
    // The answer of the API is kept for later.
    try visits.set("zig/last", response.body, 60_000);
    var body: gojinn.Text = .{ .allocator = allocator };
    try body.add(try visits.get("zig/last") orelse "");
    try body.add(", visit ");
    try body.number(n);
    try body.add("\n");
    try respond(response.status, body.bytes.items);
}

/// The value of the variable that begins with a name and =.
fn environment(name: []const u8) gojinn.Error![]const u8 {
    var count: usize = 0;
    var size: usize = 0;
    if (wasi.environ_sizes_get(&count, &size) != 0 or count == 0) return "";
    const variables = try allocator.alloc([*:0]u8, count);
    const text = try allocator.alloc(u8, size);
    if (wasi.environ_get(variables.ptr, text.ptr) != 0) return "";
    for (variables) |variable| {
        const pair = std.mem.span(variable);
        if (std.mem.startsWith(u8, pair, name)) return pair[name.len..];
    }
    return "";
}

fn respond(status: u16, body: []const u8) gojinn.Error!void {
    var out: gojinn.Text = .{ .allocator = allocator };
    try out.add("{\"status\":");
    try out.number(status);
    try out.add(",\"headers\":{\"Content-Type\":[\"text/plain\"]},\"body\":");
    try out.string(body);
    try out.add("}\n");
    var rest: []const u8 = out.bytes.items;
    while (rest.len > 0) {
        var put: usize = 0;
        const buffer: wasi.Iovec = .{ .at = rest.ptr, .len = rest.len };
        if (wasi.fd_write(1, &buffer, 1, &put) != 0) return;
        rest = rest[put..];
    }
}
