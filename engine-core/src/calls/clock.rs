//! The deadline clock: the thread that stops calls which are overdue or cancelled, and interrupts guests whose output must leave.
//!
//! The thread sleeps until the nearest deadline. It is not woken for a later one, and parks if there is none. It
//! interrupts a call that is overdue or cancelled at once, and again every millisecond until the call has ended: a
//! single interruption could come after a backend has armed itself and before its guest code checks for it the first
//! time, and be lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Interruption;
use super::permits::{CANCELLED, Slab};

/// How often an overdue call is interrupted again.
const AGAIN: Duration = Duration::from_millis(1);

/// No deadline: the entry is not in a running call.
pub(super) const NEVER: u64 = u64::MAX;

/// When the clock thread looks at the calls next, and how it is woken.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Instant,
    /// When the thread looks next, in nanoseconds since `origin`. `NEVER`: it is parked.
    planned: AtomicU64,
    /// Held by the thread except while it sleeps.
    awake: Mutex<()>,
    tick: Condvar,
    closing: AtomicBool,
}

impl Clock {
    /// A clock that begins now. [`Clock::run`] is its thread.
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            planned: AtomicU64::new(NEVER),
            awake: Mutex::new(()),
            tick: Condvar::new(),
            closing: AtomicBool::new(false),
        }
    }

    /// `at` in nanoseconds since the clock began.
    pub(super) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(NEVER - 1)
    }

    /// Makes the thread look no later than `at`. Wakes it only if it would sleep longer. For calls with the same timeout
    /// that is once for each timeout, and not once for each call.
    pub(super) fn plan(&self, at: u64) {
        // Read before it is written to: most calls change nothing, and then every processor keeps its copy of the cache
        // line.
        if self.planned.load(Ordering::SeqCst) > at
            && self.planned.fetch_min(at, Ordering::SeqCst) > at
        {
            let _awake = self.awake.lock();
            self.tick.notify_one();
        }
    }

    /// Makes the thread end.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        let _awake = self.awake.lock();
        self.tick.notify_one();
    }

    /// Stops the calls of `slab` that are overdue or cancelled, until the clock is closed.
    pub(super) fn run(&self, slab: &Slab) {
        let mut awake = self.awake.lock();
        while !self.closing.load(Ordering::SeqCst) {
            // Store NEVER first and look second: a call that begins in between sees NEVER and plans its own deadline.
            self.planned.store(NEVER, Ordering::SeqCst);
            let now = self.nanos(Instant::now());
            let next = interrupt_due(slab, now);
            if self.planned.fetch_min(next, Ordering::SeqCst) <= now {
                continue;
            }
            let planned = self.planned.load(Ordering::SeqCst);
            if planned == NEVER {
                self.tick.wait(&mut awake);
            } else {
                let at = self.origin + Duration::from_nanos(planned);
                self.tick.wait_until(&mut awake, at);
            }
        }
    }
}

/// Stops the calls that are overdue or cancelled, and interrupts those whose output must leave. Returns when to look again: at the
/// nearest of these times, or in a moment if a call was interrupted.
fn interrupt_due(slab: &Slab, now: u64) -> u64 {
    let mut next = NEVER;
    let soon = now + AGAIN.as_nanos() as u64;
    for entry in slab.entries() {
        let cancelled = entry.reason.load(Ordering::SeqCst) == CANCELLED;
        let deadline = entry.deadline.load(Ordering::SeqCst);
        if deadline == NEVER {
            continue;
        }
        if cancelled || deadline <= now {
            let inner = entry.inner.lock();
            // Read again under the lock: the entry may have been released and taken by another call.
            let deadline = entry.deadline.load(Ordering::SeqCst);
            let why = match entry.reason.load(Ordering::SeqCst) {
                CANCELLED if deadline != NEVER => Some(Interruption::Cancelled),
                _ if deadline <= now => Some(Interruption::Deadline),
                _ => None,
            };
            if let Some(why) = why {
                entry.stop(why, &inner);
                next = next.min(soon);
            }
            continue;
        }
        next = next.min(deadline);
        let flush = entry.flush.load(Ordering::SeqCst);
        if flush > now {
            next = next.min(flush);
        } else {
            // If it has become another call's meanwhile, that one is interrupted for nothing.
            entry.inner.lock().interrupt();
            next = next.min(soon);
        }
    }
    next
}
