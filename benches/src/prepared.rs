//! A backend around a module that is compiled already: one compilation serves every mode, and a module that was not split can
//! go where engine-core would only hand over split ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use engine_core::backend::{
    Artifact, Backend, BackendKind, Capabilities, Fingerprint, Finished, Job, Module, Sandbox,
    Start,
};
use engine_core::wasm::Wasm;
use engine_core::{Limits, Result};
use parking_lot::Mutex;

/// One module on one backend, compiled and loaded.
#[derive(Clone)]
pub struct Prepared {
    inner: Arc<dyn Backend>,
    artifact: Artifact,
    module: Arc<dyn Module>,
    whole: bool,
    together: Arc<Mutex<Option<Arc<Barrier>>>>,
    idle: Arc<AtomicBool>,
}

impl Prepared {
    /// The code of `wasm` as engine-core compiles it: its data taken out, to be put into an image.
    pub fn split(inner: Arc<dyn Backend>, wasm: &Wasm) -> Result<Self> {
        Self::new(inner, &wasm.split()?.code, false)
    }

    /// `wasm` as it is, its data segments in place, with memory of the engine's own: as the engine is shipped.
    pub fn whole(inner: Arc<dyn Backend>, wasm: &Wasm) -> Result<Self> {
        Self::new(inner, wasm, true)
    }

    fn new(inner: Arc<dyn Backend>, wasm: &Wasm, whole: bool) -> Result<Self> {
        let artifact = inner.compile(wasm)?;
        // SAFETY: the artifact came out of `compile` of this very backend just now.
        let module = unsafe { Arc::clone(&inner).load(&artifact)? };
        Ok(Self {
            inner,
            artifact,
            module,
            whole,
            together: Arc::default(),
            idle: Arc::default(),
        })
    }

    /// The same artifact loaded anew: it shares nothing with what ran before.
    pub fn reloaded(&self) -> Result<Self> {
        // SAFETY: as in `new`; nobody can write to an artifact.
        let module = unsafe { Arc::clone(&self.inner).load(&self.artifact)? };
        Ok(Self {
            module,
            together: Arc::default(),
            idle: Arc::default(),
            ..self.clone()
        })
    }

    /// Makes the next `callers` instantiations wait for each other, so that as many sandboxes exist at one moment.
    pub fn meet(&self, callers: Option<usize>) {
        *self.together.lock() = callers.map(|callers| Arc::new(Barrier::new(callers)));
    }

    /// From now on sandboxes are made and reset, but no guest code runs in them.
    pub fn idle(&self) {
        self.idle.store(true, Ordering::Relaxed);
    }
}

impl Backend for Prepared {
    fn kind(&self) -> BackendKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.slots &= !self.whole;
        capabilities
    }

    fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint()
    }

    fn compile(&self, _: &Wasm) -> Result<Artifact> {
        Ok(self.artifact.clone())
    }

    unsafe fn load(self: Arc<Self>, _: &Artifact) -> Result<Arc<dyn Module>> {
        Ok(self)
    }
}

impl Module for Prepared {
    fn instantiate(&self, start: Start, limits: &Limits) -> Result<Box<dyn Sandbox + '_>> {
        let start = if self.whole {
            Start::plain(None)
        } else {
            start
        };
        let sandbox = self.module.instantiate(start, limits);
        let meeting = self.together.lock().clone();
        if let Some(meeting) = meeting {
            meeting.wait();
        }
        if self.idle.load(Ordering::Relaxed) {
            return Ok(Box::new(Idle(sandbox?)));
        }
        sandbox
    }

    fn wants_slot(&self, start: &Start, limits: &Limits) -> bool {
        self.module.wants_slot(start, limits)
    }
}

/// A sandbox that is not to run anything: whatever comes before the first entry is done, and what comes after the last.
struct Idle<'a>(Box<dyn Sandbox + 'a>);

impl Sandbox for Idle<'_> {
    fn run(self: Box<Self>, job: Job) -> Finished {
        self.0.run(Job {
            entries: Arc::default(),
            ..job
        })
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("inner", &self.inner)
            .field("whole", &self.whole)
            .finish_non_exhaustive()
    }
}
