//! The guest contract: what a guest reads on stdin and what it has to write to stdout.
//!
//! [`Request`] and [`Response`] are the two sides as values; a [`Contract`] says what they look like to a guest. The rules
//! are those of `docs/contract.md`: a request reaches the guest without losing a byte, and a response that breaks a rule is
//! refused with a [`BadOutput`] that names the rule, never guessed at.

mod bad_output;
mod headers;
pub mod json;
mod request;
mod response;
mod stand_in;

use std::fmt;

pub use bad_output::BadOutput;
pub use headers::{MAX_HEADER_BYTES, MAX_HEADERS};
pub use request::Request;
pub use response::Response;

/// How requests and responses look to a guest. A plain value without state: one for all functions that use it.
pub trait Contract: Send + Sync + fmt::Debug + 'static {
    /// The name used in configuration.
    fn name(&self) -> &'static str;

    /// Appends `request` as the guest reads it on stdin. Called once for each request; must not fail, whatever the request.
    fn write_request(&self, out: &mut Vec<u8>, request: &Request<'_>);

    /// Reads a guest's whole stdout as one response. Called once for each request, after the guest has ended.
    ///
    /// # Errors
    /// If the output breaks a rule of the contract.
    fn parse_response<'a>(&self, stdout: &'a [u8]) -> Result<Response<'a>, BadOutput>;

    /// Whether `stdout` is a complete response, so that a guest which reads on has answered and waits for another request.
    /// Called when a guest reads at the end of stdin, and only if its sandbox started from a snapshot of a program that loops.
    fn is_answered(&self, stdout: &[u8]) -> bool {
        self.parse_response(stdout).is_ok()
    }

    /// Requests, as a guest reads them, that a snapshot is verified with where the configuration has no sample: the first is
    /// the one to warm up with.
    fn samples(&self) -> Vec<Vec<u8>>;
}

/// The contract with that name, if there is one.
#[must_use]
pub fn named(name: &str) -> Option<&'static dyn Contract> {
    ALL.iter().copied().find(|contract| contract.name() == name)
}

/// The contract of functions that name none.
#[must_use]
pub fn default() -> &'static dyn Contract {
    &json::Json
}

/// Every contract there is.
pub const ALL: &[&dyn Contract] = &[&json::Json];
