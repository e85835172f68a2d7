//! The guest contract: what a guest reads on stdin and what it has to write to stdout.
//!
//! [`Request`] and [`Response`] are the two sides as values; [`json`] is the form a guest sees. The rules are those of
//! `docs/contract.md`: a request reaches the guest without losing a byte, and a response that breaks a rule is refused
//! with a [`BadOutput`] that names the rule, never guessed at.

mod bad_output;
mod headers;
pub mod json;
mod request;
mod response;

pub use bad_output::BadOutput;
pub use headers::{MAX_HEADER_BYTES, MAX_HEADERS};
pub use request::Request;
pub use response::Response;
