//! Where the memory of sandboxes comes from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::budget::Budget;
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

/// The memory pool as a source of slots, the budget of all memory, and a counter of how often no slot was free.
#[derive(Debug)]
pub(crate) struct SlotSource {
    pool: Option<Pool>,
    budget: Budget,
    few: bool,
    misses: AtomicU64,
}

impl SlotSource {
    /// Slots of `pool`. Without a pool, the backend allocates the memory of every sandbox. `few` says that there is address
    /// space for so few sandboxes that none may be taken by an instance that only waits for its next sandbox.
    pub(crate) fn new(pool: Option<Pool>, budget: Budget, few: bool) -> Self {
        Self {
            pool,
            budget,
            few,
            misses: AtomicU64::new(0),
        }
    }

    /// The pool, if there is one.
    pub(crate) fn pool(&self) -> Option<&Pool> {
        self.pool.as_ref()
    }

    /// Whether no instance may keep a slot.
    pub(crate) fn are_few(&self) -> bool {
        self.few
    }

    /// What calls and sandboxes hold together.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Whether a sandbox has to wait for one to end: slots are few, and each is busy.
    pub(crate) fn is_exhausted(&self) -> bool {
        let busy = |pool: &Pool| pool.stats().busy >= pool.config().slots as u64;
        self.few && self.pool.as_ref().is_some_and(busy)
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
