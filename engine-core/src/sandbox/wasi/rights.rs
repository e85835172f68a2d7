//! Rights: which operations a descriptor allows. A guest can give rights up, and never gets them back.
//!
//! A descriptor starts with every right that makes sense for it. So only the rights that were given up are stored, and
//! a guest that gives up none, like almost all guests, has no cost.

use std::collections::BTreeMap;

use super::errno::{Errno, Fail};

pub(super) const FD_DATASYNC: u64 = 1 << 0;
pub(super) const FD_READ: u64 = 1 << 1;
pub(super) const FD_SEEK: u64 = 1 << 2;
pub(super) const FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
pub(super) const FD_SYNC: u64 = 1 << 4;
pub(super) const FD_TELL: u64 = 1 << 5;
pub(super) const FD_WRITE: u64 = 1 << 6;
pub(super) const FD_ADVISE: u64 = 1 << 7;
pub(super) const FD_ALLOCATE: u64 = 1 << 8;
pub(super) const PATH_CREATE_DIRECTORY: u64 = 1 << 9;
pub(super) const PATH_CREATE_FILE: u64 = 1 << 10;
pub(super) const PATH_LINK_SOURCE: u64 = 1 << 11;
pub(super) const PATH_LINK_TARGET: u64 = 1 << 12;
pub(super) const PATH_OPEN: u64 = 1 << 13;
pub(super) const FD_READDIR: u64 = 1 << 14;
pub(super) const PATH_READLINK: u64 = 1 << 15;
pub(super) const PATH_RENAME_SOURCE: u64 = 1 << 16;
pub(super) const PATH_RENAME_TARGET: u64 = 1 << 17;
pub(super) const PATH_FILESTAT_GET: u64 = 1 << 18;
pub(super) const PATH_FILESTAT_SET_TIMES: u64 = 1 << 20;
pub(super) const FD_FILESTAT_GET: u64 = 1 << 21;
pub(super) const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
pub(super) const FD_FILESTAT_SET_TIMES: u64 = 1 << 23;
pub(super) const PATH_SYMLINK: u64 = 1 << 24;
pub(super) const PATH_REMOVE_DIRECTORY: u64 = 1 << 25;
pub(super) const PATH_UNLINK_FILE: u64 = 1 << 26;
pub(super) const POLL_FD_READWRITE: u64 = 1 << 27;

/// The rights of every open file.
const FILE: u64 = FD_DATASYNC
    | FD_SEEK
    | FD_FDSTAT_SET_FLAGS
    | FD_SYNC
    | FD_TELL
    | FD_ADVISE
    | FD_FILESTAT_GET
    | FD_FILESTAT_SET_TIMES
    | POLL_FD_READWRITE;

/// The additional rights of a file that is open for writing.
const WRITABLE_FILE: u64 = FD_ALLOCATE | FD_FILESTAT_SET_SIZE;

/// The rights of a file. wasi-common reports in `base` only whether it may be read and written.
pub(super) fn of_file(base: u64) -> u64 {
    let writable = if base & FD_WRITE == 0 {
        0
    } else {
        WRITABLE_FILE
    };
    base | FILE | writable
}

/// The rights of a descriptor, or those that it has lost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Rights {
    /// Rights of the descriptor itself.
    pub(super) base: u64,
    /// Rights of descriptors that are opened through it.
    pub(super) inheriting: u64,
}

impl Rights {
    /// The rights that are not in `lost`.
    pub(super) fn without(self, lost: Self) -> Self {
        Self {
            base: self.base & !lost.base,
            inheriting: self.inheriting & !lost.inheriting,
        }
    }

    /// The rights that are lost if `self` becomes `wanted`. ENOTCAPABLE if `wanted` has rights that `self` does not have.
    pub(super) fn lost_by(self, wanted: Self) -> Result<Self, Errno> {
        if wanted.without(self) != Self::default() {
            return Err(Errno::NOTCAPABLE);
        }
        Ok(self.without(wanted))
    }
}

/// The rights that descriptors have lost.
#[derive(Debug, Default)]
pub(super) struct LostRights {
    /// Only those that have lost any.
    by_fd: BTreeMap<i32, Rights>,
}

impl LostRights {
    /// Whether no descriptor has lost any.
    pub(super) fn is_empty(&self) -> bool {
        self.by_fd.is_empty()
    }

    /// What `fd` has lost.
    pub(super) fn of(&self, fd: i32) -> Rights {
        self.by_fd.get(&fd).copied().unwrap_or_default()
    }

    /// ENOTCAPABLE if `fd` has lost any of `needed`.
    pub(super) fn check(&self, fd: i32, needed: u64) -> Result<(), Fail> {
        check(self.of(fd).base, needed)
    }

    /// Takes more rights from `fd`.
    pub(super) fn lose(&mut self, fd: i32, more: Rights) {
        if more != Rights::default() {
            let lost = self.by_fd.entry(fd).or_default();
            lost.base |= more.base;
            lost.inheriting |= more.inheriting;
        }
    }

    /// What is opened through a descriptor has only the rights that this one lets it inherit.
    pub(super) fn inherit(&mut self, from: i32, opened: i32) {
        let lost = self.of(from).inheriting;
        self.lose(
            opened,
            Rights {
                base: lost,
                inheriting: lost,
            },
        );
    }

    /// `fd` is closed.
    pub(super) fn close(&mut self, fd: i32) {
        self.by_fd.remove(&fd);
    }

    /// What was `from` is `to` now.
    pub(super) fn renumber(&mut self, from: i32, to: i32) {
        let lost = self.by_fd.remove(&from);
        self.close(to);
        self.lose(to, lost.unwrap_or_default());
    }
}

/// ENOTCAPABLE if any of `needed` is among `lost`.
pub(super) fn check(lost: u64, needed: u64) -> Result<(), Fail> {
    if lost & needed == 0 {
        Ok(())
    } else {
        Err(Errno::NOTCAPABLE.into())
    }
}
