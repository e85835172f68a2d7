//! The contract `json` in frames: the same requests and responses, as lengths and bytes. For guests that say that they
//! take them.
//!
//! ```text
//!   request    magic  length of the frame          lengths of the fields  count of headers  length of the body
//!              then (length of the name, length of the value) of each header
//!              then the bytes: fields, names and values, body
//!   response   magic  flags  status                lengths of method, uri  counts of headers, variables, response headers
//!              length of the body
//!              then (length of the name, length of the value) of each of them
//!              then the bytes in the same order, and the body
//! ```
//!
//! Each number has four bytes, little-endian. `docs/contract.md` has the offsets.

mod request;
mod response;
#[cfg(test)]
mod tests;

use super::json::{sample, samples};
use super::{BadOutput, BadSample, Begins, Contract, Fields, Request, Response, Scan};

/// What each frame begins with. No JSON text does.
pub const MAGIC: [u8; 4] = *b"\xf1GJ\x01";

/// What a module has in one of its data segments if its guests take frames.
pub const MARKER: [u8; 16] = *b"\xf1GJ\x01takes frames";

/// The flag of a response that lets the request go on.
pub const NEXT: u32 = 1;

/// The flag of a response whose body is what the guest writes after the frame.
pub const STREAM: u32 = 2;

/// The length of a value that is not there: the header is removed.
pub const REMOVED: u32 = u32::MAX;

/// The bytes of a response before the lengths of its headers.
pub const RESPONSE_HEAD: usize = 36;

/// The bytes of a request before the lengths of its headers.
pub const REQUEST_HEAD: usize = 52;

/// The contract `json` in frames, as a value.
#[derive(Clone, Copy, Debug)]
pub struct Frames;

impl Contract for Frames {
    fn name(&self) -> &'static str {
        "json"
    }

    fn write_request(&self, out: &mut Vec<u8>, request: &Request<'_>, _: Fields) {
        write_request(out, request);
    }

    fn parse_response<'a>(&self, stdout: &'a [u8]) -> Result<Response<'a>, BadOutput> {
        parse_response(stdout)
    }

    fn stream_head(&self, _: &mut Scan, stdout: &[u8]) -> Begins {
        response::stream_head(stdout)
    }

    fn has_line_break_after_head(&self) -> bool {
        false
    }

    fn samples(&self, _: Fields) -> Vec<Vec<u8>> {
        samples::all(write_request)
    }

    fn check_sample(&self, text: &[u8], max_body: usize) -> Result<Vec<u8>, BadSample> {
        let mut out = Vec::new();
        let sample = sample::read(text, max_body)?;
        sample.as_request(|request| write_request(&mut out, request));
        Ok(out)
    }
}

/// Appends `request` as one frame. It has all fields, and the headers that [`json::write_request`](super::json::write_request)
/// would write, in the same order, with the bytes of their values as they are. A length that has no room in four bytes is
/// their maximum: no guest has the memory for such a request.
pub fn write_request(out: &mut Vec<u8>, request: &Request<'_>) {
    request::write(out, request);
}

/// Reads a guest's whole stdout as one response in a frame.
///
/// It obeys the rules of [`json::parse_response`](super::json::parse_response), with these differences:
/// - bodies and values of headers are any bytes, with no characters in their place;
/// - further values of a header follow the first directly, each with its name spelled in the same way;
/// - nothing may follow the frame, unless it is the body of a stream, which begins directly after it;
/// - without [`NEXT`] there may be no method, URI, variable or response header.
///
/// # Errors
/// If the output breaks a rule of the contract.
pub fn parse_response(stdout: &[u8]) -> Result<Response<'_>, BadOutput> {
    response::parse(stdout)
}
