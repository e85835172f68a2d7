//! Tests of which slot a sandbox gets: affinity, stealing, eviction, the bound, and images that are dropped.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::{Pool, PoolConfig, ResetMode};
use super::*;
use crate::error::ErrorKind;

fn pool(slots: usize) -> Pool {
    Pool::new(PoolConfig {
        slots,
        ..config(ResetMode::Auto)
    })
    .expect("a pool")
}

#[test]
fn a_warm_slot_returns_to_its_image() {
    let pool = pool(32);
    let images = [image(&bytes(1)), image(&bytes(2)), image(&bytes(3))];
    let bases = images.each_ref().map(|image| {
        let slot = pool.slot(image, 64 * PAGE).expect("a slot");
        slot.base() as usize
    });
    assert_eq!(pool.stats().warm, 3);
    for _ in 0..20 {
        for (image, base) in images.iter().zip(bases) {
            // If this thread has moved to another CPU meanwhile, the slot is stolen from the first CPU's shard.
            let slot = pool.slot(image, 64 * PAGE).expect("a slot");
            assert_eq!(slot.base() as usize, base);
        }
    }
    assert_eq!(pool.stats().slots_total, 3);
}

#[test]
fn a_cold_slot_is_used_before_a_new_one_is_made() {
    let pool = pool(32);
    assert_eq!(pool.stats().slots_total, 1);
    let image = image(&bytes(1));
    let slots = [(); 3].map(|()| pool.slot(&image, 64 * PAGE).expect("a slot"));
    let stats = pool.stats();
    assert_eq!((stats.slots_total, stats.busy, stats.warm), (3, 3, 0));
    drop(slots);
    let stats = pool.stats();
    assert_eq!((stats.slots_total, stats.busy, stats.warm), (3, 0, 3));
}

#[test]
fn the_bound_holds_and_the_longest_waiting_slot_changes_its_image() {
    let pool = pool(3);
    let contents = [1, 2, 3, 4].map(bytes);
    let images = contents.each_ref().map(|bytes| image(bytes));
    let mut bases = Vec::new();
    for image in &images[..3] {
        let mut slot = pool.slot(image, 64 * PAGE).expect("a slot");
        slot.grow_to(LEN + WASM_PAGE).expect("room to grow");
        write(&mut slot, LEN, 1);
        bases.push(slot.base() as usize);
        drop(slot);
        // The free list's clock is coarse: wait until it shows a later time.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let slot = pool.slot(&images[3], 64 * PAGE).expect("a slot");
    assert_eq!(slot.base() as usize, bases[0]);
    assert_pristine(&slot, &contents[3]);
    let others = [&images[0], &images[1]].map(|image| pool.slot(image, 64 * PAGE).expect("a slot"));
    assert_eq!(pool.stats().slots_total, 3);
    let error = pool.slot(&images[2], 64 * PAGE).expect_err("all are busy");
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(error.to_string().contains("all 3 memory slots"), "{error}");
    drop(others);
    assert_pristine(
        &pool.slot(&images[2], 64 * PAGE).expect("a slot"),
        &contents[2],
    );
}

/// As many threads as slots, and each holds one slot at a time: none may be rejected.
#[test]
fn no_request_is_rejected_while_a_slot_is_free() {
    const THREADS: usize = 8;
    let pool = pool(THREADS + 1);
    let contents = [1, 2, 3].map(bytes);
    let images = contents.each_ref().map(|bytes| image(bytes));
    let barrier = Barrier::new(THREADS + 1);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (pool, images, contents, barrier) = (&pool, &images, &contents, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..2000 {
                    let which = (thread + round) % 3;
                    let mut slot = pool.slot(&images[which], 64 * PAGE).expect("a slot");
                    let offset = (round * 4099) % LEN;
                    assert_eq!(read(&slot, offset), contents[which][offset]);
                    write(&mut slot, offset, !0);
                }
            });
        }
        // Meanwhile images are made and dropped, which makes slots cold.
        let (pool, barrier) = (&pool, &barrier);
        scope.spawn(move || {
            barrier.wait();
            for seed in 0..100 {
                let passing = image(&bytes(seed));
                drop(pool.slot(&passing, 64 * PAGE).expect("a slot"));
            }
        });
    });
    let stats = pool.stats();
    assert_eq!((stats.busy, stats.retired), (0, 0));
    assert!(stats.slots_total <= THREADS as u64 + 1);
}

