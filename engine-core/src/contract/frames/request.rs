//! Writes a request as the frame that a guest reads.

use super::super::{Request, passing, target};
use super::{MAGIC, REQUEST_HEAD};

/// See [`write_request`](super::write_request).
pub(super) fn write(out: &mut Vec<u8>, request: &Request<'_>) {
    let mut respelled = Vec::new();
    let headers = passing::headers(request, &mut respelled);
    let bytes: usize = headers
        .iter()
        .map(|header| 8 + header.name.len() + header.value.len())
        .sum();
    out.reserve(512 + bytes + request.body.len());

    let start = out.len();
    // The lengths are filled in when they are known: a URI is longer if bytes of it are percent-encoded.
    out.resize(start + REQUEST_HEAD + 8 * headers.len(), 0);
    put(out, start, u32::from_le_bytes(MAGIC) as usize);
    let mut field = start + 8;
    for (bytes, is_uri) in [
        (request.method, false),
        (request.uri, true),
        (request.trace_id, false),
        (request.remote_addr, false),
        (request.client_ip, false),
        (request.scheme, false),
        (request.host, false),
        (request.proto, false),
        (request.original_uri, true),
    ] {
        let before = out.len();
        if is_uri {
            uri(out, bytes);
        } else {
            out.extend_from_slice(bytes);
        }
        let length = out.len() - before;
        put(out, field, length);
        field += 4;
    }
    put(out, field, headers.len());
    put(out, field + 4, request.body.len());
    let mut entry = start + REQUEST_HEAD;
    for header in &headers {
        put(out, entry, header.name.len());
        put(out, entry + 4, header.value.len());
        entry += 8;
        out.extend_from_slice(header.name);
        out.extend_from_slice(header.value);
    }
    out.extend_from_slice(request.body);
    let length = out.len() - start;
    put(out, start + 4, length);
}

/// Overwrites four bytes with a number.
fn put(out: &mut [u8], at: usize, number: usize) {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// Writes a URI, in which bytes that it may not contain are percent-encoded.
fn uri(out: &mut Vec<u8>, uri: &[u8]) {
    if !uri.iter().any(|byte| target::breaks_uri(*byte)) {
        out.extend_from_slice(uri);
        return;
    }
    for &byte in uri {
        if target::breaks_uri(byte) {
            out.extend_from_slice(&target::percent_encoded(byte));
        } else {
            out.push(byte);
        }
    }
}
