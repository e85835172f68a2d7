//! The instance pool: instances that are reused wait here between two sandboxes, and their number is bounded.
//!
//! ```text
//!            InstancePool::lease            run: returned, or proc_exit
//!   (none) ─────────────────────▶ in use ──────────────────────────────▶ reset, waits in the pool
//!                                 ▲    │                                              │
//!                                 │    └── any other end, or a failure: dropped       │
//!                                 └───────────────── InstancePool::take ──────────────┘
//! ```
//!
//! A module has one pool, with a shard for each processor, so that calls on different processors do not share a lock. All
//! pools of a backend share one [`InstanceBudget`]. When it is used up, pools that are no longer taken from are cleared.
//!
//! The [runner](super::Runner) resets instances and says which can be reset. See also
//! [`hidden_state`](crate::wasm::hidden_state).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

use crate::backend::Start;
use crate::limits::SandboxLimits;
use crate::memory::Image;
use crate::per_cpu::PerCpu;
use crate::start::StartState;

/// The waiting instances of one module. `K` is a pristine instance, with the values that a reset needs.
pub struct InstancePool<K> {
    shards: PerCpu<CachePadded<Mutex<Shard<K>>>>,
    /// The maximum number of instances of each shard, in use or waiting.
    most: usize,
    budget: Arc<InstanceBudget>,
}

struct Shard<K> {
    waiting: Vec<(Origin, K)>,
    in_use: usize,
    /// Whether an instance was taken since the last search for unused ones.
    is_used: bool,
    /// The number of next sandboxes that get no lease.
    pause: u32,
    /// The length of the next pause.
    next_pause: u32,
}

/// The longest pause, in sandboxes.
const LONGEST_PAUSE: u32 = 1023;

impl<K: Send + 'static> InstancePool<K> {
    /// A pool with at most `most` instances for each processor.
    pub fn new(most: usize, budget: &Arc<InstanceBudget>) -> Arc<Self> {
        Self::with_shards(PerCpu::new(Shard::new), most, budget)
    }

    fn with_shards(
        shards: PerCpu<CachePadded<Mutex<Shard<K>>>>,
        most: usize,
        budget: &Arc<InstanceBudget>,
    ) -> Arc<Self> {
        let pool = Arc::new(Self {
            shards,
            most,
            budget: Arc::clone(budget),
        });
        let weak: Weak<Self> = Arc::downgrade(&pool);
        budget.add_pool(weak);
        pool
    }

    /// An instance for a sandbox that starts with `start`, if one waits: of this processor's shard, otherwise of any
    /// other.
    pub fn take(&self, start: &Start<'_>, limits: &SandboxLimits) -> Option<(K, Lease<'_, K>)> {
        let home = self.shards.home();
        let mut shard = self.shards[home].lock();
        let found = shard.take(start, limits);
        drop(shard);
        if let Some(found) = found {
            return Some(self.leased(home, found));
        }
        (1..self.shards.len()).find_map(|next| {
            let other = (home + next) % self.shards.len();
            // Skip a shard whose lock is held: the next sandbox looks at it again.
            let found = self.shards[other].try_lock()?.take(start, limits)?;
            Some(self.leased(other, found))
        })
    }

    /// A permission to make an instance that can be reused, with a memory of up to `most_bytes`.
    ///
    /// If the shard is full, the instance is dropped that has waited longest of those that do not fit `start`. A module
    /// has several starts (plain, recorded runs, snapshots), and most of them are never used again.
    pub fn lease(
        &self,
        start: &Start<'_>,
        most_bytes: u64,
        limits: &SandboxLimits,
    ) -> Option<Lease<'_, K>> {
        let origin = Origin {
            image: Arc::clone(start.image()?),
            point: Arc::clone(&start.point),
            most_bytes,
        };
        let home = self.shards.home();
        let mut shard = self.shards[home].lock();
        if shard.pause > 0 {
            shard.pause -= 1;
            return None;
        }
        let has_room = shard.in_use + shard.waiting.len() < self.most;
        if has_room && self.budget.add() {
            shard.in_use += 1;
            return Some(self.lease_at(home, origin));
        }
        let misfit = |(origin, _): &(Origin, K)| !origin.fits(start, limits);
        if let Some(at) = shard.waiting.iter().position(misfit) {
            let given_up = shard.waiting.remove(at);
            shard.in_use += 1;
            drop(shard);
            // Dropped without the lock, because its memory is reset, which takes some time.
            drop(given_up);
            return Some(self.lease_at(home, origin));
        }
        drop(shard);
        if has_room {
            // Make room so that a later sandbox can get a lease.
            self.budget.make_room();
        }
        None
    }

    fn leased(&self, shard: usize, (origin, kept): (Origin, K)) -> (K, Lease<'_, K>) {
        (kept, self.lease_at(shard, origin))
    }

    fn lease_at(&self, shard: usize, origin: Origin) -> Lease<'_, K> {
        Lease {
            pool: self,
            shard,
            origin: Some(origin),
            is_aside: false,
        }
    }
}

