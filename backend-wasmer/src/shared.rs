//! What a sandbox shares with its memory and with the deadline clock.

use std::sync::atomic::{AtomicU32, Ordering};

use engine_core::{Interrupt, MemoryUse};
use parking_lot::Mutex;

/// Lives as long as the longest of sandbox, memory and clock: an interruption may arrive after the guest has ended.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Not zero: the guest must stop. Compiled code reads it at function entries and loop heads (see [`crate::poll`]).
    flag: AtomicU32,
    /// Bound and figures of memory and tables, given to the host state when the guest has ended.
    usage: Mutex<MemoryUse>,
}

impl Shared {
    pub(crate) fn new(used: MemoryUse) -> Self {
        Self {
            flag: AtomicU32::new(0),
            usage: Mutex::new(used),
        }
    }

    /// Where compiled code finds the flag.
    pub(crate) fn flag(&self) -> *mut u8 {
        self.flag.as_ptr().cast()
    }

    pub(crate) fn interrupted(&self) -> bool {
        self.flag.load(Ordering::Relaxed) != 0
    }

    /// Asks or notes something about memory.
    pub(crate) fn usage<R>(&self, ask: impl FnOnce(&mut MemoryUse) -> R) -> R {
        ask(&mut self.usage.lock())
    }
}

impl Interrupt for Shared {
    fn interrupt(&self) {
        self.flag.store(1, Ordering::Relaxed);
    }
}
