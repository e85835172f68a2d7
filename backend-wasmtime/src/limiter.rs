//! One request's store and instance.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine_core::GlobalValue;
use engine_core::backend::instances::Lease;
use engine_core::backend::{Captured, Finished, Job, Sandbox};
use engine_core::{GuestExit, HostState, MemoryUse, Trap, TrapCode, panic_text};
use wasmtime::{Memory, ResourceLimiter, Result, StoreContextMut, UpdateDeadline, Val};

use crate::module::{Loaded, Parts};
use crate::reuse::Kept;
use crate::{stack, trap};

/// What a store carries for its guest.
#[derive(Debug)]
pub(crate) struct Data {
    /// The host side; there from the moment the job begins.
    pub(crate) host: Option<Box<HostState>>,
    /// The export "memory".
    pub(crate) memory: Option<Memory>,
    pub(crate) bound: Bound,
}

/// Engine-core's bound on memory and tables, as wasmtime's limiter.
#[derive(Debug)]
pub(crate) struct Bound(pub(crate) MemoryUse);

impl ResourceLimiter for Bound {
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

impl Bound {
    /// Whether the module's own maximum allows `desired`. Asked first, so that what it refuses does not count as a peak.
    fn within(&mut self, desired: usize, maximum: Option<usize>) -> bool {
        let within = maximum.is_none_or(|maximum| desired <= maximum);
        if !within {
            self.0.refuse();
        }
        within
    }
}

/// A sandbox that has not run, or is as if it had not.
pub(crate) struct Fresh<'a> {
    module: &'a Loaded,
    instance: Use<'a>,
}

enum Use<'a> {
    Once(Box<Parts>),
    Again(Box<Kept>, Lease<'a, Box<Kept>>),
}

impl<'a> Fresh<'a> {
    /// For one use.
    pub(crate) fn once(module: &'a Loaded, parts: Parts) -> Self {
        let instance = Use::Once(Box::new(parts));
        Self { module, instance }
    }

    /// One that is used again afterwards, if it ends well.
    pub(crate) fn again(module: &'a Loaded, kept: Box<Kept>, lease: Lease<'a, Box<Kept>>) -> Self {
        let instance = Use::Again(kept, lease);
        Self { module, instance }
    }

    pub(crate) fn parts_mut(&mut self) -> &mut Parts {
        match &mut self.instance {
            Use::Once(parts) => parts,
            Use::Again(kept, _) => &mut kept.parts,
        }
    }
}

impl Sandbox for Fresh<'_> {
    fn run(self: Box<Self>, job: Job) -> Finished {
        let Self { module, instance } = *self;
        match instance {
            Use::Once(mut parts) => run(&mut parts, module, job).0,
            Use::Again(mut kept, lease) => {
                let (finished, is_whole) = run(&mut kept.parts, module, job);
                // Only a return and a `proc_exit` leave an instance that can be restored; what ended in any other way is
                // dropped, with its memory.
                let ended_well = is_whole && matches!(finished.exit, GuestExit::Exit(_));
                if ended_well && kept.restore().is_ok() {
                    lease.keep(kept);
                } else {
                    drop(kept);
                }
                finished
            }
        }
    }
}

/// Runs the job. The second result is false if the host's own code failed on the way.
fn run(parts: &mut Parts, module: &Loaded, job: Job) -> (Finished, bool) {
    let Job {
        entries,
        host,
        capture,
    } = job;
    parts.store.data_mut().host = Some(host);

    // Wasmtime carries a panic of a hostcall across the guest's frames and raises it again on this side of them.
    let end = catch_unwind(AssertUnwindSafe(|| {
        stack::run(|| enter(parts, module, &entries))
    }));
    let is_whole = matches!(end, Ok(Ok(_)));
    let trap = match end {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(trap::of(&error)),
        Ok(Err(error)) => Some(host_fault(format!("no memory for a stack: {error}"))),
        Err(panic) => Some(host_fault(format!(
            "a bug: a hostcall panicked: {}",
            panic_text(&*panic)
        ))),
    };

    let captured = capture.and_then(|names| state(parts, module, &names).map(Box::new));
    let data = parts.store.data_mut();
    let mut host = data
        .host
        .take()
        .expect("it was put there above, and hostcalls only borrow it");
    *host.memory() = data.bound.0;
    let exit = host.exit(trap);
    let finished = Finished {
        exit,
        host,
        captured,
    };
    (finished, is_whole)
}

