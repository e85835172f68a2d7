//! Feeds any bytes to the contract `json` in frames, as a guest's output and as parts of a response and of a request.
#![cfg_attr(feature = "libfuzzer", no_main)]

gojinn_fuzz::fuzz!(gojinn_fuzz::frames::TARGET);
