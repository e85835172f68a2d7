//! Header names and values: the grammar, Go's canonical form, and what does not pass between a connection and a guest.

/// The most headers (values, that is) of one response.
pub const MAX_HEADERS: usize = 256;

/// The most bytes of a response's header names and values together.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;
