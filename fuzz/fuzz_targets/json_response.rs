//! Feeds any bytes to the contract `json` as a guest's output.
#![cfg_attr(feature = "libfuzzer", no_main)]

gojinn_fuzz::fuzz!(gojinn_fuzz::json_response::TARGET);
