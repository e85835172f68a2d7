//! Tests that no sandbox sees what an earlier one wrote: canaries everywhere, in every reset mode, on many threads.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::pagemap::Pagemap;
use super::super::reservation::page_size;
use super::super::{Pool, PoolConfig, PoolStats, ResetMode};
use super::*;

const MODES: [ResetMode; 4] = [
    ResetMode::Auto,
    ResetMode::Copy,
    ResetMode::Madvise,
    ResetMode::Scan,
];

/// Does what a guest may do: read, write and grow, in any order. Then the next sandbox looks for traces of it.
fn pairs(pool: &Pool, image: &Image, expected: &[u8], seed: u64, rounds: usize) {
    let mut random = Random(seed);
    for _ in 0..rounds {
        let mut slot = pool.slot(image, 64 * PAGE).expect("a slot");
        match random.below(3) {
            0 => assert_pristine(&slot, expected),
            _ => {
                for _ in 0..40 {
                    let offset = random.below(slot.len());
                    assert_eq!(read(&slot, offset), expected[offset], "at {offset}");
                }
            }
        }
        for _ in 0..random.below(3) {
            let before = slot.len();
            slot.grow_to(before + random.below(6 * WASM_PAGE))
                .expect("room to grow");
            let canary = random.next() as u8;
            for offset in (before + random.below(page_size())..slot.len()).step_by(page_size()) {
                assert_eq!(read(&slot, offset), 0, "grown memory at {offset}");
                write(&mut slot, offset, canary);
            }
        }
        for _ in 0..random.below(80) {
            let (offset, canary) = (random.below(slot.len()), random.next() as u8);
            write(&mut slot, offset, canary);
        }
        if random.below(16) == 0 {
            // Write to every page: more than is kept resident.
            for offset in (0..slot.len()).step_by(page_size()) {
                write(&mut slot, offset, !0);
            }
        }
    }
    assert_pristine(&pool.slot(image, 64 * PAGE).expect("a slot"), expected);
}

fn pairs_on_threads(pool: &Pool, image: &Image, expected: &[u8], rounds: usize) {
    let before = pool.stats();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            scope.spawn(move || pairs(pool, image, expected, thread + 77, rounds));
        }
    });
    let stats = pool.stats();
    assert_eq!(stats.busy, 0);
    assert_eq!((stats.retired, stats.reset_failures), (0, 0));
    assert!(stats.warm >= 1 && stats.slots_total <= 32, "{stats:?}");
    let resets = |stats: &PoolStats| stats.resets_copy + stats.resets_madvise + stats.resets_scan;
    assert_eq!(resets(&stats) - resets(&before), 16 * (rounds as u64 + 1));
    assert!(stats.resident_bytes <= pool.config().keep_resident_total as u64 + 16 * (2 << 20));
}

#[test]
fn canaries_never_survive() {
    let expected = bytes(1);
    let mut zero_in_front = expected.clone();
    zero_in_front[..WASM_PAGE].fill(0);
    let images = [
        (image(&expected), &expected),
        (image_over_another(&expected), &expected),
        (image(&zero_in_front), &zero_in_front),
        (image_over_another(&zero_in_front), &zero_in_front),
    ];
    for mode in MODES {
        for keep_resident in [0, 5 * page_size() + 1, 2 << 20] {
            let pool = Pool::new(PoolConfig {
                keep_resident,
                ..config(mode)
            });
            match pool {
                Ok(pool) => {
                    for (image, expected) in &images {
                        pairs_on_threads(&pool, image, expected, 40);
                    }
                }
                Err(_) if mode == ResetMode::Scan && Pagemap::open().is_err() => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Systems other than Linux have all images on the heap.
#[test]
#[cfg(target_os = "linux")]
fn canaries_never_survive_in_images_on_the_heap() {
    use super::super::reservation::Syscall;

    let expected = bytes(2);
    for mode in [ResetMode::Auto, ResetMode::Copy, ResetMode::Madvise] {
        for keep_resident in [0, 5 * page_size(), 2 << 20] {
            faults::fail(Syscall::Memfd, 0, 1);
            let image = image(&expected);
            faults::all_happened();
            let pool = Pool::new(PoolConfig {
                keep_resident,
                ..config(mode)
            });
            pairs_on_threads(&pool.expect("a pool"), &image, &expected, 100);
        }
    }
}

/// A page that compaction is moving is neither present nor the file's: the scan must not miss it.
#[test]
fn canaries_never_survive_while_memory_is_compacted() {
    let Ok(mut compact) = std::fs::OpenOptions::new()
        .write(true)
        .open("/proc/sys/vm/compact_memory")
    else {
        return;
    };
    let expected = bytes(3);
    let (pool, image) = (Pool::new(config(ResetMode::Auto)), image(&expected));
    let pool = pool.expect("a pool");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) && compact.write_all(b"1").is_ok() {
                std::thread::yield_now();
            }
        });
        // Also when an assertion fails: otherwise the scope would wait for ever.
        let _end = OnDrop(|| ended.store(true, Ordering::Relaxed));
        pairs_on_threads(&pool, &image, &expected, 150);
    });
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_slot_that_is_kept_is_as_pristine_as_one_given_back() {
    let expected = bytes(9);
    for mode in MODES {
        let Ok(pool) = Pool::new(config(mode)) else {
            assert_eq!(mode, ResetMode::Scan, "only the scan may be missing");
            continue;
        };
        let image = image(&expected);
        let mut random = Random(41);
        let mut slot = pool.slot(&image, 64 * PAGE).expect("a slot");
        let base = slot.base();
        for round in 0..200 {
            if round % 3 == 0 {
                slot.grow_to(LEN + random.below(9 * WASM_PAGE))
                    .expect("room to grow");
            }
            for _ in 0..random.below(60) {
                let offset = random.below(slot.len());
                write(&mut slot, offset, random.next() as u8);
            }
            slot = match round % 5 {
                0 => slot.renew().expect("a reset"),
                _ => slot.reset().expect("a reset"),
            };
            assert_eq!(
                pool.stats().resident_bytes > 0,
                round % 5 > 0 && mode != ResetMode::Madvise
            );
            assert_pristine(&slot, &expected);
            assert_eq!((slot.base(), slot.max_len()), (base, 64 * WASM_PAGE));
        }
        let kept = pool.stats();
        assert_eq!((kept.busy, kept.warm, kept.slots_total), (1, 0, 1));
        assert_eq!(
            kept.resets_copy + kept.resets_madvise + kept.resets_scan,
            200
        );
        drop(slot);
        assert_eq!((pool.stats().busy, pool.stats().warm), (0, 1));
    }
}

