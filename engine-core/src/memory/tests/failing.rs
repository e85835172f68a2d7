//! Tests with failing system calls: no sandbox gets a dirty slot, and every lost slot is counted.

use super::super::reservation::Syscall;
use super::super::{Pool, PoolStats, ResetMode};
use super::*;
use crate::error::ErrorKind;

/// A pool, an image and its bytes, and one slot that has been used and grown.
fn dirty(mode: ResetMode) -> (Pool, Image, Vec<u8>, Slot) {
    let expected = bytes(1);
    let (pool, image) = (Pool::new(config(mode)).expect("a pool"), image(&expected));
    let mut slot = pool.slot(&image, 64 * PAGE).expect("a slot");
    slot.grow_to(LEN + WASM_PAGE).expect("room to grow");
    for offset in [0, SPAN, LEN] {
        write(&mut slot, offset, !0);
    }
    (pool, image, expected, slot)
}

fn assert_next_is_pristine(pool: &Pool, image: &Image, expected: &[u8]) {
    faults::all_happened();
    assert_pristine(&pool.slot(image, 64 * PAGE).expect("a slot"), expected);
}

#[test]
fn a_slot_that_cannot_be_reset_is_retired() {
    let cases: [(ResetMode, &[Syscall]); 4] = [
        (ResetMode::Madvise, &[Syscall::Discard]),
        (ResetMode::Madvise, &[Syscall::Close, Syscall::Wipe]),
        (ResetMode::Copy, &[Syscall::Discard]),
        (ResetMode::Auto, &[Syscall::Close, Syscall::Wipe]),
    ];
    for (mode, failing) in cases {
        let (pool, image, expected, slot) = dirty(mode);
        for &syscall in failing {
            faults::fail(syscall, 0, 1);
        }
        drop(slot);
        let stats = pool.stats();
        assert_eq!(
            (stats.retired, stats.reset_failures),
            (1, 1),
            "{mode:?} {failing:?}"
        );
        assert_eq!((stats.slots_total, stats.warm, stats.busy), (0, 0, 0));
        assert_eq!(stats.resident_bytes, 0);
        assert_next_is_pristine(&pool, &image, &expected);
        assert_eq!(pool.stats().slots_total, 1);
    }
}

#[test]
fn a_slot_that_cannot_be_reset_is_not_kept() {
    let (pool, image, expected, slot) = dirty(ResetMode::Madvise);
    faults::fail(Syscall::Discard, 0, 1);
    assert!(slot.reset().is_err());
    let stats = pool.stats();
    assert_eq!((stats.retired, stats.reset_failures), (1, 1));
    assert_eq!((stats.slots_total, stats.warm, stats.busy), (0, 0, 0));
    assert_eq!(stats.resident_bytes, 0);
    assert_next_is_pristine(&pool, &image, &expected);
}

#[test]
fn a_slot_that_cannot_be_unmapped_still_counts() {
    let (pool, image, expected, slot) = dirty(ResetMode::Madvise);
    faults::fail(Syscall::Discard, 0, 1);
    faults::fail(Syscall::Unmap, 0, 1);
    let base = slot.base();
    drop(slot);
    let stats = pool.stats();
    assert_eq!((stats.retired, stats.slots_total), (1, 1));
    assert_next_is_pristine(&pool, &image, &expected);
    assert_eq!(pool.stats().slots_total, 2);
    assert_ne!(pool.slot(&image, 64 * PAGE).expect("a slot").base(), base);
}

#[test]
fn a_scan_that_fails_gives_everything_back_instead() {
    let (pool, image, expected, slot) = dirty(ResetMode::Auto);
    if pool.reset_mode() != ResetMode::Scan {
        return;
    }
    faults::fail(Syscall::Scan, 0, 1);
    drop(slot);
    let stats = pool.stats();
    assert_eq!(
        (
            stats.resets_madvise,
            stats.resets_scan,
            stats.reset_failures
        ),
        (1, 0, 0)
    );
    assert_next_is_pristine(&pool, &image, &expected);
    assert_eq!(pool.stats().resets_scan, 1);
}

#[test]
fn grown_memory_that_cannot_be_closed_is_mapped_again() {
    for mode in [ResetMode::Auto, ResetMode::Copy, ResetMode::Madvise] {
        let (pool, image, expected, slot) = dirty(mode);
        faults::fail(Syscall::Close, 0, 1);
        drop(slot);
        assert_eq!(pool.stats().retired, 0);
        assert_next_is_pristine(&pool, &image, &expected);
    }
}

#[test]
fn memory_that_cannot_grow_stays_usable() {
    let (pool, image, expected, mut slot) = dirty(ResetMode::Auto);
    faults::fail(Syscall::Open, 0, 1);
    let error = slot.grow_to(LEN + 2 * WASM_PAGE).expect_err("no memory");
    assert_eq!(error.kind(), ErrorKind::Host);
    assert_eq!(slot.len(), LEN + WASM_PAGE);
    slot.grow_to(LEN + 2 * WASM_PAGE).expect("room to grow");
    drop(slot);
    assert_next_is_pristine(&pool, &image, &expected);
}

