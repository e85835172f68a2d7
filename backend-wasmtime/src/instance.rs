//! A store with its instance: memory and globals, how the guest is entered and interrupted, and the reset of its memory.
//!
//! All that a guest can find changed is its memory (a slot, which is reset), its globals (which the runner restores) and its
//! tables and segments. The latter cannot be restored, so instances of modules whose code changes them are not used again
//! ([`StartState::is_restorable`](engine_core::StartState::is_restorable)). Entries of a table that wasmtime has filled in, as
//! it does when they are first called, stay filled in, with what the module says.

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use engine_core::backend::{Instance, Step};
use engine_core::{Error, GlobalValue, HostState, Interrupt, MemoryUse, Result};
use parking_lot::Mutex;
use wasmtime::{
    Extern, Global, Memory, Store, StoreContextMut, TypedFunc, UpdateDeadline, V128, Val,
};

use crate::limiter::Limiter;
use crate::memory::Pooled;
use crate::module::{USUAL_ENTRIES, WasmtimeModule};
use crate::stack::{self, StoreStack};
use crate::trap;

/// What a store carries for its guest.
#[derive(Debug)]
pub(crate) struct Data {
    /// The host side; there while the guest runs.
    pub(crate) host: Option<Box<HostState>>,
    /// Where the host side is while the guest waits: a suspended call of wasmtime's has its store for itself.
    pub(crate) outside: Option<Arc<Mutex<Option<Box<HostState>>>>>,
    /// The export "memory".
    pub(crate) memory: Option<Memory>,
    pub(crate) limiter: Limiter,
}

impl Data {
    /// Hands out the host side of a guest that is suspended now.
    pub(crate) fn suspended(&mut self) {
        if let (Some(outside), Some(mut host)) = (&self.outside, self.host.take()) {
            *host.memory() = self.limiter.0.used();
            *outside.lock() = Some(host);
        }
    }

    /// Takes the host side back, if the guest was suspended.
    pub(crate) fn resumed(&mut self) {
        if self.host.is_none()
            && let Some(outside) = &self.outside
        {
            self.host = outside.lock().take();
        }
    }
}

/// An instance, for one sandbox after the other if its memory is in a slot.
pub(crate) struct WasmtimeInstance {
    /// The call of a guest that waits, which borrows from `guest`. Dropped before it.
    waiting: Option<Call>,
    guest: Owned<Guest>,
    /// For a module whose guests may be suspended: where the host side is meanwhile.
    outside: Option<Arc<Mutex<Option<Box<HostState>>>>>,
    /// The stack of the guest's calls, if they may be suspended: the store keeps it.
    stack: Option<StoreStack>,
    slot: Option<Pooled>,
    /// Bytes of memory that it began with.
    bytes: usize,
}

/// A call into a guest that may be suspended.
type Call = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send>>;

/// A store with what is called in it.
struct Guest {
    store: Store<Data>,
    instance: wasmtime::Instance,
    /// The entry points that were called, in the order of [`USUAL_ENTRIES`].
    entries: [Option<TypedFunc<(), ()>>; USUAL_ENTRIES.len()],
}

/// A value on the heap that can be pointed to while its owner moves. A `Box` may not be: moving it ends all other uses of
/// what it owns.
struct Owned<T>(NonNull<T>);

// SAFETY: it owns the value, as a `Box` does.
unsafe impl<T: Send> Send for Owned<T> {}

impl<T> Owned<T> {
    fn new(value: T) -> Self {
        Self(NonNull::from(Box::leak(Box::new(value))))
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the pointer came from `Box::leak`, and is freed when `self` is dropped only. While a call waits, which
        // borrows the value mutably, `WasmtimeInstance` uses the call alone.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::leak`, and this is the only place that frees it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl WasmtimeInstance {
    /// `instance`, which has not run, with its memory in `slot`.
    pub(crate) fn new(
        store: Store<Data>,
        instance: wasmtime::Instance,
        slot: Option<Pooled>,
    ) -> Self {
        let data = store.data();
        Self {
            waiting: None,
            outside: data.outside.clone(),
            stack: None,
            slot,
            bytes: data.memory.map_or(0, |memory| memory.data_size(&store)),
            guest: Owned::new(Guest {
                store,
                instance,
                entries: [const { None }; USUAL_ENTRIES.len()],
            }),
        }
    }

    /// Begins a call of the entry point `name` that may be suspended.
    fn begin_call(&mut self, module: &WasmtimeModule, name: &str) -> wasmtime::Result<Call> {
        // The function that is called must stay where it is, so one that is not usual gets the first place.
        let usual = USUAL_ENTRIES.iter().position(|usual| *usual == name);
        let at = usual.unwrap_or(0);
        if self.guest.entries[at].is_none() || usual.is_none() {
            let entry = self.guest.entry(module, name)?;
            self.guest.entries[at] = Some(entry);
        }
        // SAFETY: the guest lives on the heap until `self` is dropped, which drops the call before it. Until the call has
        // ended or is dropped, nothing else uses the guest: see `Instance::resume`.
        let Guest { store, entries, .. } = unsafe { &mut *self.guest.0.as_ptr() };
        match &entries[at] {
            Some(entry) => Ok(Box::pin(entry.call_async(store, ()))),
            None => unreachable!("it was put there above"),
        }
    }

    /// Runs a call until it ends or waits.
    fn go_on(&mut self, mut call: Call) -> Step {
        let ended = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Some(stack) = StoreStack::last_made() {
            self.stack = Some(stack);
        }
        match ended {
            Poll::Pending => {
                self.waiting = Some(call);
                Step::Waiting
            }
            Poll::Ready(ended) => {
                drop(call);
                if let Some(stack) = &mut self.stack {
                    stack.cool();
                }
                self.guest.step(ended)
            }
        }
    }
}

impl Guest {
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

