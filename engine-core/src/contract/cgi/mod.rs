//! The contract `cgi`: the Common Gateway Interface, RFC 3875.
//!
//! A request is in the environment, its body on stdin; the response is on stdout, a block of header fields and the body. The body
//! of the request is read as it arrives, and that of the response is sent as it is written.

mod environment;
mod response;
#[cfg(test)]
mod tests;

use super::{BadOutput, BadSample, Begins, Contract, Fields, Request, Response, Scan};

/// What precedes the name of a variable among the headers of a [`Request`]: the server sets the variable with that value. No
/// header can have such a name.
pub const VARIABLE: &str = ":cgi:";

/// The contract `cgi`, as a value.
#[derive(Clone, Copy, Debug)]
pub struct Cgi;

impl Contract for Cgi {
    fn name(&self) -> &'static str {
        "cgi"
    }

    /// Stdin is the body alone.
    fn write_request(&self, out: &mut Vec<u8>, request: &Request<'_>, _: Fields) {
        out.extend_from_slice(request.body);
    }

    fn parse_response<'a>(&self, stdout: &'a [u8]) -> Result<Response<'a>, BadOutput> {
        response::parse(stdout)
    }

    fn variables(&self, request: &Request<'_>) -> Vec<(String, Vec<u8>)> {
        environment::variables(request)
    }

    fn always_streams(&self) -> bool {
        true
    }

    fn body_follows(&self, request: &Request<'_>) -> u64 {
        let announced = environment::content_length(request).unwrap_or_default();
        announced.saturating_sub(request.body.len() as u64)
    }

    fn stream_head(&self, scan: &mut Scan, stdout: &[u8]) -> Begins {
        match scan.header_block(stdout) {
            Begins::Head(len) if response::parse(&stdout[..len]).is_err() => Begins::Else,
            found => found,
        }
    }

    fn has_line_break_after_head(&self) -> bool {
        false
    }

    /// There are none: a snapshot is taken before the program knows its request, and a program of this contract may read its
    /// environment, which is a part of the request, at any time.
    fn samples(&self, _: Fields) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn check_sample(&self, text: &[u8], _: usize) -> Result<Vec<u8>, BadSample> {
        let message = "programs of cgi are not warmed up; leave warmup out";
        Err(BadSample::at(text, 0, message.to_owned()))
    }
}
