//! WASI's error numbers, and the two ways a hostcall fails.

use std::io;

use crate::calls::Interruption;
use crate::sandbox::Stop;

/// An error number of preview 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Errno(pub(super) u16);

impl Errno {
    pub(super) const BADF: Self = Self(8);
    pub(super) const FAULT: Self = Self(21);
    pub(super) const ILSEQ: Self = Self(25);
    pub(super) const INVAL: Self = Self(28);
    pub(super) const IO: Self = Self(29);
    pub(super) const NAMETOOLONG: Self = Self(37);
    pub(super) const NODEV: Self = Self(43);
    pub(super) const NOLCK: Self = Self(46);
    pub(super) const NOSYS: Self = Self(52);
    pub(super) const NOTDIR: Self = Self(54);
    pub(super) const NOTSOCK: Self = Self(57);
    pub(super) const NOTSUP: Self = Self(58);
    pub(super) const NOTTY: Self = Self(59);
    pub(super) const NXIO: Self = Self(60);
    pub(super) const OVERFLOW: Self = Self(61);
    pub(super) const ROFS: Self = Self(69);
    pub(super) const SPIPE: Self = Self(70);
    pub(super) const TXTBSY: Self = Self(74);
    pub(super) const XDEV: Self = Self(75);
    pub(super) const NOTCAPABLE: Self = Self(76);

    /// The error number for an error of the system that wasi-common does not translate.
    pub(super) fn of_io(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENODEV) => Self::NODEV,
            Some(libc::ENOLCK) => Self::NOLCK,
            Some(libc::ENOSYS) => Self::NOSYS,
            Some(libc::ENOTTY) => Self::NOTTY,
            Some(libc::ENXIO) => Self::NXIO,
            Some(libc::EROFS) => Self::ROFS,
            Some(libc::ETXTBSY) => Self::TXTBSY,
            Some(libc::EXDEV) => Self::XDEV,
            _ => Self::IO,
        }
    }
}

/// Why a hostcall did not succeed. The guest gets an errno, or a stop ends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fail {
    Errno(Errno),
    Stop(Stop),
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Stop> for Fail {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Interruption> for Fail {
    fn from(why: Interruption) -> Self {
        Self::Stop(why.into())
    }
}

/// Runs the body of a hostcall, and converts its result to what backends expect.
#[inline]
pub(super) fn answer(body: impl FnOnce() -> Result<(), Fail>) -> Result<i32, Stop> {
    match body() {
        Ok(()) => Ok(0),
        Err(Fail::Errno(errno)) => Ok(i32::from(errno.0)),
        Err(Fail::Stop(stop)) => Err(stop),
    }
}
