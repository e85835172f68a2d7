//! The backend and its settings: compiles modules to artifacts and loads artifacts.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use engine_core::backend::{Artifact, Backend, Capabilities, Fingerprint, Module, Runner};
use engine_core::priority::{should_step_far_back, step_far_back};
use engine_core::wasm::{Features, Wasm};
use engine_core::{Error, ErrorKind, Result, panic_text};
use wasmer::sys::vm;
use wasmer::sys::{
    CompilerConfig, CpuFeature, Cranelift, CraneliftOptLevel, EngineBuilder, Target,
};

use crate::memory::{STYLE, Styles};
use crate::module::WasmerModule;
use crate::poll;

/// The stack of the thread that compiles. Parsers and compilers recurse, so compiling must not depend on the size of the
/// calling thread's stack.
const COMPILE_STACK: usize = 8 << 20;

/// Increment it when older artifacts become incompatible with this code for a reason that the other parts of the
/// fingerprint do not cover.
const LAYOUT: u32 = 1;

/// Settings of the wasmer backend.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct WasmerConfig {
    /// Threads that compile one module. The default is half of the processors, at least one, so that requests are served
    /// meanwhile.
    pub compile_threads: NonZero<usize>,
}

impl Default for WasmerConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            compile_threads: NonZero::new(cores / 2).unwrap_or(NonZero::<usize>::MIN),
        }
    }
}

/// The wasmer backend, with cranelift as its compiler.
#[derive(Debug)]
pub struct Wasmer {
    config: WasmerConfig,
    fingerprint: Fingerprint,
}

impl Wasmer {
    /// Creates the backend. This installs wasmer's signal handlers for traps, once in a process; they pass signals that
    /// are not traps of wasmer on to the handlers that were installed before.
    pub fn new(config: WasmerConfig) -> Result<Self> {
        vm::init_traps();
        let mut cpu: Vec<String> = CpuFeature::for_host()
            .iter()
            .map(|feature| feature.to_string())
            .collect();
        cpu.sort();
        let fingerprint = format!(
            "wasmer {} cranelift speed, {STYLE:?}, poll {}, layout {LAYOUT}, {} {}",
            vm::VERSION,
            poll::VERSION,
            Target::default().triple(),
            cpu.join(" "),
        );
        Ok(Self {
            config,
            fingerprint: Fingerprint(fingerprint),
        })
    }

    fn compile_here(&self, wasm: &Wasm) -> Result<Vec<u8>> {
        let (bytes, added) = poll::rewrite(wasm.bytes())?;
        let mut cranelift = Cranelift::new();
        cranelift
            .opt_level(CraneliftOptLevel::Speed)
            .num_threads(self.config.compile_threads);
        cranelift.push_middleware(Arc::new(poll::Polls(added)));
        // Compiling also loads the code into the engine. This engine is dropped afterwards, and with it this code; `load`
        // loads the artifact into another engine.
        let mut engine = EngineBuilder::new(cranelift)
            .set_features(Some(convert(wasm.features())))
            .engine();
        engine.set_tunables(Styles);
        let engine = wasmer::Engine::from(engine);
        let module = wasmer::Module::new(&engine, bytes).map_err(|error| {
            Error::new(
                ErrorKind::Compile,
                "wasmer cannot compile this module; try another backend",
            )
            .because(error)
        })?;
        let artifact = module.serialize().map_err(|error| {
            Error::new(ErrorKind::Compile, "wasmer cannot serialize its code").because(error)
        })?;
        Ok(artifact.to_vec())
    }
}

impl Backend for Wasmer {
    fn name(&self) -> &'static str {
        "wasmer"
    }

    fn features(&self) -> Features {
        Features {
            simd: true,
            // wasmer-compiler-cranelift 7.3 refuses `return_call`.
            tail_calls: false,
            extended_const: true,
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_artifact: true,
            maps_artifacts: false,
            slots: true,
            suspends: false,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    fn compile(&self, wasm: &Wasm) -> Result<Artifact> {
        let compile = || {
            // The priority of this thread cannot be raised later, so it is lowered only for large modules: on a busy
            // machine a thread of low priority would hardly get to run.
            if should_step_far_back(wasm.bytes().len()) {
                step_far_back();
            }
            catch_unwind(AssertUnwindSafe(|| self.compile_here(wasm))).unwrap_or_else(|panic| {
                Err(Error::new(
                    ErrorKind::Compile,
                    format!(
                        "wasmer panicked over this module: {}; try another backend",
                        panic_text(&*panic)
                    ),
                ))
            })
        };
        let bytes = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("gojinn-wasmer".into())
                .stack_size(COMPILE_STACK)
                .spawn_scoped(scope, compile)
                .map_err(|error| Error::host("cannot start a thread to compile on").because(error))?
                .join()
                .unwrap_or_else(|_| {
                    Err(Error::host(
                        "a bug in Gojinn: the compiling thread panicked; please report it",
                    ))
                })
        })?;
        Ok(Artifact::new(self, bytes))
    }

    unsafe fn load(self: Arc<Self>, artifact: &Artifact, _: bool) -> Result<Arc<dyn Module>> {
        artifact.check_made_by(&*self)?;
        // SAFETY: the caller's promise.
        let module = unsafe { WasmerModule::load(artifact) }?;
        Ok(Arc::new(Runner::new(module)))
    }
}

/// The features to compile with: those of engine-core, and two that the poll needs to read the flag, a second memory and
/// atomic loads. The guest was validated without these two, so it cannot use them.
fn convert(features: Features) -> wasmer::sys::Features {
    let mut out = wasmer::sys::Features::none();
    out.bulk_memory(true)
        .reference_types(true)
        .multi_value(true)
        .multi_memory(true)
        .threads(true)
        .simd(features.simd)
        .tail_call(features.tail_calls)
        .extended_const(features.extended_const);
    out
}
