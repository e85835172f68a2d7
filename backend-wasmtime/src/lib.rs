//! The wasmtime backend.
