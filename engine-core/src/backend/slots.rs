//! Where the memory of sandboxes comes from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::SandboxLimits;
use crate::memory::{Image, Pool, Slot};

/// A source of slots for sandboxes.
pub trait Slots {
    /// A slot that holds `image`, or `None` if none is free. Must not block.
    fn slot(&self, image: &Arc<Image>) -> Option<Slot>;
}

impl<F: Fn(&Arc<Image>) -> Option<Slot>> Slots for F {
    fn slot(&self, image: &Arc<Image>) -> Option<Slot> {
        self(image)
    }
}

/// The memory pool as a source of slots, and a counter of how often none was free.
#[derive(Debug, Default)]
pub(crate) struct SlotSource {
    pool: Option<Pool>,
    misses: AtomicU64,
}

impl SlotSource {
    /// Slots of `pool`. Without a pool, the backend allocates the memory of every sandbox.
    pub(crate) fn new(pool: Option<Pool>) -> Self {
        Self {
            pool,
            misses: AtomicU64::new(0),
        }
    }

    /// The pool, if there is one.
    pub(crate) fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    /// How often a backend had to allocate the memory of a sandbox because no slot was free.
    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// A slot that holds `image` and can grow to the memory limit.
    pub(crate) fn slot(&self, image: &Arc<Image>, limits: &SandboxLimits) -> Option<Slot> {
        let slot = self.pool.as_ref()?.slot(image, limits.memory_bytes());
        slot.inspect_err(|_| {
            self.misses.fetch_add(1, Ordering::Relaxed);
        })
        .ok()
    }
}