#[test]
fn what_half_a_growth_made_accessible_is_closed_again() {
    for mode in [ResetMode::Auto, ResetMode::Copy, ResetMode::Madvise] {
        // Closed again; or, if that fails too, mapped again.
        for close_fails in [0, 1] {
            let (pool, image, expected, mut slot) = dirty(mode);
            faults::fail(Syscall::OpenRest, 0, 1);
            faults::fail(Syscall::Close, 0, close_fails);
            let error = slot.grow_to(LEN + 5 * WASM_PAGE).expect_err("no memory");
            assert_eq!(error.kind(), ErrorKind::Host);
            faults::all_happened();
            assert_eq!(slot.len(), LEN + WASM_PAGE);
            for page in 1..5 {
                assert!(!is_accessible(&slot, LEN + page * WASM_PAGE), "{page}");
            }
            // The memory that the guest has is as it was, and may grow later.
            assert_eq!(read(&slot, LEN), !0);
            slot.grow_to(LEN + 3 * WASM_PAGE).expect("room to grow");
            assert_eq!(read(&slot, LEN + WASM_PAGE), 0);
            write(&mut slot, LEN + 2 * WASM_PAGE, 7);
            drop(slot);
            assert_eq!(pool.stats().retired, 0);
            assert_next_is_pristine(&pool, &image, &expected);
        }
    }
}

#[test]
fn a_slot_of_which_too_much_stays_accessible_is_retired() {
    for mode in [ResetMode::Auto, ResetMode::Copy, ResetMode::Madvise] {
        for is_reused in [false, true] {
            let (pool, image, expected, mut slot) = dirty(mode);
            for syscall in [Syscall::OpenRest, Syscall::Close, Syscall::Wipe] {
                faults::fail(syscall, 0, 1);
            }
            slot.grow_to(LEN + 5 * WASM_PAGE).expect_err("no memory");
            faults::all_happened();
            // What a guest could write there is in no reset's range.
            assert!(is_accessible(&slot, LEN + 2 * WASM_PAGE));
            if is_reused {
                slot.reset().expect_err("the slot cannot be used again");
            } else {
                drop(slot);
            }
            let stats = pool.stats();
            assert_eq!((stats.retired, stats.reset_failures), (1, 1), "{mode:?}");
            assert_eq!((stats.slots_total, stats.warm, stats.busy), (0, 0, 0));
            assert_next_is_pristine(&pool, &image, &expected);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_image_that_is_mapped_half_way_leaves_nothing_accessible() {
    let expected = bytes(1);
    let (pool, image) = (Pool::new(config(ResetMode::Auto)), image(&expected));
    let pool = pool.expect("a pool");
    faults::fail(Syscall::OpenRest, 0, 1);
    pool.slot(&image, 64 * PAGE).expect_err("cannot be mapped");
    faults::all_happened();
    // The same slot, with a smaller image.
    let small = super::image(&expected[..WASM_PAGE]);
    let slot = pool.slot(&small, 64 * PAGE).expect("a slot");
    assert_eq!(pool.stats().slots_total, 1);
    assert_pristine(&slot, &expected[..WASM_PAGE]);
}

#[test]
#[cfg(target_os = "linux")]
fn an_image_that_cannot_be_mapped_costs_no_slot() {
    for syscall in [Syscall::MapFile, Syscall::Open] {
        let expected = bytes(1);
        let (pool, image) = (Pool::new(config(ResetMode::Auto)), image(&expected));
        let pool = pool.expect("a pool");
        faults::fail(syscall, 0, 1);
        let error = pool.slot(&image, 64 * PAGE).expect_err("cannot be mapped");
        assert_eq!(error.kind(), ErrorKind::Host);
        let stats = pool.stats();
        assert_eq!((stats.slots_total, stats.busy, stats.retired), (1, 0, 0));
        assert_next_is_pristine(&pool, &image, &expected);
        assert_eq!(pool.stats().slots_total, 1);

        faults::fail(Syscall::MapFile, 0, 1);
        faults::fail(Syscall::Wipe, 0, 1);
        let other = super::image(&bytes(2));
        pool.slot(&other, 64 * PAGE).expect_err("cannot be mapped");
        faults::all_happened();
        assert_eq!(pool.stats().retired, 1);
        assert_next_is_pristine(&pool, &image, &expected);
    }
}

#[test]
fn without_room_for_a_new_slot_one_changes_its_image() {
    faults::fail(Syscall::Reserve, 0, 1);
    let error = Pool::new(config(ResetMode::Auto)).expect_err("no address space");
    assert_eq!(error.kind(), ErrorKind::Unsupported);

    let (pool, image, _, slot) = dirty(ResetMode::Auto);
    drop(slot);
    let expected = bytes(2);
    let other = super::image(&expected);
    faults::fail(Syscall::Reserve, 0, 1);
    let slot = pool
        .slot(&other, 64 * PAGE)
        .expect("the slot of the first image");
    assert_pristine(&slot, &expected);
    assert_eq!(pool.stats().slots_total, 1);
    faults::fail(Syscall::Reserve, 0, 1);
    let error = pool.slot(&image, 64 * PAGE).expect_err("nothing left");
    assert!(error.to_string().contains("no room for another"), "{error}");
    faults::all_happened();
}

#[test]
fn a_slot_that_cannot_change_its_image_is_retired() {
    let expected = bytes(2);
    let other = super::image(&expected);
    let (pool, image, _, slot) = dirty(ResetMode::Auto);
    drop(slot);
    faults::fail(Syscall::Reserve, 0, 1);
    faults::fail(Syscall::Wipe, 0, 1);
    pool.slot(&other, 64 * PAGE).expect_err("no slot left");
    let PoolStats {
        slots_total,
        retired,
        resident_bytes,
        ..
    } = pool.stats();
    assert_eq!((slots_total, retired, resident_bytes), (0, 1, 0));
    assert_next_is_pristine(&pool, &other, &expected);

    // And when its image is dropped.
    drop(pool.slot(&image, 64 * PAGE).expect("a slot"));
    faults::fail(Syscall::Wipe, 0, 1);
    drop(image);
    faults::all_happened();
    let stats = pool.stats();
    assert_eq!((stats.slots_total, stats.warm, stats.retired), (1, 1, 2));
}
