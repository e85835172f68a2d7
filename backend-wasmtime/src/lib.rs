//! The wasmtime backend: compiles ahead of time with Cranelift, uses copy-on-write slots, and has the fastest calls.
//!
//! ```text
//!   compile: on threads with low priority           ─▶ artifact (native code)
//!   load:    deserialize, link once                 ─▶ WasmtimeModule (InstancePre), in a Runner
//!   request: store, slot as its memory, instantiate ─▶ WasmtimeInstance, entered by the runner, or one that was reset
//! ```
//!
//! A guest is interrupted through wasmtime's epoch. engine-core's clock increments it when a call is overdue or
//! cancelled, and every running guest then checks its own call. wasmtime's signal handlers stay installed, and pass on
//! the signals of others.

mod compile;
mod config;
mod hostcalls;
mod instance;
mod limiter;
mod memory;
mod module;
mod stack;
mod trap;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use engine_core::backend::instances::InstanceBudget;
use engine_core::backend::{Artifact, Backend, Capabilities, Fingerprint, Module, Runner};
use engine_core::wasm::{Features, Wasm};
use engine_core::{Error, ErrorKind, Interrupt, Result};
use wasmtime::{Engine, Linker};

pub use config::WasmtimeConfig;

use instance::Data;
use module::WasmtimeModule;

/// The maximum number of instances in a module's pool for each processor, in use or waiting. It is more than one,
/// because guests may wait, and the scheduler may run another thread in the middle of a request.
const POOLED_PER_CPU: usize = 4;

/// The wasmtime backend.
#[derive(Clone, Debug)]
pub struct Wasmtime {
    shared: Arc<Shared>,
}

/// The part of the backend that its modules share.
struct Shared {
    config: WasmtimeConfig,
    /// Whether sandboxes get slots of engine-core.
    slots: bool,
    engine: Engine,
    linker: Linker<Data>,
    /// For guests that may be suspended: their hostcalls that wait are asynchronous.
    suspending: Linker<Data>,
    interrupt: Arc<dyn Interrupt>,
    /// The budget for pooled instances.
    budget: Arc<InstanceBudget>,
    fingerprint: Fingerprint,
}

impl Wasmtime {
    /// A backend with the settings `config`. Fails if this machine cannot run wasmtime.
    pub fn new(config: WasmtimeConfig) -> Result<Self> {
        Self::set_up(config, true, config::host_memory)
    }

    /// A backend for comparisons: wasmtime makes the memories, with the settings that `memories` makes, and sandboxes get
    /// no slots. Fails if this machine cannot run wasmtime.
    pub fn without_slots(
        config: WasmtimeConfig,
        memories: impl FnOnce(&mut wasmtime::Config),
    ) -> Result<Self> {
        Self::set_up(config, false, memories)
    }

    fn set_up(
        config: WasmtimeConfig,
        slots: bool,
        memories: impl FnOnce(&mut wasmtime::Config),
    ) -> Result<Self> {
        let failed = |error| {
            Error::new(
                ErrorKind::Unsupported,
                "wasmtime cannot run on this machine",
            )
            .because(trap::boxed(error))
        };
        let mut settings = config.to_wasmtime();
        memories(&mut settings);
        let engine = Engine::new(&settings).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        let unwinder = Arc::new(trap::Unwinder::new().map_err(failed)?);
        hostcalls::define(&mut linker, &unwinder).map_err(failed)?;
        let mut suspending = Linker::new(&engine);
        hostcalls::define_suspending(&mut suspending, &unwinder).map_err(failed)?;
        Ok(Self {
            shared: Arc::new(Shared {
                budget: InstanceBudget::new(config.kept),
                config,
                slots,
                linker,
                suspending,
                interrupt: Arc::new(Bump(engine.clone())),
                fingerprint: fingerprint(&engine),
                engine,
            }),
        })
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &WasmtimeConfig {
        &self.shared.config
    }
}

impl Backend for Wasmtime {
    fn name(&self) -> &'static str {
        "wasmtime"
    }

    fn features(&self) -> Features {
        Features::ALL
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_artifact: true,
            maps_artifacts: true,
            slots: self.shared.slots,
            suspends: true,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        self.shared.fingerprint.clone()
    }

    fn compile(&self, wasm: &Wasm) -> Result<Artifact> {
        let Shared { engine, config, .. } = &*self.shared;
        let bytes = compile::compile(engine, wasm.bytes(), config.compile_threads)?;
        Ok(Artifact::new(self, bytes))
    }

    unsafe fn load(
        self: Arc<Self>,
        artifact: &Artifact,
        suspends: bool,
    ) -> Result<Arc<dyn Module>> {
        artifact.check_made_by(&*self)?;
        let engine = &self.shared.engine;
        let mapped = artifact
            .file()
            .and_then(|file| file.try_clone_to_owned().ok())
            // SAFETY: the caller guarantees that the bytes are unchanged from `compile` of a backend with this
            // fingerprint. The file has these bytes, and is sealed against changes.
            .map(|file| unsafe { wasmtime::Module::deserialize_open_file(engine, file.into()) });
        let module = match mapped {
            Some(Ok(module)) => Ok(module),
            // Some systems forbid to execute code that is mapped from a file, so load the bytes.
            // SAFETY: the caller's guarantee, as above.
            _ => unsafe { wasmtime::Module::deserialize(engine, artifact.bytes()) },
        };
        let module = module.map_err(|error| {
            Error::new(ErrorKind::Load, "wasmtime cannot load the compiled module")
                .because(trap::boxed(error))
        })?;
        let module = WasmtimeModule::new(Arc::clone(&self.shared), &module, suspends)?;
        Ok(Arc::new(Runner::with_pool(
            module,
            POOLED_PER_CPU,
            &self.shared.budget,
        )))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .field("fingerprint", &self.fingerprint.0)
            .finish_non_exhaustive()
    }
}

/// Makes every running guest of an engine check its call.
struct Bump(Engine);

impl Interrupt for Bump {
    fn interrupt(&self) {
        self.0.increment_epoch();
    }
}

/// wasmtime's hash of everything that an artifact depends on (its version, the target, the CPU features in use, every
/// setting that changes code), and this crate's version. The hash is the same in every process of one build.
fn fingerprint(engine: &Engine) -> Fingerprint {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Fingerprint(format!(
        "wasmtime-{:016x}-{}",
        hasher.finish(),
        env!("CARGO_PKG_VERSION")
    ))
}
