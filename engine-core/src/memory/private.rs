//! Counts the memory of a range that belongs to this process alone.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::reservation::page_size;

/// Bits of an entry of `/proc/self/pagemap`: the page is in memory, it is swapped out, it is one of a file.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// How many of `len` bytes at the address `at` are private: written to, or in no mapping of a file such as an image. `None` if the
/// system does not say. Takes some 20 µs for 10 MiB. Memory that is not there counts as none.
pub(crate) fn private_bytes(at: usize, len: usize) -> Option<u64> {
    let page = page_size();
    let (first, pages) = (at / page, len.div_ceil(page));
    let pagemap = File::open("/proc/self/pagemap").ok()?;
    let mut entries = [0; 8 * 1024];
    let mut counted = 0;
    let mut done = 0;
    while done < pages {
        let wanted = 8 * (pages - done).min(entries.len() / 8);
        let offset = 8 * (first + done) as u64;
        let read = pagemap.read_at(&mut entries[..wanted], offset).ok()?;
        if read < 8 {
            return None;
        }
        let (entries, _) = entries[..read].as_chunks::<8>();
        for &entry in entries {
            let entry = u64::from_ne_bytes(entry);
            let private = entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0;
            counted += u64::from(private);
        }
        done += entries.len();
    }
    Some(counted * page as u64)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::memory::{Image, Pool, PoolConfig};
    use std::sync::Arc;

    #[test]
    fn written_pages_are_counted() {
        let image = Arc::new(Image::new(40 << 16, &[(0, &[7; 300_000])]).unwrap());
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let slot = pool.slot(&image, 64 << 16).unwrap();
        let count = || private_bytes(slot.base().addr(), slot.len()).unwrap();
        let before = count();
        for page in 0..10 {
            // SAFETY: these bytes are accessible, and nothing else refers to the slot's memory.
            unsafe { slot.base().add(page * 3 * page_size()).write(1) };
        }
        let written = count() - before;
        assert!(written >= 9 * page_size() as u64, "{written}");
        assert!(written <= 10 * page_size() as u64, "{written}");
    }
}
