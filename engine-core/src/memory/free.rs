//! The free list: one shard for each CPU, with stealing between shards and one bound for all of them.
//!
//! Every shard has a mutex that is held briefly. A thread holds the mutex of one shard at a time; only `is_exhausted`
//! locks all of them, in order, to be certain that nothing is free.
//!
//! A slot is warm (it holds the image with some key) or cold. Warm slots are taken last in, first out: the slots in use
//! are then those whose pages are in the CPU's cache, and the slot to evict is the one that has been free longest.

use crossbeam::utils::CachePadded;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::sync::{Arc, AtomicUsize, Mutex, Ordering};
use crate::per_cpu::index;

/// All shards, and the number of slots that exist.
pub(super) struct FreeList<W, C, X> {
    shards: Box<[Arc<Shard<W, C, X>>]>,
    slots: Arc<Slots>,
}

impl<W, C, X> FreeList<W, C, X> {
    /// An empty list of as many shards as `own` has items.
    pub(super) fn new(slots: Arc<Slots>, own: impl IntoIterator<Item = X>) -> Self {
        let shards: Box<[_]> = own
            .into_iter()
            .map(|own| Arc::new(Shard::new(own)))
            .collect();
        assert!(!shards.is_empty(), "a free list needs a shard");
        Self { shards, slots }
    }

    pub(super) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    pub(super) fn shards(&self) -> &[Arc<Shard<W, C, X>>] {
        &self.shards
    }

    /// The shard of the CPU that this thread runs on.
    pub(super) fn home(&self) -> usize {
        index(self.shards.len())
    }

    /// A warm slot with `key`: from the shard `home`, otherwise from any other.
    pub(super) fn take_warm(&self, home: usize, key: u64) -> Option<W> {
        self.from(home).find_map(|shard| shard.take_warm(key))
    }

    /// A cold slot: from the shard `home`, otherwise from any other.
    pub(super) fn take_cold(&self, home: usize) -> Option<C> {
        self.from(home).find_map(|shard| shard.take_cold())
    }

    /// The warm slot that has been free longest, with any key. `None` can also mean that another thread took it first.
    pub(super) fn take_oldest(&self) -> Option<W> {
        let shard = self
            .shards
            .iter()
            .filter_map(|shard| Some((shard.oldest()?, shard)))
            .min_by_key(|&(since, _)| since)?
            .1;
        shard.take_oldest()
    }

    /// Makes the warm slots with `key` cold, one after the other. No lock is held while `cool` runs.
    pub(super) fn cool(&self, key: u64, mut cool: impl FnMut(W) -> Option<C>) {
        for shard in &self.shards {
            while let Some(warm) = shard.take_warm_to_move(key, &self.slots) {
                let cold = cool(warm);
                shard.moved(cold, &self.slots);
            }
            shard.remove_key(key);
        }
    }

    /// Whether no slot is free, none is about to become free, and none may be made. Decided with all shards locked:
    /// locked one after the other, a slot given back to a shard that was already looked at would be missed.
    pub(super) fn is_exhausted(&self) -> bool {
        // Always in the order of the shards, and no other code holds two of these locks: no deadlock.
        let stopped: Vec<_> = self.shards.iter().map(|shard| shard.free.lock()).collect();
        self.slots.moving.load(Ordering::SeqCst) == 0
            && self.slots.existing.load(Ordering::SeqCst) >= self.slots.most
            && stopped.iter().all(|free| free.is_empty())
    }

    /// Closes the list and returns what is free. Slots that are given back from now on are refused.
    pub(super) fn close(&self) -> (Vec<W>, Vec<C>) {
        let (mut warm, mut cold) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            let mut free = shard.free.lock();
            free.closed = true;
            warm.extend(
                free.warm
                    .drain()
                    .flat_map(|(_, kept)| kept)
                    .map(|kept| kept.slot),
            );
            cold.append(&mut free.cold);
            shard.warm.store(0, Ordering::Relaxed);
            shard.cold.store(0, Ordering::Relaxed);
        }
        (warm, cold)
    }

    fn from(&self, home: usize) -> impl Iterator<Item = &Shard<W, C, X>> {
        let (before, after) = self.shards.split_at(home);
        after.iter().chain(before).map(|shard| &**shard)
    }
}

/// The number of slots that exist, and its bound.
pub(super) struct Slots {
    most: usize,
    existing: AtomicUsize,
    /// Slots that are being made cold: neither on a list nor in a sandbox.
    moving: AtomicUsize,
}

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            existing: AtomicUsize::new(0),
            moving: AtomicUsize::new(0),
        }
    }

    /// Whether one more slot may be made. If so it is counted from now on.
    pub(super) fn try_add(&self) -> bool {
        self.existing
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |existing| {
                (existing < self.most).then_some(existing + 1)
            })
            .is_ok()
    }

    /// Counts a slot that no longer exists.
    pub(super) fn remove(&self) {
        let before = self.existing.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "more slots removed than made");
    }

    pub(super) fn existing(&self) -> usize {
        self.existing.load(Ordering::SeqCst)
    }
}

