//! The facade: backends, the memory pool, the places for running calls, figures. No process globals.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use parking_lot::Mutex;

use crate::backend::{Backend, BackendKind, Module, Start};
use crate::calls::{CallId, Calls, Ticket};
use crate::error::{Error, ErrorKind, Result};
use crate::function::{Function, FunctionConfig};
use crate::limits::Limits;
use crate::memory::{Image, Pool, PoolConfig};
use crate::metrics::Metrics;
use crate::wasm::{Bounds, Features, Wasm};

/// Stack of the thread that a deployment runs on: parsers and compilers recurse, and the calling thread may be small.
const DEPLOY_STACK: usize = 8 << 20;

/// Buffers above this size are given back to the allocator and not kept for the next call.
const KEEP_BUFFER: usize = 256 * 1024;

/// What an engine is made of. Nothing in it derives from the functions: adding one never replaces the engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The backend of functions that name none. `None`: the first one handed to [`Engine::new`].
    pub default_backend: Option<BackendKind>,
    /// Places for running calls, the hard bound of concurrency. max(32, 8 x cores).
    pub max_concurrency: u32,
    /// The memory pool; `None`: every sandbox gets memory of the backend's own.
    pub pool: Option<PoolConfig>,
    /// What a module may have.
    pub bounds: Bounds,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            default_backend: None,
            max_concurrency: u32::try_from(cores * 8).unwrap_or(32).max(32),
            pool: Some(PoolConfig::default()),
            bounds: Bounds::default(),
        }
    }
}

/// Deploys functions and holds what their calls share. Cheap to clone; lives until its last function is gone.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// An engine over `backends`, of which each kind may stand once.
    pub fn new(config: EngineConfig, backends: Vec<Arc<dyn Backend>>) -> Result<Self> {
        let default = match (config.default_backend, backends.first()) {
            (_, None) => return Err(Error::config("an engine needs at least one backend")),
            (None, Some(first)) => first.kind(),
            (Some(kind), _) => kind,
        };
        for (index, backend) in backends.iter().enumerate() {
            if backends[..index]
                .iter()
                .any(|other| other.kind() == backend.kind())
            {
                return Err(Error::config(format!(
                    "backend {} is there twice",
                    backend.kind()
                )));
            }
        }
        if config.max_concurrency == 0 {
            return Err(Error::config("max_concurrency is 0; it must be at least 1"));
        }
        let features = backends
            .iter()
            .map(|backend| backend.capabilities().features)
            .fold(Features::ALL, Features::intersect);
        let (pool, pool_problem) = match config.pool.map(|pool| Pool::new(pool)) {
            None => (None, None),
            Some(Ok(pool)) => (Some(pool), None),
            // A machine that forbids large reservations still serves, with memory of the backends' own.
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        let shared = Shared {
            backends,
            default,
            features,
            bounds: config.bounds,
            calls: Calls::new(config.max_concurrency)?,
            pool,
            pool_problem,
            modules: Mutex::default(),
            buffers: ArrayQueue::new(config.max_concurrency as usize),
            metrics: Metrics::default(),
            functions: AtomicU64::new(0),
        };
        let engine = Self {
            shared: Arc::new(shared),
        };
        engine.shared.backend(default)?;
        Ok(engine)
    }

    /// Makes a function of a module: validates, splits, compiles (or finds it compiled), loads, and tries one sandbox.
    ///
    /// Takes seconds for a large module that is new. Runs on a thread of its own, whatever the caller's stack.
    pub fn deploy(&self, wasm: &[u8], config: FunctionConfig) -> Result<Function> {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("gojinn-deploy".into())
                .stack_size(DEPLOY_STACK)
                .spawn_scoped(scope, || {
                    catch_unwind(AssertUnwindSafe(|| {
                        Function::deploy(&self.shared, wasm, config)
                    }))
                    .unwrap_or_else(|panic| {
                        Err(Error::host(format!(
                            "a bug: deploying panicked: {}",
                            panic_text(&*panic)
                        )))
                    })
                })
                .map_err(|error| {
                    Error::host("cannot start a thread for the deployment").because(error)
                })?
                .join()
                .unwrap_or_else(|_| Err(Error::host("a bug: the deployment's thread died")))
        })
    }

    /// Takes a place for a call that is about to begin; [`ErrorKind::Rejected`] when all are taken.
    pub fn reserve(&self) -> Result<Ticket> {
        self.shared.calls.reserve()
    }

    /// [`Engine::reserve`] for callers that can hold only a number. Every id must be [claimed](Engine::claim) once.
    pub fn reserve_id(&self) -> Result<CallId> {
        self.reserve().map(Ticket::into_id)
    }

    /// Turns an id back into its ticket. [`ErrorKind::Config`] if it is stale, unknown or claimed already.
    pub fn claim(&self, id: CallId) -> Result<Ticket> {
        self.shared.calls.claim(id).ok_or_else(|| {
            Error::config(format!(
                "call id {:#x} is stale, unknown or in use; reserve a new one for every call",
                id.0
            ))
        })
    }

    /// Cancels a call; does nothing if it has ended. True if the call was still there.
    pub fn cancel(&self, id: CallId) -> bool {
        self.shared.calls.cancel(id)
    }

    /// The backends, in the order they were handed over.
    #[must_use]
    pub fn backends(&self) -> &[Arc<dyn Backend>] {
        &self.shared.backends
    }

    /// The backend of functions that name none.
    #[must_use]
    pub fn default_backend(&self) -> BackendKind {
        self.shared.default
    }

    /// Why there is no memory pool although one was asked for.
    #[must_use]
    pub fn pool_problem(&self) -> Option<&str> {
        self.shared.pool_problem.as_deref()
    }

    /// The memory pool, if there is one.
    #[must_use]
    pub fn pool(&self) -> Option<&Pool> {
        self.shared.pool.as_ref()
    }

    /// Places for running calls: taken, and in all.
    #[must_use]
    pub fn places(&self) -> (usize, usize) {
        (self.shared.calls.taken(), self.shared.calls.places())
    }

    /// Functions that are alive.
    #[must_use]
    pub fn functions(&self) -> u64 {
        self.shared.functions.load(Ordering::Relaxed)
    }

    /// Compilations so far: an unchanged module is compiled once.
    #[must_use]
    pub fn compilations(&self) -> u64 {
        self.shared.metrics.compilations()
    }

    /// All figures of this engine in the Prometheus text format.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        self.shared.metrics.render(self)
    }
}

