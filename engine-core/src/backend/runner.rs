//! The runner: makes, runs and resets the sandboxes of every backend, in the one order that all of them share.
//!
//! A backend says how an instance is made and entered ([`Instantiate`], [`Instance`]). Everything around that is here: the
//! instance pool, the slot, the image, globals and patches, limits, the interruption, the panic boundary, what is captured,
//! the exit, and the reset.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::{Error, Result, panic_text};
use crate::limits::SandboxLimits;
use crate::outcome::GuestExit;
use crate::sandbox::{HostState, MemoryUse, Meter};
use crate::start::GlobalValue;
use crate::wasm::{CONTEXT_EXPORT, HANDLE_REQUEST_EXPORT};

use super::instance::{Instance, Instantiate, MemorySource, Step};
use super::instances::{InstanceBudget, InstancePool, Lease};
use super::{Captured, Finished, Job, Module, Progress, Sandbox, Start};

/// A loaded module with its instance pool: what [`Backend::load`](super::Backend::load) returns.
#[derive(Debug)]
pub struct Runner<M: Instantiate> {
    /// `None`: no instance is used again.
    pool: Option<Arc<InstancePool<Pooled<M>>>>,
    module: M,
}

/// Boxed, since it moves into the pool and out of it for every request.
type Pooled<M> = Box<Prepared<<M as Instantiate>::Instance>>;

/// The right to put such an instance back.
type PooledLease<'a, M> = Lease<'a, Pooled<M>>;

impl<M: Instantiate> Runner<M> {
    /// For a module whose instances are used for one sandbox each.
    pub fn new(module: M) -> Self {
        Self { pool: None, module }
    }

    /// For a module whose instances are used again where the start allows it
    /// ([`is_restorable`](crate::StartState::is_restorable)): up to `per_cpu` for each processor, within `budget`.
    pub fn with_pool(module: M, per_cpu: usize, budget: &Arc<InstanceBudget>) -> Self {
        let pool = Some(InstancePool::new(per_cpu, budget));
        Self { pool, module }
    }
}

impl<M: Instantiate> Module for Runner<M> {
    fn instantiate(
        &self,
        start: Start<'_>,
        limits: &SandboxLimits,
    ) -> Result<Box<dyn Sandbox + '_>> {
        let (prepared, lease) = match self.take_pooled(&start, limits) {
            Some((prepared, lease)) => (prepared, Some(lease)),
            None => self.new_instance(&start, limits)?,
        };
        let mut sandbox = Running {
            module: &self.module,
            prepared: Some(prepared),
            lease,
            entries: Arc::default(),
            entered: 0,
            between: false,
            capture: None,
        };
        if !start.point.patches.is_empty()
            && let Some(prepared) = &mut sandbox.prepared
        {
            start.point.patch(prepared.instance.memory())?;
        }
        Ok(Box::new(sandbox))
    }
}

impl<M: Instantiate> Runner<M> {
    /// A pristine instance of the pool, if one fits.
    fn take_pooled(
        &self,
        start: &Start<'_>,
        limits: &SandboxLimits,
    ) -> Option<(Pooled<M>, PooledLease<'_, M>)> {
        let (mut prepared, lease) = self.pool.as_ref()?.take(start, limits)?;
        let Some(used) = prepared.initial.within(limits) else {
            // Making a new one says what is wrong.
            lease.keep(prepared);
            return None;
        };
        prepared.instance.begin(used);
        Some((prepared, lease))
    }