#[test]
fn images_without_bytes_or_without_pages_are_served() {
    for mode in MODES {
        let Ok(pool) = Pool::new(config(mode)) else {
            continue;
        };
        for len in [0, WASM_PAGE] {
            let expected = vec![0; len];
            let image = image(&expected);
            for round in 0..3 {
                let mut slot = pool.slot(&image, 4 * PAGE).expect("a slot");
                assert_eq!(slot.is_empty(), len == 0);
                assert_pristine(&slot, &expected);
                slot.grow_to(len + 2 * WASM_PAGE).expect("room to grow");
                assert_eq!(read(&slot, len), 0, "round {round}");
                write(&mut slot, len, 1);
            }
        }
    }
}

#[test]
fn a_slot_grows_to_its_bound_and_no_further() {
    let expected = bytes(4);
    let pool = Pool::new(config(ResetMode::Auto)).expect("a pool");
    let image = image(&expected);
    let mut slot = pool.slot(&image, 8 * PAGE + 1).expect("a slot");
    assert_eq!(slot.max_len(), 8 * WASM_PAGE);
    slot.grow_to(LEN + 1).expect("room to grow");
    assert_eq!(slot.len(), LEN + WASM_PAGE);
    slot.grow_to(0).expect("nothing to do");
    slot.grow_to(8 * WASM_PAGE).expect("room to grow");
    slot.grow_to(8 * WASM_PAGE + 1)
        .expect_err("beyond the bound");
    assert_eq!(slot.len(), 8 * WASM_PAGE);
    drop(slot);
    // A whole 32-bit memory, touched at its very end.
    let mut slot = pool.slot(&image, u64::MAX).expect("a slot");
    assert_eq!(slot.max_len(), super::super::RESERVED);
    slot.grow_to(super::super::RESERVED).expect("room to grow");
    write(&mut slot, super::super::RESERVED - 1, 1);
    drop(slot);
    assert_pristine(&pool.slot(&image, u64::MAX).expect("a slot"), &expected);
    let error = pool.slot(&image, 4 * PAGE).expect_err("starts larger");
    assert!(error.to_string().contains("raise the limit"), "{error}");
}

/// The parent's page map describes the parent's pages: a forked child must open its own.
#[test]
#[cfg(target_os = "linux")]
fn a_forked_child_scans_its_own_pages() {
    let expected = bytes(5);
    let (pool, image) = (Pool::new(config(ResetMode::Auto)), image(&expected));
    let pool = pool.expect("a pool");
    drop(pool.slot(&image, 64 * PAGE).expect("a slot"));
    // SAFETY: the child uses what this test alone has, and ends without unwinding into the harness.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let survived = (0..3).any(|_| {
            let Ok(mut slot) = pool.slot(&image, 64 * PAGE) else {
                return true;
            };
            let survived = content(&slot) != &expected[..];
            write(&mut slot, 10, !expected[10]);
            write(&mut slot, LEN - 1, 1);
            survived
        });
        // SAFETY: takes no pointer; ends the child at once.
        unsafe { libc::_exit(i32::from(survived)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child just made.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child saw a canary, or crashed");
    pairs(&pool, &image, &expected, 9, 20);
}
