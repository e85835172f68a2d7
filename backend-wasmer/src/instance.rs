//! An instance on wasmer's virtual machine: its memory and globals, and how its guest is entered.

use std::ptr::NonNull;
use std::sync::Arc;

use engine_core::backend::{Instance, Step};
use engine_core::{Error, GlobalValue, HostState, Interrupt, MemoryUse, Meter, Result};
use wasmer::sys::vm::{
    InternalStoreHandle, LinearMemory, StoreObjects, VMCallerCheckedAnyfunc, VMExtern, VMGlobal,
    VMInstance, wasmer_call_trampoline,
};
use wasmer::{Mutability, Type};

use crate::helper::{self, Guest, Said};
use crate::hostcalls::Env;
use crate::memory::VM_CONFIG;
use crate::module::{CodeShare, WasmerModule};
use crate::shared::Shared;
use crate::trap::End;

/// Store and instance of one sandbox. Fields are dropped in this order: what refers to others first.
pub(crate) struct WasmerInstance {
    /// A guest that waits on a helper's thread, which uses `instance` and `parts` as soon as it goes on.
    waiting: Option<Guest>,
    /// Where the host state is meanwhile.
    outside: Option<Box<HostState>>,
    instance: VMInstance,
    parts: Parts,
    shared: Arc<Shared>,
    /// The same, as the deadline clock knows it.
    interrupt: Arc<dyn Interrupt>,
    _code: Arc<CodeShare>,
}

// SAFETY: all of it belongs to this one sandbox and moves as a whole: the pointers in `instance` lead to `parts`, to
// itself and to the code, which is Sync. wasmer says the same of its Store, which owns instances and objects.
unsafe impl Send for WasmerInstance {}

impl WasmerInstance {
    pub(crate) fn new(
        instance: VMInstance,
        parts: Parts,
        shared: Arc<Shared>,
        code: Arc<CodeShare>,
    ) -> Self {
        let mut new = Self {
            waiting: None,
            outside: None,
            instance,
            parts,
            interrupt: Arc::clone(&shared) as Arc<dyn Interrupt>,
            shared,
            _code: code,
        };
        if let Some(VMExtern::Memory(handle)) = new.instance.lookup("memory") {
            let definition = handle.get(new.parts.objects()).vmmemory();
            new.parts.env_mut().memory = Some(definition);
        }
        new
    }

    /// The exported function `name`, of type `[] -> []`.
    fn entry(&mut self, name: &str) -> Result<Entry, End> {
        let Some(VMExtern::Function(handle)) = self.instance.lookup(name) else {
            return Err(End::no_entry(name));
        };
        let function = handle.get(self.parts.objects());
        if !function.signature.params().is_empty() || !function.signature.results().is_empty() {
            return Err(End::no_entry(name));
        }
        // SAFETY: of a function of an instance that is alive.
        Ok(Entry(unsafe { *function.anyfunc.as_ptr().as_ref() }))
    }

    /// Calls the exported function `name` on a helper's thread, until it ends or waits.
    fn call_on_helper(&mut self, name: &str) -> Step {
        let entry = match self.entry(name) {
            Ok(entry) => entry,
            Err(end) => return self.step(Err(end)),
        };
        let (guest, caller) = helper::pair();
        let env = EnvPtr(self.parts.env);
        self.parts.env_mut().caller = Some(caller);
        let run = move || {
            let (entry, env) = (entry, env);
            // SAFETY: the instance stays in place and is not used by its call until the guest waits or has ended: the call
            // blocks in `listen`, and where it ends while the guest waits, in `Guest::end`.
            let ended = unsafe { entry.call() };
            // SAFETY: as above; the guest has ended, so no hostcall uses the Env.
            let caller = unsafe { (*env.0.as_ptr()).caller.take() };
            if let Some(caller) = caller {
                caller.ended(ended);
            }
        };
        if let Err(error) = helper::run(Box::new(run)) {
            return Step::fault(format!("no thread for a guest that may wait: {error}"));
        }
        self.listen(guest)
    }

