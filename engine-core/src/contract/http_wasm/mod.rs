//! The contract `http-wasm`: the ABI of <https://http-wasm.io>, in which a guest reads and changes a request and its response by
//! hostcalls.
//!
//! A guest exports `handle_request`, which answers or lets the request go on, and `handle_response`, which may change the
//! response of the next handler. [`Exchange`] is what it works on.

mod exchange;
mod fields;
mod reply;

use super::{BadOutput, BadSample, Contract, Fields, Request, Response};
use crate::limits::SandboxLimits;

pub(crate) use exchange::FEATURES;
pub use exchange::{Body, Exchange, Kind, Violation};

/// What precedes the name of a trailer among the headers of a [`Request`].
pub const TRAILER: &str = ":trailer:";

/// What precedes the name of a header of the response among the headers of a [`Request`].
pub const RESPONSE: &str = ":response:";

/// The contract `http-wasm`, as a value.
#[derive(Clone, Copy, Debug)]
pub struct HttpWasm;

impl Contract for HttpWasm {
    fn name(&self) -> &'static str {
        "http-wasm"
    }

    /// The guest reads nothing from stdin.
    fn write_request(&self, _: &mut Vec<u8>, _: &Request<'_>, _: Fields) {}

    fn parse_response<'a>(&self, _: &'a [u8]) -> Result<Response<'a>, BadOutput> {
        Err(BadOutput::new(
            "a bug: a guest of http-wasm answers by hostcalls and not on stdout",
        ))
    }

    fn exchange(&self, request: &Request<'_>, limits: &SandboxLimits) -> Option<Box<Exchange>> {
        Some(Box::new(Exchange::new(request, limits)))
    }

    fn sample_exchange(&self, sample: &[u8], limits: &SandboxLimits) -> Option<Box<Exchange>> {
        let request = Request {
            method: b"GET",
            uri: sample,
            headers: &[(b"Accept", b"*/*")],
            remote_addr: b"192.0.2.1:1024",
            host: b"example.com",
            proto: b"HTTP/1.1",
            ..Request::default()
        };
        (!sample.is_empty()).then(|| Box::new(Exchange::new(&request, limits)))
    }

    /// The URIs of the samples: that is all there is of them.
    fn samples(&self, _: Fields) -> Vec<Vec<u8>> {
        vec![b"/".to_vec(), b"/sample?a=1".to_vec()]
    }

    /// Refuses every text: guests of http-wasm are not warmed up.
    fn check_sample(&self, text: &[u8], _: usize) -> Result<Vec<u8>, BadSample> {
        let message = "guests of http-wasm are not warmed up; leave warmup out";
        Err(BadSample::at(text, 0, message.to_owned()))
    }
}
