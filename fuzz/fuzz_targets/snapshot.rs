//! Runs any generated reactor from a snapshot and without, on every backend.
#![cfg_attr(feature = "libfuzzer", no_main)]

gojinn_fuzz::fuzz!(gojinn_fuzz::snapshot::TARGET);
