//! One sandbox's memory.

use std::ptr;

use super::{GUARD, Image, RESERVED};
use crate::error::{Error, Result};

/// The linear memory of one sandbox. Dropping it makes the memory pristine again and gives it back to its pool.
#[derive(Debug)]
pub struct Slot {
    base: *mut u8,
    len: usize,
    max: usize,
}

// SAFETY: a slot owns its address range; nothing in it belongs to a thread.
unsafe impl Send for Slot {}

impl Slot {
    pub(super) fn fresh(image: &Image, max_bytes: u64) -> Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                RESERVED + GUARD,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(
                Error::host("no address space for a slot").because(std::io::Error::last_os_error())
            );
        }
        let mut slot = Self {
            base: base.cast(),
            len: 0,
            max: (max_bytes as usize).min(RESERVED),
        };
        slot.grow_to(image.len() as usize)?;
        // SAFETY: the first `len` bytes were just made accessible, and are ours alone.
        image.write_to(unsafe { std::slice::from_raw_parts_mut(slot.base, slot.len) });
        Ok(slot)
    }

    /// Where memory starts. [`RESERVED`] + [`GUARD`] bytes from here belong to the slot, inaccessible beyond `len()`.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Bytes that are accessible now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is accessible.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most bytes that may become accessible.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.max
    }

    /// Makes the first `bytes` bytes accessible; what is new reads as zero. Fewer than there are changes nothing.
    pub fn grow_to(&mut self, bytes: usize) -> Result<()> {
        if bytes <= self.len {
            return Ok(());
        }
        if bytes > self.max {
            return Err(Error::host(format!(
                "memory cannot grow to {bytes} bytes, its bound is {}",
                self.max
            )));
        }
        // SAFETY: the range lies in this slot's reservation.
        let done =
            unsafe { libc::mprotect(self.base.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) };
        if done != 0 {
            return Err(Error::host("memory cannot grow").because(std::io::Error::last_os_error()));
        }
        self.len = bytes;
        Ok(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the slot's own reservation, which nothing refers to any more.
        unsafe { libc::munmap(self.base.cast(), RESERVED + GUARD) };
    }
}