    fn listen(&mut self, guest: Guest) -> Step {
        match guest.listen() {
            Some(Said::Waiting(mut host)) => {
                *host.memory() = self.shared.usage(|meter| meter.used());
                self.outside = Some(host);
                self.waiting = Some(guest);
                Step::Waiting
            }
            Some(Said::Ended(end)) => self.step(end),
            None => Step::fault("a bug: the thread of a guest is gone".into()),
        }
    }

    /// How a guest has left its entry point.
    fn step(&mut self, end: Result<(), End>) -> Step {
        let env = self.parts.env_mut();
        match end {
            Ok(()) => Step::Returned,
            Err(End::Halted) => match env.panicked.take() {
                None => Step::Stopped,
                Some(text) => Step::fault(format!("a bug: a hostcall panicked: {text}")),
            },
            Err(End::Trapped(trap)) => {
                // The poll ends a guest by a trap like the guest's own; the flag and the call tell them apart.
                if self.shared.interrupted()
                    && let Some(host) = env.host.as_deref_mut()
                    && let Some(why) = host.call().interruption()
                {
                    host.stop(why.into());
                    return Step::Stopped;
                }
                Step::Trapped(trap)
            }
        }
    }
}

impl Drop for WasmerInstance {
    fn drop(&mut self) {
        if let Some(guest) = self.waiting.take() {
            guest.end();
        }
        // What is shared lives on where the clock knows it.
        self.shared.usage(Meter::release);
    }
}

/// What is called: context, code and trampoline.
struct Entry(VMCallerCheckedAnyfunc);

// SAFETY: its pointers are those of one instance. `Entry::call` is unsafe, and its caller promises that nothing else uses the
// instance meanwhile.
unsafe impl Send for Entry {}

impl Entry {
    /// Calls it.
    ///
    /// # Safety
    /// It is of an instance that is alive, has the type `[] -> []`, and no reference to the objects or to the Env exists while
    /// the guest runs.
    unsafe fn call(&self) -> Result<(), End> {
        let mut values = [0u128; 1];
        // SAFETY: context, trampoline and code belong together and to one instance; the type was checked, so the
        // trampoline touches no value. The rest is the caller's promise.
        unsafe {
            wasmer_call_trampoline(
                None,
                &VM_CONFIG,
                self.0.vmctx,
                self.0.call_trampoline,
                self.0.func_ptr,
                values.as_mut_ptr().cast(),
            )
        }
        .map_err(End::from)
    }
}

/// The Env of an instance, for the thread that runs its guest.
struct EnvPtr(NonNull<Env>);

// SAFETY: only the job of `WasmerInstance::call_on_helper` uses it, while the call blocks.
unsafe impl Send for EnvPtr {}

impl Instance for WasmerInstance {
    type Module = WasmerModule;
    type Global = InternalStoreHandle<VMGlobal>;

    fn memory(&mut self) -> &mut [u8] {
        let Some(definition) = self.parts.env_mut().memory else {
            return &mut [];
        };
        // SAFETY: the definition lives in the instance and describes bytes that are accessible and the sandbox's alone; no
        // guest code runs while the instance is borrowed, so they stay so and there is no other reference to them.
        unsafe {
            let definition = definition.as_ref();
            std::slice::from_raw_parts_mut(definition.base, definition.current_length)
        }
    }

    fn find_global(&mut self, _: &WasmerModule, name: &str) -> Option<Self::Global> {
        let Some(VMExtern::Global(handle)) = self.instance.lookup(name) else {
            return None;
        };
        let ty = handle.get(self.parts.objects()).ty();
        (ty.mutability == Mutability::Var).then_some(handle)
    }

