//! A module's initialised memory: sparse, immutable, and in a sealed memfd where the system has them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::RESERVED;
use super::memfd::Sealed;
use super::pool::Core;
use super::reservation::page_size;
use crate::error::{Error, Result};
use crate::limits::PAGE;

/// A module's initialised memory, made once at deployment and shared by all its sandboxes.
///
/// Dropping it makes every warm slot that holds it cold: an image that no function uses any more keeps no memory.
pub struct Image {
    content: Arc<Content>,
}

impl Image {
    /// An image of `len` bytes (whole wasm pages), zero except for `segments`: (offset, bytes). Later segments overwrite
    /// earlier ones. A segment out of bounds is an `InvalidModule` error.
    pub fn new(len: u64, segments: &[(u64, &[u8])]) -> Result<Self> {
        let len = checked_len(len)?;
        let mut grains = BTreeMap::<usize, Box<[u8; GRAIN]>>::new();
        for (index, &(offset, bytes)) in segments.iter().enumerate() {
            let mut at = usize::try_from(offset)
                .ok()
                .filter(|&at| at <= len && bytes.len() <= len - at)
                .ok_or_else(|| {
                    Error::invalid_module(format!(
                        "data segment {index} ({} bytes at offset {offset}) does not fit in an initial memory of {len} \
                         bytes; declare a larger initial memory or move the segment",
                        bytes.len()
                    ))
                })?;
            let mut bytes = bytes;
            while !bytes.is_empty() {
                let (now, later) = bytes.split_at(bytes.len().min(GRAIN - at % GRAIN));
                let grain = grains
                    .entry(at / GRAIN)
                    .or_insert_with(|| Box::new([0; GRAIN]));
                grain[at % GRAIN..][..now.len()].copy_from_slice(now);
                at += now.len();
                bytes = later;
            }
        }
        let grains = grains.iter();
        let grains = grains.map(|(index, grain)| (index * GRAIN, &grain[..]));
        Ok(Self::of_grains(len, grains))
    }

