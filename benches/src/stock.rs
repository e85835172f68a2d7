//! The reference for wasmer and wasmi: the engine as its documentation shows it, with a store and an instance for each
//! request.

use std::sync::Arc;

use engine_core::backend::{
    Artifact, Backend, Capabilities, Fingerprint, Finished, Job, Module, Progress, Sandbox, Start,
};
use engine_core::sandbox::hostcalls;
use engine_core::wasm::{Features, Wasm};
use engine_core::{Error, HostState, Result, SandboxLimits, Trap, TrapCode, for_each_hostcall};
use wasmer::sys::{Cranelift, EngineBuilder};
use wasmer::{
    Extern, Function, FunctionEnv, FunctionEnvMut, Imports, Instance, Memory, RuntimeError, Store,
};

/// wasmer with its own memories, tunables and imports. It has no deadline, so the cost of checking for one is not
/// included.
#[derive(Clone, Debug)]
pub struct StockWasmer {
    wasm: Wasm,
}

impl StockWasmer {
    /// A backend for the whole module `wasm`.
    #[must_use]
    pub fn new(wasm: Wasm) -> Self {
        Self { wasm }
    }
}

impl Backend for StockWasmer {
    fn name(&self) -> &'static str {
        "wasmer"
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
        Fingerprint("stock wasmer".into())
    }

    fn compile(&self, _: &Wasm) -> Result<Artifact> {
        Ok(Artifact::new(self, Arc::clone(self.wasm.bytes())))
    }

    unsafe fn load(self: Arc<Self>, artifact: &Artifact, _: bool) -> Result<Arc<dyn Module>> {
        let engine: wasmer::Engine = EngineBuilder::new(Cranelift::new()).engine().into();
        let module = wasmer::Module::new(&engine, artifact.bytes()).map_err(failed)?;
        Ok(Arc::new(Loaded { engine, module }))
    }
}

struct Loaded {
    engine: wasmer::Engine,
    module: wasmer::Module,
}

struct Env {
    host: Option<Box<HostState>>,
    memory: Option<Memory>,
}

macro_rules! import_all {
    ( $( $module:literal { $( fn $name:ident ( $( $arg:ident : $ty:ty ),* ) $( -> $ret:ty )? $( , $waits:ident )? ; )* } )* ) => {
        /// The hostcall with that name as a function of `store`.
        fn import(module: &str, name: &str, store: &mut Store, env: &FunctionEnv<Env>) -> Option<Function> {
            $( $(
                if module == $module && name == stringify!($name) {
                    return Some(Function::new_typed_with_env(
                        store,
                        env,
                        |mut env: FunctionEnvMut<'_, Env> $(, $arg: $ty )*| -> std::result::Result<import_all!(@ $( $ret )?), RuntimeError> {
                            let (env, store) = env.data_and_store_mut();
                            let (Some(memory), Some(host)) = (&env.memory, env.host.as_deref_mut()) else {
                                return Err(RuntimeError::new("a hostcall before the job"));
                            };
                            let view = memory.view(&store);
                            // SAFETY: the guest that owns this memory waits for this call, on this thread, and no other
                            // view of it is in use.
                            let memory = unsafe { view.data_unchecked_mut() };
                            hostcalls::$name(host, memory $(, $arg )*).map_err(|why| {
                                host.stop(why);
                                RuntimeError::new("stopped")
                            })
                        },
                    ));
                }
            )* )*
            None
        }
    };
    (@ $ret:ty) => { $ret };
    (@) => { () };
}

for_each_hostcall!(import_all);

impl Module for Loaded {
    fn instantiate(&self, _: Start<'_>, _: &SandboxLimits) -> Result<Box<dyn Sandbox + '_>> {
        Ok(Box::new(Fresh { module: self }))
    }
}

/// A sandbox that is made when it runs, because wasmer's store must not move between threads.
struct Fresh<'a> {
    module: &'a Loaded,
}

impl Sandbox for Fresh<'_> {
    fn run(&mut self, job: Job) -> Progress {
        let mut store = Store::new(self.module.engine.clone());
        let env = Env {
            host: Some(job.host),
            memory: None,
        };
        let env = FunctionEnv::new(&mut store, env);
        let end = self.module.enter(&mut store, &env, &job.entries);
        let host = env.as_mut(&mut store).host.take();
        // This frees its memory.
        drop(store);
        let host = host.expect("put there above, and hostcalls only borrow it");
        let trap = end.err().map(|why| Trap::new(TrapCode::Unreachable, why));
        Progress::Finished(Finished {
            exit: host.exit(trap),
            host,
            captured: None,
        })
    }

    fn resume(&mut self, _: Box<HostState>) -> Progress {
        unreachable!("its guests are not suspended")
    }
}

impl Loaded {
    /// Instantiates the module and calls its entries, until one does not return.
    fn enter(
        &self,
        store: &mut Store,
        env: &FunctionEnv<Env>,
        entries: &[String],
    ) -> std::result::Result<(), String> {
        let mut imports = Imports::new();
        for wanted in self.module.imports() {
            let function = import(wanted.module(), wanted.name(), store, env)
                .ok_or_else(|| format!("no hostcall {}", wanted.name()))?;
            imports.define(wanted.module(), wanted.name(), Extern::Function(function));
        }
        let instance =
            Instance::new(store, &self.module, &imports).map_err(|error| error.to_string())?;
        env.as_mut(store).memory = instance.exports.get_memory("memory").ok().cloned();
        for name in entries {
            let entry = instance
                .exports
                .get_typed_function::<(), ()>(&*store, name)
                .map_err(|error| error.to_string())?;
            entry.call(store).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::host(format!("the reference on wasmer: {error}"))
}
