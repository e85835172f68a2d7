//! A store with its instance: memory and globals, the guest's run in slices, and the reset of its memory.
//!
//! All that a guest can find changed is its memory (a slot, which is reset), its globals (which the runner restores) and its
//! tables and segments. The latter cannot be restored, so instances of modules whose code changes them are not used again.

use std::sync::Arc;

use engine_core::backend::{Instance, Step};
use engine_core::{Error, GlobalValue, HostState, Interrupt, MemoryUse, Result, Stop};
use wasmi::{
    F32, F64, Global, Memory, Store, TypedResumableCall, TypedResumableCallHostTrap,
    TypedResumableCallOutOfFuel, V128, Val,
};

use crate::hostcalls;

use crate::limiter::Limiter;
use crate::module::{WasmiModule, cause};
use crate::trap::{self, Waiting};

/// What a store carries for its guest.
#[derive(Debug)]
pub(crate) struct Data {
    /// The host side; there while the guest runs.
    pub(crate) host: Option<Box<HostState>>,
    /// The export "memory".
    pub(crate) memory: Option<Memory>,
    pub(crate) limiter: Limiter,
    /// The hostcall in which the guest waits.
    pub(crate) again: Option<Again>,
}

/// A hostcall with its arguments, to be made again.
pub(crate) struct Again(pub(crate) Box<Hostcall>);

type Hostcall = dyn FnMut(&mut HostState, &mut [u8]) -> Result<i32, Stop> + Send;

impl std::fmt::Debug for Again {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Again")
    }
}

/// An instance, for one sandbox after the other if its memory is in a slot.
pub(crate) struct WasmiInstance {
    store: Store<Data>,
    instance: wasmi::Instance,
    /// Fuel between two looks at the clock.
    slice: u64,
    /// Bytes of memory that it began with.
    bytes: usize,
    /// The call of a guest that waits.
    waiting: Option<Suspended>,
}

/// A call whose guest waits.
enum Suspended {
    /// In a hostcall, which is made again.
    InHostcall(TypedResumableCallHostTrap<()>),
    /// While it computed.
    Between(TypedResumableCallOutOfFuel<()>),
}

impl WasmiInstance {
    /// `instance`, which has not run.
    pub(crate) fn new(store: Store<Data>, instance: wasmi::Instance, slice: u64) -> Self {
        let memory = store.data().memory;
        Self {
            bytes: memory.map_or(0, |memory| memory.data_size(&store)),
            store,
            instance,
            slice,
            waiting: None,
        }
    }

    /// Calls the entry point `name`, slice by slice.
    fn call(&mut self, name: &str) -> Result<(), Step> {
        let entry = self
            .instance
            .get_typed_func::<(), ()>(&self.store, name)
            .map_err(|error| Step::fault(format!("a bug: no entry {name}: {error}")))?;
        self.refuel(0)?;
        let call = entry
            .call_resumable(&mut self.store, ())
            .map_err(|error| trap::of(&error))?;
        self.go_on(call)
    }

    /// Goes on with a guest that waits. The hostcall in which it waits is made again first, and may wait again.
    fn resume_call(&mut self) -> Result<(), Step> {
        let waiting = match self.waiting.take() {
            Some(Suspended::InHostcall(waiting)) => waiting,
            Some(Suspended::Between(paused)) => {
                self.refuel(paused.required_fuel())?;
                let call = paused
                    .resume(&mut self.store)
                    .map_err(|error| trap::of(&error))?;
                return self.go_on(call);
            }
            None => return Err(Step::fault("a bug: no guest waits".into())),
        };
        let Some(mut again) = self.store.data_mut().again.take() else {
            return Err(Step::fault(
                "a bug: the hostcall of a guest that waits is lost".into(),
            ));
        };
        let (memory, data) = self.memory_and_data();
        let Some(host) = data.host.as_deref_mut() else {
            return Err(Step::fault(
                "a bug: a guest is resumed without its host".into(),
            ));
        };
        match hostcalls::caught(|| (again.0)(host, memory)).map_err(|error| trap::of(&error))? {
            Ok(result) => {
                self.refuel(0)?;
                let call = waiting
                    .resume(&mut self.store, &[Val::I32(result)])
                    .map_err(|error| trap::of(&error))?;
                self.go_on(call)
            }
            Err(Stop::Waits) => {
                self.store.data_mut().again = Some(again);
                Err(self.wait(Suspended::InHostcall(waiting)))
            }
            Err(why) => {
                host.stop(why);
                Err(Step::Stopped)
            }
        }
    }

    /// Keeps a call whose guest waits.
    fn wait(&mut self, waiting: Suspended) -> Step {
        self.waiting = Some(waiting);
        let data = self.store.data_mut();
        if let Some(host) = &mut data.host {
            *host.memory() = data.limiter.meter.used();
        }
        Step::Waiting
    }