    fn global(&mut self, global: &Self::Global) -> Option<GlobalValue> {
        let global = global.get(self.parts.objects());
        // SAFETY: the definition lives in the instance, where no guest code runs; the field is the one of the global's type.
        unsafe {
            let raw = &global.vmglobal().as_ref().val;
            Some(match global.ty().ty {
                Type::I32 => GlobalValue::I32(raw.i32),
                Type::I64 => GlobalValue::I64(raw.i64),
                Type::F32 => GlobalValue::F32(raw.u32),
                Type::F64 => GlobalValue::F64(raw.u64),
                Type::V128 => GlobalValue::V128(raw.u128),
                _ => return None,
            })
        }
    }

    fn set_global(&mut self, global: &Self::Global, value: GlobalValue) -> Result<()> {
        let global = global.get(self.parts.objects());
        let ty = global.ty().ty;
        // SAFETY: the definition lives in the instance, where no guest code runs; each value is written to the field of
        // the global's type.
        unsafe {
            let raw = &mut (*global.vmglobal().as_ptr()).val;
            match (ty, value) {
                (Type::I32, GlobalValue::I32(value)) => raw.i32 = value,
                (Type::I64, GlobalValue::I64(value)) => raw.i64 = value,
                (Type::F32, GlobalValue::F32(bits)) => raw.u32 = bits,
                (Type::F64, GlobalValue::F64(bits)) => raw.u64 = bits,
                (Type::V128, GlobalValue::V128(value)) => raw.u128 = value,
                _ => return Err(Error::host(format!("it has the type {ty}"))),
            }
        }
        Ok(())
    }

    fn interrupt<'a>(&'a mut self, _: &'a WasmerModule) -> Option<&'a Arc<dyn Interrupt>> {
        Some(&self.interrupt)
    }

    fn put(&mut self, host: Box<HostState>) {
        if self.waiting.is_some() {
            self.outside = Some(host);
        } else {
            self.parts.env_mut().host = Some(host);
        }
    }

    fn take(&mut self) -> Option<Box<HostState>> {
        if self.waiting.is_some() {
            return self.outside.take();
        }
        self.parts.env_mut().host.take()
    }

    fn enter(&mut self, _: &WasmerModule, entry: &str) -> Step {
        let host = &self.parts.env_mut().host;
        if host.as_ref().is_some_and(|host| host.suspends()) {
            return self.call_on_helper(entry);
        }
        let ended = self.entry(entry).and_then(|entry| {
            // SAFETY: the instance is alive and borrowed mutably, and no reference into it is kept meanwhile.
            unsafe { entry.call() }
        });
        self.step(ended)
    }

    fn resume(&mut self, _: &WasmerModule) -> Step {
        let (Some(guest), Some(host)) = (self.waiting.take(), self.outside.take()) else {
            return Step::fault("a bug: no guest waits".into());
        };
        guest.reply(host);
        self.listen(guest)
    }

    fn used(&self) -> MemoryUse {
        self.shared.usage(|meter| meter.used())
    }
}

/// What an instance points into: it stays in place while the sandbox moves.
pub(crate) struct Parts {
    objects: NonNull<StoreObjects>,
    pub(crate) env: NonNull<Env>,
}

impl Parts {
    pub(crate) fn new() -> Self {
        Self {
            objects: NonNull::from(Box::leak(Box::default())),
            env: NonNull::from(Box::leak(Box::default())),
        }
    }

    fn objects(&self) -> &StoreObjects {
        // SAFETY: ours until dropped. Guest code, which changes the objects through its instance, runs only while the
        // instance is borrowed mutably, so never beside this reference.
        unsafe { self.objects.as_ref() }
    }

    pub(crate) fn objects_mut(&mut self) -> &mut StoreObjects {
        // SAFETY: as above.
        unsafe { self.objects.as_mut() }
    }

    fn env_mut(&mut self) -> &mut Env {
        // SAFETY: as above: hostcalls use it only while guest code runs.
        unsafe { self.env.as_mut() }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // SAFETY: both came from `Box::leak` and are freed once, here; the instance is dropped before.
        unsafe {
            drop(Box::from_raw(self.objects.as_ptr()));
            drop(Box::from_raw(self.env.as_ptr()));
        }
    }
}
