//! Runs the memory pool's free list under a model checker: the source file of engine-core, with the checker's mutexes and
//! atomics instead of the real ones, in about 200 000 schedules.
//!
//! In each schedule: no slot has two owners, no slot is lost, there are never more slots than allowed, no request is
//! rejected while a slot is free, and no slot of a dropped image stays warm.

#![allow(
    dead_code,
    unused_imports,
    reason = "the file under test has more than the model needs"
)]

#[path = "../../src/memory/free.rs"]
mod free;

#[path = "../../src/per_cpu.rs"]
mod per_cpu;

/// Replaces engine-core/src/memory/sync.rs.
mod sync {
    pub(crate) use shuttle::sync::Arc;
    pub(crate) use shuttle::sync::atomic::{AtomicUsize, Ordering};

    /// The checker's mutex with the interface of parking_lot's.
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
            self.0
                .lock()
                .expect("no schedule panics while it holds the lock")
        }
    }
}

use shuttle::rand::Rng;
use shuttle::sync::atomic::AtomicBool;

use free::{FreeList, Slots};
use sync::{Arc, AtomicUsize, Ordering};

type List = FreeList<u32, u32, ()>;

fn main() {
    let all = |name: &str, schedules: usize, threads, slots, enough| {
        shuttle::check_pct(move || model(threads, slots, enough), schedules, 3);
        shuttle::check_random(move || model(threads, slots, enough), schedules);
        println!("{name}: {} schedules, no fault", 2 * schedules);
    };
    all(
        "three threads, three slots: no request is rejected",
        60_000,
        3,
        3,
        true,
    );
    all("three threads, two slots", 20_000, 3, 2, false);
    all("four threads, two slots", 20_000, 4, 2, false);
}

/// Threads that each take and give back a slot twice, while the image with key 0 is dropped.
fn model(threads: usize, slots: usize, enough: bool) {
    let list = Arc::new(List::new(Arc::new(Slots::new(slots)), [(), ()]));
    let next = Arc::new(AtomicUsize::new(0));
    let owned: Arc<Vec<AtomicBool>> = Arc::new((0..64).map(|_| AtomicBool::new(false)).collect());
    let dropped = Arc::new(AtomicBool::new(false));
    let sandboxes: Vec<_> = (0..threads)
        .map(|thread| {
            let (list, next) = (Arc::clone(&list), Arc::clone(&next));
            let (owned, dropped) = (Arc::clone(&owned), Arc::clone(&dropped));
            shuttle::thread::spawn(move || {
                for round in 0..2 {
                    let home = shuttle::rand::thread_rng().gen_range(0..2usize);
                    let key = ((thread + round) % 2) as u64;
                    let Some(slot) = take(&list, &next, home, key) else {
                        assert!(!enough, "rejected while a slot is free");
                        continue;
                    };
                    hold(&owned, slot);
                    let image_gone = || key == 0 && dropped.load(Ordering::SeqCst);
                    if let Err(slot) = list.shards()[home].put_warm(key, slot, image_gone) {
                        assert!(
                            list.shards()[home].put_cold(slot).is_ok(),
                            "the list is open"
                        );
                    }
                }
            })
        })
        .collect();
    let dropper = {
        let (list, owned, dropped) = (Arc::clone(&list), Arc::clone(&owned), Arc::clone(&dropped));
        shuttle::thread::spawn(move || {
            dropped.store(true, Ordering::SeqCst);
            list.cool(0, |slot| {
                hold(&owned, slot);
                Some(slot)
            });
        })
    };
    for thread in sandboxes {
        thread.join().expect("a sandbox's thread");
    }
    dropper.join().expect("the thread that drops the image");

    assert!(list.slots().existing() <= slots, "more slots than allowed");
    let free: usize = list
        .shards()
        .iter()
        .map(|shard| shard.warm() + shard.cold())
        .sum();
    assert_eq!(free, list.slots().existing(), "a slot is lost");
    assert!(
        list.take_warm(0, 0).is_none(),
        "a slot of the dropped image stayed warm"
    );
}

/// Does what `Pool::slot` does, with numbers for slots.
fn take(list: &List, next: &AtomicUsize, home: usize, key: u64) -> Option<u32> {
    if let Some(warm) = list.take_warm(home, key) {
        return Some(warm);
    }
    loop {
        if let Some(cold) = list.take_cold(home) {
            return Some(cold);
        }
        if list.slots().try_add() {
            return Some(next.fetch_add(1, Ordering::SeqCst) as u32);
        }
        if let Some(oldest) = list.take_oldest() {
            return Some(oldest);
        }
        if list.is_exhausted() {
            return None;
        }
        shuttle::thread::yield_now();
    }
}

/// Owns a slot for a moment, and fails if another thread owns it too.
fn hold(owned: &[AtomicBool], slot: u32) {
    let owned = &owned[slot as usize];
    assert!(!owned.swap(true, Ordering::SeqCst), "two owners");
    shuttle::thread::yield_now();
    assert!(
        owned.swap(false, Ordering::SeqCst),
        "another thread released it"
    );
}
