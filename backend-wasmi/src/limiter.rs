//! One request's store and instance, and its run in slices.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine_core::GlobalValue;
use engine_core::backend::instances::Lease;
use engine_core::backend::{Captured, Finished, Job, Sandbox};
use engine_core::memory::Slot;
use engine_core::{GuestExit, HostState, MemoryUse, Trap, TrapCode, panic_text};
use wasmi::errors::{MemoryError, TableError};
use wasmi::{Instance, Memory, ResourceLimiter, Store, TypedResumableCall, Val};
use wasmi_core::LimiterError;

use crate::reuse::Kept;
use crate::trap;

/// What a store carries for its guest.
#[derive(Debug)]
pub(crate) struct Data {
    /// The host side; there from the moment the job begins.
    pub(crate) host: Option<Box<HostState>>,
    /// The export "memory".
    pub(crate) memory: Option<Memory>,
    pub(crate) bound: Bound,
    /// Fuel between two looks at the clock.
    pub(crate) slice: u64,
}

/// A sandbox that has not run, or is as if it had not.
pub(crate) enum Fresh<'a> {
    /// In memory of wasmi's own, for one use.
    Once(Store<Data>, Instance),
    /// In a slot, to be kept.
    Again(Kept, Lease<'a, Kept>),
}

impl Sandbox for Fresh<'_> {
    fn run(self: Box<Self>, job: Job) -> Finished {
        match *self {
            Self::Once(mut store, instance) => run(&mut store, instance, job).0,
            Self::Again(mut kept, lease) => {
                let (finished, is_whole) = run(&mut kept.store, kept.instance, job);
                // What ended in any other way is dropped, with its memory.
                if is_whole && matches!(finished.exit, GuestExit::Exit(_)) && kept.restore().is_ok()
                {
                    lease.keep(kept);
                } else {
                    drop(kept);
                    lease.lost();
                }
                finished
            }
        }
    }
}

/// Runs the job. The second result is false if something went wrong on the way to its end.
fn run(store: &mut Store<Data>, instance: Instance, job: Job) -> (Finished, bool) {
    let Job {
        entries,
        host,
        capture,
    } = job;
    store.data_mut().host = Some(host);

    let end = catch_unwind(AssertUnwindSafe(|| enter(store, instance, &entries)));
    let trap = match end {
        Ok(Ok(())) => None,
        Ok(Err(end)) => end,
        Err(panic) => Some(host_fault(format!(
            "a bug: wasmi panicked: {}",
            panic_text(&*panic)
        ))),
    };

    let captured = capture.and_then(|names| state(store, instance, &names).map(Box::new));
    let data = store.data_mut();
    let mut host = data
        .host
        .take()
        .expect("it was put there above, and hostcalls only borrow it");
    *host.memory() = data.bound.used;
    let is_whole = trap.is_none();
    let exit = host.exit(trap);
    let finished = Finished {
        exit,
        host,
        captured,
    };
    (finished, is_whole)
}

/// The state of a guest that has ended; `None` if a global is not there, or has a type that cannot be captured.
fn state(store: &Store<Data>, instance: Instance, names: &[String]) -> Option<Captured> {
    let globals = names.iter().map(|name| {
        let value = match instance.get_global(store, name)?.get(store) {
            Val::I32(value) => GlobalValue::I32(value),
            Val::I64(value) => GlobalValue::I64(value),
            Val::F32(value) => GlobalValue::F32(value.to_bits()),
            Val::F64(value) => GlobalValue::F64(value.to_bits()),
            Val::V128(value) => GlobalValue::V128(value.as_u128()),
            _ => return None,
        };
        Some((name.clone(), value))
    });
    let globals = globals.collect::<Option<_>>()?;
    let memory = match store.data().memory {
        Some(memory) => memory.data(store).to_vec(),
        None => Vec::new(),
    };
    Some(Captured { memory, globals })
}

/// Calls the entries in their order, until one does not return. `Err(None)`: the host stopped the guest and knows why.
fn enter(
    store: &mut Store<Data>,
    instance: Instance,
    entries: &[String],
) -> Result<(), Option<Trap>> {
    for name in entries {
        let entry = instance
            .get_typed_func::<(), ()>(&*store, name)
            .map_err(|error| host_fault(format!("a bug: no entry {name}: {error}")))?;
        go_on(store, 0)?;
        let mut call = entry
            .call_resumable(&mut *store, ())
            .map_err(|error| trap::of(&error))?;
        loop {
            call = match call {
                TypedResumableCall::Finished(()) => break,
                TypedResumableCall::HostTrap(end) => return Err(trap::of(end.host_error())),
                TypedResumableCall::OutOfFuel(paused) => {
                    // One operation may need more than a slice: it is not divided, and the next look is after it.
                    go_on(store, paused.required_fuel())?;
                    paused
                        .resume(&mut *store)
                        .map_err(|error| trap::of(&error))?
                }
            };
        }
    }
    Ok(())
}

/// Fuel for another slice and for what is `required` to go on at all; or the end, if the call must stop.
fn go_on(store: &mut Store<Data>, required: u64) -> Result<(), Option<Trap>> {
    let Data { host, slice, .. } = store.data_mut();
    if let Some(host) = host
        && let Some(why) = host.call().interruption()
    {
        host.stop(why.into());
        return Err(None);
    }
    let fuel = required.saturating_add(*slice);
    store
        .set_fuel(fuel)
        .map_err(|error| Some(host_fault(format!("a bug: no fuel: {error}"))))
}

