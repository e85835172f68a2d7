//! Instances that are used again in place: where they wait between two sandboxes, and how many there may be.
//!
//! ```text
//!            Shelf::lease               run: returned or proc_exit
//!   (none) ───────────────▶ in use ────────────────────────────────▶ made as new, on the shelf
//!                           ▲    │                                                │
//!                           │    └── any other end, or a failure: dropped         │
//!                           └──────────────────── Shelf::take ────────────────────┘
//! ```
//!
//! A shelf is a module's. It has a lane for each processor, so that calls on different processors do not meet. All shelves of
//! a backend share their [`Places`]; when these are full, shelves that nobody takes from are cleared.
//!
//! What makes a used instance as new, and of which modules that is possible, the backends know. See also
//! [`hidden_state`](crate::wasm::hidden_state).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

use crate::backend::Start;
use crate::limits::Limits;
use crate::memory::Image;
use crate::per_cpu::PerCpu;
use crate::start::StartState;

/// Where the instances of one module wait. `K` is an instance that is as new, with whatever makes it so.
pub struct Shelf<K> {
    lanes: PerCpu<CachePadded<Mutex<Lane<K>>>>,
    /// Instances that each lane may have, in use or waiting.
    most: usize,
    places: Arc<Places>,
}

struct Lane<K> {
    waiting: Vec<(Origin, K)>,
    in_use: usize,
    /// Whether anything was taken since places were last looked for.
    is_used: bool,
    /// Sandboxes to come that get no lease.
    pause: u32,
    /// How long the next pause is.
    next_pause: u32,
}

/// The longest pause, in sandboxes.
const LONGEST_PAUSE: u32 = 1023;

impl<K: Send + 'static> Shelf<K> {
    /// A shelf with `most` instances for each processor.
    pub fn new(most: usize, places: &Arc<Places>) -> Arc<Self> {
        Self::with_lanes(PerCpu::new(Lane::new), most, places)
    }

    fn with_lanes(
        lanes: PerCpu<CachePadded<Mutex<Lane<K>>>>,
        most: usize,
        places: &Arc<Places>,
    ) -> Arc<Self> {
        let shelf = Arc::new(Self {
            lanes,
            most,
            places: Arc::clone(places),
        });
        let weak: Weak<Self> = Arc::downgrade(&shelf);
        places.add_shelf(weak);
        shelf
    }

    /// An instance for a sandbox that begins with `start`, if one waits: one of this processor's, or of another's.
    pub fn take(&self, start: &Start<'_>, limits: &Limits) -> Option<(K, Lease<'_, K>)> {
        let home = self.lanes.home();
        let mut lane = self.lanes[home].lock();
        let found = lane.take(start, limits);
        drop(lane);
        if let Some(found) = found {
            return Some(self.leased(home, found));
        }
        (1..self.lanes.len()).find_map(|next| {
            let other = (home + next) % self.lanes.len();
            // Whoever holds the lock is about to take or bring one: looked at again by the next sandbox.
            let found = self.lanes[other].try_lock()?.take(start, limits)?;
            Some(self.leased(other, found))
        })
    }

    /// Leave to make an instance of up to `most_bytes` of memory that can be used again: in a place of its own, or in that of
    /// the one that has waited longest among those that do not fit `start`. A module has several starts (plain, run-ups,
    /// snapshots), most of which are never seen again.
    pub fn lease(
        &self,
        start: &Start<'_>,
        most_bytes: u64,
        limits: &Limits,
    ) -> Option<Lease<'_, K>> {
        let origin = Origin {
            image: Arc::clone(start.image()?),
            point: Arc::clone(&start.point),
            most_bytes,
        };
        let home = self.lanes.home();
        let mut lane = self.lanes[home].lock();
        if lane.pause > 0 {
            lane.pause -= 1;
            return None;
        }
        let has_place = lane.in_use + lane.waiting.len() < self.most;
        if has_place && self.places.add() {
            lane.in_use += 1;
            return Some(self.lease_at(home, origin));
        }
        let misfit = |(origin, _): &(Origin, K)| !origin.fits(start, limits);
        if let Some(at) = lane.waiting.iter().position(misfit) {
            let given_up = lane.waiting.remove(at);
            lane.in_use += 1;
            drop(lane);
            // Its memory is reset, which takes a while.
            drop(given_up);
            return Some(self.lease_at(home, origin));
        }
        drop(lane);
        if has_place {
            // For the next one.
            self.places.make_room();
        }
        None
    }

    fn leased(&self, lane: usize, (origin, kept): (Origin, K)) -> (K, Lease<'_, K>) {
        (kept, self.lease_at(lane, origin))
    }

    fn lease_at(&self, lane: usize, origin: Origin) -> Lease<'_, K> {
        Lease {
            shelf: self,
            lane,
            origin: Some(origin),
        }
    }
}

