//! One request's instance: runs its entry points, and says how they ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use engine_core::backend::{Finished, Job, Sandbox};
use engine_core::{Interrupt, Trap, TrapCode, panic_text};
use wasmer::sys::vm::{StoreObjects, VMExtern, VMInstance, wasmer_call_trampoline};

use crate::hostcalls::Env;
use crate::memory::VM_CONFIG;
use crate::module::WasmerModule;
use crate::shared::Shared;
use crate::trap::End;

/// Store and instance of one request. Fields are dropped in this order: what refers to others first.
pub(crate) struct WasmerSandbox<'a> {
    instance: VMInstance,
    parts: Parts,
    shared: Arc<Shared>,
    /// The code.
    _module: &'a WasmerModule,
}

// SAFETY: all of it belongs to this one sandbox and moves as a whole: the pointers in `instance` lead to `parts`, to
// itself and to the module's code, which is Sync. wasmer says the same of its Store, which owns instances and objects.
unsafe impl Send for WasmerSandbox<'_> {}

impl<'a> WasmerSandbox<'a> {
    pub(crate) fn new(
        instance: VMInstance,
        parts: Parts,
        shared: Arc<Shared>,
        module: &'a WasmerModule,
    ) -> Self {
        Self {
            instance,
            parts,
            shared,
            _module: module,
        }
    }

    /// The export with that name.
    pub(crate) fn lookup(&mut self, name: &str) -> Option<VMExtern> {
        self.instance.lookup(name)
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    pub(crate) fn parts_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// Calls the exported function `name`, of type `[] -> []`.
    fn call(&mut self, name: &str) -> Result<(), End> {
        let Some(VMExtern::Function(handle)) = self.lookup(name) else {
            return Err(no_entry(name));
        };
        let function = handle.get(self.parts.objects());
        if !function.signature.params().is_empty() || !function.signature.results().is_empty() {
            return Err(no_entry(name));
        }
        // SAFETY: of a function of an instance that is alive.
        let anyfunc = unsafe { *function.anyfunc.as_ptr().as_ref() };
        let mut values = [0u128; 1];
        // SAFETY: context, trampoline and code belong together and to this instance; the type was checked, so the
        // trampoline touches no value. No reference to the objects or to the Env exists while the guest runs.
        unsafe {
            wasmer_call_trampoline(
                None,
                &VM_CONFIG,
                anyfunc.vmctx,
                anyfunc.call_trampoline,
                anyfunc.func_ptr,
                values.as_mut_ptr().cast(),
            )
        }
        .map_err(End::from)
    }

    /// Calls the entries in order, up to the first that does not return.
    fn enter(&mut self, entries: &[String]) -> Result<(), End> {
        catch_unwind(AssertUnwindSafe(|| {
            entries.iter().try_for_each(|entry| self.call(entry))
        }))
        .unwrap_or_else(|panic| {
            Err(End::Trapped(Trap::new(
                TrapCode::Host,
                format!("a bug: wasmer panicked: {}", panic_text(&*panic)),
            )))
        })
    }
}

impl Sandbox for WasmerSandbox<'_> {
    fn run(mut self: Box<Self>, job: Job) -> Finished {
        let Job {
            entries,
            host,
            capture,
        } = job;
        let armed = host
            .call()
            .arm(&(Arc::clone(&self.shared) as Arc<dyn Interrupt>));
        // Lent, and always there again when the guest has ended: hostcalls only borrow it.
        self.parts.env_mut().host = Some(host);
        let end = self.enter(&entries);
        drop(armed);
        let env = self.parts.env_mut();
        let panicked = env.panicked.take();
        let Some(mut host) = env.host.take() else {
            unreachable!("hostcalls only borrow the host state");
        };
        self.shared.usage(|usage| *host.memory() = *usage);
        let trap = match end {
            Ok(()) => None,
            Err(End::Halted) => Some(Trap::new(
                TrapCode::Host,
                panicked.map_or_else(String::new, |text| {
                    format!("a bug: a hostcall panicked: {text}")
                }),
            )),
            Err(End::Trapped(trap)) => {
                // The poll ends a guest by a trap like the guest's own; the flag and the call tell them apart.
                if self.shared.interrupted()
                    && let Some(why) = host.call().interruption()
                {
                    host.stop(why.into());
                }
                Some(trap)
            }
        };
        let captured = capture.and_then(|names| self.state(&names).map(Box::new));
        Finished {
            exit: host.exit(trap),
            host,
            captured,
        }
    }
}

fn no_entry(name: &str) -> End {
    End::Trapped(Trap::new(
        TrapCode::Host,
        format!("a bug: the module has no entry point {name} without parameters and results"),
    ))
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

    pub(crate) fn objects(&self) -> &StoreObjects {
        // SAFETY: ours until dropped. Guest code, which changes the objects through its instance, runs only while the
        // sandbox is borrowed mutably, so never beside this reference.
        unsafe { self.objects.as_ref() }
    }

    pub(crate) fn objects_mut(&mut self) -> &mut StoreObjects {
        // SAFETY: as above.
        unsafe { self.objects.as_mut() }
    }

    pub(crate) fn env_mut(&mut self) -> &mut Env {
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
