//! Replaces `memfd.rs` on systems without memfd: making a sealed file always fails, so images and artifacts are on the
//! heap.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

/// A sealed file that cannot exist.
pub(crate) enum Sealed {}

impl Sealed {
    pub(super) fn new<'a>(
        _: usize,
        _: impl Iterator<Item = (usize, &'a [u8])>,
    ) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn copy_of(_: &File, _: usize) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn of_file(_: File, _: usize) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match *self {}
    }
}

pub(crate) fn file_in_memory(_: &CStr) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
