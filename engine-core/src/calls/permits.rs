//! The slab of permits: its entries, their ids, and the free lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use parking_lot::{Condvar, Mutex};

use super::clock::NEVER;
use super::{Call, Interrupt, Interruption, Shard};

/// The id of one call: the index of its entry in the low half, the entry's generation in the high half. Never 0.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CallId(pub u64);

impl CallId {
    pub(super) fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The right to run one call, which has not begun. Dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    shard: Arc<Shard>,
    index: u32,
    generation: u32,
    /// Whether dropping the permit frees its entry.
    armed: bool,
}

impl Permit {
    pub(super) fn new(shard: Arc<Shard>, index: u32, generation: u32) -> Self {
        Self {
            shard,
            index,
            generation,
            armed: true,
        }
    }

    /// The id that `cancel` takes, valid from now until the call has ended.
    #[must_use]
    pub fn id(&self) -> CallId {
        CallId::new(self.index, self.generation)
    }

    /// Turns the permit into its id, for callers that can only store a number. The entry stays taken until the id is
    /// claimed and the permit dropped or used.
    pub(crate) fn into_id(mut self) -> CallId {
        self.entry().inner.lock().parked = true;
        self.armed = false;
        self.id()
    }

    /// Begins the call: from now on the clock watches its deadline.
    pub(crate) fn begin(mut self, timeout: Duration) -> Call {
        self.armed = false;
        let started = Instant::now();
        let deadline = started.checked_add(timeout).unwrap_or_else(|| {
            // The timeout is beyond the range of `Instant`. A year is as good as never.
            started + Duration::from_secs(365 * 24 * 3600)
        });
        let clock = &self.shard.shared.clock;
        let at = clock.nanos(deadline);
        self.entry().deadline.store(at, Ordering::SeqCst);
        let cancelled = self.entry().reason.load(Ordering::SeqCst) != RUNNING;
        clock.plan(if cancelled { 0 } else { at });
        Call {
            shard: Arc::clone(&self.shard),
            index: self.index,
            started,
            deadline,
            paused: None,
        }
    }

    fn entry(&self) -> &Entry {
        self.shard.shared.slab.entry(self.index)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.armed {
            self.shard.shared.slab.release(self.index);
        }
    }
}

/// All entries, and the free ones.
#[derive(Debug)]
pub(super) struct Slab {
    entries: Box<[CachePadded<Entry>]>,
    /// The indices of the free entries, by shard. The entry that was freed last is taken next: its cache lines are warm, and
    /// a slab for many calls stays small for few.
    free: Box<[CachePadded<Mutex<Vec<u32>>>]>,
    /// One more than the highest index that was ever taken.
    used: AtomicUsize,
}

impl Slab {
    /// A slab of `len` free entries, in `shards` free lists (at least 1).
    pub(super) fn new(len: u32, shards: usize) -> Self {
        // The lowest indices are taken first.
        let free = |shard: usize| {
            let indices = (0..len).filter(|index| *index as usize % shards == shard);
            CachePadded::new(Mutex::new(indices.rev().collect()))
        };
        Self {
            entries: (0..len).map(|_| CachePadded::default()).collect(),
            free: (0..shards).map(free).collect(),
            used: AtomicUsize::new(0),
        }
    }

    /// The number of entries, taken and free together.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of entries that are taken.
    pub(super) fn taken(&self) -> usize {
        let free: usize = self.free.iter().map(|free| free.lock().len()).sum();
        self.entries.len() - free
    }

    pub(super) fn entry(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    /// The entry with the index of `id`. Whether the id is stale is for the caller to check, under the entry's lock.
    pub(super) fn find(&self, id: CallId) -> Option<&Entry> {
        self.entries.get(id.index() as usize).map(|entry| &**entry)
    }

    /// All entries that were ever taken. An entry is counted before its call has a deadline.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let used = self.used.load(Ordering::SeqCst);
        self.entries[..used].iter().map(|entry| &**entry)
    }

