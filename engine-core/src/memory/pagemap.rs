//! Finds the dirty pages of a slot with the kernel's `PAGEMAP_SCAN` (Linux 6.7), so that none is missed.
//!
//! A page of a private mapping is dirty if the process has its own copy of it. The scan therefore asks for pages that are
//! `(PRESENT or SWAPPED) and not FILE`:
//!
//! - SWAPPED counts as well as PRESENT, because a page that is swapped out, or that compaction is moving at this
//!   moment, is reported as SWAPPED and not as PRESENT.
//! - The kernel's zero page is reported with a separate category, `IS_ZERO_PAGE`, and the caller decides. Where the
//!   memory is anonymous it is clean: a read has put it there. Where the image is mapped it is dirty: same-page merging
//!   (KSM) can replace a private page that the guest has cleared by the zero page.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::{ControlFlow, Range};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicI32, Ordering};

use parking_lot::Mutex;

use super::machine;
use super::reservation::{Syscall, done, fault, mapped, page_size};
use crate::per_cpu::index;

/// This process's `/proc/self/pagemap`, opened once for each processor.
pub(super) struct Pagemap {
    /// A page that the kernel wipes in a forked child (`MADV_WIPEONFORK`). For each shard it holds a descriptor plus
    /// one, or 0 in a process that has not opened its own page map yet. A child must open its own: the parent's file
    /// describes the parent's pages.
    descriptors: NonNull<Shard>,
    /// The number of shards: one for each processor, with one open file each. The kernel counts a reference on the file
    /// in every system call; with one file, all processors would write to one cache line.
    shards: usize,
    /// Every opened file: one for each shard, and as many again for each generation of fork. They stay open, because
    /// another thread may be using a descriptor that it has read.
    files: Mutex<Vec<File>>,
}

/// One processor's descriptor, alone on its cache line.
#[repr(align(64))]
struct Shard(AtomicI32);

// SAFETY: the page behind the pointer is accessed through atomics only, and stays mapped until the page map is dropped.
unsafe impl Send for Pagemap {}
// SAFETY: as above.
unsafe impl Sync for Pagemap {}

impl Pagemap {
    /// Opens the page map and tries it on a slot. An error says what is missing.
    pub(super) fn open() -> io::Result<Self> {
        // SAFETY: makes a new mapping at an address that the kernel chooses; no existing mapping is touched.
        let page = mapped(unsafe {
            libc::mmap(
                ptr::null_mut(),
                page_size(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        })?;
        let this = Self {
            descriptors: page.cast(),
            shards: machine::shards().min(page_size() / size_of::<Shard>()),
            files: Mutex::default(),
        };
        // SAFETY: sets a flag on the page just mapped.
        done(unsafe { libc::madvise(page.as_ptr().cast(), page_size(), libc::MADV_WIPEONFORK) })?;
        // Open all of them now: later the process may have no descriptors left.
        this.shards()
            .iter()
            .try_for_each(|shard| this.reopen(&shard.0).map(|_| ()))?;
        super::pagemap_trial::run(&this)?;
        Ok(this)
    }

    /// Calls `visit` for every stretch of private pages in `base + range`, in ascending order: with their offsets from
    /// `base`, and with whether they are the zero page. `visit` may write to the pages, and may end the scan.
    pub(super) fn scan(
        &self,
        base: *mut u8,
        range: Range<usize>,
        mut visit: impl FnMut(Range<usize>, bool) -> ControlFlow<()>,
    ) -> io::Result<()> {
        fault(Syscall::Scan)?;
        let descriptor = self.descriptor()?;
        let mut regions = [const { MaybeUninit::<Region>::uninit() }; REGIONS];
        let base = base as u64;
        let end = base + range.end as u64;
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            flags: 0,
            start: base + range.start as u64,
            end,
            walk_end: 0,
            vec: regions.as_mut_ptr() as u64,
            vec_len: REGIONS as u64,
            max_pages: 0,
            category_inverted: IS_FILE,
            category_mask: IS_FILE,
            category_anyof_mask: IS_PRESENT | IS_SWAPPED,
            return_mask: IS_ZERO_PAGE,
        };
        while scan.start < end {
            // SAFETY: the kernel reads and writes `scan`, and writes at most `vec_len` regions to `vec`; both live
            // longer than the call.
            let found = unsafe { libc::ioctl(descriptor, PAGEMAP_SCAN, &raw mut scan) };
            let found = usize::try_from(found).map_err(|_| io::Error::last_os_error())?;
            if found > REGIONS || scan.walk_end <= scan.start || scan.walk_end > end {
                return Err(io::Error::other("the page scan made no progress"));
            }
            for region in &regions[..found] {
                // SAFETY: the kernel wrote the first `found` regions.
                let region = unsafe { region.assume_init_ref() };
                if region.start < scan.start || region.end > end || region.start > region.end {
                    return Err(io::Error::other(
                        "the page scan reported pages out of its range",
                    ));
                }
                let pages = (region.start - base) as usize..(region.end - base) as usize;
                if visit(pages, region.categories & IS_ZERO_PAGE != 0).is_break() {
                    return Ok(());
                }
            }
            scan.start = scan.walk_end;
        }
        Ok(())
    }

    fn descriptor(&self) -> io::Result<RawFd> {
        let shards = self.shards();
        let descriptor = &shards[index(shards.len())].0;
        match descriptor.load(Ordering::Acquire) {
            0 => self.reopen(descriptor),
            known => Ok(known - 1),
        }
    }

    fn shards(&self) -> &[Shard] {
        // SAFETY: `open` mapped the page; it stays mapped until `self` is dropped, is aligned to more than a `Shard`
        // needs and has room for `self.shards` of them. All access to it is atomic, and a zeroed `Shard` is a valid one.
        unsafe { slice::from_raw_parts(self.descriptors.as_ptr(), self.shards) }
    }

    #[cold]
    fn reopen(&self, descriptor: &AtomicI32) -> io::Result<RawFd> {
        let mut files = self.files.lock();
        let known = descriptor.load(Ordering::Acquire);
        if known != 0 {
            return Ok(known - 1);
        }
        let file = File::open("/proc/self/pagemap")?;
        let fd = file.as_raw_fd();
        files.push(file);
        descriptor.store(fd + 1, Ordering::Release);
        Ok(fd)
    }
}

impl Drop for Pagemap {
    fn drop(&mut self) {
        // SAFETY: unmaps the page that `open` mapped; no reference to it is left.
        unsafe { libc::munmap(self.descriptors.as_ptr().cast(), page_size()) };
    }
}

/// Regions for each system call. The kernel allocates as many for itself, so this is not more than a usual request needs.
pub(super) const REGIONS: usize = 64;

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::Ioctl = 0xc060_6610_u32 as libc::Ioctl;
const IS_FILE: u64 = 1 << 2;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_ZERO_PAGE: u64 = 1 << 5;

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const _: () = assert!(size_of::<Scan>() == 96 && size_of::<Region>() == 24);
