//! The guest contract: what a guest reads on stdin, and what it must write to stdout.
//!
//! [`Request`] and [`Response`] are the two sides as values. A [`Contract`] defines how they look to a guest. The rules
//! are those of `docs/contract.md`.
//!
//! Invariants:
//! - A request reaches the guest without losing a byte of its body or of a header value.
//! - A response that breaks a rule is refused with a [`BadOutput`] that names the rule. Its meaning is never guessed.
//! - Output of a guest is untrusted: parsing it takes memory and time in proportion to its length at most.

mod bad_output;
mod bad_sample;
pub mod cgi;
mod fields;
pub mod frames;
mod headers;
pub mod http_wasm;
pub mod json;
mod next;
mod passing;
mod request;
mod response;
mod stand_in;
mod stream;
mod target;

use std::fmt;

use crate::limits::SandboxLimits;
use http_wasm::Exchange;

pub use bad_output::BadOutput;
pub use bad_sample::BadSample;
pub use fields::{Field, Fields};
pub use headers::{MAX_HEADER_BYTES, MAX_HEADERS};
pub use next::{HeaderChanges, Next};
pub use request::Request;
pub use response::Response;
pub(crate) use stream::after_line_break;
pub use stream::{Begins, Scan};

/// How requests and responses look to a guest. A value without state, shared by all functions that use it.
pub trait Contract: Send + Sync + fmt::Debug + 'static {
    /// The name used in configuration.
    fn name(&self) -> &'static str;

    /// The same contract in frames, for guests that take them: [`frames`].
    fn in_frames(&self) -> Option<&'static dyn Contract> {
        None
    }

    /// Appends `request` to `out`, as the guest reads it on stdin: with the fields that every guest gets, and those in
    /// `include`. Called once for each request. It must not fail for any request.
    fn write_request(&self, out: &mut Vec<u8>, request: &Request<'_>, include: Fields);

    /// Parses a guest's whole stdout as one response. Called once for each request, after the guest has ended.
    ///
    /// # Errors
    /// If the output breaks a rule of the contract.
    fn parse_response<'a>(&self, stdout: &'a [u8]) -> Result<Response<'a>, BadOutput>;

    /// Request and response as the guest's hostcalls see them, for a contract that passes them in this way and not on stdin and
    /// stdout. Called once for each request.
    fn exchange(&self, _: &Request<'_>, _: &SandboxLimits) -> Option<Box<Exchange>> {
        None
    }

    /// The exchange for a sample request, see [`samples`](Self::samples); `None` before there is a request.
    fn sample_exchange(&self, _: &[u8], _: &SandboxLimits) -> Option<Box<Exchange>> {
        None
    }

    /// Variables of the environment that the request brings, in addition to those of the program. Called once for each request.
    fn variables(&self, _: &Request<'_>) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }

    /// Whether every function of this contract may stream, so that each of its calls can be suspended.
    fn always_streams(&self) -> bool {
        false
    }

    /// How many bytes of the request's body follow those that are in it: the host brings them when the guest reads them.
    fn body_follows(&self, _: &Request<'_>) -> u64 {
        0
    }

    /// The length of the head, if `stdout` begins with that of a stream: a response whose body is what the guest writes after
    /// it, and is sent as it comes. Called after each write, with the same `scan`, until it is known; only in calls that can be
    /// suspended.
    fn stream_head(&self, _scan: &mut Scan, _stdout: &[u8]) -> Begins {
        Begins::Else
    }

    /// Whether one line break directly after the head of a stream is no part of the body.
    fn has_line_break_after_head(&self) -> bool {
        true
    }

    /// Whether `stdout` is a complete response, so that a guest which reads on has answered and waits for another request.
    /// Called when a guest reads at the end of stdin while its warm-up is recorded, and in no request.
    fn is_answered(&self, stdout: &[u8]) -> bool {
        self.parse_response(stdout).is_ok()
    }

    /// Sample requests, as a guest reads them that gets the fields in `include`. A snapshot is verified with them, and with
    /// the sample of the configuration, if there is one. If there is none, the first two also warm up. If the contract has
    /// no samples, its functions start without a snapshot.
    fn samples(&self, include: Fields) -> Vec<Vec<u8>>;

    /// Checks a sample request that a user wrote for a function which accepts bodies of at most `max_body` bytes, and
    /// returns it as a guest reads it. Called once for a deployment.
    ///
    /// # Errors
    /// If the text is not a request of this contract.
    fn check_sample(&self, text: &[u8], max_body: usize) -> Result<Vec<u8>, BadSample>;
}

/// The contract with that name, if there is one.
#[must_use]
pub fn named(name: &str) -> Option<&'static dyn Contract> {
    ALL.iter().copied().find(|contract| contract.name() == name)
}

/// The contract of functions whose configuration names none.
#[must_use]
pub fn default() -> &'static dyn Contract {
    &json::Json
}

/// All contracts.
pub const ALL: &[&dyn Contract] = &[&json::Json, &http_wasm::HttpWasm, &cgi::Cgi];
