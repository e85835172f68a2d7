//! The synchronisation primitives of the free list. They are a separate module so that `engine-core/model` can replace
//! them with those of a model checker.

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use parking_lot::Mutex;
