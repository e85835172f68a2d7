//! Hashes and base64 of Zig's standard library, for main.c. native.h describes the functions.

const std = @import("std");
const sha1 = std.crypto.hash.Sha1;
const sha2 = std.crypto.hash.sha2;
const hmac = std.crypto.auth.hmac;

fn slice(ptr: ?[*]const u8, len: usize) []const u8 {
    return if (len == 0) &.{} else ptr.?[0..len];
}

fn digest(comptime H: type, out: [*]u8, in: []const u8) usize {
    H.hash(in, out[0..H.digest_length], .{});
    return H.digest_length;
}

fn mac(comptime H: type, out: [*]u8, in: []const u8, key: []const u8) usize {
    const M = hmac.Hmac(H);
    M.create(out[0..M.mac_length], in, key);
    return M.mac_length;
}

export fn native_digest(hash: c_int, out: [*]u8, in: ?[*]const u8, len: usize) usize {
    const bytes = slice(in, len);
    return switch (hash) {
        1 => digest(sha1, out, bytes),
        256 => digest(sha2.Sha256, out, bytes),
        384 => digest(sha2.Sha384, out, bytes),
        else => digest(sha2.Sha512, out, bytes),
    };
}

export fn native_hmac(hash: c_int, out: [*]u8, key: ?[*]const u8, key_len: usize, in: ?[*]const u8, len: usize) usize {
    const bytes = slice(in, len);
    const secret = slice(key, key_len);
    return switch (hash) {
        1 => mac(sha1, out, bytes, secret),
        256 => mac(sha2.Sha256, out, bytes, secret),
        384 => mac(sha2.Sha384, out, bytes, secret),
        else => mac(sha2.Sha512, out, bytes, secret),
    };
}

export fn native_base64_encode(out: [*]u8, in: ?[*]const u8, len: usize) void {
    const encoder = std.base64.standard.Encoder;
    _ = encoder.encode(out[0..encoder.calcSize(len)], slice(in, len));
}

export fn native_base64_decode(out: [*]u8, in: ?[*]const u8, len: usize) isize {
    const decoder = std.base64.standard.Decoder;
    const text = slice(in, len);
    const size = decoder.calcSizeForSlice(text) catch return -1;
    decoder.decode(out[0..size], text) catch return -1;
    return @intCast(size);
}