/// The state of a guest that has ended; `None` if a global is not there, or has a type that cannot be captured.
fn state(parts: &mut Parts, module: &Loaded, names: &[String]) -> Option<Captured> {
    let Parts {
        store, instance, ..
    } = parts;
    let globals = names.iter().map(|name| {
        let global = module.global(store, *instance, name).ok()?;
        let value = match global.get(&mut *store) {
            Val::I32(value) => GlobalValue::I32(value),
            Val::I64(value) => GlobalValue::I64(value),
            Val::F32(bits) => GlobalValue::F32(bits),
            Val::F64(bits) => GlobalValue::F64(bits),
            Val::V128(value) => GlobalValue::V128(value.into()),
            _ => return None,
        };
        Some((name.clone(), value))
    });
    let globals = globals.collect::<Option<_>>()?;
    let memory = match store.data().memory {
        Some(memory) => memory.data(&*store).to_vec(),
        None => Vec::new(),
    };
    Some(Captured { memory, globals })
}

/// Calls the entries in their order, until one does not return.
fn enter(parts: &mut Parts, module: &Loaded, entries: &[String]) -> Result<()> {
    // The deadline first: an interruption that fell in between would otherwise be taken for one of the past.
    parts.store.set_epoch_deadline(1);
    let _armed = parts
        .store
        .data()
        .host
        .as_ref()
        .map(|host| host.call().arm(module.interrupt()));
    for name in entries {
        parts.call(module, name)?;
    }
    Ok(())
}

/// What happens when the epoch has moved on while a guest runs: most often because of some other call.
pub(crate) fn epoch_moved(mut store: StoreContextMut<'_, Data>) -> Result<UpdateDeadline> {
    // Without a host this is an instantiation, which runs nothing of the guest's but its segments.
    let Some(host) = store.data_mut().host.as_deref_mut() else {
        return Ok(UpdateDeadline::Continue(1));
    };
    match host.call().interruption() {
        None => Ok(UpdateDeadline::Continue(1)),
        Some(why) => {
            host.stop(why.into());
            Ok(UpdateDeadline::Interrupt)
        }
    }
}

fn host_fault(detail: String) -> Trap {
    Trap::new(TrapCode::Host, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_core::Limits;

    fn bound() -> Bound {
        Bound(MemoryUse::new(&Limits {
            memory: 4 * 65_536,
            table_elements: 10,
            ..Limits::default()
        }))
    }

    #[test]
    fn memory_is_bounded_by_the_limit_and_by_its_own_maximum() {
        let mut bound = bound();
        assert!(bound.memory_growing(0, 65_536, None).unwrap());
        assert!(!bound.memory_growing(65_536, 5 * 65_536, None).unwrap());
        assert!(
            !bound
                .memory_growing(65_536, 3 * 65_536, Some(2 * 65_536))
                .unwrap()
        );
        assert!(
            bound
                .memory_growing(65_536, 2 * 65_536, Some(2 * 65_536))
                .unwrap()
        );
        assert_eq!((bound.0.peak(), bound.0.refused()), (2 * 65_536, 2));
    }

    #[test]
    fn elements_of_all_tables_count_together() {
        let mut bound = bound();
        assert!(bound.table_growing(0, 6, None).unwrap());
        assert!(bound.table_growing(0, 2, None).unwrap());
        assert!(!bound.table_growing(2, 5, None).unwrap());
        assert!(bound.table_growing(2, 4, None).unwrap());
        assert_eq!(bound.0.refused(), 1);
    }
}
