//! Compiled code: compilations, and the cache of what they made.

pub(crate) mod cache;
pub(crate) mod compile;
