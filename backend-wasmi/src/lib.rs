//! The wasmi backend: an interpreter, for hosts that want no generated machine code, no signal handlers and no guests
//! on native stacks.
//!
//! ```text
//!   compile: nothing to do                         ─▶ artifact (the module itself)
//!   load:    rewrite, translate, link              ─▶ WasmiModule (with an engine for it alone), in a Runner
//!   request: store, memory, instantiate            ─▶ WasmiInstance, entered by the runner, or one that was reset
//! ```
//!
//! A guest runs in slices of fuel. When a slice is used up, wasmi returns the paused guest; the backend checks whether
//! the guest's call must stop, and otherwise resumes the guest with fuel for another slice. So no other thread has to
//! interrupt a guest. Wasmi never runs a guest on the native stack, so a call can run on any thread, whatever the size
//! of its stack.
//!
//! Wasmi 2.0 can use a given buffer as a memory, such as a slot of engine-core's, but it fills the buffer with zeros
//! first. That overwrites the image, and the kernel makes a private copy of every page that was shared before. So a
//! slot is worth its cost only for an instance that is used again. Other sandboxes have memory that wasmi allocates,
//! into which the image is copied.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use backend_wasmi::{Wasmi, WasmiConfig};
//! use engine_core::contract::Request;
//! use engine_core::{Engine, EngineConfig, FunctionConfig};
//!
//! // A function that answers every request alike: an iovec at 16, and 24 bytes of JSON behind it.
//! let wasm = wat::parse_str(
//!     r#"(module
//!         (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
//!         (memory (export "memory") 1)
//!         (data (i32.const 16) "\18\00\00\00\18\00\00\00{\"status\":200,\"body\":\"\"}")
//!         (func (export "_start") (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 0)))))"#,
//! )?;
//! let engine = Engine::new(EngineConfig::default(), vec![Arc::new(Wasmi::new(WasmiConfig::default())?)])?;
//! let config = FunctionConfig { name: "alike".into(), ..FunctionConfig::default() };
//! let function = engine.deploy(&wasm, config)?;
//!
//! let request = Request { method: b"GET", uri: b"/", ..Request::default() };
//! let status = function.call(engine.reserve()?, &request, &[], |answer| answer.status)?;
//! assert_eq!(status, 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod hostcalls;
mod instance;
mod limiter;
mod module;
mod rewrite;
mod trap;

use std::sync::Arc;

use engine_core::Result;
use engine_core::backend::instances::InstanceBudget;
use engine_core::backend::{Artifact, Backend, Capabilities, Fingerprint, Module, Runner};
use engine_core::wasm::{Features, Wasm};

pub use config::WasmiConfig;

use module::WasmiModule;

/// Instances with a slot that a module may have for each processor: more than one, because guests may wait in a hostcall.
const POOLED_PER_CPU: usize = 2;

/// The wasmi backend.
#[derive(Clone, Debug)]
pub struct Wasmi {
    config: WasmiConfig,
    /// The budget for instances with a slot.
    budget: Arc<InstanceBudget>,
}

impl Wasmi {
    /// Creates the backend with these settings.
    pub fn new(config: WasmiConfig) -> Result<Self> {
        config.check()?;
        let budget = InstanceBudget::new(config.kept);
        Ok(Self { config, budget })
    }

    /// The settings that the backend was created with.
    #[must_use]
    pub fn config(&self) -> &WasmiConfig {
        &self.config
    }
}

impl Backend for Wasmi {
    fn name(&self) -> &'static str {
        "wasmi"
    }

    fn features(&self) -> Features {
        Features::ALL
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_artifact: false,
            maps_artifacts: false,
            slots: self.config.kept > 0,
            suspends: true,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint(format!("wasmi-2.0-{}", env!("CARGO_PKG_VERSION")))
    }

    fn compile(&self, wasm: &Wasm) -> Result<Artifact> {
        Ok(Artifact::new(self, Arc::clone(wasm.bytes())))
    }

    unsafe fn load(self: Arc<Self>, artifact: &Artifact, _: bool) -> Result<Arc<dyn Module>> {
        // Loading is safe for any bytes: wasmi validates the module again and runs no machine code from it.
        artifact.check_made_by(&*self)?;
        let module = WasmiModule::new(&self.config, artifact.bytes())?;
        Ok(Arc::new(if module.is_reusable() {
            Runner::with_pool(module, POOLED_PER_CPU, &self.budget)
        } else {
            Runner::new(module)
        }))
    }
}
