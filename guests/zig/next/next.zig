//! Lets each request go on to Caddy's next handler, changed in each way that there is, in Zig.

const std = @import("std");
const gojinn = @import("gojinn");

const wasi = struct {
    const Iovec = extern struct { at: [*]const u8, len: usize };

    extern "wasi_snapshot_preview1" fn fd_read(fd: u32, iovecs: *const Iovec, count: usize, got: *usize) u16;
    extern "wasi_snapshot_preview1" fn fd_write(fd: u32, iovecs: *const Iovec, count: usize, put: *usize) u16;
};

pub export fn _start() callconv(.c) void {
    // This function changes each request alike, so it only reads to the end.
    var ignored: [4096]u8 = undefined;
    var got: usize = 1;
    while (got > 0) {
        const buffer: wasi.Iovec = .{ .at = &ignored, .len = ignored.len };
        if (wasi.fd_read(0, &buffer, 1, &got) != 0) break;
    }
    var rest: []const u8 = gojinn.next(std.heap.wasm_allocator, .{
        .method = "PUT",
        .uri = "/v2/zig?a=b",
        .headers = &.{
            .{ .name = "X-Language", .value = "Zig" },
            .{ .name = "X-Two", .value = "1" },
            .{ .name = "Cookie", .value = null },
            .{ .name = "x-two", .value = "2" },
        },
        .vars = &.{.{ .name = "language", .value = "Zig" }},
        .response_headers = &.{
            .{ .name = "X-Frame-Options", .value = "DENY" },
            .{ .name = "Link", .value = "</a>; rel=\"preload\"" },
            .{ .name = "Link", .value = "</b>" },
            .{ .name = "Server", .value = null },
        },
    }) catch return;
    while (rest.len > 0) {
        var put: usize = 0;
        const buffer: wasi.Iovec = .{ .at = rest.ptr, .len = rest.len };
        if (wasi.fd_write(1, &buffer, 1, &put) != 0) return;
        rest = rest[put..];
    }
}