/// What functions keep alive.
#[derive(Debug)]
pub(crate) struct Shared {
    backends: Vec<Arc<dyn Backend>>,
    default: BackendKind,
    pub(crate) features: Features,
    pub(crate) bounds: Bounds,
    calls: Calls,
    pub(crate) pool: Option<Pool>,
    pool_problem: Option<String>,
    modules: Mutex<HashMap<ModuleKey, Arc<Mutex<Weak<Loaded>>>>>,
    buffers: ArrayQueue<Buffers>,
    pub(crate) metrics: Metrics,
    pub(crate) functions: AtomicU64,
}

impl Shared {
    /// The backend of that kind, or an error that lists what this build has.
    pub(crate) fn backend(&self, kind: BackendKind) -> Result<&Arc<dyn Backend>> {
        self.backends
            .iter()
            .find(|backend| backend.kind() == kind)
            .ok_or_else(|| {
                let names: Vec<_> = self
                    .backends
                    .iter()
                    .map(|backend| backend.kind().name())
                    .collect();
                Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "backend {kind} is not in this build, which has: {}",
                        names.join(", ")
                    ),
                )
            })
    }

    /// The default backend's kind.
    pub(crate) fn default_backend(&self) -> BackendKind {
        self.default
    }

    /// The module for `wasm` on `backend`: the one that is alive, or a new one. Each is compiled once, however many ask.
    pub(crate) fn module(
        &self,
        backend: &Arc<dyn Backend>,
        wasm: &Wasm,
        limits: &Limits,
    ) -> Result<Arc<Loaded>> {
        let key = ModuleKey {
            backend: backend.kind(),
            hash: *wasm.hash(),
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
        let mut module = cell.lock();
        if let Some(loaded) = module.upgrade() {
            return Ok(loaded);
        }
        let loaded = Arc::new(self.load(backend, wasm, limits)?);
        *module = Arc::downgrade(&loaded);
        Ok(loaded)
    }

    fn load(&self, backend: &Arc<dyn Backend>, wasm: &Wasm, limits: &Limits) -> Result<Loaded> {
        let split = wasm.split()?;
        let begun = Instant::now();
        let artifact = backend.compile(&split.code)?;
        let compiled_in = begun.elapsed();
        self.metrics.compiled(backend.kind(), compiled_in);
        // SAFETY: the artifact came out of `compile` of this very backend just now, and was not written to since.
        let module = unsafe { Arc::clone(backend).load(&artifact)? };
        let loaded = Loaded {
            module,
            entries: split.code.entries(),
            slots: self.pool.is_some() && backend.capabilities().slots && split.image.is_some(),
            image: split.image,
            plain_because: split.why_not,
            compiled_in,
        };
        // Whatever depends on the module alone comes to light now, and never in a request.
        loaded
            .module
            .clone()
            .instantiate(loaded.start(self, limits), limits)?;
        Ok(loaded)
    }

    /// Buffers for one call.
    pub(crate) fn take_buffers(&self) -> Buffers {
        self.buffers.pop().unwrap_or_default()
    }

    /// Gives buffers back, emptied.
    pub(crate) fn give_buffers(&self, mut buffers: Buffers) {
        for buffer in [&mut buffers.stdin, &mut buffers.stdout] {
            buffer.clear();
            buffer.shrink_to(KEEP_BUFFER);
        }
        // A full queue means there are enough of them.
        let _ = self.buffers.push(buffers);
    }
}

/// The pooled byte buffers of one call.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) stdin: Vec<u8>,
    pub(crate) stdout: Vec<u8>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct ModuleKey {
    backend: BackendKind,
    hash: [u8; 32],
}

/// A module that is ready to be instantiated, with what the split took out of it.
pub(crate) struct Loaded {
    pub(crate) module: Arc<dyn Module>,
    pub(crate) entries: Arc<[String]>,
    pub(crate) image: Option<Arc<Image>>,
    pub(crate) plain_because: Option<String>,
    pub(crate) compiled_in: Duration,
    slots: bool,
}

impl Loaded {
    /// Where a sandbox starts from: a slot of the pool, or memory of the backend's own where there is none to be had.
    pub(crate) fn start(&self, shared: &Shared, limits: &Limits) -> Start {
        let mut start = Start::plain(self.image.clone());
        if self.slots
            && let (Some(pool), Some(image)) = (&shared.pool, &self.image)
        {
            match pool.slot(image, limits.memory_bytes()) {
                Ok(slot) => start.slot = Some(slot),
                Err(_) => shared.metrics.no_slot(),
            }
        }
        start
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("entries", &self.entries)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// What a panic said, as far as it can be known.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
