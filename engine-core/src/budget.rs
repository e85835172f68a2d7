//! The bound on the memory that the calls of an engine hold together.
//!
//! ```text
//!   Budget:  free ──▶ a reserve for each processor ──▶ Share: what one call, one sandbox or the caller holds
//! ```
//!
//! What is taken and given back most often goes through the reserve of the processor, so that calls on different
//! processors change different cache lines. A reserve is no loss: before anything is refused, all reserves are collected, and
//! holders lend what they do not need now.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam::utils::CachePadded;

use crate::per_cpu::PerCpu;

/// The bound, and what is left of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
    /// A reference for each processor: shares on different processors count their references on different cache lines.
    homes: Arc<PerCpu<Arc<Home>>>,
}

/// One processor's reference to what all shares use.
#[derive(Debug)]
struct Home {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: u64,
    /// What is in no reserve and in no share.
    free: AtomicU64,
    reserves: PerCpu<CachePadded<AtomicU64>>,
    /// What a reserve has once it was filled, and half of what it has at most.
    reserve: u64,
    /// What shares have taken beyond the bound ([`Share::take_back`]). It is paid by what is given back.
    debt: AtomicU64,
    /// What the caller of the engine has taken.
    outside: AtomicU64,
    refused: AtomicU64,
    lender: OnceLock<Lender>,
}

/// Makes a holder lend what it does not need now. It is false when there is nothing more to be lent.
struct Lender(Box<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Lender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lender")
    }
}

/// How much a reserve has, if the budget is not small: enough for the memory of most sandboxes.
const RESERVE: u64 = 16 << 20;

impl Budget {
    /// A budget of `most` bytes.
    #[must_use]
    pub fn new(most: u64) -> Self {
        let reserves = PerCpu::new(|| CachePadded::new(AtomicU64::new(0)));
        let shared = Arc::new(Shared {
            most,
            free: AtomicU64::new(most),
            reserve: RESERVE.min(most / (4 * reserves.len() as u64)),
            reserves,
            debt: AtomicU64::new(0),
            outside: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            lender: OnceLock::new(),
        });
        let home = || {
            Arc::new(Home {
                shared: Arc::clone(&shared),
            })
        };
        Self {
            homes: Arc::new(PerCpu::new(home)),
            shared,
        }
    }

    /// Sets what is asked to lend before anything is refused, until it is false. Called once.
    pub fn set_lender(&self, lender: impl Fn() -> bool + Send + Sync + 'static) {
        let set = self.shared.lender.set(Lender(Box::new(lender)));
        debug_assert!(set.is_ok(), "a budget has one lender");
    }

    /// An empty share.
    #[must_use]
    pub fn share(&self) -> Share {
        Share {
            home: Some(Arc::clone(self.homes.here())),
            bytes: 0,
            lent: 0,
        }
    }