/// The part of the free list that belongs to one CPU.
pub(super) struct Shard<W, C, X> {
    free: CachePadded<Mutex<Free<W, C>>>,
    /// The lengths of the lists in `free`, readable without the lock.
    warm: AtomicUsize,
    cold: AtomicUsize,
    /// The owner's data for this CPU.
    pub(super) own: CachePadded<X>,
}

impl<W, C, X> Shard<W, C, X> {
    fn new(own: X) -> Self {
        Self {
            free: CachePadded::new(Mutex::new(Free {
                warm: HashMap::default(),
                cold: Vec::new(),
                closed: false,
            })),
            warm: AtomicUsize::new(0),
            cold: AtomicUsize::new(0),
            own: CachePadded::new(own),
        }
    }

    /// Gives a warm slot back, for the next request for `key`. Refused once the list is closed, and when `unwanted`
    /// returns true: the key will not be asked for again. `unwanted` is called under the lock, so that a slot cannot
    /// get onto the list after a `cool` with its key has emptied this shard.
    pub(super) fn put_warm(
        &self,
        key: u64,
        slot: W,
        unwanted: impl FnOnce() -> bool,
    ) -> Result<(), W> {
        let since = now();
        let mut free = self.free.lock();
        if free.closed || unwanted() {
            return Err(slot);
        }
        free.warm
            .entry(key)
            .or_default()
            .push_back(Kept { since, slot });
        self.warm.store(self.warm() + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Gives a cold slot back. Refused once the list is closed.
    pub(super) fn put_cold(&self, slot: C) -> Result<(), C> {
        let mut free = self.free.lock();
        if free.closed {
            return Err(slot);
        }
        free.cold.push(slot);
        self.cold.store(free.cold.len(), Ordering::Relaxed);
        Ok(())
    }

    /// The number of warm slots at this moment.
    pub(super) fn warm(&self) -> usize {
        self.warm.load(Ordering::Relaxed)
    }

    /// The number of cold slots at this moment.
    pub(super) fn cold(&self) -> usize {
        self.cold.load(Ordering::Relaxed)
    }

    fn take_warm(&self, key: u64) -> Option<W> {
        if self.warm() == 0 {
            return None;
        }
        let mut free = self.free.lock();
        let kept = free.warm.get_mut(&key)?.pop_back()?;
        self.warm.store(self.warm() - 1, Ordering::Relaxed);
        Some(kept.slot)
    }

    fn take_cold(&self) -> Option<C> {
        if self.cold() == 0 {
            return None;
        }
        let mut free = self.free.lock();
        let slot = free.cold.pop()?;
        self.cold.store(free.cold.len(), Ordering::Relaxed);
        Some(slot)
    }

    /// Since when the warm slot that has been free longest is free.
    fn oldest(&self) -> Option<u64> {
        if self.warm() == 0 {
            return None;
        }
        Some(self.free.lock().oldest()?.0)
    }

    fn take_oldest(&self) -> Option<W> {
        let mut free = self.free.lock();
        let (_, key) = free.oldest()?;
        let kept = free.warm.get_mut(&key)?.pop_front()?;
        self.warm.store(self.warm() - 1, Ordering::Relaxed);
        Some(kept.slot)
    }

    /// `take_warm`, but counts the slot as moving, so that `is_exhausted` does not miss it.
    fn take_warm_to_move(&self, key: u64, slots: &Slots) -> Option<W> {
        let mut free = self.free.lock();
        let kept = free.warm.get_mut(&key)?.pop_back()?;
        self.warm.store(self.warm() - 1, Ordering::Relaxed);
        slots.moving.fetch_add(1, Ordering::SeqCst);
        Some(kept.slot)
    }

    /// Ends what `take_warm_to_move` began: the slot is cold now, or gone.
    fn moved(&self, slot: Option<C>, slots: &Slots) {
        let mut free = self.free.lock();
        free.cold.extend(slot);
        self.cold.store(free.cold.len(), Ordering::Relaxed);
        slots.moving.fetch_sub(1, Ordering::SeqCst);
    }

    fn remove_key(&self, key: u64) {
        let mut free = self.free.lock();
        if free.warm.get(&key).is_some_and(VecDeque::is_empty) {
            free.warm.remove(&key);
        }
    }
}

/// What is free in one shard.
struct Free<W, C> {
    /// Warm slots by key, the one that has been free longest first. An empty queue stays until its key is cooled, so
    /// that it does not have to be allocated again.
    warm: HashMap<u64, VecDeque<Kept<W>>, BuildHasherDefault<KeyHasher>>,
    cold: Vec<C>,
    closed: bool,
}

impl<W, C> Free<W, C> {
    fn is_empty(&self) -> bool {
        self.cold.is_empty() && self.warm.values().all(VecDeque::is_empty)
    }

    /// The warm slot that has been free longest: since when, and its key.
    fn oldest(&self) -> Option<(u64, u64)> {
        self.warm
            .iter()
            .filter_map(|(&key, kept)| Some((kept.front()?.since, key)))
            .min()
    }
}

struct Kept<W> {
    since: u64,
    slot: W,
}

/// A hasher for keys that are consecutive numbers: one multiplication spreads them.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The time in nanoseconds, from a clock that is cheap to read and exact to a few milliseconds. Only the order matters.
fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    // SAFETY: the kernel writes to `time`, which lives longer than the call.
    unsafe { libc::clock_gettime(CLOCK, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Warm slots are letters, cold ones numbers.
    fn list(shards: usize, most: usize) -> FreeList<char, u32, ()> {
        FreeList::new(Arc::new(Slots::new(most)), vec![(); shards])
    }

    fn put(list: &FreeList<char, u32, ()>, shard: usize, key: u64, slot: char) {
        let put = list.shards()[shard].put_warm(key, slot, || false);
        put.expect("an open list");
        // The clock is coarse: set the times so that the order is certain.
        let mut free = list.shards()[shard].free.lock();
        let kept = free.warm.get_mut(&key).and_then(VecDeque::back_mut);
        kept.expect("the slot just put").since = u64::from(slot);
    }

    #[test]
    fn the_last_slot_of_the_own_shard_is_taken_first() {
        let list = list(3, 9);
        for (shard, slot) in [(0, 'a'), (1, 'b'), (1, 'c'), (2, 'd')] {
            put(&list, shard, 7, slot);
        }
        put(&list, 1, 8, 'x');
        let taken: Vec<_> = std::iter::from_fn(|| list.take_warm(1, 7)).collect();
        assert_eq!(taken, ['c', 'b', 'd', 'a']);
        assert_eq!(list.take_warm(0, 8), Some('x'));
        assert!(list.take_oldest().is_none() && list.take_cold(0).is_none());
        assert!(list.shards().iter().all(|shard| shard.warm() == 0));
    }

    #[test]
    fn the_slot_that_is_free_longest_is_evicted_first() {
        let list = list(2, 9);
        for (shard, key, slot) in [(0, 1, 'b'), (0, 2, 'a'), (1, 1, 'd'), (1, 3, 'c')] {
            put(&list, shard, key, slot);
        }
        put(&list, 0, 2, 'e');
        let taken: String = std::iter::from_fn(|| list.take_oldest()).collect();
        assert_eq!(taken, "abcde");
    }

    #[test]
    fn a_key_is_cooled_in_every_shard() {
        let list = list(2, 3);
        for (shard, key, slot) in [(0, 1, 'a'), (1, 1, 'b'), (1, 2, 'c')] {
            assert!(list.slots().try_add());
            put(&list, shard, key, slot);
        }
        assert!(!list.slots().try_add());
        assert_eq!(list.take_warm(0, 2), Some('c'));
        let mut cooled = String::new();
        list.cool(1, |warm| {
            // The last slot that is being moved is on no list, but it is not busy either.
            assert!(!list.is_exhausted());
            cooled.push(warm);
            (warm == 'b').then_some(5)
        });
        assert_eq!(cooled, "ab");
        assert_eq!((list.take_cold(1), list.take_cold(1)), (Some(5), None));
        assert_eq!(list.take_warm(0, 1), None);
    }

    #[test]
    fn the_list_is_exhausted_if_nothing_is_free_and_nothing_may_be_made() {
        let list = list(2, 2);
        assert!(!list.is_exhausted());
        assert!(list.slots().try_add() && !list.is_exhausted());
        assert!(list.slots().try_add() && list.is_exhausted());
        put(&list, 1, 1, 'a');
        assert!(!list.is_exhausted());
        assert_eq!(list.take_warm(0, 1), Some('a'));
        assert!(list.is_exhausted());
        list.shards()[0].put_cold(1).expect("an open list");
        assert!(!list.is_exhausted());
        assert_eq!(list.take_cold(1), Some(1));
        list.slots().remove();
        assert!(!list.is_exhausted());
    }

    #[test]
    fn unwanted_slots_and_slots_after_the_close_are_refused() {
        let list = list(1, 9);
        let shard = &list.shards()[0];
        assert_eq!(shard.put_warm(1, 'a', || true), Err('a'));
        put(&list, 0, 1, 'b');
        shard.put_cold(2).expect("an open list");
        assert_eq!(list.close(), (vec!['b'], vec![2]));
        assert_eq!(shard.put_warm(1, 'c', || false), Err('c'));
        assert_eq!(shard.put_cold(3), Err(3));
        assert!(list.take_warm(0, 1).is_none() && list.take_cold(0).is_none());
    }
}
