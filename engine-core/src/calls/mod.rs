//! Running calls: their permits, deadlines and cancellation.
//!
//! Every call holds a *permit*. The permits are the entries of one slab of fixed size ([`permits`]), so the size of the
//! slab is the hard bound on concurrency. A call's id is the index of its entry and the entry's generation, which
//! changes with every use: a stale id refers to no call.
//!
//! ```text
//!   reserve ──▶ Permit ──begin(deadline)──▶ Call ──drop──▶ entry free, generation + 1
//!                 └──drop──▶ entry free        ▲
//!                                   cancel(id) ┘ and the clock thread: set the reason, wake the wait, interrupt the engine
//! ```
//!
//! One thread, the deadline clock ([`clock`]), stops the calls that are overdue or cancelled. It also interrupts a guest whose
//! output must leave.
//!
//! Invariants:
//! - An entry belongs to one `Permit` or `Call` at a time, or to the holder of an id that can be claimed once.
//! - The generation changes under the entry's lock. Code that holds the lock and has compared the generation cannot stop
//!   another call than the one that the id refers to.

mod clock;
mod permits;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::per_cpu::{PerCpu, processors};

use clock::{Clock, NEVER};
use permits::{CANCELLED, DEADLINE, Entry, Slab};
pub use permits::{CallId, Permit};

/// Makes the running guest code of one engine check whether its call must stop. It is called from any thread, any
/// number of times, and also after the guest has ended. So it must be cheap, must not block, and a spurious call must
/// do no harm.
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

/// The permits for calls, and the clock of their deadlines.
#[derive(Debug)]
pub(crate) struct Calls {
    shared: Arc<Shared>,
    /// A reference to `shared` for each processor: calls on different processors count their references on different
    /// cache lines.
    shards: PerCpu<Arc<Shard>>,
}

/// One processor's reference to what all calls share. It holds the entries of the slab whose index, divided by the number
/// of shards, leaves the same remainder: those that the processor takes first.
#[derive(Debug)]
struct Shard {
    shared: Arc<Shared>,
}

/// What the calls and the clock thread share.
#[derive(Debug)]
struct Shared {
    slab: Slab,
    clock: Clock,
}

impl Calls {
    /// A slab of as many permits as `permits`, and its clock thread.
    pub(crate) fn new(permits: u32) -> Result<Self> {
        let shards = processors().min(permits.max(1) as usize);
        let shared = Arc::new(Shared {
            slab: Slab::new(permits, shards),
            clock: Clock::new(),
        });
        let shard = || {
            Arc::new(Shard {
                shared: Arc::clone(&shared),
            })
        };
        let shards = PerCpu::with_len(shards, shard);
        let clock = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("gojinn-clock".into())
            .stack_size(256 * 1024)
            .spawn(move || clock.clock.run(&clock.slab))
            .map_err(|error| {
                Error::host("cannot start the thread of the deadline clock").because(error)
            })?;
        Ok(Self { shared, shards })
    }

    /// Takes a permit for a call that is about to begin.
    pub(crate) fn reserve(&self) -> Result<Permit> {
        let slab = &self.shared.slab;
        let Some(index) = slab.take(self.shards.home()) else {
            return Err(Error::new(
                ErrorKind::Rejected,
                format!(
                    "all {} permits for running calls are taken; try again later, or raise max_concurrency",
                    slab.len()
                ),
            ));
        };
        let generation = slab.entry(index).generation.load(Ordering::Acquire);
        Ok(Permit::new(self.shard(index), index, generation))
    }

    /// The permit that [`Permit::into_id`] turned into an id. `None` if the id is stale or was never given out.
    ///
    /// Ids come from callers of the C ABI, so each can be claimed once only: a second claim of the same id gets `None`.
    pub(crate) fn claim(&self, id: CallId) -> Option<Permit> {
        let entry = self.shared.slab.find(id)?;
        let mut inner = entry.inner.lock();
        if entry.generation.load(Ordering::Acquire) != id.generation() || !inner.parked {
            return None;
        }
        inner.parked = false;
        Some(Permit::new(
            self.shard(id.index()),
            id.index(),
            id.generation(),
        ))
    }

    /// Cancels a call. Returns whether the call was still running or reserved; if it has ended, nothing happens.
    pub(crate) fn cancel(&self, id: CallId) -> bool {
        let Some(entry) = self.shared.slab.find(id) else {
            return false;
        };
        let inner = entry.inner.lock();
        if entry.generation.load(Ordering::Acquire) != id.generation() {
            return false;
        }
        entry.stop(Interruption::Cancelled, &inner);
        drop(inner);
        self.shared.clock.plan(0);
        true
    }

