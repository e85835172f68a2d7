//! A slot that holds an image, and the reset that makes it pristine.

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::image::Content;
use super::pagemap::Pagemap;
use super::reservation::{Reservation, page_size};

/// A reservation with an image mapped at its front: warm when it is on a free list, busy when it is in a `Slot`.
#[derive(Debug)]
pub(super) struct Mapped {
    reservation: Reservation,
    content: Arc<Content>,
    /// Accessible bytes.
    len: usize,
    /// The largest `len` since the image was mapped. Beyond it no page was ever touched.
    peak: usize,
    /// Bytes kept resident by the last reset.
    resident: usize,
    /// Resets by scan since the image was mapped.
    scans: u32,
    /// Whether memory beyond `len` may be accessible, which no reset would find: the slot must be retired.
    is_open_beyond: bool,
}

impl Mapped {
    /// Maps `content` into a cold slot. On failure the error contains the cold slot, unless it had to be retired.
    pub(super) fn new(
        reservation: Reservation,
        content: Arc<Content>,
    ) -> Result<Self, (Result<Reservation, Retired>, io::Error)> {
        let mut this = Self {
            reservation,
            len: content.len(),
            peak: content.len(),
            content,
            resident: 0,
            scans: 0,
            is_open_beyond: false,
        };
        match this.map() {
            Ok(()) => Ok(this),
            Err(error) => Err((this.unmap(), error)),
        }
    }

    pub(super) fn base(&self) -> *mut u8 {
        self.reservation.base()
    }

