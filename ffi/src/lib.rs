//! Gojinn's C ABI.
