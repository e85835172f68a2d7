//! Writes a request as the JSON object that a guest reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::stand_in::{self, is_stand_in};
use super::super::{Field, Fields, Request, passing, target};
use super::scan;

/// See [`write_request`](super::write_request).
pub(super) fn request(out: &mut Vec<u8>, request: &Request<'_>, include: Fields) {
    // Room for the keys, the short fields and a few escapes. The buffer grows if that is not enough.
    let headers: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    out.reserve(512 + headers + request.body.len() + request.body.len() / 8);

    out.extend_from_slice(b"{\"method\":");
    value(out, request.method);
    out.extend_from_slice(b",\"uri\":");
    uri(out, request.uri);
    out.extend_from_slice(b",\"headers\":{");
    header_map(out, request);
    out.extend_from_slice(b"},\"body\":");
    body(out, request.body);
    out.extend_from_slice(b",\"trace_id\":");
    value(out, request.trace_id);
    for field in Field::ALL {
        let bytes = request.field(field);
        // Without it, a guest behind a rewrite could not know what its client asked for.
        let is_rewritten = field == Field::OriginalUri && bytes != request.uri;
        if !(include.contains(field) || is_rewritten) || bytes.is_empty() {
            continue;
        }
        out.extend_from_slice(b",\"");
        out.extend_from_slice(field.name().as_bytes());
        out.extend_from_slice(b"\":");
        if field == Field::OriginalUri {
            uri(out, bytes);
        } else {
            value(out, bytes);
        }
    }
    out.extend_from_slice(b"}\n");
}

/// Writes the members of the object `headers`: sorted by name, and the values of one name in their order.
fn header_map(out: &mut Vec<u8>, request: &Request<'_>) {
    let mut respelled = Vec::new();
    let headers = passing::headers(request, &mut respelled);
    for (index, same_name) in headers.chunk_by(|a, b| a.name == b.name).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'"');
        // A valid name needs no escapes.
        out.extend_from_slice(same_name[0].name);
        out.extend_from_slice(b"\":[");
        for (index, header) in same_name.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            value(out, header.value);
        }
        out.push(b']');
    }
}

/// A body with at most this many control characters without a short escape is sent as text, however short it is.
const FEW: usize = 64;

/// A longer body is sent as text if at most one in this many of its bytes is such a control character.
const ONE_IN: usize = 16;

/// Writes the value of `body`. Writes `body_base64` after it if the body is not UTF-8, or if it has so many control
/// characters that its text would be much longer than the body: each takes six bytes.
fn body(out: &mut Vec<u8>, body: &[u8]) {
    let before = out.len();
    if std::str::from_utf8(body).is_ok() {
        out.push(b'"');
        if escaped_within(out, body, FEW.max(body.len() / ONE_IN)) {
            out.push(b'"');
            return;
        }
        out.truncate(before);
    }
    out.extend_from_slice(b"\"\",\"body_base64\":\"");
    let start = out.len();
    // Three bytes make four characters, and a rest of one or two bytes does too.
    out.resize(start + body.len().div_ceil(3) * 4, b'=');
    let written = STANDARD.encode_slice(body, &mut out[start..]);
    debug_assert_eq!(written, Ok(out.len() - start));
    out.push(b'"');
}

/// Writes the inside of a JSON string of UTF-8 text.
fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    escaped_within(out, text, usize::MAX);
}

/// Writes the inside of a JSON string of UTF-8 text. Stops and returns false if the text has more than `most`
/// characters that have no short escape.
fn escaped_within(out: &mut Vec<u8>, text: &[u8], most: usize) -> bool {
    let mut left = most;
    let mut rest = text;
    loop {
        let (run, stop) = rest.split_at(scan::plain(rest));
        out.extend_from_slice(run);
        let Some((&byte, behind)) = stop.split_first() else {
            return true;
        };
        if escape(out, byte) == Escape::Long {
            match left.checked_sub(1) {
                Some(fewer) => left = fewer,
                None => return false,
            }
        }
        rest = behind;
    }
}

/// Writes a header value, or a field like it, as a JSON string: UTF-8 as it is, and a character in place of each byte
/// that is not part of any, see [`stand_in`].
fn value(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let mut rest = bytes;
    loop {
        let (run, stop) = rest.split_at(scan::plain_ascii(rest));
        out.extend_from_slice(run);
        match stop.split_first() {
            None => break,
            Some((&byte, behind)) if byte.is_ascii() => {
                escape(out, byte);
                rest = behind;
            }
            Some(_) => {
                beyond_ascii(out, stop);
                break;
            }
        }
    }
    out.push(b'"');
}

/// Writes the rest of a [`value`], from its first byte that is not ASCII.
#[cold]
fn beyond_ascii(out: &mut Vec<u8>, bytes: &[u8]) {
    let stand_ins = |out: &mut Vec<u8>, bytes: &[u8]| {
        for &byte in bytes {
            let character = stand_in::of(byte);
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    };
    for chunk in bytes.utf8_chunks() {
        for piece in chunk.valid().split_inclusive(is_stand_in) {
            let text = piece.trim_end_matches(is_stand_in);
            escaped(out, text.as_bytes());
            stand_ins(out, &piece.as_bytes()[text.len()..]);
        }
        stand_ins(out, chunk.invalid());
    }
}

/// Writes a URI as a JSON string. Bytes that a URI may not contain, and that would break a request line, are
/// percent-encoded.
fn uri(out: &mut Vec<u8>, uri: &[u8]) {
    out.push(b'"');
    let stops = |&byte: &u8| target::breaks_uri(byte) || byte == b'"' || byte == b'\\';
    let mut rest = uri;
    loop {
        let (run, stop) = rest.split_at(rest.iter().position(stops).unwrap_or(rest.len()));
        out.extend_from_slice(run);
        let Some((&byte, behind)) = stop.split_first() else {
            break;
        };
        if byte == b'"' || byte == b'\\' {
            escape(out, byte);
        } else {
            out.extend_from_slice(&target::percent_encoded(byte));
        }
        rest = behind;
    }
    out.push(b'"');
}

/// How an escape is written.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Escape {
    /// In two bytes.
    Short,
    /// In six bytes.
    Long,
}

/// Writes the escape of `"`, `\` or a control character.
fn escape(out: &mut Vec<u8>, byte: u8) -> Escape {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let [high, low] = hex(byte, b"0123456789abcdef");
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            return Escape::Long;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
    Escape::Short
}

fn hex(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    [
        digits[usize::from(byte >> 4)],
        digits[usize::from(byte & 15)],
    ]
}