    /// Accessible bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn content(&self) -> &Arc<Content> {
        &self.content
    }

    /// Bytes kept resident by the last reset.
    pub(super) fn resident(&self) -> usize {
        self.resident
    }

    /// Makes the first `bytes` bytes accessible. `bytes` is a multiple of the machine's page and not less than `len()`.
    pub(super) fn grow_to(&mut self, bytes: usize) -> io::Result<()> {
        let grown = self.len..bytes;
        if let Err(error) = self.reservation.open(grown.clone()) {
            // The range may span several mappings, of which the kernel has changed the first ones.
            if self.reservation.close(grown.clone()).is_err()
                && self.reservation.wipe(grown).is_err()
            {
                self.is_open_beyond = true;
            }
            return Err(error);
        }
        self.len = bytes;
        self.peak = self.peak.max(bytes);
        Ok(())
    }

    /// Makes the memory what `Mapped::new` made it, and returns how that was done. At most `keep` bytes stay resident.
    /// After an error the slot may hold anything, so the caller must retire it.
    pub(super) fn reset(&mut self, reset: &Reset, keep: usize) -> io::Result<ResetBy> {
        if self.is_open_beyond {
            return Err(io::Error::other(
                "a growth failed half way, and what it made accessible could not be closed again",
            ));
        }
        let keep = keep - keep % page_size();
        let by = match reset {
            Reset::Scan(pagemap) => match self.restore_dirty(pagemap, keep) {
                Ok(()) => ResetBy::Scan,
                // A scan that fails half way leaves only pages that are not yet restored. This restores all of them.
                Err(_) => {
                    self.restore_up_to(0)?;
                    ResetBy::Madvise
                }
            },
            Reset::Copy { up_to } if self.content.len() <= *up_to => {
                self.restore_up_to(keep.min(self.content.len()))?;
                ResetBy::Copy
            }
            Reset::Copy { .. } | Reset::Madvise => {
                self.restore_up_to(0)?;
                ResetBy::Madvise
            }
        };
        self.shrink()?;
        Ok(by)
    }

    /// Unmaps the image: the slot is cold again. If that fails the slot may hold anything, so it is retired.
    pub(super) fn unmap(mut self) -> Result<Reservation, Retired> {
        match self.reservation.wipe(0..self.peak) {
            Ok(()) => Ok(self.reservation),
            Err(_) => Err(self.retire()),
        }
    }

    /// Takes the slot out of use for good.
    pub(super) fn retire(self) -> Retired {
        Retired {
            unmapped: self.reservation.retire(),
        }
    }

    fn map(&mut self) -> io::Result<()> {
        let len = self.content.len();
        if !self.content.is_in_files() {
            self.reservation.open(0..len)?;
            self.refill(0..len);
            return Ok(());
        }
        let nonzero = self.content.nonzero();
        if nonzero.start > 0 {
            self.reservation.open(0..nonzero.start)?;
        }
        for (file, range) in self.content.files() {
            self.reservation.map_file(file, range)?;
        }
        self.reservation.open(nonzero.end..len)
    }

    /// Restores up to `keep` bytes of the pages that the kernel says are dirty, and gives the rest back.
    ///
    /// Restoring a page does not make it clean for the kernel: every later scan reports it again, even if no sandbox
    /// writes to it any more. So every [`WEED_EVERY`]th reset compares the dirty pages with the image and gives back
    /// those that equal it, which the last sandbox did not write to. The resident pages then follow what the sandboxes
    /// use, and one large request does not make all later resets slow.
    fn restore_dirty(&mut self, pagemap: &Pagemap, keep: usize) -> io::Result<()> {
        self.scans = self.scans.wrapping_add(1);
        let weed = self.scans.is_multiple_of(WEED_EVERY)
            && self.resident > WEED_FROM
            && self.content.is_in_files();
        let (base, nonzero) = (self.base(), self.content.nonzero());
        let (mut kept, mut rest) = (0, None);
        let mut restore = |pages: Range<usize>| {
            let now = pages.start..pages.end.min(pages.start + (keep - kept));
            kept += now.len();
            let cut = now.end;
            // SAFETY: the scan stays in `0..len`, which is accessible. `&mut self`: no other code uses the slot.
            unsafe { self.content.restore(base, now) };
            if cut == pages.end {
                return ControlFlow::Continue(());
            }
            rest = Some(cut);
            ControlFlow::Break(())
        };
        let mut idle = Vec::<Range<usize>>::new();
        pagemap.scan(base, 0..self.len, |mut pages, zero| {
            if zero {
                pages = pages.start.max(nonzero.start)..pages.end.min(nonzero.end);
            }
            if pages.is_empty() {
                return ControlFlow::Continue(());
            }
            if !weed {
                return restore(pages);
            }
            for start in pages.step_by(page_size()) {
                let page = start..start + page_size();
                // SAFETY: as above.
                if unsafe { !self.content.is_at(base, page.clone()) } {
                    restore(page)?;
                } else if let Some(last) = idle.last_mut().filter(|last| last.end == page.start) {
                    last.end = page.end;
                } else {
                    idle.push(page);
                }
            }
            ControlFlow::Continue(())
        })?;
        for pages in idle {
            self.reservation.discard(pages)?;
        }
        if let Some(rest) = rest {
            self.give_back(rest)?;
        }
        self.resident = kept;
        Ok(())
    }

    /// Restores the first `kept` bytes by copying all of them, and gives the rest back.
    fn restore_up_to(&mut self, kept: usize) -> io::Result<()> {
        // SAFETY: at most `content.len()` bytes, which are accessible. `&mut self`: no other code uses the slot.
        unsafe { self.content.restore(self.base(), 0..kept) };
        self.give_back(kept)?;
        self.resident = kept;
        Ok(())
    }

    /// Gives the pages from offset `from` on back to the kernel, so that they read as the image or as zero.
    fn give_back(&mut self, from: usize) -> io::Result<()> {
        self.reservation.discard(from..self.len)?;
        if !self.content.is_in_files() {
            self.refill(from..self.content.len());
        }
        Ok(())
    }

    /// Writes the image to `range`, which is zero. For images that are not mapped from a file.
    fn refill(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            // SAFETY: inside `0..content.len()`, which is accessible. `&mut self`: no other code uses the slot.
            unsafe { self.content.fill(self.base(), range) };
        }
    }

    /// Makes the grown memory inaccessible again. The reset has made its pages zero, so the next sandbox that grows can
    /// use those that are still resident.
    fn shrink(&mut self) -> io::Result<()> {
        let grown = self.content.len()..self.len;
        if !grown.is_empty() {
            self.reservation
                .close(grown.clone())
                .or_else(|_| self.reservation.wipe(grown))?;
            self.len = self.content.len();
        }
        Ok(())
    }
}

/// One reset in this many looks for pages that no sandbox writes to any more. Looking takes about as long as the reset
/// itself, and a page that is given back too early costs one page fault. One in 64 makes both too small to measure.
const WEED_EVERY: u32 = 64;

/// Slots that keep no more bytes resident than this are not searched for such pages: there is little to gain.
const WEED_FROM: usize = 64 << 10;

/// How a pool resets its slots.
pub(super) enum Reset {
    /// Copy the whole image if it has at most `up_to` bytes, otherwise give every page back.
    Copy { up_to: usize },
    /// Give every page back.
    Madvise,
    /// Restore the dirty pages.
    Scan(Pagemap),
}

/// How one reset was done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ResetBy {
    Copy,
    Madvise,
    Scan,
}

/// Proof that a slot was taken out of use. The pool must count it.
#[derive(Debug)]
#[must_use]
pub(super) struct Retired {
    /// Whether its address space could be unmapped.
    pub(super) unmapped: bool,
}
