//! The reference without isolation: wasmtime with one instance for all requests, which is never reset.
//!
//! The `_start` of a C program can run once only: its libc remembers that it has run, and where the heap ended. So the
//! few pages with that state are restored by a `memcpy` before each run. [`Reused::put_back`] finds these pages by
//! trial. Everything else stays as the previous request left it.

use std::sync::Arc;

use engine_core::backend::{
    Artifact, Backend, Capabilities, Fingerprint, Finished, Job, Module, Progress, Sandbox, Start,
};
use engine_core::sandbox::hostcalls;
use engine_core::wasm::{Features, Wasm};
use engine_core::{
    Error, GuestExit, HostState, Interrupt, Result, SandboxLimits, Trap, TrapCode,
    for_each_hostcall,
};
use parking_lot::Mutex;
use wasmtime::{Caller, Config, Engine, Linker, Memory, Store, TypedFunc};

const PAGE: usize = 4096;

/// A backend whose sandboxes are all the same instance.
#[derive(Clone)]
pub struct Reused {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    linker: Linker<Data>,
    bump: Arc<dyn Interrupt>,
    module: Mutex<Option<wasmtime::Module>>,
    /// The one instance, while no request uses it.
    parked: Mutex<Option<Instance>>,
    /// The memory that a new instance starts with.
    pristine: Mutex<Vec<u8>>,
    put_back: Mutex<Vec<usize>>,
}

struct Instance {
    store: Store<Data>,
    memory: Memory,
    start: TypedFunc<(), ()>,
}

struct Data {
    host: Option<Box<HostState>>,
    memory: Option<Memory>,
}

struct Bump(Engine);

impl Interrupt for Bump {
    fn interrupt(&self) {
        self.0.increment_epoch();
    }
}

macro_rules! define_all {
    ( $( $module:literal { $( fn $name:ident ( $( $arg:ident : $ty:ty ),* ) $( -> $ret:ty )? $( , $waits:ident )? ; )* } )* ) => {
        fn define(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
            $( $(
                linker.func_wrap(
                    $module,
                    stringify!($name),
                    |mut caller: Caller<'_, Data> $(, $arg: $ty )*| -> wasmtime::Result<define_all!(@ $( $ret )?)> {
                        let Some(memory) = caller.data().memory else {
                            return Err(wasmtime::Error::msg("a hostcall without memory"));
                        };
                        let (memory, data) = memory.data_and_store_mut(&mut caller);
                        let Some(host) = data.host.as_deref_mut() else {
                            return Err(wasmtime::Error::msg("a hostcall before the job"));
                        };
                        hostcalls::$name(host, memory $(, $arg )*).map_err(|why| {
                            host.stop(why);
                            wasmtime::Error::msg("stopped")
                        })
                    },
                )?;
            )* )*
            Ok(())
        }
    };
    (@ $ret:ty) => { $ret };
    (@) => { () };
}

for_each_hostcall!(define_all);

impl Reused {
    /// Makes the backend. It compiles with those settings of `backend-wasmtime` that determine the speed of code.
    pub fn new() -> Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .concurrency_support(false)
            .wasm_backtrace_max_frames(None)
            .native_unwind_info(false);
        let engine = Engine::new(&config).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        define(&mut linker).map_err(failed)?;
        Ok(Self {
            shared: Arc::new(Shared {
                linker,
                bump: Arc::new(Bump(engine.clone())),
                engine,
                module: Mutex::default(),
                parked: Mutex::default(),
                pristine: Mutex::default(),
                put_back: Mutex::default(),
            }),
        })
    }

    /// Finds the fewest pages that must be restored so that `works` is true repeatedly. `works` makes one request and
    /// returns whether its answer is right, which the first answer of a new instance always is.
    ///
    /// # Panics
    /// If the guest cannot be reused even if every dirty page is restored.
    pub fn put_back(&self, works: impl Fn() -> bool) -> usize {
        let renew = || *self.shared.parked.lock() = None;
        renew();
        assert!(works(), "the first request of an instance");
        let mut needed = {
            let parked = self.shared.parked.lock();
            let instance = parked.as_ref().expect("the request parked it");
            let pristine = self.shared.pristine.lock();
            let now = instance.memory.data(&instance.store);
            let pages = now.chunks(PAGE).zip(pristine.chunks(PAGE)).enumerate();
            pages
                .filter(|(_, (now, before))| now != before)
                .map(|(page, _)| page)
                .collect::<Vec<_>>()
        };
        let again = |pages: &[usize]| {
            renew();
            self.shared.put_back.lock().clone_from(&pages.to_vec());
            let size = |shared: &Shared| {
                let parked = shared.parked.lock();
                let instance = parked.as_ref()?;
                Some(instance.memory.data_size(&instance.store))
            };
            works() && {
                let before = size(&self.shared);
                (0..500).all(|_| works()) && size(&self.shared) == before
            }
        };
        assert!(again(&needed), "the guest cannot be reused");
        for page in needed.clone() {
            let fewer: Vec<_> = needed
                .iter()
                .copied()
                .filter(|&other| other != page)
                .collect();
            if again(&fewer) {
                needed = fewer;
            }
        }
        assert!(again(&needed), "the guest cannot be reused");
        needed.len()
    }
}

