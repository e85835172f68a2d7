//! A sealed file in memory: bytes that can no longer change, to map into slots and to copy from.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};

use super::reservation::{Syscall, done, fault, mapped};

/// A memfd that can neither be written nor resized, and a view of it.
pub(crate) struct Sealed {
    file: File,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapped bytes are only read, and they cannot change, because the file is sealed.
unsafe impl Send for Sealed {}
// SAFETY: as above.
unsafe impl Sync for Sealed {}

impl Sealed {
    /// A file of `len` bytes (not 0, whole pages), zero except for `parts`: (offset, bytes).
    pub(super) fn new<'a>(
        len: usize,
        parts: impl Iterator<Item = (usize, &'a [u8])>,
    ) -> io::Result<Self> {
        fault(Syscall::Memfd)?;
        let file = create(c"gojinn-image")?;
        file.set_len(len as u64)?;
        for (offset, bytes) in parts {
            file.write_all_at(bytes, offset as u64)?;
        }
        Self::seal(file, len)
    }

    /// A file that holds the next `len` bytes (not 0) of `source`.
    pub(crate) fn copy_of(source: &File, len: usize) -> io::Result<Self> {
        fault(Syscall::Memfd)?;
        let mut file = create(c"gojinn-code")?;
        // `io::copy` copies inside the kernel where it can.
        let copied = io::copy(&mut source.take(len as u64), &mut file)?;
        if copied < len as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::seal(file, len)
    }

    /// `file`, which [`file_in_memory`] made and which is to hold `len` bytes (not 0): what is beyond is cut off. Fails while anybody
    /// can still write to it through a mapping.
    pub(crate) fn of_file(file: File, len: usize) -> io::Result<Self> {
        file.set_len(len as u64)?;
        Self::seal(file, len)
    }

    fn seal(file: File, len: usize) -> io::Result<Self> {
        let seals =
            libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: takes no pointer; seals a file that we own.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // MAP_PRIVATE, because kernels before 6.7 refuse MAP_SHARED for a file that is sealed against writing.
        // SAFETY: makes a new mapping at an address that the kernel chooses; no existing mapping is touched.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        let base = mapped(at)?;
        Ok(Self { file, base, len })
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped readable at `base` until `self` is dropped, and the sealed file never changes.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        // SAFETY: unmaps what `seal` mapped; references into it borrow `self`, so none is left.
        let _ = done(unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) });
    }
}

/// `MFD_NOEXEC_SEAL`, since Linux 6.3. Newer kernels can be configured to refuse files without it.
const NOEXEC_SEAL: libc::c_uint = 8;

/// An empty file in memory that this process alone has, for [`Sealed::of_file`] or to be handed to another process.
pub(crate) fn file_in_memory(name: &CStr) -> io::Result<File> {
    fault(Syscall::Memfd)?;
    create(name)
}

fn create(name: &CStr) -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    for flags in [flags | NOEXEC_SEAL, flags] {
        // SAFETY: `name` is a C string; the call makes a new file.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd >= 0 {
            // SAFETY: a new descriptor that no other code owns.
            return Ok(unsafe { File::from_raw_fd(fd) });
        }
    }
    Err(io::Error::last_os_error())
}
