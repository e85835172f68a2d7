//! Damages the files of an artifact cache in any way.
#![cfg_attr(feature = "libfuzzer", no_main)]

gojinn_fuzz::fuzz!(gojinn_fuzz::artifact::TARGET);