    /// Takes bytes for the caller of the engine, who gives them back by [`Budget::give_outside`].
    #[must_use = "if it is false, nothing was taken"]
    pub fn take_outside(&self, bytes: u64) -> bool {
        let taken = self.shared.take(bytes);
        if taken {
            self.shared.outside.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Gives back what the caller of the engine has taken; more than that has no effect.
    pub fn give_outside(&self, bytes: u64) {
        let rest = |outside: u64| Some(outside.saturating_sub(bytes));
        let ordering = Ordering::Relaxed;
        let before = self.shared.outside.fetch_update(ordering, ordering, rest);
        self.shared.give(bytes.min(before.unwrap_or_default()));
    }

    /// The bound in bytes.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.shared.most
    }

    /// How many bytes are taken. While calls begin and end it is close to the truth, not exact.
    #[must_use]
    pub fn used(&self) -> u64 {
        let held = |reserve: &CachePadded<AtomicU64>| reserve.load(Ordering::Relaxed);
        let reserves: u64 = self.shared.reserves.iter().map(held).sum();
        let free = self.shared.free.load(Ordering::Relaxed);
        let debt = self.shared.debt.load(Ordering::Relaxed);
        self.shared.most.saturating_sub(free + reserves) + debt
    }

    /// How many of them the caller of the engine has taken.
    #[must_use]
    pub fn outside(&self) -> u64 {
        self.shared.outside.load(Ordering::Relaxed)
    }

    /// How often bytes were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn take(&self, bytes: u64) -> bool {
        let reserve = self.reserves.here();
        if subtract(reserve, bytes) {
            return true;
        }
        if bytes <= self.reserve && subtract(&self.free, bytes + self.reserve) {
            reserve.fetch_add(self.reserve, Ordering::Relaxed);
            return true;
        }
        if subtract(&self.free, bytes) {
            return true;
        }
        // More than once: another thread may be between taking a reserve and adding it.
        if (0..3).any(|_| self.take_of_all(bytes)) {
            return true;
        }
        while self.lender.get().is_some_and(|lender| lender.0()) {
            if self.take_of_all(bytes) {
                return true;
            }
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Takes bytes of what is free and of all reserves.
    fn take_of_all(&self, bytes: u64) -> bool {
        for reserve in self.reserves.iter() {
            let held = reserve.swap(0, Ordering::Relaxed);
            self.free.fetch_add(held, Ordering::Relaxed);
        }
        subtract(&self.free, bytes)
    }

    fn give(&self, bytes: u64) {
        let bytes = bytes - self.pay(bytes);
        let reserve = self.reserves.here();
        let held = reserve.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let surplus = held.saturating_sub(self.reserve);
        if held > 2 * self.reserve && subtract(reserve, surplus) {
            self.free.fetch_add(surplus, Ordering::Relaxed);
        }
    }

    /// Pays debt with up to `bytes`, and returns how many that were.
    fn pay(&self, bytes: u64) -> u64 {
        if self.debt.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let ordering = Ordering::Relaxed;
        let paid = |debt: u64| Some(debt.saturating_sub(bytes));
        let before = self.debt.fetch_update(ordering, ordering, paid);
        before.unwrap_or_default().min(bytes)
    }
}

/// Takes `bytes` off `counter` if it has as many.
fn subtract(counter: &AtomicU64, bytes: u64) -> bool {
    let less = |count: u64| count.checked_sub(bytes);
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// What one holder has taken of a [`Budget`]. Dropping it gives that back.
#[derive(Debug, Default)]
pub struct Share {
    /// `None`: it only counts.
    home: Option<Arc<Home>>,
    bytes: u64,
    lent: u64,
}

impl Share {
    /// Takes more. If it is false, nothing was taken.
    #[must_use = "if it is false, nothing was taken"]
    #[inline]
    pub fn take(&mut self, bytes: u64) -> bool {
        let taken = bytes == 0
            || self
                .home
                .as_ref()
                .is_none_or(|home| home.shared.take(bytes));
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Gives `bytes` back for a while: of what it has, or of what other shares of the same call have.
    pub fn lend(&mut self, bytes: u64) {
        if let Some(home) = &self.home {
            self.lent += bytes;
            home.shared.give(bytes);
        }
    }

    /// Takes what was lent, even if there is no longer as much: then it is taken beyond the bound, and what others give back is
    /// missing until that is made up for.
    pub fn take_back(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        if let Some(home) = &self.home
            && lent > 0
            && !home.shared.take(lent)
        {
            home.shared.debt.fetch_add(lent, Ordering::Relaxed);
        }
    }

    /// Gives a part back; more than there is counts as all.
    #[inline]
    pub fn give(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        if let Some(home) = &self.home
            && bytes > 0
        {
            home.shared.give(bytes);
        }
    }

    /// Gives back what is more than `bytes`.
    #[inline]
    pub fn shrink_to(&mut self, bytes: u64) {
        self.give(self.bytes.saturating_sub(bytes));
    }

    /// Leaves a part to the caller of the engine, as if it had been taken by [`Budget::take_outside`].
    pub fn leave_outside(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.bytes);
        let Some(home) = &self.home else { return 0 };
        self.bytes -= bytes;
        home.shared.outside.fetch_add(bytes, Ordering::Relaxed);
        bytes
    }

    /// How much it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.take_back();
        self.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn all_of_it_can_be_had_and_no_more() {
        for most in [0, 1, 100, 10 * MIB, 10_000 * MIB] {
            let budget = Budget::new(most);
            let mut share = budget.share();
            assert!(share.take(most), "{most}");
            assert_eq!(
                (budget.used(), budget.most(), share.bytes()),
                (most, most, most)
            );
            let mut other = budget.share();
            assert!(!other.take(1) && other.take(0));
            assert_eq!((budget.refused(), other.bytes()), (1, 0));
            share.give(most / 2);
            assert!(other.take(most / 2) && !other.take(1));
            drop(share);
            assert_eq!(budget.used(), most / 2);
            drop(other);
            assert_eq!(budget.used(), 0);
            assert!(budget.share().take(most), "reserves are collected");
        }
    }

    #[test]
    fn many_small_parts_are_exact() {
        let budget = Budget::new(1000);
        let mut shares: Vec<Share> = (0..1000).map(|_| budget.share()).collect();
        assert!(shares.iter_mut().all(|share| share.take(1)));
        assert!(!budget.share().take(1));
        shares.truncate(400);
        assert_eq!(budget.used(), 400);
        let mut share = budget.share();
        assert!(share.take(600) && !share.take(1));
        share.give(10_000);
        assert_eq!((share.bytes(), budget.used()), (0, 400));
        shares[0].shrink_to(5);
        assert_eq!(budget.used(), 400);
        shares[0].shrink_to(0);
        assert_eq!(budget.used(), 399);
    }

    #[test]
    fn what_the_caller_has_is_given_back_once() {
        let budget = Budget::new(100);
        assert!(budget.take_outside(60) && !budget.take_outside(41));
        let mut share = budget.share();
        assert!(share.take(40));
        assert_eq!(share.leave_outside(30), 30);
        drop(share);
        assert_eq!((budget.used(), budget.outside()), (90, 90));
        budget.give_outside(1000);
        assert_eq!((budget.used(), budget.outside()), (0, 0));
        budget.give_outside(1);
        assert!(!budget.take_outside(101));
        assert_eq!(Share::default().leave_outside(5), 0);
    }

    #[test]
    fn what_is_taken_back_beyond_the_bound_is_made_up_for() {
        let budget = Budget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.take(60));
        one.lend(50);
        assert!(other.take(90));
        one.take_back();
        assert_eq!((one.bytes(), budget.used()), (60, 150));
        other.give(30);
        assert!(!other.take(1));
        assert_eq!(budget.used(), 120);
        drop(other);
        assert_eq!(budget.used(), 60);
        assert!(budget.share().take(40) && !budget.share().take(41));
        drop(one);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_share_that_ends_while_it_lends_gives_back_once() {
        let budget = Budget::new(100);
        let (mut memory, mut grown) = (budget.share(), budget.share());
        assert!(memory.take(20) && grown.take(50));
        memory.lend(60);
        assert_eq!((budget.used(), memory.bytes()), (10, 20));
        let mut other = budget.share();
        assert!(other.take(80));
        drop(grown);
        drop(memory);
        assert_eq!(budget.used(), 80);
        assert!(other.take(20) && !other.take(1));
    }

    #[test]
    fn holders_lend_before_anything_is_refused() {
        let budget = Budget::new(100);
        let shares: Vec<_> = (0..3).map(|_| budget.share()).collect();
        let holders = Arc::new(parking_lot::Mutex::new(shares));
        assert!(holders.lock().iter_mut().all(|share| share.take(30)));
        let (left, lends) = (Arc::new(AtomicU64::new(3)), Arc::clone(&holders));
        let asked = Arc::clone(&left);
        budget.set_lender(move || {
            let Some(at) = asked.load(Ordering::Relaxed).checked_sub(1) else {
                return false;
            };
            asked.store(at, Ordering::Relaxed);
            lends.lock()[at as usize].lend(20);
            true
        });
        let mut other = budget.share();
        assert!(other.take(10), "there is enough");
        assert_eq!(left.load(Ordering::Relaxed), 3);
        assert!(other.take(15));
        assert_eq!(left.load(Ordering::Relaxed), 2, "one has lent");
        assert!(!other.take(60));
        assert_eq!((left.load(Ordering::Relaxed), budget.refused()), (0, 1));
        assert!(other.take(45));
        holders.lock().clear();
        drop(other);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn threads_never_have_more_than_all() {
        let budget = Budget::new(64 * MIB);
        let held = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (budget, held) = (&budget, &held);
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let bytes = (round * 7919 + thread * 104_729) % (24 * MIB);
                        let mut share = budget.share();
                        if share.take(bytes) {
                            let now = held.fetch_add(bytes, Ordering::SeqCst) + bytes;
                            assert!(now <= 64 * MIB);
                            held.fetch_sub(bytes, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
        assert!(budget.share().take(64 * MIB));
    }
}
