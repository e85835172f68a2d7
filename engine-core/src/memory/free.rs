//! The free list: sharded by CPU, with stealing, bounded as a whole.
//!
//! Every shard has a short mutex; nobody holds two of them, except to prove that nothing is free. A slot is warm (it holds
//! the image with some key) or cold. Warm ones are taken last in, first out, so that the slots in use are those whose pages
//! are in the CPU's cache, and the one evicted is the one that has waited longest.

use crossbeam::utils::CachePadded;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::sync::{Arc, AtomicUsize, Mutex, Ordering};
use crate::per_cpu::index;

/// All shards, and the count of what they share.
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

    /// A warm slot with `key`: from the shard `home`, else from any.
    pub(super) fn take_warm(&self, home: usize, key: u64) -> Option<W> {
        self.from(home).find_map(|shard| shard.take_warm(key))
    }

    /// A cold slot: from the shard `home`, else from any.
    pub(super) fn take_cold(&self, home: usize) -> Option<C> {
        self.from(home).find_map(|shard| shard.take_cold())
    }

    /// The warm slot that has waited longest, whatever its key. `None` may also mean that another thread was faster.
    pub(super) fn take_oldest(&self) -> Option<W> {
        let shard = self
            .shards
            .iter()
            .filter_map(|shard| Some((shard.oldest()?, shard)))
            .min_by_key(|&(since, _)| since)?
            .1;
        shard.take_oldest()
    }

    /// Turns the warm slots with `key` cold, one after the other; `cool` is called without any lock.
    pub(super) fn cool(&self, key: u64, mut cool: impl FnMut(W) -> Option<C>) {
        for shard in &self.shards {
            while let Some(warm) = shard.take_warm_to_move(key, &self.slots) {
                let cold = cool(warm);
                shard.moved(cold, &self.slots);
            }
            shard.remove_key(key);
        }
    }

    /// Whether no slot is free, none is about to be, and none may be made: decided with every shard stopped, so that a slot
    /// given back while they were asked one after the other is not missed.
    pub(super) fn is_exhausted(&self) -> bool {
        // In the order of the shards, and nobody else holds two: no deadlock.
        let stopped: Vec<_> = self.shards.iter().map(|shard| shard.free.lock()).collect();
        self.slots.moving.load(Ordering::SeqCst) == 0
            && self.slots.existing.load(Ordering::SeqCst) >= self.slots.most
            && stopped.iter().all(|free| free.is_empty())
    }

    /// Stops keeping anything: returns what is free; what is given back from now on is refused.
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

/// How many slots there are.
pub(super) struct Slots {
    most: usize,
    existing: AtomicUsize,
    /// Slots on their way from warm to cold, on no list and in no sandbox.
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

    /// Whether one more slot may be made; if so it counts from now on.
    pub(super) fn try_add(&self) -> bool {
        self.existing
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |existing| {
                (existing < self.most).then_some(existing + 1)
            })
            .is_ok()
    }

    /// A slot is gone.
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
    /// How many there are, for others to see without the lock.
    warm: AtomicUsize,
    cold: AtomicUsize,
    /// What else belongs to this CPU.
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

    /// Gives a warm slot back, for the next with `key`. Refused once the list is closed, or when `unwanted` says (under the
    /// lock, so that no slot slips past a `cool` that began meanwhile) that nobody will ask for the key again.
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

    /// Warm slots at this moment.
    pub(super) fn warm(&self) -> usize {
        self.warm.load(Ordering::Relaxed)
    }

    /// Cold slots at this moment.
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

    /// Since when the longest-waiting warm slot has waited.
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

    /// As `take_warm`, but counted as moving, so that it is not missed in the meantime.
    fn take_warm_to_move(&self, key: u64, slots: &Slots) -> Option<W> {
        let mut free = self.free.lock();
        let kept = free.warm.get_mut(&key)?.pop_back()?;
        self.warm.store(self.warm() - 1, Ordering::Relaxed);
        slots.moving.fetch_add(1, Ordering::SeqCst);
        Some(kept.slot)
    }

    /// A slot taken to be moved is cold now, or gone.
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
    /// By key, the longest-waiting first. A key stays until it is cooled, so that its queue is not made anew each time.
    warm: HashMap<u64, VecDeque<Kept<W>>, BuildHasherDefault<KeyHasher>>,
    cold: Vec<C>,
    closed: bool,
}

impl<W, C> Free<W, C> {
    fn is_empty(&self) -> bool {
        self.cold.is_empty() && self.warm.values().all(VecDeque::is_empty)
    }

    /// The longest-waiting warm slot: since when, and its key.
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

/// Keys are numbers given out in order: one multiplication spreads them.
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

/// Milliseconds or so, from a clock that costs next to nothing: only the order matters.
fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC_COARSE;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    // SAFETY: the kernel writes to `time`, which outlives the call.
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
        // The clock is coarse: make the order certain.
        let mut free = list.shards()[shard].free.lock();
        let kept = free.warm.get_mut(&key).and_then(VecDeque::back_mut);
        kept.expect("the slot just put").since = u64::from(slot);
    }

    #[test]
    fn the_last_one_at_home_is_taken_first() {
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
    fn the_longest_waiting_is_evicted_first() {
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
            // The last one on its way is on no list, but neither is it busy.
            assert!(!list.is_exhausted());
            cooled.push(warm);
            (warm == 'b').then_some(5)
        });
        assert_eq!(cooled, "ab");
        assert_eq!((list.take_cold(1), list.take_cold(1)), (Some(5), None));
        assert_eq!(list.take_warm(0, 1), None);
    }

    #[test]
    fn exhausted_is_when_nothing_is_free_and_nothing_may_be_made() {
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
    fn what_is_unwanted_or_too_late_is_refused() {
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