impl<K> Lane<K> {
    fn new() -> CachePadded<Mutex<Self>> {
        CachePadded::new(Mutex::new(Self {
            waiting: Vec::new(),
            in_use: 0,
            is_used: false,
            pause: 0,
            next_pause: 0,
        }))
    }

    /// The fitting instance that was brought last: its memory is most likely still in the processor's caches.
    fn take(&mut self, start: &Start<'_>, limits: &Limits) -> Option<(Origin, K)> {
        let at = self
            .waiting
            .iter()
            .rposition(|(origin, _)| origin.fits(start, limits))?;
        self.is_used = true;
        self.in_use += 1;
        Some(self.waiting.remove(at))
    }
}

impl<K> Drop for Shelf<K> {
    fn drop(&mut self) {
        let waiting = self
            .lanes
            .iter_mut()
            .map(|lane| lane.get_mut().waiting.len());
        self.places.remove(waiting.sum());
    }
}

impl<K> std::fmt::Debug for Shelf<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf")
            .field("lanes", &self.lanes.len())
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// A place of a shelf, for an instance in use. Dropping it gives the place up: drop the instance first.
pub struct Lease<'a, K> {
    shelf: &'a Shelf<K>,
    lane: usize,
    /// `None`: the instance is back on the shelf.
    origin: Option<Origin>,
}

impl<K> Lease<'_, K> {
    /// Puts the instance, which is as new, on the shelf.
    pub fn keep(mut self, kept: K) {
        if let Some(origin) = self.origin.take() {
            let mut lane = self.shelf.lanes[self.lane].lock();
            lane.in_use -= 1;
            lane.next_pause /= 2;
            lane.waiting.push((origin, kept));
        }
    }

    /// Notes that the instance cannot be kept, where making another that could be costs more than making one for a single use:
    /// a module that loses them often is given a pause, longer each time.
    pub fn lost(self) {
        let mut lane = self.shelf.lanes[self.lane].lock();
        lane.next_pause = (2 * lane.next_pause + 1).min(LONGEST_PAUSE);
        lane.pause = lane.next_pause;
    }
}

impl<K> Drop for Lease<'_, K> {
    fn drop(&mut self) {
        if self.origin.is_some() {
            self.shelf.lanes[self.lane].lock().in_use -= 1;
            self.shelf.places.remove(1);
        }
    }
}

impl<K> std::fmt::Debug for Lease<'_, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

/// What an instance was made from, and so for which sandboxes it will do.
struct Origin {
    image: Arc<Image>,
    /// With the values that globals were set to.
    point: Arc<StartState>,
    /// Bytes that its memory can have.
    most_bytes: u64,
}

impl Origin {
    fn fits(&self, start: &Start<'_>, limits: &Limits) -> bool {
        let same = Arc::ptr_eq(&self.point, &start.point)
            || start
                .image()
                .is_some_and(|image| Arc::ptr_eq(image, &self.image))
                && self.point.globals == start.point.globals;
        same && self.most_bytes >= limits.memory_bytes()
    }
}

/// The bound on the instances of all shelves of a backend, in use or waiting.
pub struct Places {
    taken: CachePadded<AtomicUsize>,
    most: usize,
    shelves: Mutex<Vec<Weak<dyn Clear>>>,
    origin: Instant,
    /// When places were last looked for, in milliseconds since `origin`.
    looked: AtomicU64,
    is_looking: AtomicBool,
}

/// Between two looks for places: what was not used meanwhile is given up.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Places {
    /// So many places.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: CachePadded::default(),
            most,
            shelves: Mutex::default(),
            origin: Instant::now(),
            looked: AtomicU64::new(0),
            is_looking: AtomicBool::new(false),
        })
    }

    /// Counts one more, unless there are as many as may be.
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

    fn add_shelf(&self, shelf: Weak<dyn Clear>) {
        let mut shelves = self.shelves.lock();
        shelves.retain(|shelf| shelf.strong_count() > 0);
        shelves.push(shelf);
    }

    /// Clears the shelves that were not used since the last look; at most one look at a time, and not too often.
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
        // Instances are dropped, and perhaps the last reference to a shelf, with no lock held.
        let shelves = self.shelves.lock().clone();
        for shelf in shelves.iter().filter_map(Weak::upgrade) {
            shelf.clear_unused();
        }
    }
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Places")
            .field("taken", &self.taken.load(Ordering::Relaxed))
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// A shelf, to whoever looks for places.
trait Clear: Send + Sync {
    /// Gives up what waits in lanes that nothing was taken from since this was last called.
    fn clear_unused(&self);
}

impl<K: Send> Clear for Shelf<K> {
    fn clear_unused(&self) {
        for lane in self.lanes.iter() {
            let mut lane = lane.lock();
            if std::mem::take(&mut lane.is_used) {
                continue;
            }
            let unused = std::mem::take(&mut lane.waiting);
            drop(lane);
            let count = unused.len();
            drop(unused);
            self.places.remove(count);
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

    fn shelf(most: usize, places: &Arc<Places>) -> Arc<Shelf<u32>> {
        Shelf::with_lanes(PerCpu::with_len(1, Lane::new), most, places)
    }

    fn lease<'a>(shelf: &'a Shelf<u32>, image: &Arc<Image>) -> Option<Lease<'a, u32>> {
        let limits = Limits::default();
        shelf.lease(&start(image), limits.memory_bytes(), &limits)
    }

