//! Running calls: their ids, deadlines and cancellation.
//!
//! Every call holds a *place* in one slab of fixed size, so the size of the slab is the hard bound on concurrency and a
//! place's index plus its generation is the call's id: an id that is stale names nobody.
//!
//! ```text
//!   reserve ──▶ Permit ──begin(deadline)──▶ Call ──drop──▶ place free, generation + 1
//!                 └──drop──▶ place free        ▲
//!                                   cancel(id) ┘ and the clock thread: set the reason, wake the wait, interrupt the engine
//! ```
//!
//! One thread, the deadline clock, sleeps until the nearest deadline; it is not woken for a later one, and parks when there
//! is none. A call that is overdue or cancelled is interrupted at once and again every millisecond until it has ended: one
//! interruption may fall between the moment a backend arms itself and the moment it looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::per_cpu::{PerCpu, processors};

/// How often an overdue call is interrupted again.
const AGAIN: Duration = Duration::from_millis(1);

/// No deadline: the place is not in a running call.
const NEVER: u64 = u64::MAX;

/// Makes running guest code of one engine look at its call. Called from any thread, any number of times, also after the
/// guest has ended: it must be cheap, must not block, and a spurious one must do no harm.
pub trait Interrupt: Send + Sync + 'static {
    /// Makes the guest reach a check soon.
    fn interrupt(&self);
}

/// Why a call must stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Interruption {
    /// Its deadline passed.
    Deadline,
    /// It was cancelled.
    Cancelled,
}

/// The slab of places and its clock.
#[derive(Debug)]
pub(crate) struct Calls {
    shared: Arc<Shared>,
    /// One way to `shared` for each lane: calls on different processors count their references on different cache lines.
    lanes: PerCpu<Arc<Lane>>,
}

/// The places whose index leaves one remainder: those that one processor takes first.
#[derive(Debug)]
struct Lane {
    shared: Arc<Shared>,
}

