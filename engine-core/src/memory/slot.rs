//! One sandbox's memory.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;

use super::mapped::Mapped;
use super::pool::{HomeShard, give_back, renew, reset, waits};
use crate::error::{Error, Result};
use crate::limits::PAGE;

/// The linear memory of one sandbox. Dropping it makes the memory pristine again and gives the slot back to its pool.
///
/// No pointer into the memory may be used after the drop: drop the sandbox first.
pub struct Slot {
    mapped: ManuallyDrop<Mapped>,
    home: Arc<HomeShard>,
    max: usize,
    /// Whether an instance waits in it for its next sandbox.
    is_waiting: bool,
}

impl Slot {
    pub(super) fn new(mapped: Mapped, home: Arc<HomeShard>, max: usize) -> Self {
        Self {
            mapped: ManuallyDrop::new(mapped),
            home,
            max,
            is_waiting: false,
        }
    }

    /// Makes the first `bytes` bytes accessible, rounded up to whole wasm pages. The new memory reads as zero. Does
    /// nothing if that many are accessible already.
    pub fn grow_to(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.max {
            return Err(Error::host(format!(
                "memory cannot grow to {bytes} bytes: this slot may hold at most {} bytes",
                self.max
            )));
        }
        let bytes = bytes.next_multiple_of(PAGE as usize);
        if bytes > self.mapped.len() {
            self.mapped
                .grow_to(bytes)
                .map_err(|error| Error::host("the guest's memory cannot grow").because(error))?;
        }
        Ok(())
    }

    /// Makes the memory pristine, as it was when the slot was taken from the pool, and keeps the slot: for an instance
    /// that is used again. After an error the slot has been unmapped and is counted as retired.
    ///
    /// The caller must hold no reference into the memory.
    pub fn reset(self) -> Result<Self> {
        self.reset_by(reset)
    }

    /// [`Slot::reset`], but no page stays resident. For slots whose whole memory was written to, as a sandbox never does.
    pub fn renew(self) -> Result<Self> {
        self.reset_by(renew)
    }

    /// Sets whether a pristine instance waits in this slot for its next sandbox. The pool's stats then count the slot
    /// as warm.
    pub fn set_waiting(&mut self, is_waiting: bool) {
        if self.is_waiting != is_waiting {
            self.is_waiting = is_waiting;
            waits(&self.home, is_waiting);
        }
    }

    fn reset_by(self, how: fn(&HomeShard, Mapped) -> io::Result<Mapped>) -> Result<Self> {
        let mut this = ManuallyDrop::new(self);
        this.set_waiting(false);
        // SAFETY: both are taken once, here. `this` is a ManuallyDrop that is not used afterwards, except for its `max`.
        let (mapped, home) =
            unsafe { (ManuallyDrop::take(&mut this.mapped), ptr::read(&this.home)) };
        let mapped = how(&home, mapped)
            .map_err(|error| Error::host("the guest's memory cannot be reset").because(error))?;
        Ok(Self::new(mapped, home, this.max))
    }

    /// The address of the memory's first byte. [`RESERVED`](super::RESERVED) + [`GUARD`](super::GUARD) bytes from here
    /// belong to the slot. They are inaccessible beyond `len()`.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.mapped.base()
    }

    /// The number of bytes that are accessible now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mapped.len()
    }

    /// Whether no byte is accessible.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of bytes to which the memory can grow.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.max
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.set_waiting(false);
        // SAFETY: taken once, here, and not used afterwards.
        let mapped = unsafe { ManuallyDrop::take(&mut self.mapped) };
        give_back(&self.home, mapped);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("base", &self.base())
            .field("len", &self.len())
            .field("max_len", &self.max)
            .finish()
    }
}