    fn take<'a>(shelf: &'a Shelf<u32>, image: &Arc<Image>) -> Option<(u32, Lease<'a, u32>)> {
        shelf.take(&start(image), &Limits::default())
    }

    fn taken(places: &Places) -> usize {
        places.taken.load(Ordering::Relaxed)
    }

    #[test]
    fn leases_are_bounded_by_the_shelf_and_by_all_shelves_together() {
        let places = Places::new(3);
        let (one, two) = (shelf(2, &places), shelf(2, &places));
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
        assert_eq!(taken(&places), 0);
        assert!(lease(&one, &image).is_some() && lease(&two, &image).is_some());
    }

    #[test]
    fn what_does_not_fit_makes_room_for_what_is_wanted() {
        let places = Places::new(2);
        let shelf = shelf(2, &places);
        let images = [image(), image(), image()];
        for (number, image) in (0..).zip(&images) {
            assert!(take(&shelf, image).is_none());
            lease(&shelf, image).unwrap().keep(number);
        }
        let [oldest, older, newest] = &images;
        assert!(take(&shelf, oldest).is_none(), "given up");
        let (one, of_older) = take(&shelf, older).unwrap();
        let (two, of_newest) = take(&shelf, newest).unwrap();
        assert_eq!((one, two), (1, 2));
        // What is in use is never given up.
        assert!(lease(&shelf, oldest).is_none());
        of_older.keep(one);
        drop(of_newest);
        assert_eq!(taken(&places), 1);
        drop(shelf);
        assert_eq!(taken(&places), 0);
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
        let limits = Limits::default();
        let shelf = shelf(2, &Places::new(2));
        let lease = shelf.lease(&with(1), limits.memory_bytes(), &limits);
        lease.unwrap().keep(1);
        assert!(shelf.take(&with(2), &limits).is_none());
        let more = Limits {
            memory: limits.memory + 65_536,
            ..limits.clone()
        };
        assert!(shelf.take(&with(1), &more).is_none(), "too small a slot");
        assert!(shelf.take(&with(1), &limits).is_some());
    }

    #[test]
    fn one_that_waits_in_another_lane_is_found() {
        let places = Places::new(8);
        let shelf: Arc<Shelf<u32>> = Shelf::with_lanes(PerCpu::with_len(4, Lane::new), 2, &places);
        let (image, limits) = (image(), Limits::default());
        for lane in 0..4 {
            let start = start(&image);
            let origin = Origin {
                image: Arc::clone(&image),
                point: Arc::clone(&start.point),
                most_bytes: limits.memory_bytes(),
            };
            assert!(places.add());
            shelf.lanes[lane].lock().waiting.push((origin, lane as u32));
        }
        let mut found: Vec<_> = (0..4).map(|_| take(&shelf, &image).unwrap()).collect();
        assert!(take(&shelf, &image).is_none());
        found.sort_by_key(|(number, _)| *number);
        for (number, lease) in found {
            assert_eq!(lease.lane, number as usize);
            lease.keep(number);
        }
        drop(shelf);
        assert_eq!(taken(&places), 0);
    }

    #[test]
    fn each_loss_makes_the_pause_longer() {
        let (shelf, image) = (shelf(2, &Places::new(2)), image());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            lease(&shelf, &image).unwrap().lost();
            let mut pause = 0;
            while lease(&shelf, &image).is_none() {
                pause += 1;
            }
            pauses.push(pause);
        }
        assert_eq!(pauses[..4], [1, 3, 7, 15]);
        assert_eq!(pauses[9..], [1023, 1023, 1023]);
        // A lease that came to nothing is no loss.
        drop(lease(&shelf, &image));
        assert!(lease(&shelf, &image).is_some());
    }

    #[test]
    fn a_shelf_that_nobody_uses_makes_room_for_others() {
        let places = Places::new(2);
        let (idle, busy) = (shelf(2, &places), shelf(2, &places));
        let image = image();
        let two = [1, 2].map(|number| (number, lease(&idle, &image).unwrap()));
        for (number, lease) in two {
            lease.keep(number);
        }
        let (number, again) = take(&idle, &image).unwrap();
        again.keep(number);
        assert_eq!(taken(&places), 2);
        assert!(lease(&busy, &image).is_none());
        // The first look finds that it was used, the second that it was not.
        places.look();
        assert_eq!(taken(&places), 2);
        places.look();
        assert_eq!(taken(&places), 0);
        let lease = lease(&busy, &image).unwrap();
        places.look();
        places.look();
        assert_eq!(taken(&places), 1, "what is in use stays");
        lease.keep(1);
        drop((idle, busy));
        assert_eq!(taken(&places), 0);
    }
}
