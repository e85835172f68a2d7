//! Compiled code: the compilations, and the cache of their results on disk.

pub(crate) mod cache;
pub(crate) mod compile;
