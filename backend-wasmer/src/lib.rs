//! The wasmer backend.