    /// Takes a free entry: from the shard `home`, otherwise from any other.
    pub(super) fn take(&self, home: usize) -> Option<u32> {
        let (before, after) = self.free.split_at(home);
        let mut shards = after.iter().chain(before);
        let index = shards.find_map(|free| free.lock().pop())?;
        // Loaded before it is written to: the highest index changes seldom.
        if self.used.load(Ordering::SeqCst) <= index as usize {
            self.used.fetch_max(index as usize + 1, Ordering::SeqCst);
        }
        Some(index)
    }

    /// Makes an entry free. Ids that refer to it are stale from now on.
    pub(super) fn release(&self, index: u32) {
        let entry = self.entry(index);
        {
            let mut inner = entry.inner.lock();
            inner.armed = false;
            inner.parked = false;
            entry.deadline.store(NEVER, Ordering::SeqCst);
            entry.flush.store(NEVER, Ordering::SeqCst);
            entry.reason.store(RUNNING, Ordering::SeqCst);
            let next = entry.generation.load(Ordering::Relaxed).wrapping_add(1);
            entry.generation.store(next.max(1), Ordering::Release);
        }
        self.free[index as usize % self.free.len()]
            .lock()
            .push(index);
    }
}

pub(super) const RUNNING: u8 = 0;
pub(super) const DEADLINE: u8 = 1;
pub(super) const CANCELLED: u8 = 2;

/// One entry of the slab: the state of one call.
pub(super) struct Entry {
    /// The number of this use of the entry, which tells an id of this use from those of earlier ones. Never 0, so that no
    /// id is 0.
    pub(super) generation: AtomicU32,
    /// Why the call must stop, or `RUNNING`.
    pub(super) reason: AtomicU8,
    /// The deadline, as the clock counts time ([`Clock::nanos`](super::Clock::nanos)). `NEVER`: no call is running.
    pub(super) deadline: AtomicU64,
    /// When the guest is interrupted because what it has written to a stream must leave. `NEVER`: not at all.
    pub(super) flush: AtomicU64,
    pub(super) inner: Mutex<EntryInner>,
    /// Wakes a hostcall of this call that waits.
    pub(super) waiting: Condvar,
}

#[derive(Default)]
pub(super) struct EntryInner {
    /// The interrupt of the guest that runs, or of the last one that ran in this entry. It stays, because it is most
    /// often the same for the next guest; calls on different processors then do not count references on one cache line.
    pub(super) interrupt: Option<Arc<dyn Interrupt>>,
    /// Whether guest code runs.
    pub(super) armed: bool,
    /// Whether the permit was turned into an id that has not been claimed yet.
    pub(super) parked: bool,
}

impl EntryInner {
    /// Interrupts the guest, if it runs.
    pub(super) fn interrupt(&self) {
        if let Some(interrupt) = self.interrupt.as_ref().filter(|_| self.armed) {
            interrupt.interrupt();
        }
    }
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            generation: AtomicU32::new(1),
            reason: AtomicU8::new(RUNNING),
            deadline: AtomicU64::new(NEVER),
            flush: AtomicU64::new(NEVER),
            inner: Mutex::default(),
            waiting: Condvar::new(),
        }
    }
}

impl Entry {
    /// Tells the call to stop. The first reason stays. `inner` shows that the caller holds the lock, so the entry is not
    /// released meanwhile.
    pub(super) fn stop(&self, why: Interruption, inner: &EntryInner) {
        let reason = match why {
            Interruption::Deadline => DEADLINE,
            Interruption::Cancelled => CANCELLED,
        };
        let _ = self
            .reason
            .compare_exchange(RUNNING, reason, Ordering::SeqCst, Ordering::SeqCst);
        inner.interrupt();
        self.waiting.notify_all();
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("generation", &self.generation)
            .field("reason", &self.reason)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
