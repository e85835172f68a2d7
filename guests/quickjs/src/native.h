// What native.zig exports: hashes and base64 of Zig's standard library.

#include <stddef.h>
#include <stdint.h>

// Writes the hash of in to out, which has room for 64 bytes. hash is 1, 256, 384 or 512. Returns the hash's length.
size_t native_digest(int hash, uint8_t *out, const uint8_t *in, size_t len);
// The same for the HMAC with that hash.
size_t native_hmac(int hash, uint8_t *out, const uint8_t *key, size_t key_len, const uint8_t *in, size_t len);
// Writes the base64 of in, (len + 2) / 3 * 4 characters.
void native_base64_encode(char *out, const uint8_t *in, size_t len);
// Returns the number of bytes, at most len / 4 * 3, or -1 if it is not standard base64 with padding.
ptrdiff_t native_base64_decode(uint8_t *out, const char *in, size_t len);
