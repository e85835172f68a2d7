//! A backend around a module that is compiled already. One compilation is used for every mode, and engine-core, which
//! always splits modules, can then run a module that was not split.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use engine_core::Split;
use engine_core::backend::{
    Artifact, Backend, Capabilities, Fingerprint, Job, Module, Progress, Sandbox, Start,
};
use engine_core::wasm::{Features, Wasm};
use engine_core::{HostState, Result, SandboxLimits};
use parking_lot::Mutex;

/// One module on one backend, compiled and loaded.
#[derive(Clone)]
pub struct Prepared {
    inner: Arc<dyn Backend>,
    artifact: Artifact,
    module: Arc<dyn Module>,
    whole: bool,
    unusual: Arc<Unusual>,
}

/// What sandboxes do beside what those of a server do.
#[derive(Default)]
struct Unusual {
    /// Whether anything is set. Callers on different processors only read this.
    any: AtomicBool,
    together: Mutex<Option<Arc<Barrier>>>,
    idle: AtomicBool,
    /// How long it took to make each idle sandbox, in nanoseconds.
    made_in: Mutex<Vec<u64>>,
}

impl Prepared {
    /// The code of `wasm` as engine-core compiles it: without its data, which become an image.
    pub fn split(inner: Arc<dyn Backend>, wasm: &Wasm) -> Result<Self> {
        Self::new(inner, &Split::of(wasm)?.code, false)
    }

    /// `wasm` with its data segments, and with memory that the engine allocates: as the engine is shipped.
    pub fn whole(inner: Arc<dyn Backend>, wasm: &Wasm) -> Result<Self> {
        Self::new(inner, wasm, true)
    }

    fn new(inner: Arc<dyn Backend>, wasm: &Wasm, whole: bool) -> Result<Self> {
        let artifact = inner.compile(wasm)?;
        // SAFETY: `compile` of this backend returned the artifact just now.
        let module = unsafe { Arc::clone(&inner).load(&artifact, false)? };
        Ok(Self {
            inner,
            artifact,
            module,
            whole,
            unusual: Arc::default(),
        })
    }

    /// The same artifact, loaded again: it shares nothing with modules that were loaded before.
    pub fn reloaded(&self) -> Result<Self> {
        // SAFETY: `compile` of this backend returned the artifact, and an artifact cannot be changed.
        let module = unsafe { Arc::clone(&self.inner).load(&self.artifact, false)? };
        Ok(Self {
            module,
            unusual: Arc::default(),
            ..self.clone()
        })
    }

    /// Makes the next `callers` instantiations wait for each other, so that as many sandboxes exist at the same moment.
    pub fn meet(&self, callers: Option<usize>) {
        self.unusual.any.store(true, Ordering::Relaxed);
        *self.unusual.together.lock() = callers.map(|callers| Arc::new(Barrier::new(callers)));
    }

    /// From now on sandboxes are made and reset, but no guest code runs in them.
    pub fn idle(&self) {
        self.unusual.any.store(true, Ordering::Relaxed);
        self.unusual.idle.store(true, Ordering::Relaxed);
    }

    /// How long it took to make each idle sandbox since the last call of this, in nanoseconds: from before its slot was
    /// taken until it was ready to run.
    pub fn made_in(&self) -> Vec<u64> {
        std::mem::take(&mut self.unusual.made_in.lock())
    }
}

impl Backend for Prepared {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn features(&self) -> Features {
        self.inner.features()
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

    unsafe fn load(self: Arc<Self>, _: &Artifact, _: bool) -> Result<Arc<dyn Module>> {
        Ok(self)
    }
}

impl Module for Prepared {
    fn instantiate(
        &self,
        start: Start<'_>,
        limits: &SandboxLimits,
    ) -> Result<Box<dyn Sandbox + '_>> {
        let start = if self.whole {
            Start::plain(None)
        } else {
            start
        };
        let unusual = &*self.unusual;
        if !unusual.any.load(Ordering::Relaxed) {
            return self.module.instantiate(start, limits);
        }
        let begun = Instant::now();
        let sandbox = self.module.instantiate(start, limits);
        if unusual.idle.load(Ordering::Relaxed) {
            let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            unusual.made_in.lock().push(took);
        }
        let meeting = unusual.together.lock().clone();
        if let Some(meeting) = meeting {
            meeting.wait();
        }
        if unusual.idle.load(Ordering::Relaxed) {
            return Ok(Box::new(Idle(sandbox?)));
        }
        sandbox
    }
}

/// A sandbox that runs no guest code. Everything before the first entry and after the last one is done.
struct Idle<'a>(Box<dyn Sandbox + 'a>);

impl Sandbox for Idle<'_> {
    fn run(&mut self, job: Job) -> Progress {
        self.0.run(Job {
            entries: Arc::default(),
            ..job
        })
    }

    fn resume(&mut self, host: Box<HostState>) -> Progress {
        self.0.resume(host)
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
