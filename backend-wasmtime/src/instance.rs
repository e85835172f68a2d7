//! A store with its instance: memory and globals, how the guest is entered and interrupted, and the reset of its memory.
//!
//! All that a guest can find changed is its memory (a slot, which is reset), its globals (which the runner restores) and its
//! tables and segments. The latter cannot be restored, so instances of modules whose code changes them are not used again
//! ([`StartState::is_restorable`](engine_core::StartState::is_restorable)). Entries of a table that wasmtime has filled in, as
//! it does when they are first called, stay filled in, with what the module says.

use std::sync::Arc;

use engine_core::backend::{Instance, Step};
use engine_core::{Error, GlobalValue, HostState, Interrupt, MemoryUse, Result};
use wasmtime::{
    Extern, Global, Memory, Store, StoreContextMut, TypedFunc, UpdateDeadline, V128, Val,
};

use crate::limiter::Limiter;
use crate::memory::Pooled;
use crate::module::{USUAL_ENTRIES, WasmtimeModule};
use crate::{stack, trap};

/// What a store carries for its guest.
#[derive(Debug)]
pub(crate) struct Data {
    /// The host side; there while the guest runs.
    pub(crate) host: Option<Box<HostState>>,
    /// The export "memory".
    pub(crate) memory: Option<Memory>,
    pub(crate) limiter: Limiter,
}

/// An instance, for one sandbox after the other if its memory is in a slot.
pub(crate) struct WasmtimeInstance {
    store: Store<Data>,
    instance: wasmtime::Instance,
    /// The entry points that were called, in the order of [`USUAL_ENTRIES`].
    entries: [Option<TypedFunc<(), ()>>; USUAL_ENTRIES.len()],
    slot: Option<Pooled>,
    /// Bytes of memory that it began with.
    bytes: usize,
}

impl WasmtimeInstance {
    /// `instance`, which has not run, with its memory in `slot`.
    pub(crate) fn new(
        store: Store<Data>,
        instance: wasmtime::Instance,
        slot: Option<Pooled>,
    ) -> Self {
        let memory = store.data().memory;
        Self {
            bytes: memory.map_or(0, |memory| memory.data_size(&store)),
            store,
            instance,
            entries: [const { None }; USUAL_ENTRIES.len()],
            slot,
        }
    }

    /// Calls the entry point `name`.
    fn call(&mut self, module: &WasmtimeModule, name: &str) -> wasmtime::Result<()> {
        let Some(at) = USUAL_ENTRIES.iter().position(|usual| *usual == name) else {
            return self.entry(module, name)?.call(&mut self.store, ());
        };
        if self.entries[at].is_none() {
            self.entries[at] = Some(self.entry(module, name)?);
        }
        match &self.entries[at] {
            Some(entry) => entry.call(&mut self.store, ()),
            None => unreachable!("it was put there above"),
        }
    }

    fn entry(
        &mut self,
        module: &WasmtimeModule,
        name: &str,
    ) -> wasmtime::Result<TypedFunc<(), ()>> {
        module
            .entry(name)
            .and_then(|export| self.instance.get_module_export(&mut self.store, &export))
            .and_then(Extern::into_func)
            .ok_or_else(|| wasmtime::Error::msg(format!("the module exports no function {name}")))?
            .typed(&self.store)
    }
}

impl Instance for WasmtimeInstance {
    type Module = WasmtimeModule;
    type Global = Global;

    fn memory(&mut self) -> &mut [u8] {
        match self.store.data().memory {
            Some(memory) => memory.data_mut(&mut self.store),
            None => &mut [],
        }
    }

    fn find_global(&mut self, module: &WasmtimeModule, name: &str) -> Option<Global> {
        let export = module.global(name)?;
        self.instance
            .get_module_export(&mut self.store, export)
            .and_then(Extern::into_global)
    }

    fn global(&mut self, global: &Global) -> Option<GlobalValue> {
        Some(match global.get(&mut self.store) {
            Val::I32(value) => GlobalValue::I32(value),
            Val::I64(value) => GlobalValue::I64(value),
            Val::F32(bits) => GlobalValue::F32(bits),
            Val::F64(bits) => GlobalValue::F64(bits),
            Val::V128(value) => GlobalValue::V128(value.into()),
            _ => return None,
        })
    }

    fn set_global(&mut self, global: &Global, value: GlobalValue) -> Result<()> {
        let value = match value {
            GlobalValue::F32(bits) => Val::F32(bits),
            GlobalValue::F64(bits) => Val::F64(bits),
            GlobalValue::I32(value) => Val::I32(value),
            GlobalValue::I64(value) => Val::I64(value),
            GlobalValue::V128(value) => Val::V128(V128::from(value)),
        };
        global
            .set(&mut self.store, value)
            .map_err(|error| Error::host("wasmtime refuses the value").because(trap::boxed(error)))
    }

    fn interrupt<'a>(&'a mut self, module: &'a WasmtimeModule) -> Option<&'a Arc<dyn Interrupt>> {
        // Before it is registered: an interruption that fell in between would otherwise be taken for one of the past.
        self.store.set_epoch_deadline(1);
        Some(module.interrupt())
    }

    fn put(&mut self, host: Box<HostState>) {
        self.store.data_mut().host = Some(host);
    }

    fn take(&mut self) -> Option<Box<HostState>> {
        self.store.data_mut().host.take()
    }

    /// Wasmtime carries a panic of a hostcall across the guest's frames and raises it again on this side of them.
    fn enter(&mut self, module: &WasmtimeModule, entry: &str) -> Step {
        match stack::run(|| self.call(module, entry)) {
            Ok(Ok(())) => Step::Returned,
            Ok(Err(error)) => match &self.store.data().host {
                Some(host) if host.stopped() => Step::Stopped,
                _ => Step::Trapped(trap::of(&error)),
            },
            Err(error) => Step::fault(format!("no memory for a stack: {error}")),
        }
    }

    fn used(&self) -> MemoryUse {
        self.store.data().limiter.0
    }

    fn globals(&mut self, module: &WasmtimeModule) -> Vec<Global> {
        let export = |export| self.instance.get_module_export(&mut self.store, export);
        module
            .globals()
            .filter_map(export)
            .filter_map(Extern::into_global)
            .collect()
    }

    fn reset(&mut self) -> Result<()> {
        let Some(slot) = &self.slot else {
            return Err(Error::host("a bug: a pooled instance has no slot"));
        };
        slot.reset()?;
        let Some(memory) = self.store.data().memory else {
            return Ok(());
        };
        if memory.data_size(&self.store) != self.bytes {
            // It was grown, and is short again. Whenever wasmtime is asked to grow a memory, be it by nothing, it tells
            // compiled code how long the memory is.
            memory.grow(&mut self.store, 0).map_err(|error| {
                Error::host("a memory cannot be made short again").because(trap::boxed(error))
            })?;
        }
        if memory.data_size(&self.store) != self.bytes {
            return Err(Error::host("a memory that has grown did not shrink"));
        }
        Ok(())
    }

    fn begin(&mut self, used: MemoryUse) {
        self.store.data_mut().limiter = Limiter(used);
        if let Some(slot) = &self.slot {
            slot.in_use();
        }
    }
}

/// What happens when the epoch has moved on while a guest runs: most often because of some other call.
pub(crate) fn epoch_moved(
    mut store: StoreContextMut<'_, Data>,
) -> wasmtime::Result<UpdateDeadline> {
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
