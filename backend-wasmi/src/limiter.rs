//! The limiter that wasmi asks before a guest's memory or table grows.

use engine_core::memory::Slot;
use engine_core::{MemoryUse, Meter};
use wasmi::ResourceLimiter;
use wasmi::errors::{MemoryError, TableError};
use wasmi_core::LimiterError;

/// Limits and counts the memory and table elements of one sandbox.
///
/// Wasmi asks the limiter first and takes the fuel for the growth afterwards. If there is too little fuel, it reports
/// that the growth failed, and asks again after the pause. So the limiter takes back what it had counted when a growth
/// only paused.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) meter: Meter,
    /// The counts before the latest growth.
    before: MemoryUse,
    /// The memory's declared maximum in bytes, which `rewrite` has removed from the module.
    memory_max: Option<usize>,
    /// The slot that holds the memory; `None`: wasmi allocated the memory.
    pub(crate) slot: Option<Slot>,
}

impl Limiter {
    pub(crate) fn new(meter: Meter, memory_max: Option<u64>) -> Self {
        Self {
            before: meter.used(),
            meter,
            memory_max: memory_max.and_then(|bytes| usize::try_from(bytes).ok()),
            slot: None,
        }
    }

    /// Begins to count for another sandbox.
    pub(crate) fn begin(&mut self, used: MemoryUse) {
        self.meter.begin(used);
        self.before = used;
    }

    /// Whether both the declared maximum and the sandbox's limits allow a growth.
    fn grows(
        &mut self,
        desired: usize,
        maximum: Option<usize>,
        within: impl FnOnce(&mut Meter) -> bool,
    ) -> bool {
        self.before = self.meter.used();
        // The maximum is checked first, so that a growth beyond it is not counted as used.
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.meter.refuse();
            return false;
        }
        within(&mut self.meter)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> Result<bool, LimiterError> {
        let grows = self.grows(desired, self.memory_max, |meter| {
            meter.may_grow_to(desired as u64)
        });
        // Wasmi writes to the new bytes as soon as this function allows the growth, so they must be accessible before.
        if grows
            && let Some(slot) = &mut self.slot
            && slot.grow_to(desired).is_err()
        {
            self.meter.take_back(self.before);
            self.meter.refuse();
            return Ok(false);
        }
        Ok(grows)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, LimiterError> {
        let more = desired.saturating_sub(current) as u64;
        Ok(self.grows(desired, maximum, |meter| meter.may_add_elements(more)))
    }

    fn memory_grow_failed(&mut self, error: &MemoryError) -> Result<(), LimiterError> {
        self.meter.take_back(self.before);
        if !matches!(error, MemoryError::OutOfFuel { .. }) {
            self.meter.refuse();
        }
        Ok(())
    }

    fn table_grow_failed(&mut self, error: &TableError) -> Result<(), LimiterError> {
        self.meter.take_back(self.before);
        if !matches!(error, TableError::OutOfFuel { .. }) {
            self.meter.refuse();
        }
        Ok(())
    }

    fn instances(&self) -> usize {
        1
    }

    /// No limit here: engine-core limits the number of tables, and the number of all their elements together.
    fn tables(&self) -> usize {
        usize::MAX
    }

    /// A module has at most one memory, but wasmi counts an imported memory twice: when it is made, and when it is
    /// linked.
    fn memories(&self) -> usize {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_core::{SandboxLimits, Share};

    fn limiter(memory_max: Option<u64>) -> Limiter {
        let limits = SandboxLimits {
            memory: 4 * 65_536,
            table_elements: 10,
            ..SandboxLimits::default()
        };
        Limiter::new(
            Meter::new(MemoryUse::new(&limits), Share::default()),
            memory_max,
        )
    }

    #[test]
    fn memory_is_bounded_by_the_limit_and_by_its_own_maximum() {
        for (memory_max, most) in [(None, 4), (Some(2 * 65_536), 2), (Some(9 * 65_536), 4)] {
            let mut limiter = limiter(memory_max);
            assert!(limiter.memory_growing(0, 65_536, None).unwrap());
            assert!(
                !limiter
                    .memory_growing(65_536, (most + 1) * 65_536, None)
                    .unwrap()
            );
            assert!(limiter.memory_growing(65_536, most * 65_536, None).unwrap());
            assert_eq!(
                (limiter.meter.used().peak(), limiter.meter.used().refused()),
                (most as u64 * 65_536, 1)
            );
        }
    }

    #[test]
    fn elements_of_all_tables_count_together() {
        let mut limiter = limiter(None);
        assert!(limiter.table_growing(0, 6, None).unwrap());
        assert!(limiter.table_growing(0, 2, None).unwrap());
        assert!(!limiter.table_growing(2, 5, None).unwrap());
        assert!(limiter.table_growing(2, 4, None).unwrap());
        assert_eq!(limiter.meter.used().refused(), 1);
    }

    #[test]
    fn a_growth_that_only_pauses_counts_once_and_is_no_refusal() {
        let mut limiter = limiter(None);
        let pause = MemoryError::OutOfFuel { required_fuel: 9 };
        assert!(limiter.memory_growing(0, 65_536, None).unwrap());
        limiter.memory_grow_failed(&pause).unwrap();
        assert_eq!(
            (limiter.meter.used().peak(), limiter.meter.used().refused()),
            (0, 0)
        );

        assert!(limiter.table_growing(0, 6, None).unwrap());
        limiter
            .table_grow_failed(&TableError::OutOfFuel { required_fuel: 9 })
            .unwrap();
        assert!(limiter.table_growing(0, 6, None).unwrap());
        assert!(limiter.table_growing(6, 10, None).unwrap());
        assert_eq!(limiter.meter.used().refused(), 0);

        limiter
            .memory_grow_failed(&MemoryError::OutOfSystemMemory)
            .unwrap();
        assert_eq!(limiter.meter.used().refused(), 1);
    }
}
