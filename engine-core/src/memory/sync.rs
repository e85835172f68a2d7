//! The primitives of the free list, in a module of their own so that `engine-core/model` can put a model checker's in their
//! place.

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use parking_lot::Mutex;
