//! A backend that compiles each module once for all engines, because compiling a Go program takes seconds.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use engine_core::Result;
use engine_core::backend::{Artifact, Backend, Capabilities, Fingerprint, Module};
use engine_core::wasm::{Features, Wasm};

/// A backend, and what it has compiled.
#[derive(Debug)]
pub struct Memo {
    backend: Arc<dyn Backend>,
    artifacts: Arc<Artifacts>,
}

/// Artifacts by fingerprint and hash of the module. An artifact that is being compiled is locked.
type Artifacts = Mutex<HashMap<(Fingerprint, [u8; 32]), Arc<Mutex<Option<Artifact>>>>>;

impl Memo {
    /// Wraps a backend. All wrapped backends of this process share the artifacts.
    pub fn shared(backend: Arc<dyn Backend>) -> Self {
        static ARTIFACTS: OnceLock<Arc<Artifacts>> = OnceLock::new();
        Self {
            backend,
            artifacts: Arc::clone(ARTIFACTS.get_or_init(Arc::default)),
        }
    }
}

impl Backend for Memo {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn features(&self) -> Features {
        self.backend.features()
    }

    fn capabilities(&self) -> Capabilities {
        self.backend.capabilities()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.backend.fingerprint()
    }

    fn compile(&self, wasm: &Wasm) -> Result<Artifact> {
        let key = (self.fingerprint(), *wasm.sha256());
        let cell = Arc::clone(self.artifacts.lock().entry(key).or_default());
        let mut compiled = cell.lock();
        match &*compiled {
            Some(artifact) => Ok(artifact.clone()),
            None => Ok(compiled.insert(self.backend.compile(wasm)?).clone()),
        }
    }

    unsafe fn load(
        self: Arc<Self>,
        artifact: &Artifact,
        suspends: bool,
    ) -> Result<Arc<dyn Module>> {
        // SAFETY: the caller guarantees that `compile` of this backend returned `artifact`. So the wrapped backend, or
        // one with the same fingerprint, has compiled it, and it is unchanged.
        unsafe { Arc::clone(&self.backend).load(artifact, suspends) }
    }
}
