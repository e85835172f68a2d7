// crypto: random values, digests, and HMAC keys.

import { bytesOf, native } from "./native.js";

const hashes = { "SHA-1": 1, "SHA-256": 256, "SHA-384": 384, "SHA-512": 512 };
const blocks = { "SHA-1": 64, "SHA-256": 64, "SHA-384": 128, "SHA-512": 128 };

const unsupported = (what) => new DOMException(`${what} is not supported; there are SHA-1, SHA-256, SHA-384 and SHA-512, and HMAC`, "NotSupportedError");

const nameOf = (algorithm) => String(typeof algorithm === "object" && algorithm !== null ? algorithm.name : algorithm).toUpperCase();

function hashOf(algorithm) {
  const name = nameOf(algorithm);
  if (!Object.hasOwn(hashes, name)) throw unsupported(`the hash ${name}`);
  return name;
}

function copyOf(data) {
  const bytes = bytesOf(data);
  if (!bytes) throw new TypeError("the data must be an ArrayBuffer or a view of one");
  return bytes;
}

const base64url = (bytes) => native.base64Encode(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");

let secretOf;
let makeKey;

export class CryptoKey {
  #secret;
  constructor(key, secret, fields) {
    if (key !== makeKey) throw new TypeError("Illegal constructor");
    this.#secret = secret;
    Object.assign(this, fields);
    Object.freeze(this);
  }
  static {
    makeKey = Symbol();
    secretOf = (key) => {
      if (!(key instanceof CryptoKey)) throw new TypeError("a CryptoKey is needed");
      return key.#secret;
    };
  }
  get [Symbol.toStringTag]() {
    return "CryptoKey";
  }
}

function hmacKey(secret, algorithm, extractable, usages) {
  const hash = hashOf(algorithm.hash);
  usages = [...new Set([...usages].map(String))];
  if (usages.some((usage) => usage !== "sign" && usage !== "verify")) {
    throw new DOMException("a key of HMAC is for sign and verify only", "SyntaxError");
  }
  if (usages.length === 0) throw new DOMException("a key needs at least one usage", "SyntaxError");
  return new CryptoKey(makeKey, secret, {
    type: "secret",
    extractable: !!extractable,
    algorithm: Object.freeze({ name: "HMAC", hash: Object.freeze({ name: hash }), length: secret.length * 8 }),
    usages: Object.freeze(usages),
  });
}

function hmac(algorithm, key, usage, data) {
  const secret = secretOf(key);
  if (nameOf(algorithm) !== "HMAC") throw unsupported(`the algorithm ${nameOf(algorithm)}`);
  if (!key.usages.includes(usage)) throw new DOMException(`the key is not for ${usage}`, "InvalidAccessError");
  return native.digest(hashes[key.algorithm.hash.name], copyOf(data), secret);
}

export class SubtleCrypto {
  constructor(key) {
    if (key !== makeKey) throw new TypeError("Illegal constructor");
  }
  async digest(algorithm, data) {
    return native.digest(hashes[hashOf(algorithm)], copyOf(data)).buffer;
  }
  async importKey(format, data, algorithm, extractable, usages) {
    if (nameOf(algorithm) !== "HMAC") throw unsupported(`the algorithm ${nameOf(algorithm)}`);
    let secret;
    if (format === "raw") secret = copyOf(data).slice();
    else if (format === "jwk") {
      if (data?.kty !== "oct" || typeof data.k !== "string") throw new DOMException("the JWK is not a secret key", "DataError");
      const text = data.k.replace(/-/g, "+").replace(/_/g, "/");
      secret = native.base64Decode(text.padEnd(Math.ceil(text.length / 4) * 4, "="));
      if (!secret) throw new DOMException("k of the JWK is not base64url", "DataError");
    } else throw unsupported(`the format ${format}`);
    if (secret.length === 0) throw new DOMException("a key must not be empty", "DataError");
    return hmacKey(secret, algorithm, extractable, usages);
  }
  async generateKey(algorithm, extractable, usages) {
    if (nameOf(algorithm) !== "HMAC") throw unsupported(`the algorithm ${nameOf(algorithm)}`);
    const bits = algorithm.length ?? blocks[hashOf(algorithm.hash)] * 8;
    if (!(bits > 0) || bits % 8 !== 0) throw new DOMException("the length of a key must be a multiple of 8 bits", "OperationError");
    const secret = new Uint8Array(bits / 8);
    native.random(secret);
    return hmacKey(secret, algorithm, extractable, usages);
  }
  async exportKey(format, key) {
    const secret = secretOf(key);
    if (!key.extractable) throw new DOMException("the key is not extractable", "InvalidAccessError");
    if (format === "raw") return secret.slice().buffer;
    if (format !== "jwk") throw unsupported(`the format ${format}`);
    return {
      kty: "oct", k: base64url(secret), alg: key.algorithm.hash.name.replace("SHA-", "HS"), key_ops: [...key.usages], ext: true,
    };
  }
  async sign(algorithm, key, data) {
    return hmac(algorithm, key, "sign", data).buffer;
  }
  async verify(algorithm, key, signature, data) {
    const expected = hmac(algorithm, key, "verify", data);
    const given = copyOf(signature);
    // Every byte is compared, so that the time does not show where the first difference is.
    let different = expected.length ^ given.length;
    for (let i = 0; i < expected.length; i++) different |= expected[i] ^ given[i];
    return different === 0;
  }
}
for (const name of ["encrypt", "decrypt", "deriveBits", "deriveKey", "wrapKey", "unwrapKey"]) {
  SubtleCrypto.prototype[name] = async () => {
    throw unsupported(`crypto.subtle.${name}`);
  };
}

const integers = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array];
const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export class Crypto {
  #subtle = new SubtleCrypto(makeKey);
  constructor(key) {
    if (key !== makeKey) throw new TypeError("Illegal constructor");
  }
  get subtle() {
    return this.#subtle;
  }
  getRandomValues(array) {
    if (!integers.some((type) => array instanceof type)) {
      throw new DOMException("getRandomValues needs an array of integers", "TypeMismatchError");
    }
    if (array.byteLength > 65536) {
      throw new DOMException(`getRandomValues gives at most 65536 bytes at a time, not ${array.byteLength}`, "QuotaExceededError");
    }
    native.random(array);
    return array;
  }
  randomUUID() {
    const bytes = new Uint8Array(16);
    native.random(bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const text = Array.from(bytes, (byte) => hex[byte]).join("");
    return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(20)}`;
  }
  get [Symbol.toStringTag]() {
    return "Crypto";
  }
}

export const crypto = new Crypto(makeKey);