    /// The number of permits that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.shared.slab.taken()
    }

    /// The number of permits, taken and free together.
    pub(crate) fn permits(&self) -> usize {
        self.shared.slab.len()
    }

    fn shard(&self, index: u32) -> Arc<Shard> {
        Arc::clone(&self.shards[index as usize % self.shards.len()])
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.shared.clock.close();
    }
}

/// A running call, as a backend and the hostcalls see it.
#[derive(Debug)]
pub struct Call {
    shard: Arc<Shard>,
    index: u32,
    started: Instant,
    deadline: Instant,
    /// The time that was left when its clock was stopped.
    paused: Option<Duration>,
}

impl Call {
    /// Whether the guest must stop now, and why. Reads the clock (about 25 ns), so do not call it in every loop
    /// iteration.
    #[must_use]
    pub fn interruption(&self) -> Option<Interruption> {
        match self.entry().reason.load(Ordering::Acquire) {
            CANCELLED => Some(Interruption::Cancelled),
            DEADLINE => Some(Interruption::Deadline),
            _ if Instant::now() >= self.deadline => Some(Interruption::Deadline),
            _ => None,
        }
    }

    /// Registers `interrupt`, which is called when the call must stop, until the returned guard is dropped.
    ///
    /// If the call must stop already, `interrupt` is called before this returns.
    #[must_use = "dropping the guard disarms it"]
    pub fn arm(&self, interrupt: &Arc<dyn Interrupt>) -> Armed {
        let mut inner = self.entry().inner.lock();
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
            shard: Arc::clone(&self.shard),
            index: self.index,
        }
    }

    /// Waits until `wake`, the deadline or a cancellation, whichever comes first. `Err` says why the call must stop.
    pub fn wait_until(&self, wake: Instant) -> Result<(), Interruption> {
        let entry = self.entry();
        let until = wake.min(self.deadline);
        let mut inner = entry.inner.lock();
        loop {
            if let Some(why) = self.interruption() {
                return Err(why);
            }
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            entry.waiting.wait_until(&mut inner, until);
        }
    }

    /// Stops the clock of the call: its deadline does not pass until [`restart`](Self::restart).
    pub(crate) fn pause(&mut self) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.paused = Some(left);
        let _inner = self.entry().inner.lock();
        self.entry().deadline.store(NEVER, Ordering::SeqCst);
    }

    /// Starts the clock of the call again, with the time that was left.
    pub(crate) fn restart(&mut self) {
        let Some(left) = self.paused.take() else {
            return;
        };
        self.deadline = Instant::now() + left;
        let clock = &self.shard.shared.clock;
        let at = clock.nanos(self.deadline);
        self.entry().deadline.store(at, Ordering::SeqCst);
        clock.plan(at);
    }

    /// Has the guest interrupted `after` this time, unless that is planned already. It then finds that
    /// [`flush_is_due`](Self::flush_is_due).
    pub(crate) fn plan_flush(&self, after: Duration) {
        let flush = &self.entry().flush;
        if flush.load(Ordering::SeqCst) == NEVER {
            let clock = &self.shard.shared.clock;
            let at = clock.nanos(Instant::now() + after);
            flush.store(at, Ordering::SeqCst);
            clock.plan(at);
        }
    }

    /// Forgets the planned interruption: the output has left.
    pub(crate) fn flushed(&self) {
        let flush = &self.entry().flush;
        if flush.load(Ordering::SeqCst) != NEVER {
            flush.store(NEVER, Ordering::SeqCst);
        }
    }

    /// Whether the guest is interrupted because its output must leave.
    pub(crate) fn flush_is_due(&self) -> bool {
        let at = self.entry().flush.load(Ordering::SeqCst);
        at != NEVER && at <= self.shard.shared.clock.nanos(Instant::now())
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> CallId {
        let generation = self.entry().generation.load(Ordering::Acquire);
        CallId::new(self.index, generation)
    }

    /// When the call must have ended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When the call began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    fn entry(&self) -> &Entry {
        self.shard.shared.slab.entry(self.index)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.shard.shared.slab.release(self.index);
    }
}

/// Keeps an [`Interrupt`] registered while guest code runs.
#[derive(Debug)]
pub struct Armed {
    shard: Arc<Shard>,
    index: u32,
}

impl Drop for Armed {
    fn drop(&mut self) {
        let entry = self.shard.shared.slab.entry(self.index);
        entry.inner.lock().armed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Interrupt for Count {
        fn interrupt(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn permits_are_bounded_and_given_back() {
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
