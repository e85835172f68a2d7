//! Benchmarks over the same public API that the C ABI uses.