    /// A new instance, with a lease if it can be used again.
    fn new_instance(
        &self,
        start: &Start<'_>,
        limits: &SandboxLimits,
    ) -> Result<(Pooled<M>, Option<PooledLease<'_, M>>)> {
        let bytes = start.image().map_or(0, |image| image.len());
        let mut used = MemoryUse::new(limits);
        if !used.may_grow_to(bytes) {
            return Err(Error::config(format!(
                "a sandbox starts with {bytes} bytes of memory, more than its limit of {}",
                limits.memory_bytes()
            )));
        }
        let mut lease = match &self.pool {
            Some(pool) if start.point.is_restorable && !start.few_slots => {
                pool.lease(start, limits.memory_bytes(), limits)
            }
            _ => None,
        };
        if (M::SLOT_FOR_ONE_SANDBOX || lease.is_some() || start.few_slots)
            && let Some(slot) = start.slot()
        {
            let made = self
                .module
                .make(MemorySource::Slot(slot), Meter::new(used, start.share()));
            match made.and_then(|instance| self.prepare(instance, start, lease.is_some())) {
                Ok(prepared) => return Ok((prepared, lease)),
                // Memory of the engine's may do; if not, its error is as good.
                Err(_) => lease = lease.and_then(give_up::<M>),
            }
        }
        drop(lease);
        let meter = Meter::new(used, start.share());
        let mut instance = self.module.make(MemorySource::Engine { bytes }, meter)?;
        if let Some(image) = start.image().filter(|image| !image.is_empty()) {
            let memory = instance.memory();
            if (memory.len() as u64) < image.len() {
                return Err(Error::host(
                    "a bug: there is an image for a module that does not export its memory",
                ));
            }
            image.write_to(memory);
        }
        Ok((self.prepare(instance, start, false)?, None))
    }

    /// Gives a new instance, whose memory holds the image, the globals of its start.
    fn prepare(
        &self,
        mut instance: M::Instance,
        start: &Start<'_>,
        is_reusable: bool,
    ) -> Result<Pooled<M>> {
        for (name, value) in &start.point.globals {
            let cannot =
                || format!("the global {name} of a new sandbox cannot be set to {value:?}");
            let global = instance
                .find_global(&self.module, name)
                .ok_or_else(|| Error::host(cannot()).because("it is not exported"))?;
            instance
                .set_global(&global, *value)
                .map_err(|error| Error::host(cannot()).because(error))?;
        }
        let initial = if is_reusable {
            Initial::of(&mut instance, &self.module)
        } else {
            Initial::default()
        };
        Ok(Box::new(Prepared { instance, initial }))
    }
}

/// Ends a lease whose instance is gone.
fn give_up<M: Instantiate>(lease: PooledLease<'_, M>) -> Option<PooledLease<'_, M>> {
    if !M::SLOT_FOR_ONE_SANDBOX {
        lease.lost();
    }
    None
}

/// An instance, and what it is reset to.
#[derive(Debug)]
struct Prepared<I: Instance> {
    instance: I,
    initial: Initial<I::Global>,
}

impl<I: Instance> Prepared<I> {
    /// Makes the instance pristine. After an error it must be dropped.
    fn reset(&mut self) -> Result<()> {
        self.instance.reset()?;
        for (global, value) in &self.initial.globals {
            self.instance.set_global(global, *value)?;
        }
        Ok(())
    }
}

/// What an instance starts each sandbox with, beside its memory.
#[derive(Debug)]
struct Initial<G> {
    bytes: u64,
    table_elements: u64,
    globals: Vec<(G, GlobalValue)>,
}

impl<G> Initial<G> {
    /// That of an instance that has not run.
    fn of<I: Instance<Global = G>>(instance: &mut I, module: &I::Module) -> Self {
        let used = instance.used();
        let globals = instance.globals(module).into_iter();
        Self {
            bytes: used.peak(),
            table_elements: used.table_elements(),
            // A module with a mutable reference has hidden state, so no global is left out.
            globals: globals
                .filter_map(|global| {
                    let value = instance.global(&global)?;
                    Some((global, value))
                })
                .collect(),
        }
    }

    /// The bound and figures of another sandbox; `None` if it may not exist within `limits`.
    fn within(&self, limits: &SandboxLimits) -> Option<MemoryUse> {
        let mut used = MemoryUse::new(limits);
        let fits = used.may_grow_to(self.bytes) && used.may_add_elements(self.table_elements);
        fits.then_some(used)
    }
}

impl<G> Default for Initial<G> {
    fn default() -> Self {
        Self {
            bytes: 0,
            table_elements: 0,
            globals: Vec::new(),
        }
    }
}

/// A sandbox: one that has not run, or whose guest waits.
struct Running<'a, M: Instantiate> {
    module: &'a M,
    /// Dropped before the lease. `None`: the guest has ended.
    prepared: Option<Pooled<M>>,
    /// `None`: the instance is dropped after this sandbox.
    lease: Option<PooledLease<'a, M>>,
    /// The job's.
    entries: Arc<[String]>,
    /// How many of the entries have been entered.
    entered: usize,
    /// Whether the guest waits between two entries, and not in one.
    between: bool,
    /// The job's.
    capture: Option<Arc<[String]>>,
}