    /// The image of a snapshot. `bytes` is the whole captured memory, in whole wasm pages.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let len = checked_len(bytes.len() as u64)?;
        Ok(Self::of_grains(len, grains_of(bytes)))
    }

    /// As [`Image::from_bytes`]. The longest stretch in which the memory is still as in `initial`, which mostly is the
    /// module's constant data, is not stored again: both images share it.
    pub fn from_bytes_over(bytes: &[u8], initial: &Self) -> Result<Self> {
        let len = checked_len(bytes.len() as u64)?;
        let shared = initial.content.longest_same(bytes);
        let own = grains_of(bytes).filter(|(offset, _)| !shared.contains(offset));
        let mut runs = runs_of(own.clone());
        // The file is also mapped where the memory is zero in front of the shared stretch.
        let Ok(Some(file)) = stored(&mut runs, own, shared.start) else {
            return Self::from_bytes(bytes);
        };
        runs.extend(initial.content.runs_in(&shared));
        runs.sort_unstable_by_key(|run| run.range.start);
        let base = (!shared.is_empty()).then(|| Arc::clone(&initial.content));
        Ok(Self::with(len, runs, Source::File(file), shared, base))
    }

    /// The memory's initial length in bytes, a multiple of 64 KiB.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.content.len as u64
    }

    /// Whether the memory starts with no pages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.content.len == 0
    }

    /// Writes the image to `memory`, which must be all zero and at least `len()` long: only what is not zero is copied.
    ///
    /// # Panics
    /// If `memory` is shorter than the image.
    pub fn write_to(&self, memory: &mut [u8]) {
        let memory = &mut memory[..self.content.len];
        for run in &self.content.runs {
            memory[run.range.clone()].copy_from_slice(self.content.bytes_of(run));
        }
    }

    pub(super) fn content(&self) -> &Arc<Content> {
        &self.content
    }

    fn of_grains<'a>(len: usize, grains: impl Iterator<Item = (usize, &'a [u8])> + Clone) -> Self {
        let mut runs = runs_of(grains.clone());
        let source = match stored(&mut runs, grains.clone(), 0) {
            Ok(Some(file)) => Source::File(file),
            // Nothing to store, or no memfd to be had (a seccomp filter, no descriptor left): keep the bytes on the heap.
            _ => {
                let stored = grains.filter(|(_, grain)| !is_zero(grain));
                Source::Heap(stored.flat_map(|(_, grain)| grain).copied().collect())
            }
        };
        Self::with(len, runs, source, 0..0, None)
    }

    fn with(
        len: usize,
        runs: Vec<Run>,
        source: Source,
        shared: Range<usize>,
        base: Option<Arc<Content>>,
    ) -> Self {
        Self {
            content: Arc::new(Content {
                id: next_id(),
                len,
                runs,
                source,
                shared,
                base,
                dropped: AtomicBool::new(false),
                pools: Mutex::default(),
            }),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Set before the pools are told: a slot that is given back from now on sees the flag and does not stay warm.
        self.content.dropped.store(true, Ordering::Release);
        let pools = std::mem::take(&mut *self.content.pools.lock());
        for pool in pools.iter().filter_map(Weak::upgrade) {
            pool.forget(self.content.id);
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("id", &self.content.id)
            .field("len", &self.content.len)
            .field("nonzero", &self.content.nonzero())
            .finish_non_exhaustive()
    }
}

/// What an image consists of. A mapped slot keeps the content alive for as long as it is mapped. So no reference has to
/// be counted for each request, and the `Image` itself can be dropped while slots still hold the content.
pub(super) struct Content {
    id: u64,
    len: usize,
    /// The ranges that are not zero, in ascending order, in units of `GRAIN`.
    runs: Vec<Run>,
    source: Source,
    /// What `base` has and `source` has not. Empty without a base.
    shared: Range<usize>,
    /// The content of another image, which is in a file and has no base.
    base: Option<Arc<Self>>,
    /// The `Image` was dropped: no slot with this content will be asked for again.
    dropped: AtomicBool,
    /// The pools that have mapped this content.
    pools: Mutex<Vec<Weak<Core>>>,
}

impl Content {
    /// A number that is unique in this process.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The memory's initial length.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// From the first byte that is not zero to the last, in whole pages of the machine.
    pub(super) fn nonzero(&self) -> Range<usize> {
        nonzero_of(&self.runs)
    }

    /// Whether the content is in files, which are mapped over all of `nonzero()`.
    pub(super) fn is_in_files(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    /// What to map over `nonzero()`, in ascending order: each file has its bytes at their offsets in memory. Nothing if the
    /// content is not in files.
    pub(super) fn files(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Range<usize>)> {
        let Range { start, end } = self.nonzero();
        let shared = match self.shared.is_empty() {
            true => end..end,
            false => self.shared.clone(),
        };
        let base = self.base.as_deref().unwrap_or(self);
        [
            (self, start..shared.start),
            (base, shared.clone()),
            (self, shared.end..end),
        ]
        .into_iter()
        .filter(|(_, range)| !range.is_empty())
        .filter_map(|(content, range)| match &content.source {
            Source::File(file) => Some((file.file(), range)),
            Source::Heap(_) => None,
        })
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Acquire)
    }

    /// Records that `pool` maps this content, so that the pool is told when the image is dropped.
    pub(super) fn used_by(&self, pool: &Weak<Core>) {
        let mut pools = self.pools.lock();
        pools.retain(|known| known.strong_count() > 0);
        if !pools.iter().any(|known| known.ptr_eq(pool)) {
            pools.push(pool.clone());
        }
    }

    /// Makes `range` of the memory at `base` hold the image's bytes, and zero beyond the image's end.
    ///
    /// # Safety
    /// `base + range` is writable, and no other code uses it meanwhile.
    pub(super) unsafe fn restore(&self, base: *mut u8, range: Range<usize>) {
        let mut at = range.start;
        let first = self.runs.partition_point(|run| run.range.end <= at);
        for run in &self.runs[first..] {
            if run.range.start >= range.end {
                break;
            }
            let start = run.range.start.max(at);
            let end = run.range.end.min(range.end);
            let bytes = &self.bytes_of(run)[start - run.range.start..end - run.range.start];
            // SAFETY: at <= start <= end <= range.end, so both writes stay in the range that the caller guarantees; the
            // source is this image's own memory, never a slot's.
            unsafe {
                clear(base, at..start);
                base.add(start)
                    .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
            at = end;
        }
        // SAFETY: as above.
        unsafe { clear(base, at..range.end) };
    }

    /// Whether `range` of the memory at `base` holds the image's bytes, and zero beyond the image's end.
    ///
    /// # Safety
    /// `base + range` is readable, and no other code writes to it meanwhile.
    pub(super) unsafe fn is_at(&self, base: *const u8, range: Range<usize>) -> bool {
        // SAFETY: the caller guarantees that the range is readable and not written to.
        let memory = unsafe { std::slice::from_raw_parts(base.add(range.start), range.len()) };
        self.equals(memory, range.start)
    }

    /// Whether the image's bytes from `start` on, with zero beyond its end, are those of `memory`.
    fn equals(&self, memory: &[u8], start: usize) -> bool {
        let range = start..start + memory.len();
        let mut at = 0;
        let first = self
            .runs
            .partition_point(|run| run.range.end <= range.start);
        for run in &self.runs[first..] {
            if run.range.start >= range.end {
                break;
            }
            let start = run.range.start.max(range.start);
            let end = run.range.end.min(range.end);
            let bytes = &self.bytes_of(run)[start - run.range.start..end - run.range.start];
            let (zero, same) = (
                at..start - range.start,
                start - range.start..end - range.start,
            );
            if !is_zero(&memory[zero]) || memory[same] != *bytes {
                return false;
            }
            at = end - range.start;
        }
        is_zero(&memory[at..])
    }

    /// The stretch of whole pages in which `bytes` equal the image and most of the image's stored bytes are. Empty if that
    /// is not worth a mapping, or if the image is not one whose file can be mapped.
    fn longest_same(&self, bytes: &[u8]) -> Range<usize> {
        let (mut longest, mut most) = (0..0, 0);
        if !self.is_in_files() || self.base.is_some() {
            return longest;
        }
        let (mut same, mut stored) = (0..0, 0);
        for (index, page) in bytes.chunks(page_size()).enumerate() {
            let at = index * page_size();
            if !self.equals(page, at) {
                (same, stored) = (0..0, 0);
            } else if !is_zero(page) {
                if stored == 0 {
                    same.start = at;
                }
                same.end = at + page.len();
                stored += page.len();
                if stored > most {
                    (longest, most) = (same.clone(), stored);
                }
            }
        }
        if most < WORTH_SHARING {
            return 0..0;
        }
        longest
    }

    /// The image's runs in `shared`, for an image that has this one as its base.
    fn runs_in(&self, shared: &Range<usize>) -> impl Iterator<Item = Run> {
        self.runs.iter().filter_map(|run| {
            let range = run.range.start.max(shared.start)..run.range.end.min(shared.end);
            (!range.is_empty()).then_some(Run {
                at: range.start,
                range,
            })
        })
    }

    /// Writes the bytes of `range` that are not zero to memory that is all zero.
    ///
    /// # Safety
    /// `base + range` is writable, and no other code uses it meanwhile.
    pub(super) unsafe fn fill(&self, base: *mut u8, range: Range<usize>) {
        for run in &self.runs {
            let part = run.range.start.max(range.start)..run.range.end.min(range.end);
            if !part.is_empty() {
                // SAFETY: a part of the range that the caller guarantees.
                unsafe { self.restore(base, part) };
            }
        }
    }

    fn bytes_of(&self, run: &Run) -> &[u8] {
        let content = match &self.base {
            Some(base) if self.shared.contains(&run.range.start) => base,
            _ => self,
        };
        let bytes = match &content.source {
            Source::File(file) => file.bytes(),
            Source::Heap(bytes) => bytes,
        };
        &bytes[run.at..][..run.range.len()]
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image {} ({} bytes)", self.id, self.len)
    }
}

/// A stretch of memory that is not zero.
struct Run {
    /// Offsets in memory.
    range: Range<usize>,
    /// Offset of its first byte in the source.
    at: usize,
}

/// Where an image's bytes are.
enum Source {
    /// A sealed file, in which the bytes have their offsets in memory.
    File(Sealed),
    /// All runs, one after the other, where there is no memfd.
    Heap(Box<[u8]>),
}

/// An image is shared with another one if at least so many bytes need not be stored: it takes two mappings more in each
/// slot.
const WORTH_SHARING: usize = 64 << 10;

/// The unit in which an image is sparse: the smallest page size of any supported machine.
const GRAIN: usize = 4096;

fn checked_len(len: u64) -> Result<usize> {
    if !len.is_multiple_of(PAGE) || len > RESERVED as u64 {
        return Err(Error::invalid_module(format!(
            "the module's initial memory is {len} bytes; it must be a multiple of 64 KiB and at most 4 GiB"
        )));
    }
    Ok(len as usize)
}

/// The stretches that are not zero. `Run::at` is their offset in a source that stores them alone, one after the other.
fn runs_of<'a>(grains: impl Iterator<Item = (usize, &'a [u8])>) -> Vec<Run> {
    let mut runs = Vec::<Run>::new();
    let mut stored = 0;
    for (offset, grain) in grains {
        if is_zero(grain) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.range.end == offset => run.range.end += grain.len(),
            _ => runs.push(Run {
                range: offset..offset + grain.len(),
                at: stored,
            }),
        }
        stored += grain.len();
    }
    runs
}

