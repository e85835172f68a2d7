//! Takes, writes, grows and resets the slots of a pool in any order.
#![cfg_attr(feature = "libfuzzer", no_main)]

gojinn_fuzz::fuzz!(gojinn_fuzz::pool_ops::TARGET);