impl<M: Instantiate> Sandbox for Running<'_, M> {
    fn run(&mut self, job: Job) -> Progress {
        let Job {
            entries,
            host,
            capture,
        } = job;
        self.entries = entries;
        self.capture = capture;
        self.go_on(host, false)
    }

    fn resume(&mut self, host: Box<HostState>) -> Progress {
        self.go_on(host, true)
    }
}

impl<M: Instantiate> Running<'_, M> {
    /// Runs the guest from where it is until it ends or waits.
    fn go_on(&mut self, mut host: Box<HostState>, resume: bool) -> Progress {
        let Some(prepared) = &mut self.prepared else {
            unreachable!("a sandbox is neither run twice nor resumed after its end");
        };
        let instance = &mut prepared.instance;
        let interrupt = instance.interrupt(self.module);
        let armed = interrupt.map(|interrupt| host.call().arm(interrupt));
        host.yields = M::Instance::YIELDS && host.suspends;
        instance.put(host);
        // What a hostcall panics with comes back through the guest's frames, or the backend catches it before them.
        let mut progress = Entries {
            all: &self.entries,
            entered: &mut self.entered,
            between: &mut self.between,
        };
        let step = catch_unwind(AssertUnwindSafe(|| {
            progress.enter(instance, self.module, resume)
        }))
        .unwrap_or_else(|panic| {
            Step::fault(format!(
                "a bug: a hostcall or the engine panicked: {}",
                panic_text(&*panic)
            ))
        });
        drop(armed);
        let Some(host) = instance.take() else {
            unreachable!("it was put there above, and hostcalls only borrow it");
        };
        if step == Step::Waiting {
            if host.waits_for.is_some() {
                if let Some(lease) = &mut self.lease {
                    lease.step_aside();
                }
                return Progress::Waiting(host);
            }
            let step = Step::fault("a bug: the guest was suspended, and waits for nothing".into());
            return Progress::Finished(self.finish(host, step));
        }
        Progress::Finished(self.finish(host, step))
    }

    /// What came of the guest, whose instance is reset or dropped.
    fn finish(&mut self, mut host: Box<HostState>, step: Step) -> Finished {
        let Some(mut prepared) = self.prepared.take() else {
            unreachable!("it was there when the guest ran");
        };
        let captured = self
            .capture
            .take()
            .and_then(|names| captured(&mut prepared.instance, self.module, &names).map(Box::new));
        *host.memory() = prepared.instance.used();
        let step = match step {
            Step::Stopped if !host.stopped() => {
                Step::fault("a bug: the guest was stopped, and no reason was noted".into())
            }
            step => step,
        };
        let (trap, is_whole) = match step {
            Step::Returned | Step::Stopped => (None, true),
            Step::Trapped(trap) => (Some(trap), false),
            Step::Waiting => unreachable!("a guest that waits has not ended"),
        };
        let exit = host.exit(trap);
        // Only a return and a `proc_exit` leave an instance that can be reset; after any other end it is dropped, with its
        // memory.
        let ended_well = is_whole && matches!(exit, GuestExit::Exit(_));
        if let Some(lease) = self.lease.take() {
            if ended_well && prepared.reset().is_ok() {
                lease.keep(prepared);
            } else {
                drop(prepared);
                give_up::<M>(lease);
            }
        }
        Finished {
            exit,
            host,
            captured,
        }
    }
}