fn nonzero_of(runs: &[Run]) -> Range<usize> {
    match (runs.first(), runs.last()) {
        (Some(first), Some(last)) => {
            let start = first.range.start;
            start - start % page_size()..last.range.end.next_multiple_of(page_size())
        }
        _ => 0..0,
    }
}

fn grains_of(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> + Clone {
    let grains = bytes.chunks(GRAIN).enumerate();
    grains.map(|(index, grain)| (index * GRAIN, grain))
}

/// A file of at least `len` bytes with those of `grains` that are not zero, which are in `runs`. `None` if there are none.
fn stored<'a>(
    runs: &mut [Run],
    grains: impl Iterator<Item = (usize, &'a [u8])>,
    len: usize,
) -> std::io::Result<Option<Sealed>> {
    if runs.is_empty() {
        return Ok(None);
    }
    let len = len.max(nonzero_of(runs).end);
    let file = Sealed::new(len, grains.filter(|(_, grain)| !is_zero(grain)))?;
    for run in runs {
        run.at = run.range.start;
    }
    Ok(Some(file))
}

/// Zeroes a range of the memory at `base`. An empty range is skipped here and not passed to `memset`: glibc's `memset`
/// executes a store with an empty mask for it, and if the address is on a page that is not writable the CPU needs about
/// 100 ns for that store (16 dirty pages: 3.8 µs instead of 2.4).
///
/// # Safety
/// `base + range` is writable, and no other code uses it meanwhile.
unsafe fn clear(base: *mut u8, range: Range<usize>) {
    if !range.is_empty() {
        // SAFETY: the caller guarantees that the range is writable and ours.
        unsafe { base.add(range.start).write_bytes(0, range.len()) };
    }
}

fn is_zero(grain: &[u8]) -> bool {
    // Without an early return, so that the compiler makes vector instructions of it.
    grain.iter().fold(0, |bits, byte| bits | byte) == 0
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::memory::reservation::Syscall;
    use crate::memory::tests::faults;

    const LEN: u64 = 4 * PAGE;

    fn written(image: &Image) -> Vec<u8> {
        let mut memory = vec![0; image.len() as usize];
        image.write_to(&mut memory);
        memory
    }

    #[test]
    fn later_segments_overwrite_earlier_ones() {
        let image = Image::new(LEN, &[(4090, &[1; 100]), (4100, &[0; 8]), (4104, &[2; 2])])
            .expect("an image");
        let mut expected = vec![0; LEN as usize];
        expected[4090..4190].fill(1);
        expected[4100..4108].fill(0);
        expected[4104..4106].fill(2);
        assert_eq!(written(&image), expected);
    }

    #[test]
    fn an_image_in_a_file_equals_one_on_the_heap() {
        let mut bytes = vec![0; LEN as usize];
        for (index, byte) in bytes.iter_mut().enumerate() {
            if index / GRAIN % 5 == 1 {
                *byte = (index % 251) as u8;
            }
        }
        let file = Image::from_bytes(&bytes).expect("an image");
        faults::fail(Syscall::Memfd, 0, 1);
        let heap = Image::from_bytes(&bytes).expect("an image");
        assert_eq!(file.content.is_in_files(), cfg!(target_os = "linux"));
        assert!(!heap.content.is_in_files());
        for image in [&file, &heap] {
            assert_eq!(image.len(), LEN);
            assert!(written(image) == bytes);
            let mut part = vec![7; LEN as usize];
            let range = GRAIN + 10..12 * GRAIN - 10;
            // SAFETY: the range lies in `part`, which is ours.
            assert!(unsafe { !image.content.is_at(part.as_ptr(), range.clone()) });
            // SAFETY: as above.
            unsafe { image.content.restore(part.as_mut_ptr(), range.clone()) };
            for wrong in [range.start, GRAIN * 3, range.end - 1] {
                // SAFETY: as above.
                assert!(unsafe { image.content.is_at(part.as_ptr(), range.clone()) });
                part[wrong] ^= 1;
                // SAFETY: as above.
                assert!(unsafe { !image.content.is_at(part.as_ptr(), range.clone()) });
                part[wrong] ^= 1;
            }
            assert!(part[range.clone()] == bytes[range.clone()]);
            assert!(part[..range.start].iter().all(|&byte| byte == 7));
            assert!(part[range.end..].iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_an_image_shares_with_another_is_not_stored_again() {
        let page = page_size();
        let len = 16 * LEN as usize;
        let mut initial = vec![0; len];
        initial[30 * page..100 * page].fill(1);
        initial[60 * page] = 0;
        initial[61 * page..63 * page].fill(0);
        let mut bytes = initial.clone();
        // In front with a gap before what is shared, a byte within, and behind it.
        bytes[20 * page + 1] = 2;
        bytes[40 * page] = 2;
        bytes[120 * page] = 2;
        let base = Image::from_bytes(&initial).expect("an image");
        let image = Image::from_bytes_over(&bytes, &base).expect("an image");
        let shared = 41 * page..100 * page;
        let files = |image: &Image| {
            image
                .content
                .files()
                .map(|(_, range)| range)
                .collect::<Vec<_>>()
        };
        let (before, behind) = (20 * page..shared.start, shared.end..121 * page);
        assert_eq!(files(&image), [before, shared.clone(), behind]);
        let stored: usize = match &image.content.source {
            Source::File(file) => file
                .bytes()
                .chunks(page)
                .filter(|page| !is_zero(page))
                .count(),
            Source::Heap(_) => panic!("the image is on the heap"),
        };
        assert_eq!(stored, 1 + 11 + 1);
        let again = Image::from_bytes_over(&bytes, &image).expect("an image");
        assert!(again.content.base.is_none(), "a base has no base");
        drop(base);
        for image in [image, again] {
            assert!(written(&image) == bytes);
            for wrong in [0, 20 * page, 41 * page, 70 * page, 100 * page, len - 1] {
                assert!(image.content.equals(&bytes, 0));
                bytes[wrong] ^= 1;
                assert!(!image.content.equals(&bytes, 0), "{wrong}");
                bytes[wrong] ^= 1;
            }
        }

        // Whatever is not worth it, or cannot be in a file, is stored.
        let small = Image::from_bytes(&bytes[..PAGE as usize]).expect("an image");
        let image = Image::from_bytes_over(&bytes, &small).expect("an image");
        let whole = files(&image);
        assert_eq!((whole.len(), &whole[0]), (1, &(20 * page..121 * page)));
        faults::fail(Syscall::Memfd, 0, 2);
        let image = Image::from_bytes_over(&bytes, &image).expect("an image");
        assert!(!image.content.is_in_files() && written(&image) == bytes);
        let image = Image::from_bytes_over(&bytes, &image).expect("an image");
        assert!(image.content.base.is_none() && written(&image) == bytes);
    }

    #[test]
    fn zero_bytes_are_not_stored() {
        let image = Image::new(LEN, &[(0, &[0; 70_000]), (100, &[])]).expect("an image");
        assert_eq!(image.content.nonzero(), 0..0);
        assert!(!image.content.is_in_files());
        let image = Image::new(LEN, &[(0, &[1])]).expect("an image");
        assert_eq!(image.content.nonzero(), 0..page_size());
        let image = Image::new(0, &[]).expect("an image");
        assert!(image.is_empty() && written(&image).is_empty());
    }

    #[test]
    fn segments_and_lengths_out_of_bounds_are_invalid_modules() {
        let bytes: &[u8] = &[1; 2];
        let cases = [
            (LEN, LEN - 1, bytes),
            (LEN, LEN + 1, &[]),
            (LEN, u64::MAX, bytes),
            (0, 0, bytes),
        ];
        for (len, offset, bytes) in cases {
            let error = Image::new(len, &[(offset, bytes)]).expect_err("out of bounds");
            assert_eq!(error.kind(), ErrorKind::InvalidModule);
            assert!(error.to_string().contains("segment 0"), "{error}");
        }
        for len in [1, PAGE + 1, RESERVED as u64 + PAGE, u64::MAX] {
            let error = Image::new(len, &[]).expect_err("no such length");
            assert_eq!(error.kind(), ErrorKind::InvalidModule);
        }
        Image::new(RESERVED as u64, &[(RESERVED as u64 - 2, bytes)]).expect("4 GiB, sparse");
    }
}
