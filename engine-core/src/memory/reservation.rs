//! A slot's address range. No other file changes what is mapped in it.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::LazyLock;

use super::{GUARD, RESERVED};

/// `RESERVED + GUARD` bytes of address space, inaccessible when made: a cold slot. It owns the range; dropping it
/// unmaps it.
///
/// No reference into the range exists while a method with `&mut self` runs: the memory is used through raw pointers from
/// [`Reservation::base`] only, and only by the holder of the `Slot`.
#[derive(Debug)]
pub(super) struct Reservation {
    base: NonNull<u8>,
}

// SAFETY: the range belongs to the process, not to a thread, and the reservation is its only owner.
unsafe impl Send for Reservation {}

impl Reservation {
    pub(super) const BYTES: usize = RESERVED + GUARD;

    pub(super) fn new() -> io::Result<Self> {
        fault(Syscall::Reserve)?;
        let base = reserve(Self::BYTES)?;
        let this = Self { base };
        this.forbid_huge_pages(0..Self::BYTES);
        Ok(this)
    }

    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Maps `range` of `file` over the same range of the reservation, private and writable.
    #[cfg(target_os = "linux")]
    pub(super) fn map_file(&mut self, file: BorrowedFd<'_>, range: Range<usize>) -> io::Result<()> {
        use std::os::fd::AsRawFd;

        fault(Syscall::MapFile)?;
        let (offset, len) = (range.start, range.len());
        let range = self.checked(range);
        // SAFETY: MAP_FIXED replaces a part of this reservation only (`checked`). `&mut self`: no other code uses it now.
        let at = unsafe {
            libc::mmap(
                range.start.cast(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        mapped(at).map(drop)
    }

    /// Images are in files on Linux only.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn map_file(&mut self, _: BorrowedFd<'_>, _: Range<usize>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes `range` readable and writable. Pages that were not touched since `wipe` read as zero.
    pub(super) fn open(&mut self, range: Range<usize>) -> io::Result<()> {
        fault(Syscall::Open)?;
        if let Err(error) = fault(Syscall::OpenRest) {
            // What the kernel does if the range has two mappings and it has no memory for the second.
            let middle = range.start + (range.len() / 2).next_multiple_of(page_size());
            self.protect(range.start..middle, libc::PROT_READ | libc::PROT_WRITE)?;
            return Err(error);
        }
        self.protect(range, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Makes `range` inaccessible. Its pages keep what they hold.
    pub(super) fn close(&mut self, range: Range<usize>) -> io::Result<()> {
        fault(Syscall::Close)?;
        self.protect(range, libc::PROT_NONE)
    }

    /// Gives the private pages of `range` back to the kernel. The range then reads as what is mapped there: the file,
    /// or zero.
    #[cfg(target_os = "linux")]
    pub(super) fn discard(&mut self, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        fault(Syscall::Discard)?;
        let len = range.len();
        let range = self.checked(range);
        // SAFETY: drops private pages of this reservation only (`checked`). `&mut self`: no other code uses them now.
        done(unsafe { libc::madvise(range.start.cast(), len, libc::MADV_DONTNEED) })
    }

    /// Gives the pages of `range` back to the system. The range then reads as zero. Only Linux promises that of
    /// `madvise`, so here the range is mapped again.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn discard(&mut self, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        fault(Syscall::Discard)?;
        self.remap(range, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// Makes `range` what it was when it was reserved: no pages, inaccessible.
    pub(super) fn wipe(&mut self, range: Range<usize>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        fault(Syscall::Wipe)?;
        self.remap(range.clone(), libc::PROT_NONE)?;
        self.forbid_huge_pages(range);
        Ok(())
    }

    /// Unmaps the range. Returns false if the kernel refused; the address space is then lost, and made inaccessible if
    /// possible.
    pub(super) fn retire(self) -> bool {
        let mut this = std::mem::ManuallyDrop::new(self);
        this.unmap()
    }

    fn unmap(&mut self) -> bool {
        let unmapped = fault(Syscall::Unmap).is_ok() && {
            // SAFETY: the reservation's own range. Both callers give the reservation up, so it is unmapped once only.
            unsafe { libc::munmap(self.base.as_ptr().cast(), Self::BYTES) == 0 }
        };
        if !unmapped {
            let _ = self.remap(0..Self::BYTES, libc::PROT_NONE);
        }
        unmapped
    }

    fn remap(&mut self, range: Range<usize>, protection: libc::c_int) -> io::Result<()> {
        let len = range.len();
        let range = self.checked(range);
        // SAFETY: MAP_FIXED replaces a part of this reservation only (`checked`). `&mut self`: no other code uses it now.
        let at = unsafe {
            libc::mmap(
                range.start.cast(),
                len,
                protection,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        mapped(at).map(drop)
    }

    fn protect(&mut self, range: Range<usize>, protection: libc::c_int) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let len = range.len();
        let range = self.checked(range);
        // SAFETY: changes a part of this reservation only (`checked`); no reference into it exists.
        done(unsafe { libc::mprotect(range.start.cast(), len, protection) })
    }

    /// Turns transparent huge pages off. With them one store would dirty 2 MiB, all of which the reset would have to
    /// restore.
    #[cfg(target_os = "linux")]
    fn forbid_huge_pages(&self, range: Range<usize>) {
        let len = range.len();
        let range = self.checked(range);
        // SAFETY: sets a hint on a part of this reservation. A kernel without huge pages refuses it, which is fine.
        unsafe { libc::madvise(range.start.cast(), len, libc::MADV_NOHUGEPAGE) };
    }

    #[cfg(not(target_os = "linux"))]
    fn forbid_huge_pages(&self, _: Range<usize>) {}

    /// The addresses of `range`, which must be whole pages inside the reservation.
    fn checked(&self, range: Range<usize>) -> Range<*mut u8> {
        assert!(
            range.start <= range.end && range.end <= Self::BYTES,
            "{range:?} is not inside a slot"
        );
        debug_assert!((range.start | range.end).is_multiple_of(page_size()));
        // SAFETY: both ends are in the reservation, or one past its end.
        unsafe { self.base().add(range.start)..self.base().add(range.end) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.unmap();
    }
}

/// Reserves inaccessible address space at an address that the kernel chooses. It costs no memory.
pub(super) fn reserve(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: makes a new mapping at an address that the kernel chooses; no existing mapping is touched.
    let at = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    mapped(at)
}

/// Bytes in a page of this machine.
pub(super) fn page_size() -> usize {
    static PAGE_SIZE: LazyLock<usize> = LazyLock::new(|| {
        // SAFETY: sysconf takes no pointers and only reads.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).unwrap_or(4096)
    });
    *PAGE_SIZE
}

/// The address that `mmap` returned, or why it failed.
pub(super) fn mapped(at: *mut libc::c_void) -> io::Result<NonNull<u8>> {
    match NonNull::new(at.cast::<u8>()) {
        Some(at) if at.as_ptr().cast() != libc::MAP_FAILED => Ok(at),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `Ok` if a system call returned 0, otherwise why it failed.
pub(super) fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A system call that a test can make fail.
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "some calls are Linux's alone")
)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Syscall {
    Close,
    Discard,
    MapFile,
    Memfd,
    Open,
    /// The second half of the range that [`Syscall::Open`] opens.
    OpenRest,
    Reserve,
    Scan,
    Unmap,
    Wipe,
}

/// Fails if a test asked for that (`tests::faults`). Outside of tests it does nothing.
#[inline]
pub(super) fn fault(syscall: Syscall) -> io::Result<()> {
    #[cfg(test)]
    super::tests::faults::check(syscall)?;
    let _ = syscall;
    Ok(())
}
