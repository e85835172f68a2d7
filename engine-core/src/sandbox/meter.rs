//! Bounds and counts the memory of one sandbox, within its own limits and within the budget of its engine.

use crate::budget::Share;
use crate::error::{Error, ErrorKind};

use super::MemoryUse;

/// What a call is refused with that the engine has no memory for.
pub(crate) const MEMORY_FULL: &str =
    "the engine's memory (max_memory) is full; try again later, or raise max_memory";

/// Bytes that one element of a table takes.
const ELEMENT: u64 = 16;

/// The limits of a sandbox and its share of the engine's memory. A backend asks it before memory or tables grow.
///
/// The call takes what the sandbox starts with. Growth is taken here.
#[derive(Debug)]
pub struct Meter {
    used: MemoryUse,
    share: Share,
    /// What the share had when the instance was made: its tables, and memory that the engine made.
    made: u64,
}

impl Meter {
    /// Counts in `used`, and takes from `share`'s budget.
    #[must_use]
    pub fn new(used: MemoryUse, share: Share) -> Self {
        Self {
            used,
            share,
            made: 0,
        }
    }

    /// Whether linear memory may have `bytes` in all; notes a refusal.
    pub fn may_grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.used.peak());
        let within = self.used.fits(bytes);
        self.within(within, more) && self.used.may_grow_to(bytes)
    }

    /// Whether the tables may have `more` elements in addition; notes a refusal.
    pub fn may_add_elements(&mut self, more: u64) -> bool {
        let within = more <= self.used.table_elements_left();
        self.within(within, more.saturating_mul(ELEMENT)) && self.used.may_add_elements(more)
    }

    /// Takes `more` bytes of the budget if the limits allow it.
    fn within(&mut self, within: bool, more: u64) -> bool {
        if !within {
            self.used.refuse();
        } else if !self.share.take(more) {
            self.used.refuse_for_engine();
        } else {
            return true;
        }
        false
    }

    /// How many more elements the tables may have together.
    #[must_use]
    pub fn table_elements_left(&self) -> u64 {
        self.used.table_elements_left()
    }

    /// Notes a refusal that the engine itself decided.
    pub fn refuse(&mut self) {
        self.used.refuse();
    }

    /// What an instance could not be made for: `error`, or that the engine's memory is full.
    pub fn explain(&self, error: Error) -> Error {
        if !self.used.refused_for_engine() {
            return error;
        }
        Error::new(ErrorKind::Rejected, MEMORY_FULL).because(error)
    }

    /// Forgets what was counted since `before`, which was [`used`](Self::used) then: it did not take place.
    pub fn take_back(&mut self, before: MemoryUse) {
        let bytes = self.used.peak() - before.peak();
        let elements = self.used.table_elements() - before.table_elements();
        self.share.give(bytes + elements * ELEMENT);
        self.used = before;
    }

    /// The figures.
    #[must_use]
    pub fn used(&self) -> MemoryUse {
        self.used
    }

    /// The instance is made: what was taken so far stays taken as long as it exists.
    pub fn made(&mut self) {
        self.made = self.share.bytes();
    }

    /// The instance is as it was made: what it has grown by is given back.
    pub fn reset(&mut self) {
        self.share.shrink_to(self.made);
    }

    /// The instance is gone.
    pub fn release(&mut self) {
        self.share.shrink_to(0);
    }

    /// Counts in `used` from now on, for another sandbox.
    pub fn begin(&mut self, used: MemoryUse) {
        self.reset();
        self.used = used;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::limits::{PAGE, SandboxLimits};

    fn meter(budget: &Budget, started_with: u64) -> Meter {
        let limits = SandboxLimits {
            memory: 10 * PAGE,
            table_elements: 100,
            ..SandboxLimits::default()
        };
        let mut used = MemoryUse::new(&limits);
        assert!(used.may_grow_to(started_with));
        Meter::new(used, budget.share())
    }

    #[test]
    fn only_growth_is_taken_from_the_budget() {
        let budget = Budget::new(5 * PAGE);
        let mut meter = meter(&budget, 4 * PAGE);
        assert!(meter.may_grow_to(4 * PAGE) && meter.may_grow_to(6 * PAGE));
        assert_eq!(budget.used(), 2 * PAGE);
        // Its own limit refuses.
        assert!(!meter.may_grow_to(11 * PAGE));
        assert_eq!(
            (meter.used().refused(), meter.used().refused_for_engine()),
            (1, false)
        );
        // The budget refuses.
        assert!(!meter.may_grow_to(10 * PAGE));
        assert_eq!(
            (meter.used().refused(), meter.used().refused_for_engine()),
            (2, true)
        );
        assert_eq!((meter.used().peak(), budget.used()), (6 * PAGE, 2 * PAGE));
        drop(meter);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_did_not_take_place_is_given_back() {
        let budget = Budget::new(100 * PAGE);
        let mut meter = meter(&budget, PAGE);
        let before = meter.used();
        assert!(meter.may_grow_to(3 * PAGE) && meter.may_add_elements(10));
        assert_eq!(budget.used(), 2 * PAGE + 160);
        meter.take_back(before);
        assert_eq!((budget.used(), meter.used().peak()), (0, PAGE));
        assert_eq!(meter.table_elements_left(), 100);
        assert!(!meter.may_add_elements(101) && !meter.may_add_elements(u64::MAX));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn an_instance_keeps_what_it_was_made_with() {
        let budget = Budget::new(100 * PAGE);
        let mut meter = meter(&budget, PAGE);
        assert!(meter.may_add_elements(10));
        meter.made();
        let made = meter.used();
        assert!(meter.may_grow_to(5 * PAGE));
        meter.reset();
        assert_eq!(budget.used(), 160);
        meter.begin(made);
        assert!(meter.may_grow_to(2 * PAGE));
        assert_eq!(budget.used(), PAGE + 160);
    }
}