#[test]
fn a_dropped_image_leaves_no_warm_slot_behind() {
    let pool = pool(32);
    let (kept, dropped) = (image(&bytes(1)), image(&bytes(2)));
    let busy = pool.slot(&dropped, 64 * PAGE).expect("a slot");
    drop([&kept, &dropped, &dropped].map(|image| {
        let mut slot = pool.slot(image, 64 * PAGE).expect("a slot");
        write(&mut slot, 0, 1);
        slot
    }));
    assert_eq!(pool.stats().warm, 3);
    let file = std::sync::Arc::downgrade(dropped.content());
    drop(dropped);
    assert_eq!(pool.stats().warm, 1);
    // The busy slot holds the content until it is given back.
    assert!(file.upgrade().is_some());
    assert_eq!(read(&busy, 0), bytes(2)[0]);
    drop(busy);
    assert!(file.upgrade().is_none());
    let stats = pool.stats();
    assert_eq!((stats.slots_total, stats.busy, stats.warm), (4, 0, 1));
    if pool.reset_mode() == ResetMode::Scan {
        assert_eq!(stats.resident_bytes, page_size() as u64);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_slot_that_goes_cold_keeps_no_page() {
    use std::ops::ControlFlow;

    use super::super::pagemap::Pagemap;

    let pool = pool(32);
    let image = image(&bytes(1));
    let mut slot = pool.slot(&image, 64 * PAGE).expect("a slot");
    slot.grow_to(LEN + 10 * WASM_PAGE).expect("room to grow");
    for offset in (0..slot.len()).step_by(page_size()) {
        write(&mut slot, offset, 1);
    }
    let (base, len) = (slot.base(), slot.len());
    drop(slot);
    let Ok(pagemap) = Pagemap::open() else {
        return;
    };
    let own = || {
        let mut own = 0;
        let scanned = pagemap.scan(base, 0..len, |pages, _| {
            own += pages.len();
            ControlFlow::Continue(())
        });
        scanned.map(|()| own).expect("a scan")
    };
    assert_eq!(own(), len);
    drop(image);
    assert_eq!(own(), 0);
}

#[test]
fn images_are_dropped_while_their_slots_come_back() {
    let pool = pool(16);
    let survivors = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (pool, survivors) = (&pool, &survivors);
            scope.spawn(move || {
                for round in 0..150 {
                    let image = image(&bytes(thread * 1000 + round));
                    let content = std::sync::Arc::downgrade(image.content());
                    let slot = pool.slot(&image, 64 * PAGE).expect("a slot");
                    let other = std::thread::spawn(move || drop(slot));
                    drop(image);
                    other.join().expect("no panic");
                    survivors.fetch_add(content.strong_count(), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(survivors.into_inner(), 0);
    assert_eq!((pool.stats().warm, pool.stats().busy), (0, 0));
    assert_eq!(pool.stats().resident_bytes, 0);
}

#[test]
fn slots_outlive_their_pool() {
    let expected = bytes(1);
    let (pool, image) = (pool(32), image(&expected));
    drop(pool.slot(&image, 64 * PAGE).expect("a slot"));
    let mut slot = pool.slot(&image, 64 * PAGE).expect("a slot");
    drop(pool);
    slot.grow_to(LEN + WASM_PAGE).expect("room to grow");
    write(&mut slot, LEN, 1);
    drop(slot);
    drop(image);
}

#[test]
fn all_slots_together_keep_no_more_than_allowed() {
    let total = 10 * page_size();
    let pool = Pool::new(PoolConfig {
        keep_resident_total: total,
        ..config(ResetMode::Auto)
    })
    .expect("a pool");
    let expected = bytes(1);
    let image = image(&expected);
    let slots = [(); 4].map(|()| pool.slot(&image, 64 * PAGE).expect("a slot"));
    for mut slot in slots {
        for page in 0..4 {
            write(&mut slot, page * page_size(), !0);
        }
    }
    assert!(pool.stats().resident_bytes <= total as u64);
    let slots = [(); 4].map(|()| pool.slot(&image, 64 * PAGE).expect("a slot"));
    for slot in slots {
        assert_pristine(&slot, &expected);
    }
}

/// One large request must not make every later reset slow.
#[test]
fn pages_that_are_no_longer_written_are_given_back() {
    let pool = pool(32);
    if pool.reset_mode() != ResetMode::Scan {
        return;
    }
    let expected = bytes(1);
    let image = image(&expected);
    let resident = |used: usize| {
        let mut slot = pool.slot(&image, 64 * PAGE).expect("a slot");
        slot.grow_to(LEN + WASM_PAGE).expect("room to grow");
        for offset in (0..used).step_by(page_size()) {
            write(&mut slot, offset, !0);
        }
        drop(slot);
        pool.stats().resident_bytes as usize
    };
    assert_eq!(resident(LEN + WASM_PAGE), LEN + WASM_PAGE);
    assert_eq!(resident(0), LEN + WASM_PAGE);
    let few = 3 * page_size();
    let last = (0..200).fold(0, |_, _| resident(few));
    assert_eq!(last, few);
    let mut slot = pool.slot(&image, 64 * PAGE).expect("a slot");
    assert_pristine(&slot, &expected);
    slot.grow_to(LEN + WASM_PAGE).expect("room to grow");
    assert!(content(&slot)[LEN..].iter().all(|&byte| byte == 0));
}

#[test]
fn settings_that_make_no_pool_are_explained() {
    let none = PoolConfig {
        slots: 0,
        ..config(ResetMode::Auto)
    };
    let error = Pool::new(none).expect_err("no slots");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("ulimit -v"), "{error}");
    let pool = Pool::new(PoolConfig::default()).expect("a pool on this machine");
    assert!(format!("{pool:?}").contains("reset"));
    assert_eq!(
        pool.reset_mode() == ResetMode::Scan,
        pool.scan_unavailable().is_none()
    );
}
