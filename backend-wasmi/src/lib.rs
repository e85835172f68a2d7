//! The wasmi backend: an interpreter, for hosts that want no generated code, no signals and no native stack for guests.
//!
//! ```text
//!   compile: nothing to do                         ─▶ artifact (the module itself)
//!   load:    rewrite, translate, link              ─▶ Loaded (with an engine of its own)
//!   request: an instance kept in a slot, or        ─▶ Fresh ──run──▶ outcome
//!            store, instantiate, fill memory
//! ```
//!
//! A guest runs in slices of fuel: when one is used up, wasmi hands the paused guest back, and it goes on if its call may.
//! Nothing has to interrupt it from outside. Wasmi never runs a guest on the native stack, so any thread will do.
//!
//! Wasmi 2.0 can put a memory into a buffer that it is given, a slot of engine-core's, but fills it with zeros first: the image
//! is gone, and a private page takes the place of every shared one. So a slot pays only for an instance that is used again
//! (see `reuse`). Where it cannot be, sandboxes have memory of wasmi's own, into which the image is copied.

mod config;
mod hostcalls;
mod module;
mod reuse;
mod rewrite;
mod sandbox;
mod trap;

use std::sync::Arc;

use engine_core::backend::instances::Places;
use engine_core::backend::{Artifact, Backend, Capabilities, Fingerprint, Module};
use engine_core::wasm::{Features, Wasm};
use engine_core::{Error, ErrorKind, Result};

pub use config::WasmiConfig;

use module::Loaded;

/// The wasmi backend.
#[derive(Clone, Debug)]
pub struct Wasmi {
    config: WasmiConfig,
    /// For instances in slots.
    places: Arc<Places>,
}

impl Wasmi {
    /// A backend set up as `config` says.
    pub fn new(config: WasmiConfig) -> Result<Self> {
        config.check()?;
        let places = Places::new(config.kept);
        Ok(Self { config, places })
    }

    /// How it was set up.
    #[must_use]
    pub fn config(&self) -> &WasmiConfig {
        &self.config
    }
}

impl Backend for Wasmi {
    fn name(&self) -> &'static str {
        "wasmi"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_artifact: false,
            maps_artifacts: false,
            slots: self.config.kept > 0,
            features: Features::ALL,
            suspend: false,
            components: false,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint(format!("wasmi-2.0-{}", env!("CARGO_PKG_VERSION")))
    }

    fn compile(&self, wasm: &Wasm) -> Result<Artifact> {
        Ok(Artifact::new(self, Arc::clone(wasm.bytes())))
    }

    unsafe fn load(self: Arc<Self>, artifact: &Artifact) -> Result<Arc<dyn Module>> {
        // Nothing here is executed unchecked: wasmi validates the module again.
        if artifact.backend() != self.name() || *artifact.fingerprint() != self.fingerprint() {
            return Err(Error::new(
                ErrorKind::Load,
                format!(
                    "the artifact was compiled by {} for {}, this is {} for {}: compile the module again",
                    artifact.backend(),
                    artifact.fingerprint().0,
                    self.name(),
                    self.fingerprint().0
                ),
            ));
        }
        Ok(Arc::new(Loaded::new(
            &self.config,
            &self.places,
            artifact.bytes(),
        )?))
    }
}
