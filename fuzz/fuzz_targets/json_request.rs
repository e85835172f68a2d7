//! Feeds any bytes to the contract `json` as the parts of a request.
#![cfg_attr(feature = "libfuzzer", no_main)]

gojinn_fuzz::fuzz!(gojinn_fuzz::json_request::TARGET);
