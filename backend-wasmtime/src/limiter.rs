//! The limits of a guest's memory and tables, as wasmtime's `ResourceLimiter`.

use engine_core::Meter;
use wasmtime::{ResourceLimiter, Result};

/// Limits and counts what one sandbox uses.
#[derive(Debug)]
pub(crate) struct Limiter(pub(crate) Meter);

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(self.within(desired, maximum) && self.0.may_grow_to(desired as u64))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> Result<()> {
        self.0.refuse();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        Ok(self.within(desired, maximum) && self.0.may_add_elements(more))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> Result<()> {
        self.0.refuse();
        Ok(())
    }
}

impl Limiter {
    /// Whether the maximum that the module declares allows `desired`. Checked first, so that refused growth does not
    /// count as a peak.
    fn within(&mut self, desired: usize, maximum: Option<usize>) -> bool {
        let within = maximum.is_none_or(|maximum| desired <= maximum);
        if !within {
            self.0.refuse();
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_core::{MemoryUse, SandboxLimits, Share};

    fn limiter() -> Limiter {
        let used = MemoryUse::new(&SandboxLimits {
            memory: 4 * 65_536,
            table_elements: 10,
            ..SandboxLimits::default()
        });
        Limiter(Meter::new(used, Share::default()))
    }

    #[test]
    fn memory_is_bounded_by_the_limit_and_by_its_own_maximum() {
        let mut limiter = limiter();
        assert!(limiter.memory_growing(0, 65_536, None).unwrap());
        assert!(!limiter.memory_growing(65_536, 5 * 65_536, None).unwrap());
        assert!(
            !limiter
                .memory_growing(65_536, 3 * 65_536, Some(2 * 65_536))
                .unwrap()
        );
        assert!(
            limiter
                .memory_growing(65_536, 2 * 65_536, Some(2 * 65_536))
                .unwrap()
        );
        assert_eq!(
            (limiter.0.used().peak(), limiter.0.used().refused()),
            (2 * 65_536, 2)
        );
    }

    #[test]
    fn elements_of_all_tables_count_together() {
        let mut limiter = limiter();
        assert!(limiter.table_growing(0, 6, None).unwrap());
        assert!(limiter.table_growing(0, 2, None).unwrap());
        assert!(!limiter.table_growing(2, 5, None).unwrap());
        assert!(limiter.table_growing(2, 4, None).unwrap());
        assert_eq!(limiter.0.used().refused(), 1);
    }
}
