//! Tests of the rules of `docs/contract.md`, one by one and in both directions.

mod hostile;
mod next;
mod request;
mod response;
mod sample;