impl Backend for Reused {
    fn name(&self) -> &'static str {
        "wasmtime"
    }

    fn features(&self) -> Features {
        Features::ALL
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_artifact: true,
            maps_artifacts: false,
            slots: false,
            suspends: false,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint("reused".into())
    }

    fn compile(&self, wasm: &Wasm) -> Result<Artifact> {
        Ok(Artifact::new(self, Arc::clone(wasm.bytes())))
    }

    unsafe fn load(self: Arc<Self>, artifact: &Artifact, _: bool) -> Result<Arc<dyn Module>> {
        let module =
            wasmtime::Module::new(&self.shared.engine, artifact.bytes()).map_err(failed)?;
        *self.shared.module.lock() = Some(module);
        Ok(self)
    }
}

impl Module for Reused {
    fn instantiate(&self, start: Start<'_>, _: &SandboxLimits) -> Result<Box<dyn Sandbox + '_>> {
        let shared = &self.shared;
        let instance = match shared.parked.lock().take() {
            Some(mut instance) => {
                let pristine = shared.pristine.lock();
                let memory = instance.memory.data_mut(&mut instance.store);
                for page in shared.put_back.lock().iter() {
                    let range = page * PAGE..(page + 1) * PAGE;
                    memory[range.clone()].copy_from_slice(&pristine[range]);
                }
                instance
            }
            None => shared.instance(&start)?,
        };
        Ok(Box::new(Running {
            backend: self,
            instance: Some(instance),
        }))
    }
}

impl Shared {
    fn instance(&self, start: &Start) -> Result<Instance> {
        let module = self.module.lock().clone().expect("it was loaded");
        let data = Data {
            host: None,
            memory: None,
        };
        let mut store = Store::new(&self.engine, data);
        store.epoch_deadline_trap();
        let made = self
            .linker
            .instantiate(&mut store, &module)
            .map_err(failed)?;
        let start_function = made.get_typed_func(&mut store, "_start").map_err(failed)?;
        let memory = made
            .get_memory(&mut store, "memory")
            .ok_or_else(|| Error::host("the reused guest exports no memory"))?;
        if let Some(image) = start.image() {
            image.write_to(memory.data_mut(&mut store));
        }
        store.data_mut().memory = Some(memory);
        *self.pristine.lock() = memory.data(&store).to_vec();
        Ok(Instance {
            store,
            memory,
            start: start_function,
        })
    }
}

struct Running<'a> {
    backend: &'a Reused,
    /// `None`: it has run.
    instance: Option<Instance>,
}

impl Sandbox for Running<'_> {
    fn run(&mut self, job: Job) -> Progress {
        let backend = self.backend;
        let mut instance = self.instance.take().expect("a sandbox runs once");
        let Instance { store, start, .. } = &mut instance;
        store.data_mut().host = Some(job.host);
        store.set_epoch_deadline(1);
        let armed = store
            .data()
            .host
            .as_ref()
            .map(|host| host.call().arm(&backend.shared.bump));
        let end = start.call(&mut *store, ());
        drop(armed);
        let host = store.data_mut().host.take().expect("put there above");
        let trap = end
            .err()
            .map(|error| Trap::new(TrapCode::Unreachable, error.to_string()));
        let exit = host.exit(trap);
        if !matches!(exit, GuestExit::Trap(_)) {
            *backend.shared.parked.lock() = Some(instance);
        }
        Progress::Finished(Finished {
            exit,
            host,
            captured: None,
        })
    }

    fn resume(&mut self, _: Box<HostState>) -> Progress {
        unreachable!("its guests are not suspended")
    }
}

fn failed(error: wasmtime::Error) -> Error {
    Error::host(format!("the reference on wasmtime: {error:#}"))
}

impl std::fmt::Debug for Reused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reused").finish_non_exhaustive()
    }
}