    /// Runs a call slice by slice.
    fn go_on(&mut self, mut call: TypedResumableCall<()>) -> Result<(), Step> {
        loop {
            call = match call {
                TypedResumableCall::Finished(()) => return Ok(()),
                TypedResumableCall::HostTrap(end) => {
                    if end.host_error().downcast_ref::<Waiting>().is_some() {
                        return Err(self.wait(Suspended::InHostcall(end)));
                    }
                    return Err(trap::of(end.host_error()));
                }
                TypedResumableCall::OutOfFuel(paused) => {
                    // One operation may need more than a slice: it is not divided, and the next look is after it.
                    self.refuel(paused.required_fuel())?;
                    let (memory, data) = self.memory_and_data();
                    if data
                        .host
                        .as_mut()
                        .is_some_and(|host| host.must_yield(memory))
                    {
                        return Err(self.wait(Suspended::Between(paused)));
                    }
                    paused
                        .resume(&mut self.store)
                        .map_err(|error| trap::of(&error))?
                }
            };
        }
    }

    /// The guest's memory, and what its store carries.
    fn memory_and_data(&mut self) -> (&mut [u8], &mut Data) {
        match self.store.data().memory {
            Some(memory) => memory.data_and_store_mut(&mut self.store),
            None => (&mut [], self.store.data_mut()),
        }
    }

    /// Gives fuel for another slice and for what is `required` to go on at all. `Err`: the call must stop.
    fn refuel(&mut self, required: u64) -> Result<(), Step> {
        if let Some(host) = &mut self.store.data_mut().host
            && let Some(why) = host.call().interruption()
        {
            host.stop(why.into());
            return Err(Step::Stopped);
        }
        let fuel = required.saturating_add(self.slice);
        self.store
            .set_fuel(fuel)
            .map_err(|error| Step::fault(format!("a bug: no fuel: {error}")))
    }
}

impl Instance for WasmiInstance {
    type Module = WasmiModule;
    type Global = Global;

    const YIELDS: bool = true;

    fn memory(&mut self) -> &mut [u8] {
        match self.store.data().memory {
            Some(memory) => memory.data_mut(&mut self.store),
            None => &mut [],
        }
    }

    fn find_global(&mut self, _: &WasmiModule, name: &str) -> Option<Global> {
        let global = self.instance.get_global(&self.store, name)?;
        global
            .ty(&self.store)
            .mutability()
            .is_mut()
            .then_some(global)
    }

    fn global(&mut self, global: &Global) -> Option<GlobalValue> {
        Some(match global.get(&self.store) {
            Val::I32(value) => GlobalValue::I32(value),
            Val::I64(value) => GlobalValue::I64(value),
            Val::F32(value) => GlobalValue::F32(value.to_bits()),
            Val::F64(value) => GlobalValue::F64(value.to_bits()),
            Val::V128(value) => GlobalValue::V128(value.as_u128()),
            _ => return None,
        })
    }

    fn set_global(&mut self, global: &Global, value: GlobalValue) -> Result<()> {
        let value = match value {
            GlobalValue::F32(bits) => Val::F32(F32::from_bits(bits)),
            GlobalValue::F64(bits) => Val::F64(F64::from_bits(bits)),
            GlobalValue::I32(value) => Val::I32(value),
            GlobalValue::I64(value) => Val::I64(value),
            GlobalValue::V128(value) => Val::V128(V128::from(value)),
        };
        global
            .set(&mut self.store, value)
            .map_err(|error| Error::host("wasmi refuses the value").because(cause(&error)))
    }

    /// Nothing has to interrupt a guest: it looks at its call between two slices.
    fn interrupt<'a>(&'a mut self, _: &'a WasmiModule) -> Option<&'a Arc<dyn Interrupt>> {
        None
    }

    fn put(&mut self, host: Box<HostState>) {
        self.store.data_mut().host = Some(host);
    }

    fn take(&mut self) -> Option<Box<HostState>> {
        self.store.data_mut().host.take()
    }

    fn enter(&mut self, _: &WasmiModule, entry: &str) -> Step {
        match self.call(entry) {
            Ok(()) => Step::Returned,
            Err(end) => end,
        }
    }

    fn resume(&mut self, _: &WasmiModule) -> Step {
        match self.resume_call() {
            Ok(()) => Step::Returned,
            Err(end) => end,
        }
    }

    fn used(&self) -> MemoryUse {
        self.store.data().limiter.meter.used()
    }

    fn globals(&mut self, _: &WasmiModule) -> Vec<Global> {
        self.instance
            .exports(&self.store)
            .filter_map(|export| export.into_extern().into_global())
            .filter(|global| global.ty(&self.store).mutability().is_mut())
            .collect()
    }

    fn reset(&mut self) -> Result<()> {
        if self.memory().len() != self.bytes {
            return Err(Error::host("a memory that has grown cannot shrink"));
        }
        let slot = &mut self.store.data_mut().limiter.slot;
        let used = slot
            .take()
            .ok_or_else(|| Error::host("a bug: a pooled instance has no slot"))?;
        slot.insert(used.reset()?).set_waiting(true);
        self.store.data_mut().limiter.meter.reset();
        Ok(())
    }

    fn begin(&mut self, used: MemoryUse) {
        let limiter = &mut self.store.data_mut().limiter;
        limiter.begin(used);
        if let Some(slot) = &mut limiter.slot {
            slot.set_waiting(false);
        }
    }
}
