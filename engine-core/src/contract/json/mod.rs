//! The contract `json`: one JSON object on stdin, one on stdout.

mod fields;
mod next;
mod parse;
mod reader;
pub(super) mod sample;
pub(super) mod samples;
mod scan;
#[cfg(test)]
mod tests;
mod write;

use super::frames::Frames;
use super::{BadOutput, BadSample, Begins, Contract, Fields, Request, Response, Scan};

/// The contract `json`, as a value.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Contract for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn in_frames(&self) -> Option<&'static dyn Contract> {
        Some(&Frames)
    }

    fn write_request(&self, out: &mut Vec<u8>, request: &Request<'_>, include: Fields) {
        write_request(out, request, include);
    }

    fn parse_response<'a>(&self, stdout: &'a [u8]) -> Result<Response<'a>, BadOutput> {
        parse_response(stdout)
    }

    fn stream_head(&self, scan: &mut Scan, stdout: &[u8]) -> Begins {
        match scan.object(stdout) {
            // Most answers are no streams, and are parsed at their guest's end only.
            Begins::Head(len) if may_stream(&stdout[..len]) => {
                match parse_response(&stdout[..len]) {
                    Ok(response) if response.streams => Begins::Head(len),
                    _ => Begins::Else,
                }
            }
            Begins::Head(_) => Begins::Else,
            other => other,
        }
    }

    fn samples(&self, include: Fields) -> Vec<Vec<u8>> {
        samples::all(|out, request| write_request(out, request, include))
    }

    fn check_sample(&self, text: &[u8], max_body: usize) -> Result<Vec<u8>, BadSample> {
        sample::check(text, max_body)
    }
}

/// Whether the key `stream` may be in a JSON object: in any case, or with a letter as `\u`.
fn may_stream(object: &[u8]) -> bool {
    let is_key = |at: usize| {
        let part = object[at..].get(..b"stream".len());
        part.is_some_and(|part| part.eq_ignore_ascii_case(b"stream"))
    };
    object.iter().enumerate().any(|(at, byte)| match byte {
        b's' | b'S' => is_key(at),
        b'\\' => object.get(at + 1) == Some(&b'u'),
        _ => false,
    })
}

/// Appends `request` as one JSON object and a newline.
///
/// The same request gives the same bytes, whatever the order of its headers:
/// - keys in the order `method`, `uri`, `headers`, `body`, (`body_base64`,) `trace_id`, and then those of
///   `remote_addr`, `client_ip`, `scheme`, `host`, `proto`, `original_uri` that are in `include` and not empty;
///   `original_uri` also if it is not the same as `uri`;
/// - header names in Go's canonical form and sorted, values of one name in their order; `Host` from the request.
///   `Proxy`, hop-by-hop headers, those that `Connection` names, and those with invalid names are left out. If
///   `Connection` names `Host` or `X-Forwarded-*`, that has no effect;
/// - header values as UTF-8, with U+10FF80 to U+10FFFF in place of bytes that belong to no UTF-8; in URIs everything
///   beyond ASCII, spaces and control characters percent-encoded;
/// - a body that is not UTF-8, or of which more than one byte in 16 (and more than 64) are control characters that take
///   six bytes in JSON, as `"body":"","body_base64":"..."`.
pub fn write_request(out: &mut Vec<u8>, request: &Request<'_>, include: Fields) {
    write::request(out, request, include);
}

/// Reads a guest's whole stdout as one response.
///
/// Details beyond `docs/contract.md`:
/// - a byte order mark may precede it;
/// - the case of ASCII letters in keys does not matter. Each key of the response and each header name may occur once
///   only, also one that is unknown or `null`. There may be at most 256 unknown keys. The value of an unknown key may
///   be any JSON with at most 127 nested arrays and objects. A key in which other systems have the status, the headers
///   or the body (`statusCode`, `isBase64Encoded`, `multiValueHeaders`, `cookies`) is refused;
/// - `body` and `body_base64` may both occur if one of them is empty or `null`;
/// - the status is written in digits: `200.0` and `2e2` are refused;
/// - each header value counts towards the 256 and, with its name, towards the 64 KiB; so does a name without values;
/// - characters beyond ASCII in a header value are sent as UTF-8, and U+10FF80 to U+10FFFF as the bytes 0x80 to 0xFF.
///   White space around a value is removed;
/// - with `"next": true` there is no answer, see [`Next`](super::Next): `status` must be 0, `body` and `body_base64` must
///   be empty, and `headers` are changes of the request's headers. Without it `method`, `uri`, `vars` and
///   `response_headers` are unknown keys;
/// - with `"stream": true` the body is what follows the object, any bytes, without one line break directly after it;
///   `body` and `body_base64` must be empty;
/// - base64 is the standard alphabet with its padding; white space in it, and a byte order mark before it, are left out.
///
/// # Errors
/// If the output breaks a rule of the contract.
pub fn parse_response(stdout: &[u8]) -> Result<Response<'_>, BadOutput> {
    parse::response(stdout)
}
