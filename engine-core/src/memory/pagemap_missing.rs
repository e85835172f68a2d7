//! Replaces `pagemap.rs` on systems other than Linux, where the kernel cannot say which pages are dirty: `open` always
//! fails.

use std::io;
use std::ops::{ControlFlow, Range};

/// A page map that cannot exist.
pub(super) enum Pagemap {}

impl Pagemap {
    pub(super) fn open() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn scan(
        &self,
        _: *mut u8,
        _: Range<usize>,
        _: impl FnMut(Range<usize>, bool) -> ControlFlow<()>,
    ) -> io::Result<()> {
        match *self {}
    }
}