impl<K> Shard<K> {
    fn new() -> CachePadded<Mutex<Self>> {
        CachePadded::new(Mutex::new(Self {
            waiting: Vec::new(),
            in_use: 0,
            is_used: false,
            pause: 0,
            next_pause: 0,
        }))
    }

    /// Takes the fitting instance that was put back last: its memory is most likely still in the processor's caches.
    fn take(&mut self, start: &Start<'_>, limits: &SandboxLimits) -> Option<(Origin, K)> {
        let at = self
            .waiting
            .iter()
            .rposition(|(origin, _)| origin.fits(start, limits))?;
        self.is_used = true;
        self.in_use += 1;
        Some(self.waiting.remove(at))
    }
}

impl<K> Drop for InstancePool<K> {
    fn drop(&mut self) {
        let waiting = self
            .shards
            .iter_mut()
            .map(|shard| shard.get_mut().waiting.len());
        self.budget.remove(waiting.sum());
    }
}

impl<K> std::fmt::Debug for InstancePool<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstancePool")
            .field("shards", &self.shards.len())
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// A permission to use one instance of the pool. Dropping it frees the room in the pool, so drop the instance first.
pub struct Lease<'a, K> {
    pool: &'a InstancePool<K>,
    shard: usize,
    /// `None`: the instance is back in the pool.
    origin: Option<Origin>,
    /// Whether the instance is not counted, because its guest waits.
    is_aside: bool,
}

impl<K> Lease<'_, K> {
    /// Puts the instance, which is pristine, back into the pool. It is dropped if it stepped aside and there is no room now.
    pub fn keep(mut self, kept: K) {
        if let Some(origin) = self.origin.take() {
            let mut shard = self.pool.shards[self.shard].lock();
            if self.is_aside {
                let has_room = shard.in_use + shard.waiting.len() < self.pool.most;
                if !has_room || !self.pool.budget.add() {
                    drop(shard);
                    drop(kept);
                    return;
                }
            } else {
                shard.in_use -= 1;
            }
            shard.next_pause /= 2;
            shard.waiting.push((origin, kept));
        }
    }

    /// Leaves the room of the instance to others, while its guest waits: guests that wait may be many, and for long.
    pub fn step_aside(&mut self) {
        if !self.is_aside {
            self.is_aside = true;
            self.pool.shards[self.shard].lock().in_use -= 1;
            self.pool.budget.remove(1);
        }
    }

    /// Records that the instance was dropped. For backends whose reusable instances cost more to make than others: a
    /// module that loses them often gets no lease for some time, longer each time.
    pub fn lost(self) {
        let mut shard = self.pool.shards[self.shard].lock();
        shard.next_pause = (2 * shard.next_pause + 1).min(LONGEST_PAUSE);
        shard.pause = shard.next_pause;
    }
}

impl<K> Drop for Lease<'_, K> {
    fn drop(&mut self) {
        if self.origin.is_some() && !self.is_aside {
            self.pool.shards[self.shard].lock().in_use -= 1;
            self.pool.budget.remove(1);
        }
    }
}

impl<K> std::fmt::Debug for Lease<'_, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

/// What an instance was made from. It fits sandboxes that start from the same.
struct Origin {
    image: Arc<Image>,
    /// The state that it started from, with the values of globals.
    point: Arc<StartState>,
    /// The maximum size of its memory in bytes.
    most_bytes: u64,
}

impl Origin {
    fn fits(&self, start: &Start<'_>, limits: &SandboxLimits) -> bool {
        let same = Arc::ptr_eq(&self.point, &start.point)
            || start
                .image()
                .is_some_and(|image| Arc::ptr_eq(image, &self.image))
                && self.point.globals == start.point.globals;
        same && self.most_bytes >= limits.memory_bytes()
    }
}

/// The maximum number of instances of all pools of a backend, in use or waiting.
pub struct InstanceBudget {
    taken: CachePadded<AtomicUsize>,
    most: usize,
    pools: Mutex<Vec<Weak<dyn Clear>>>,
    origin: Instant,
    /// The time of the last search for unused instances, in milliseconds since `origin`.
    looked: AtomicU64,
    is_looking: AtomicBool,
}