impl Calls {
    /// A slab of `places`, with its clock thread.
    pub(crate) fn new(places: u32) -> Result<Self> {
        let lanes = processors().min(places.max(1) as usize);
        let free: Box<[_]> = (0..lanes)
            .map(|_| CachePadded::new(ArrayQueue::new((places as usize).div_ceil(lanes).max(1))))
            .collect();
        for index in 0..places {
            // Each queue is as long as it has places.
            let _ = free[index as usize % lanes].push(index);
        }
        let shared = Arc::new(Shared {
            origin: Instant::now(),
            places: (0..places).map(|_| CachePadded::default()).collect(),
            free,
            planned: AtomicU64::new(NEVER),
            clock: Mutex::new(()),
            tick: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        let lane = || {
            Arc::new(Lane {
                shared: Arc::clone(&shared),
            })
        };
        let lanes = PerCpu::with_len(lanes, lane);
        let clock = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("gojinn-clock".into())
            .stack_size(256 * 1024)
            .spawn(move || clock.run_clock())
            .map_err(|error| Error::host("cannot start the deadline clock").because(error))?;
        Ok(Self { shared, lanes })
    }

    /// Takes a place for a call that is about to begin.
    pub(crate) fn reserve(&self) -> Result<Permit> {
        let home = self.lanes.home();
        let (before, after) = self.shared.free.split_at(home);
        let Some(index) = after.iter().chain(before).find_map(|free| free.pop()) else {
            return Err(Error::new(
                ErrorKind::Rejected,
                format!(
                    "all {} places for running calls are taken; raise max_concurrency or send less",
                    self.shared.places.len()
                ),
            ));
        };
        let generation = self.shared.places[index as usize]
            .generation
            .load(Ordering::Acquire);
        Ok(Permit {
            lane: self.lane(index),
            index,
            generation,
            armed: true,
        })
    }

    /// A permit that was taken apart by [`Permit::into_id`]; `None` if the id is stale or was never given out.
    ///
    /// Ids come from callers of the C ABI, so each may be claimed once only: a second claim of one id gets `None`.
    pub(crate) fn claim(&self, id: CallId) -> Option<Permit> {
        let place = self.shared.places.get(id.index() as usize)?;
        let mut inner = place.inner.lock();
        if place.generation.load(Ordering::Acquire) != id.generation() || !inner.parked {
            return None;
        }
        inner.parked = false;
        Some(Permit {
            lane: self.lane(id.index()),
            index: id.index(),
            generation: id.generation(),
            armed: true,
        })
    }

    /// Cancels a call; does nothing if it has ended. True if the call was still there.
    pub(crate) fn cancel(&self, id: CallId) -> bool {
        let Some(place) = self.shared.places.get(id.index() as usize) else {
            return false;
        };
        let inner = place.inner.lock();
        if place.generation.load(Ordering::Acquire) != id.generation() {
            return false;
        }
        place.stop(Interruption::Cancelled, &inner);
        drop(inner);
        self.shared.plan(0);
        true
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        let free: usize = self.shared.free.iter().map(|free| free.len()).sum();
        self.shared.places.len() - free
    }

    /// How many places there are.
    pub(crate) fn places(&self) -> usize {
        self.shared.places.len()
    }

    fn lane(&self, index: u32) -> Arc<Lane> {
        Arc::clone(&self.lanes[index as usize % self.lanes.len()])
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        let _clock = self.shared.clock.lock();
        self.shared.tick.notify_one();
    }
}

/// Names one call: the place's index in the low half, its generation in the high half. Never 0.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CallId(pub u64);

impl CallId {
    fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    fn index(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A place taken for a call that has not begun.
#[derive(Debug)]
pub struct Permit {
    lane: Arc<Lane>,
    index: u32,
    generation: u32,
    armed: bool,
}

impl Permit {
    /// The id that `cancel` takes, valid from now until the call has ended.
    #[must_use]
    pub fn id(&self) -> CallId {
        CallId::new(self.index, self.generation)
    }

    /// Keeps the place without the permit, for callers that can hold only a number.
    pub(crate) fn into_id(mut self) -> CallId {
        self.place().inner.lock().parked = true;
        self.armed = false;
        self.id()
    }

    /// Begins the call: from now on the clock watches it.
    pub(crate) fn begin(mut self, timeout: Duration) -> Call {
        self.armed = false;
        let started = Instant::now();
        let deadline = started.checked_add(timeout).unwrap_or_else(|| {
            // A timeout beyond the clock's range: a year is as good.
            started + Duration::from_secs(365 * 24 * 3600)
        });
        let at = self.lane.shared.nanos(deadline);
        self.place().deadline.store(at, Ordering::SeqCst);
        let cancelled = self.place().reason.load(Ordering::SeqCst) != RUNNING;
        self.lane.shared.plan(if cancelled { 0 } else { at });
        Call {
            lane: Arc::clone(&self.lane),
            index: self.index,
            started,
            deadline,
        }
    }

    fn place(&self) -> &Place {
        &self.lane.shared.places[self.index as usize]
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.armed {
            self.lane.shared.release(self.index);
        }
    }
}

/// A running call, as a backend and the hostcalls see it.
#[derive(Debug)]
pub struct Call {
    lane: Arc<Lane>,
    index: u32,
    started: Instant,
    deadline: Instant,
}

impl Call {
    /// Whether the guest must stop now, and why. Reads the clock (about 25 ns): not for every loop iteration.
    #[must_use]
    pub fn interruption(&self) -> Option<Interruption> {
        match self.place().reason.load(Ordering::Acquire) {
            CANCELLED => Some(Interruption::Cancelled),
            DEADLINE => Some(Interruption::Deadline),
            _ if Instant::now() >= self.deadline => Some(Interruption::Deadline),
            _ => None,
        }
    }

    /// Has `interrupt` called when the call must stop, until the returned guard is dropped.
    ///
    /// A call that must stop already is interrupted right here, once the guard exists.
    #[must_use = "dropping the guard disarms it"]
    pub fn arm(&self, interrupt: &Arc<dyn Interrupt>) -> Armed {
        let place = self.place();
        let mut inner = place.inner.lock();
        if self.interruption().is_some() {
            interrupt.interrupt();
        }
        let is_kept = |kept: &Arc<dyn Interrupt>| Arc::ptr_eq(kept, interrupt);
        if !inner.interrupt.as_ref().is_some_and(is_kept) {
            inner.interrupt = Some(Arc::clone(interrupt));
        }
        inner.armed = true;
        drop(inner);
        Armed {
            lane: Arc::clone(&self.lane),
            index: self.index,
        }
    }

    /// Waits until `wake`, the deadline or a cancellation, whichever is first. `Err` says why the call must stop.
    pub fn wait_until(&self, wake: Instant) -> Result<(), Interruption> {
        let place = self.place();
        let until = wake.min(self.deadline);
        let mut inner = place.inner.lock();
        loop {
            if let Some(why) = self.interruption() {
                return Err(why);
            }
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            place.waiting.wait_until(&mut inner, until);
        }
    }

    /// When the call must have ended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When it began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    fn place(&self) -> &Place {
        &self.lane.shared.places[self.index as usize]
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.lane.shared.release(self.index);
    }
}

/// Keeps an [`Interrupt`] registered while guest code runs.
#[derive(Debug)]
pub struct Armed {
    lane: Arc<Lane>,
    index: u32,
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.lane.shared.places[self.index as usize]
            .inner
            .lock()
            .armed = false;
    }
}

const RUNNING: u8 = 0;
const DEADLINE: u8 = 1;
const CANCELLED: u8 = 2;

struct Place {
    /// Tells this use of the place from the ones before and after; never 0, so that no id is 0.
    generation: AtomicU32,
    /// Why the call must stop, or `RUNNING`.
    reason: AtomicU8,
    /// Nanoseconds since `Shared::origin`, or `NEVER`.
    deadline: AtomicU64,
    inner: Mutex<PlaceInner>,
    /// A hostcall of this call that waits.
    waiting: Condvar,
}

#[derive(Default)]
struct PlaceInner {
    /// That of the guest which runs, or of the last that did: most often it is the same for the next one, and calls on
    /// different processors then count no references on one cache line.
    interrupt: Option<Arc<dyn Interrupt>>,
    /// Whether a guest runs.
    armed: bool,
    /// Given out as a bare id and not yet claimed back.
    parked: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            generation: AtomicU32::new(1),
            reason: AtomicU8::new(RUNNING),
            deadline: AtomicU64::new(NEVER),
            inner: Mutex::default(),
            waiting: Condvar::new(),
        }
    }
}