    /// How a call has ended.
    fn step(&self, ended: wasmtime::Result<()>) -> Step {
        match ended {
            Ok(()) => Step::Returned,
            Err(error) => match &self.store.data().host {
                Some(host) if host.stopped() => Step::Stopped,
                _ => Step::Trapped(trap::of(&error)),
            },
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

    const YIELDS: bool = true;

    fn memory(&mut self) -> &mut [u8] {
        let store = &mut self.guest.store;
        match store.data().memory {
            Some(memory) => memory.data_mut(store),
            None => &mut [],
        }
    }

    fn find_global(&mut self, module: &WasmtimeModule, name: &str) -> Option<Global> {
        let export = module.global(name)?;
        let Guest {
            store, instance, ..
        } = &mut *self.guest;
        instance
            .get_module_export(store, export)
            .and_then(Extern::into_global)
    }

    fn global(&mut self, global: &Global) -> Option<GlobalValue> {
        Some(match global.get(&mut self.guest.store) {
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
            .set(&mut self.guest.store, value)
            .map_err(|error| Error::host("wasmtime refuses the value").because(trap::boxed(error)))
    }

    fn interrupt<'a>(&'a mut self, module: &'a WasmtimeModule) -> Option<&'a Arc<dyn Interrupt>> {
        // Before it is registered: an interruption that fell in between would otherwise be taken for one of the past. A
        // guest that waits has the deadline that it had, which no interruption since then can have passed unseen.
        if self.waiting.is_none() {
            self.guest.store.set_epoch_deadline(1);
        }
        Some(module.interrupt())
    }

    fn put(&mut self, host: Box<HostState>) {
        match (&self.waiting, &self.outside) {
            (Some(_), Some(outside)) => *outside.lock() = Some(host),
            _ => self.guest.store.data_mut().host = Some(host),
        }
    }

    fn take(&mut self) -> Option<Box<HostState>> {
        if let (Some(_), Some(outside)) = (&self.waiting, &self.outside) {
            return outside.lock().take();
        }
        let data = self.guest.store.data_mut();
        data.resumed();
        data.host.take()
    }

    /// Wasmtime carries a panic of a hostcall across the guest's frames and raises it again on this side of them.
    fn enter(&mut self, module: &WasmtimeModule, entry: &str) -> Step {
        if self.outside.is_some() {
            return match self.begin_call(module, entry) {
                Ok(call) => self.go_on(call),
                Err(error) => Step::Trapped(trap::of(&error)),
            };
        }
        let guest = &mut *self.guest;
        match stack::run(|| guest.call(module, entry)) {
            Ok(ended) => guest.step(ended),
            Err(error) => Step::fault(format!("no memory for a stack: {error}")),
        }
    }

    /// While a call waits it is all that is used of the guest.
    fn resume(&mut self, _: &WasmtimeModule) -> Step {
        match self.waiting.take() {
            Some(call) => self.go_on(call),
            None => Step::fault("a bug: no guest waits".into()),
        }
    }

    fn used(&self) -> MemoryUse {
        self.guest.store.data().limiter.0.used()
    }

    fn globals(&mut self, module: &WasmtimeModule) -> Vec<Global> {
        let Guest {
            store, instance, ..
        } = &mut *self.guest;
        let export = |export| instance.get_module_export(&mut *store, export);
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
        self.guest.store.data_mut().limiter.0.reset();
        let Some(memory) = self.guest.store.data().memory else {
            return Ok(());
        };
        if memory.data_size(&self.guest.store) != self.bytes {
            // It was grown, and is short again. Whenever wasmtime is asked to grow a memory, be it by nothing, it tells
            // compiled code how long the memory is.
            memory.grow(&mut self.guest.store, 0).map_err(|error| {
                Error::host("a memory cannot be made short again").because(trap::boxed(error))
            })?;
        }
        if memory.data_size(&self.guest.store) != self.bytes {
            return Err(Error::host("a memory that has grown did not shrink"));
        }
        Ok(())
    }

    fn begin(&mut self, used: MemoryUse) {
        self.guest.store.data_mut().limiter.0.begin(used);
        if let Some(slot) = &self.slot {
            slot.in_use();
        }
    }
}

/// What happens when the epoch has moved on while a guest runs: most often because of some other call.
pub(crate) fn epoch_moved(
    mut store: StoreContextMut<'_, Data>,
) -> wasmtime::Result<UpdateDeadline> {
    store.data_mut().resumed();
    let (memory, data) = match store.data().memory {
        Some(memory) => memory.data_and_store_mut(&mut store),
        None => (&mut [][..], store.data_mut()),
    };
    // Without a host this is an instantiation, which runs nothing of the guest's but its segments.
    let Some(host) = data.host.as_deref_mut() else {
        return Ok(UpdateDeadline::Continue(1));
    };
    match host.call().interruption() {
        None if host.must_yield(memory) => {
            data.suspended();
            Ok(UpdateDeadline::Yield(1))
        }
        None => Ok(UpdateDeadline::Continue(1)),
        Some(why) => {
            host.stop(why.into());
            Ok(UpdateDeadline::Interrupt)
        }
    }
}