/// The time between two searches for unused instances.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl InstanceBudget {
    /// A budget of `most` instances.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: CachePadded::default(),
            most,
            pools: Mutex::default(),
            origin: Instant::now(),
            looked: AtomicU64::new(0),
            is_looking: AtomicBool::new(false),
        })
    }

    /// Counts one more instance, unless the budget is used up.
    fn add(&self) -> bool {
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < self.most).then_some(taken + 1)
            })
            .is_ok()
    }

    fn remove(&self, count: usize) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
    }

    fn add_pool(&self, pool: Weak<dyn Clear>) {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    /// Clears the pools that were not used since the last search. At most one thread searches at a time, and not too
    /// often.
    #[cold]
    fn make_room(&self) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.looked.load(Ordering::Relaxed) + LOOK_EVERY.as_millis() as u64;
        if now >= next && !self.is_looking.swap(true, Ordering::Acquire) {
            self.look();
            self.looked.store(now, Ordering::Relaxed);
            self.is_looking.store(false, Ordering::Release);
        }
    }

    fn look(&self) {
        // No lock is held while instances are dropped, and perhaps the last reference to a pool.
        let pools = self.pools.lock().clone();
        for pool in pools.iter().filter_map(Weak::upgrade) {
            pool.clear_unused();
        }
    }
}

impl std::fmt::Debug for InstanceBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstanceBudget")
            .field("taken", &self.taken.load(Ordering::Relaxed))
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// A pool, as its budget uses it.
trait Clear: Send + Sync {
    /// Drops the waiting instances of shards from which none was taken since the last call of this.
    fn clear_unused(&self);
}

impl<K: Send> Clear for InstancePool<K> {
    fn clear_unused(&self) {
        for shard in self.shards.iter() {
            let mut shard = shard.lock();
            if std::mem::take(&mut shard.is_used) {
                continue;
            }
            let unused = std::mem::take(&mut shard.waiting);
            drop(shard);
            let count = unused.len();
            drop(unused);
            self.budget.remove(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Arc<Image> {
        Arc::new(Image::from_bytes(&[1; 65_536]).unwrap())
    }

    fn start(image: &Arc<Image>) -> Start<'static> {
        Start::plain(Some(Arc::clone(image)))
    }

    fn pool(most: usize, budget: &Arc<InstanceBudget>) -> Arc<InstancePool<u32>> {
        InstancePool::with_shards(PerCpu::with_len(1, Shard::new), most, budget)
    }

    fn lease<'a>(pool: &'a InstancePool<u32>, image: &Arc<Image>) -> Option<Lease<'a, u32>> {
        let limits = SandboxLimits::default();
        pool.lease(&start(image), limits.memory_bytes(), &limits)
    }

