//! Makes a guest do any sequence of hostcalls, on every backend.
#![cfg_attr(feature = "libfuzzer", no_main)]

gojinn_fuzz::fuzz!(gojinn_fuzz::wasi::TARGET);
