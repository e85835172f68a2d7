//! Makes a loaded module of a validated one: finds the one that is alive, or takes its code from the cache, or compiles
//! it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::artifacts::cache::Cache;
use crate::artifacts::compile::{Compiled, Compiler, Wait};
use crate::backend::{Backend, Module, SlotSource};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::limits::SandboxLimits;
use crate::module::{Loaded, Split, StartPlan};
use crate::start::StartState;
use crate::wasm::Wasm;

/// How long a deployment waits for room for the sandbox that it makes.
const TRIAL: Duration = Duration::from_secs(10);

/// The modules that are alive, and the cache and the compiler for new ones.
#[derive(Debug)]
pub(crate) struct Loader {
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) compiler: Compiler,
    modules: Mutex<HashMap<ModuleKey, Arc<Mutex<Weak<Loaded>>>>>,
}

impl Loader {
    /// A loader without modules, whose code `compiler` compiles and `cache` keeps.
    pub(crate) fn new(compiler: Compiler, cache: Option<Arc<Cache>>) -> Self {
        Self {
            compiler,
            cache,
            modules: Mutex::default(),
        }
    }

    /// The module for `wasm` on `backend`, whose calls may be suspended if `suspends`: the one that is alive, or a new one.
    /// Deployments of one module at the same time compile it once.
    pub(crate) fn module(
        &self,
        slots: &SlotSource,
        backend: &Arc<dyn Backend>,
        wasm: &Wasm,
        limits: &SandboxLimits,
        suspends: bool,
        cancel: &Cancel,
    ) -> Result<(Arc<Loaded>, Origin)> {
        let begun = Instant::now();
        let wait = self.compiler.wait(wasm.bytes().len(), cancel);
        let key = ModuleKey {
            backend: backend.name(),
            sha256: *wasm.sha256(),
            suspends,
        };
        let cell = {
            let mut modules = self.modules.lock();
            modules.retain(|_, cell| {
                cell.try_lock()
                    .is_none_or(|module| module.strong_count() > 0)
                    || Arc::strong_count(cell) > 1
            });
            Arc::clone(modules.entry(key).or_default())
        };
        let mut module = wait.lock(&cell)?;
        if let Some(loaded) = module.upgrade() {
            let origin = Origin {
                source: CodeSource::Memory,
                loaded_in: begun.elapsed(),
            };
            return Ok((loaded, origin));
        }
        let (loaded, origin) = self.load(slots, backend, wasm, limits, suspends, &wait)?;
        let loaded = Arc::new(loaded);
        *module = Arc::downgrade(&loaded);
        Ok((loaded, origin))
    }

    fn load(
        &self,
        slots: &SlotSource,
        backend: &Arc<dyn Backend>,
        wasm: &Wasm,
        limits: &SandboxLimits,
        suspends: bool,
        wait: &Wait<'_>,
    ) -> Result<(Loaded, Origin)> {
        let split = Split::of(wasm)?;
        let begun = Instant::now();
        let (module, compiled_in, source) = self.code(backend, &split.code, suspends, wait)?;
        let loaded_in = begun.elapsed();
        let point = StartState {
            image: split.image.clone(),
            is_restorable: split.hidden_state.is_none(),
            ..StartState::default()
        };
        let loaded = Loaded {
            module,
            plain: StartPlan::new(point, &split.code.entries()),
            slots: slots.pool().is_some() && backend.capabilities().slots,
            split,
            compiled_in,
            suspends,
        };
        // Make one sandbox now: a fault that depends on the module alone then fails the deployment and never a request.
        // In a small address space there may be room for it only when a call has ended.
        let begun = Instant::now();
        while let Err(error) = loaded.sandbox(slots, &loaded.plain, limits) {
            if !slots.is_exhausted() || begun.elapsed() > TRIAL {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok((loaded, Origin { source, loaded_in }))
    }

    /// The compiled `code`: from the cache, or compiled now and written to the cache. Also how long compiling it took,
    /// then or now.
    fn code(
        &self,
        backend: &Arc<dyn Backend>,
        code: &Wasm,
        suspends: bool,
        wait: &Wait<'_>,
    ) -> Result<(Arc<dyn Module>, Duration, CodeSource)> {
        // An artifact that is not native code is the module itself: caching it would save nothing.
        let native = backend.capabilities().native_artifact;
        let cache = self.cache.as_ref().filter(|_| native);
        if let Some(cache) = cache
            && let Some(found) = cache.find(&**backend, code)
        {
            // SAFETY: the cache has verified these bytes, which no other code can change any more, with a key that only
            // this user can read. So a process of this user wrote them, and they are what a backend of this name and
            // fingerprint compiled from this code.
            match unsafe { Arc::clone(backend).load(&found.artifact, suspends) } {
                Ok(module) => {
                    cache.used();
                    return Ok((module, found.compiled_in, CodeSource::Cache));
                }
                Err(error) => cache.refused(&**backend, code, &error),
            }
        }
        let Compiled { artifact, took } = self.compiler.compile(backend, code, wait)?;
        // SAFETY: `compile` returned the artifact just now, of this backend or of one with the same fingerprint in a
        // process that was started for it; such a reply is verified after it was sealed. It has not been written to
        // since.
        let module = unsafe { Arc::clone(backend).load(&artifact, suspends)? };
        Ok((module, took, CodeSource::Compiled))
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct ModuleKey {
    backend: &'static str,
    sha256: [u8; 32],
    suspends: bool,
}

/// Where one deployment's code came from, and how long that took.
pub(crate) struct Origin {
    pub(crate) source: CodeSource,
    pub(crate) loaded_in: Duration,
}

/// Where a function's code came from when it was deployed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CodeSource {
    /// It was compiled.
    Compiled,
    /// From the artifact cache on disk.
    Cache,
    /// Another function uses it already.
    Memory,
}

impl CodeSource {
    /// The name used in logs and descriptions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Compiled => "compiled",
            Self::Cache => "cache",
            Self::Memory => "memory",
        }
    }
}