    fn take<'a>(pool: &'a InstancePool<u32>, image: &Arc<Image>) -> Option<(u32, Lease<'a, u32>)> {
        pool.take(&start(image), &SandboxLimits::default())
    }

    fn taken(budget: &InstanceBudget) -> usize {
        budget.taken.load(Ordering::Relaxed)
    }

    #[test]
    fn an_instance_whose_guest_waits_leaves_its_room() {
        let budget = InstanceBudget::new(2);
        let pool = pool(1, &budget);
        let image = image();
        let mut waits = lease(&pool, &image).unwrap();
        assert!(lease(&pool, &image).is_none());
        waits.step_aside();
        waits.step_aside();
        assert_eq!(taken(&budget), 0);
        let other = lease(&pool, &image).unwrap();
        // The room is taken when it comes back.
        waits.keep(1);
        assert_eq!(taken(&budget), 1);
        other.keep(2);
        let (kept, mut waits) = take(&pool, &image).unwrap();
        assert_eq!(kept, 2);
        waits.step_aside();
        // There is room again.
        waits.keep(3);
        assert_eq!(taken(&budget), 1);
        let (kept, mut waits) = take(&pool, &image).unwrap();
        assert_eq!(kept, 3);
        waits.step_aside();
        drop(waits);
        assert_eq!(taken(&budget), 0);
        assert!(lease(&pool, &image).is_some());
    }

    #[test]
    fn leases_are_bounded_by_the_pool_and_by_all_pools_together() {
        let budget = InstanceBudget::new(3);
        let (one, two) = (pool(2, &budget), pool(2, &budget));
        let image = image();
        let first = lease(&one, &image).unwrap();
        let second = lease(&one, &image).unwrap();
        assert!(lease(&one, &image).is_none());
        let third = lease(&two, &image).unwrap();
        assert!(lease(&two, &image).is_none());
        drop(second);
        let fourth = lease(&two, &image).unwrap();
        assert!(lease(&one, &image).is_none());
        for lease in [first, third, fourth] {
            drop(lease);
        }
        assert_eq!(taken(&budget), 0);
        assert!(lease(&one, &image).is_some() && lease(&two, &image).is_some());
    }

    #[test]
    fn an_instance_that_does_not_fit_is_dropped_for_one_that_does() {
        let budget = InstanceBudget::new(2);
        let pool = pool(2, &budget);
        let images = [image(), image(), image()];
        for (number, image) in (0..).zip(&images) {
            assert!(take(&pool, image).is_none());
            lease(&pool, image).unwrap().keep(number);
        }
        let [oldest, older, newest] = &images;
        assert!(take(&pool, oldest).is_none(), "given up");
        let (one, of_older) = take(&pool, older).unwrap();
        let (two, of_newest) = take(&pool, newest).unwrap();
        assert_eq!((one, two), (1, 2));
        // An instance in use is never dropped.
        assert!(lease(&pool, oldest).is_none());
        of_older.keep(one);
        drop(of_newest);
        assert_eq!(taken(&budget), 1);
        drop(pool);
        assert_eq!(taken(&budget), 0);
    }

    #[test]
    fn the_same_image_with_other_globals_does_not_fit() {
        use crate::start::GlobalValue;
        let image = image();
        let with = |value| {
            Start::from(StartState {
                image: Some(Arc::clone(&image)),
                globals: vec![("g".into(), GlobalValue::I32(value))],
                ..StartState::default()
            })
        };
        let limits = SandboxLimits::default();
        let pool = pool(2, &InstanceBudget::new(2));
        let lease = pool.lease(&with(1), limits.memory_bytes(), &limits);
        lease.unwrap().keep(1);
        assert!(pool.take(&with(2), &limits).is_none());
        let more = SandboxLimits {
            memory: limits.memory + 65_536,
            ..limits.clone()
        };
        assert!(pool.take(&with(1), &more).is_none(), "too small a slot");
        assert!(pool.take(&with(1), &limits).is_some());
    }

    #[test]
    fn an_instance_that_waits_in_another_shard_is_found() {
        let budget = InstanceBudget::new(8);
        let pool: Arc<InstancePool<u32>> =
            InstancePool::with_shards(PerCpu::with_len(4, Shard::new), 2, &budget);
        let (image, limits) = (image(), SandboxLimits::default());
        for shard in 0..4 {
            let start = start(&image);
            let origin = Origin {
                image: Arc::clone(&image),
                point: Arc::clone(&start.point),
                most_bytes: limits.memory_bytes(),
            };
            assert!(budget.add());
            pool.shards[shard]
                .lock()
                .waiting
                .push((origin, shard as u32));
        }
        let mut found: Vec<_> = (0..4).map(|_| take(&pool, &image).unwrap()).collect();
        assert!(take(&pool, &image).is_none());
        found.sort_by_key(|(number, _)| *number);
        for (number, lease) in found {
            assert_eq!(lease.shard, number as usize);
            lease.keep(number);
        }
        drop(pool);
        assert_eq!(taken(&budget), 0);
    }

    #[test]
    fn each_loss_makes_the_pause_longer() {
        let (pool, image) = (pool(2, &InstanceBudget::new(2)), image());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            lease(&pool, &image).unwrap().lost();
            let mut pause = 0;
            while lease(&pool, &image).is_none() {
                pause += 1;
            }
            pauses.push(pause);
        }
        assert_eq!(pauses[..4], [1, 3, 7, 15]);
        assert_eq!(pauses[9..], [1023, 1023, 1023]);
        // A lease that was not used is not a loss.
        drop(lease(&pool, &image));
        assert!(lease(&pool, &image).is_some());
    }

    #[test]
    fn an_unused_pool_makes_room_for_others() {
        let budget = InstanceBudget::new(2);
        let (idle, busy) = (pool(2, &budget), pool(2, &budget));
        let image = image();
        let two = [1, 2].map(|number| (number, lease(&idle, &image).unwrap()));
        for (number, lease) in two {
            lease.keep(number);
        }
        let (number, again) = take(&idle, &image).unwrap();
        again.keep(number);
        assert_eq!(taken(&budget), 2);
        assert!(lease(&busy, &image).is_none());
        // The first search finds that it was used, the second that it was not.
        budget.look();
        assert_eq!(taken(&budget), 2);
        budget.look();
        assert_eq!(taken(&budget), 0);
        let lease = lease(&busy, &image).unwrap();
        budget.look();
        budget.look();
        assert_eq!(taken(&budget), 1, "what is in use stays");
        lease.keep(1);
        drop((idle, busy));
        assert_eq!(taken(&budget), 0);
    }
}