impl<M: Instantiate> Drop for Running<'_, M> {
    fn drop(&mut self) {
        // A guest that waits is gone with its instance.
        if self.entered > 0
            && self.prepared.take().is_some()
            && let Some(lease) = self.lease.take()
        {
            give_up::<M>(lease);
        }
    }
}

/// How far a guest has come with the entries of its job.
struct Entries<'a> {
    all: &'a [String],
    entered: &'a mut usize,
    between: &'a mut bool,
}

impl Entries<'_> {
    /// Calls the entries in their order, until one does not return: from where the guest waits if it is to `resume`.
    fn enter<I: Instance>(&mut self, instance: &mut I, module: &I::Module, resume: bool) -> Step {
        if resume {
            let step = if std::mem::take(self.between) {
                hear_of_next(instance, module)
            } else {
                let step = instance.resume(module);
                self.returned_from(instance, module, step)
            };
            match step {
                Step::Returned => {}
                ended => return ended,
            }
        }
        while let Some(entry) = self.all.get(*self.entered) {
            *self.entered += 1;
            let step = instance.enter(module, entry);
            match self.returned_from(instance, module, step) {
                Step::Returned => {}
                ended => return ended,
            }
        }
        Step::Returned
    }

    /// `step` is how the guest left its last entry. A guest of http-wasm that has handled its request waits for the next handler
    /// now, or has ended.
    fn returned_from<I: Instance>(
        &mut self,
        instance: &mut I,
        module: &I::Module,
        step: Step,
    ) -> Step {
        let last = self.all.get(self.entered.wrapping_sub(1));
        if step != Step::Returned || last.is_none_or(|entry| entry != HANDLE_REQUEST_EXPORT) {
            return step;
        }
        let context = match instance.find_global(module, CONTEXT_EXPORT) {
            Some(global) => instance.global(&global),
            None => None,
        };
        let Some(GlobalValue::I64(context)) = context else {
            return Step::fault("a bug: the result of handle_request is lost".into());
        };
        if context as u32 == 0 {
            *self.entered = self.all.len();
            return Step::Returned;
        }
        let Some(mut host) = instance.take() else {
            return Step::fault("a bug: a guest without its host".into());
        };
        let waits = host.goes_on(instance.memory(), context);
        *host.memory() = instance.used();
        instance.put(host);
        *self.between = waits;
        if waits {
            Step::Waiting
        } else {
            Step::fault("a bug: a guest of http-wasm has no request".into())
        }
    }
}

/// Tells a guest of http-wasm what the next handler has answered.
fn hear_of_next<I: Instance>(instance: &mut I, module: &I::Module) -> Step {
    let Some(mut host) = instance.take() else {
        return Step::fault("a bug: a guest without its host".into());
    };
    let context = host.next_has_answered();
    instance.put(host);
    let context = match context {
        Ok(context) => context,
        Err(why) => return Step::fault(why.into()),
    };
    let set = match instance.find_global(module, CONTEXT_EXPORT) {
        Some(global) => instance.set_global(&global, GlobalValue::I64(context)),
        None => Err(Error::host("the global is not there")),
    };
    match set {
        Ok(()) => Step::Returned,
        Err(error) => Step::fault(format!("a bug: handle_response cannot be called: {error}")),
    }
}

/// The state of a guest that has ended; `None` if a global is not there, or cannot be captured.
fn captured<I: Instance>(
    instance: &mut I,
    module: &I::Module,
    names: &[String],
) -> Option<Captured> {
    let globals = names.iter().map(|name| {
        let global = instance.find_global(module, name)?;
        Some((name.clone(), instance.global(&global)?))
    });
    let globals = globals.collect::<Option<_>>()?;
    Some(Captured {
        memory: instance.memory().to_vec(),
        globals,
    })
}

#[cfg(test)]
mod tests;
