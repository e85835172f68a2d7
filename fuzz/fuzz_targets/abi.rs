//! Calls the functions of the C ABI in any order.
#![cfg_attr(feature = "libfuzzer", no_main)]

gojinn_fuzz::fuzz!(gojinn_fuzz::abi::TARGET);
