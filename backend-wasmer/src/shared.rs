//! The data that a sandbox shares with its memory and with the deadline clock.

use std::sync::atomic::{AtomicU32, Ordering};

use engine_core::{Interrupt, Meter};
use parking_lot::Mutex;

/// The flag and the memory counts of a sandbox. They are counted by reference: an interruption may arrive after the
/// guest has ended.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The guest must stop if this is not zero. Compiled code reads it at function entries and loop heads (see
    /// [`crate::poll`]).
    flag: AtomicU32,
    /// The limits and the counts of memory and table elements. The host state gets them when the guest has ended.
    usage: Mutex<Meter>,
}

impl Shared {
    pub(crate) fn new(meter: Meter) -> Self {
        Self {
            flag: AtomicU32::new(0),
            usage: Mutex::new(meter),
        }
    }

    /// The address from which compiled code reads the flag.
    pub(crate) fn flag(&self) -> *mut u8 {
        self.flag.as_ptr().cast()
    }

    pub(crate) fn interrupted(&self) -> bool {
        self.flag.load(Ordering::Relaxed) != 0
    }

    /// Reads or updates the counts.
    pub(crate) fn usage<R>(&self, ask: impl FnOnce(&mut Meter) -> R) -> R {
        ask(&mut self.usage.lock())
    }
}

impl Interrupt for Shared {
    fn interrupt(&self) {
        self.flag.store(1, Ordering::Relaxed);
    }
}