impl Place {
    /// Tells the call to stop. The first reason stays. `inner` proves that the place was not released meanwhile.
    fn stop(&self, why: Interruption, inner: &PlaceInner) {
        let reason = match why {
            Interruption::Deadline => DEADLINE,
            Interruption::Cancelled => CANCELLED,
        };
        let _ = self
            .reason
            .compare_exchange(RUNNING, reason, Ordering::SeqCst, Ordering::SeqCst);
        if let Some(interrupt) = inner.interrupt.as_ref().filter(|_| inner.armed) {
            interrupt.interrupt();
        }
        self.waiting.notify_all();
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place")
            .field("generation", &self.generation)
            .field("reason", &self.reason)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Shared {
    origin: Instant,
    places: Box<[CachePadded<Place>]>,
    /// Free places by lane.
    free: Box<[CachePadded<ArrayQueue<u32>>]>,
    /// When the clock will look next, in nanoseconds since `origin`. `NEVER`: it is parked.
    planned: AtomicU64,
    clock: Mutex<()>,
    tick: Condvar,
    closing: AtomicBool,
}

impl Shared {
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(NEVER - 1)
    }

    /// Makes the clock look no later than `at`. Wakes it only when it would sleep longer than that, which for calls with
    /// one timeout is once per timeout and not once per call.
    fn plan(&self, at: u64) {
        // Looked at before it is written to: most calls leave it as it is, and the cache line with every processor.
        if self.planned.load(Ordering::SeqCst) > at
            && self.planned.fetch_min(at, Ordering::SeqCst) > at
        {
            let _clock = self.clock.lock();
            self.tick.notify_one();
        }
    }

    fn release(&self, index: u32) {
        let place = &self.places[index as usize];
        {
            let mut inner = place.inner.lock();
            inner.armed = false;
            inner.parked = false;
            place.deadline.store(NEVER, Ordering::SeqCst);
            place.reason.store(RUNNING, Ordering::SeqCst);
            let next = place.generation.load(Ordering::Relaxed).wrapping_add(1);
            place.generation.store(next.max(1), Ordering::Release);
        }
        // Cannot be full: the index was taken out of it.
        let _ = self.free[index as usize % self.free.len()].push(index);
    }

    fn run_clock(&self) {
        let mut clock = self.clock.lock();
        while !self.closing.load(Ordering::SeqCst) {
            // Announce first, look second: a call that begins in between sees NEVER and plans its own deadline.
            self.planned.store(NEVER, Ordering::SeqCst);
            let now = self.nanos(Instant::now());
            let mut next = NEVER;
            for place in &*self.places {
                let cancelled = place.reason.load(Ordering::SeqCst) == CANCELLED;
                let deadline = place.deadline.load(Ordering::SeqCst);
                if deadline == NEVER {
                    continue;
                }
                if cancelled || deadline <= now {
                    let inner = place.inner.lock();
                    // Looked up again under the lock: the place may have been released and taken by another call.
                    let deadline = place.deadline.load(Ordering::SeqCst);
                    let why = match place.reason.load(Ordering::SeqCst) {
                        CANCELLED if deadline != NEVER => Some(Interruption::Cancelled),
                        _ if deadline <= now => Some(Interruption::Deadline),
                        _ => None,
                    };
                    if let Some(why) = why {
                        place.stop(why, &inner);
                        next = next.min(now + AGAIN.as_nanos() as u64);
                    }
                } else {
                    next = next.min(deadline);
                }
            }
            if self.planned.fetch_min(next, Ordering::SeqCst) <= now {
                continue;
            }
            let planned = self.planned.load(Ordering::SeqCst);
            if planned == NEVER {
                self.tick.wait(&mut clock);
            } else {
                let at = self.origin + Duration::from_nanos(planned);
                self.tick.wait_until(&mut clock, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Interrupt for Count {
        fn interrupt(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn places_are_bounded_and_come_back() {
        let calls = Calls::new(2).unwrap();
        let one = calls.reserve().unwrap();
        let two = calls.reserve().unwrap().begin(HOUR);
        assert_eq!(calls.reserve().unwrap_err().kind(), ErrorKind::Rejected);
        assert_eq!(calls.taken(), 2);
        drop(one);
        drop(two);
        assert_eq!(calls.taken(), 0);
    }

    #[test]
    fn an_overdue_call_is_interrupted_until_it_ends() {
        let calls = Calls::new(1).unwrap();
        let call = calls.reserve().unwrap().begin(Duration::from_millis(5));
        let count = Arc::new(Count::default());
        let armed = call.arm(&(Arc::clone(&count) as Arc<dyn Interrupt>));
        assert_eq!(
            call.wait_until(Instant::now() + HOUR),
            Err(Interruption::Deadline)
        );
        while count.0.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
        drop(armed);
        let after = count.0.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(count.0.load(Ordering::SeqCst), after);
    }

    #[test]
    fn cancelling_wakes_a_wait_and_a_stale_id_does_nothing() {
        let calls = Arc::new(Calls::new(1).unwrap());
        let permit = calls.reserve().unwrap();
        let id = permit.id();
        let call = permit.begin(HOUR);
        let canceller = Arc::clone(&calls);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            canceller.cancel(id)
        });
        assert_eq!(
            call.wait_until(Instant::now() + HOUR),
            Err(Interruption::Cancelled)
        );
        assert!(thread.join().unwrap());
        drop(call);
        let next = calls.reserve().unwrap().begin(HOUR);
        assert!(!calls.cancel(id), "the id is stale");
        assert_eq!(next.interruption(), None);
    }

    #[test]
    fn a_call_cancelled_before_it_begins_is_stopped_at_once() {
        let calls = Calls::new(1).unwrap();
        let permit = calls.reserve().unwrap();
        assert!(calls.cancel(permit.id()));
        let call = permit.begin(HOUR);
        assert_eq!(call.interruption(), Some(Interruption::Cancelled));
        let count = Arc::new(Count::default());
        let _armed = call.arm(&(Arc::clone(&count) as Arc<dyn Interrupt>));
        assert!(count.0.load(Ordering::SeqCst) >= 1);
    }

    #[test]
    fn an_id_is_claimed_once() {
        let calls = Calls::new(1).unwrap();
        let id = calls.reserve().unwrap().into_id();
        assert_eq!(calls.taken(), 1);
        let permit = calls.claim(id).unwrap();
        assert!(calls.claim(id).is_none());
        drop(permit);
        assert!(calls.claim(id).is_none());
        assert!(calls.claim(CallId(0)).is_none());
        assert!(calls.claim(CallId(u64::MAX)).is_none());
    }

    #[test]
    fn a_shorter_deadline_than_the_planned_one_is_met() {
        let calls = Calls::new(2).unwrap();
        let _long = calls.reserve().unwrap().begin(HOUR);
        std::thread::sleep(Duration::from_millis(5));
        let short = calls.reserve().unwrap().begin(Duration::from_millis(5));
        let count = Arc::new(Count::default());
        let _armed = short.arm(&(Arc::clone(&count) as Arc<dyn Interrupt>));
        while count.0.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(short.interruption(), Some(Interruption::Deadline));
    }
}