fn host_fault(detail: String) -> Trap {
    Trap::new(TrapCode::Host, detail)
}

/// Engine-core's bound on memory and tables, as wasmi's limiter.
///
/// Wasmi asks the limiter first and then for fuel; if there is too little, it says that the growth failed and asks again
/// after the pause. So what was counted for a growth is taken back where it only paused.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) used: MemoryUse,
    before: MemoryUse,
    /// The memory's own maximum in bytes, which wasmi is not told.
    memory_max: Option<usize>,
    /// What the memory lies in; `None`: in memory of wasmi's own.
    pub(crate) slot: Option<Slot>,
}

impl Bound {
    pub(crate) fn new(used: MemoryUse, memory_max: Option<u64>) -> Self {
        Self {
            used,
            before: used,
            memory_max: memory_max.and_then(|bytes| usize::try_from(bytes).ok()),
            slot: None,
        }
    }

    /// Counts for another sandbox.
    pub(crate) fn begin(&mut self, used: MemoryUse) {
        (self.used, self.before) = (used, used);
    }

    /// Whether the module's own maximum and the limits allow a growth.
    fn grows(
        &mut self,
        desired: usize,
        maximum: Option<usize>,
        within: impl FnOnce(&mut MemoryUse) -> bool,
    ) -> bool {
        self.before = self.used;
        // The maximum first, so that what it refuses is not counted as used.
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.used.refuse();
            return false;
        }
        within(&mut self.used)
    }
}

impl ResourceLimiter for Bound {
    fn memory_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> Result<bool, LimiterError> {
        let grows = self.grows(desired, self.memory_max, |used| {
            used.may_grow_to(desired as u64)
        });
        // Wasmi writes to what is new as soon as it may.
        if grows
            && let Some(slot) = &mut self.slot
            && slot.grow_to(desired).is_err()
        {
            self.used = self.before;
            self.used.refuse();
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
        Ok(self.grows(desired, maximum, |used| used.may_add_elements(more)))
    }

    fn memory_grow_failed(&mut self, error: &MemoryError) -> Result<(), LimiterError> {
        self.used = self.before;
        if !matches!(error, MemoryError::OutOfFuel { .. }) {
            self.used.refuse();
        }
        Ok(())
    }

    fn table_grow_failed(&mut self, error: &TableError) -> Result<(), LimiterError> {
        self.used = self.before;
        if !matches!(error, TableError::OutOfFuel { .. }) {
            self.used.refuse();
        }
        Ok(())
    }

    fn instances(&self) -> usize {
        1
    }

    /// Engine-core bounds the number of tables, and all their elements together.
    fn tables(&self) -> usize {
        usize::MAX
    }

    /// A module has one at most, but wasmi counts an imported one twice: when it is made, and when it is linked.
    fn memories(&self) -> usize {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_core::Limits;

    fn bound(memory_max: Option<u64>) -> Bound {
        let limits = Limits {
            memory: 4 * 65_536,
            table_elements: 10,
            ..Limits::default()
        };
        Bound::new(MemoryUse::new(&limits), memory_max)
    }

    #[test]
    fn memory_is_bounded_by_the_limit_and_by_its_own_maximum() {
        for (memory_max, most) in [(None, 4), (Some(2 * 65_536), 2), (Some(9 * 65_536), 4)] {
            let mut bound = bound(memory_max);
            assert!(bound.memory_growing(0, 65_536, None).unwrap());
            assert!(
                !bound
                    .memory_growing(65_536, (most + 1) * 65_536, None)
                    .unwrap()
            );
            assert!(bound.memory_growing(65_536, most * 65_536, None).unwrap());
            assert_eq!(
                (bound.used.peak(), bound.used.refused()),
                (most as u64 * 65_536, 1)
            );
        }
    }

    #[test]
    fn elements_of_all_tables_count_together() {
        let mut bound = bound(None);
        assert!(bound.table_growing(0, 6, None).unwrap());
        assert!(bound.table_growing(0, 2, None).unwrap());
        assert!(!bound.table_growing(2, 5, None).unwrap());
        assert!(bound.table_growing(2, 4, None).unwrap());
        assert_eq!(bound.used.refused(), 1);
    }

    #[test]
    fn a_growth_that_only_pauses_counts_once_and_is_no_refusal() {
        let mut bound = bound(None);
        let pause = MemoryError::OutOfFuel { required_fuel: 9 };
        assert!(bound.memory_growing(0, 65_536, None).unwrap());
        bound.memory_grow_failed(&pause).unwrap();
        assert_eq!((bound.used.peak(), bound.used.refused()), (0, 0));

        assert!(bound.table_growing(0, 6, None).unwrap());
        bound
            .table_grow_failed(&TableError::OutOfFuel { required_fuel: 9 })
            .unwrap();
        assert!(bound.table_growing(0, 6, None).unwrap());
        assert!(bound.table_growing(6, 10, None).unwrap());
        assert_eq!(bound.used.refused(), 0);

        bound
            .memory_grow_failed(&MemoryError::OutOfSystemMemory)
            .unwrap();
        assert_eq!(bound.used.refused(), 1);
    }
}
