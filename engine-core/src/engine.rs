//! The facade: backends, the memory pool, the places for running calls, figures. No process globals.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

use crate::backend::{Backend, BackendKind, Module, StartPoint};
use crate::cache::{Cache, CacheConfig, CacheFigures, Purged};
use crate::calls::{CallId, Calls, Ticket, lanes};
use crate::cancel::Cancel;
use crate::compile::{Compiled, Compiler, Patience};
use crate::error::{Error, ErrorKind, Result, panic_text};
use crate::function::{CodeSource, Function, FunctionConfig};
use crate::launch::{Launch, Loaded};
use crate::limits::Limits;
use crate::memory::{Pool, PoolConfig, cpu};
use crate::metrics::Metrics;
use crate::priority::step_back;
use crate::wasm::{Bounds, Features, Wasm};

/// Stack of the thread that a deployment runs on: parsers and compilers recurse, and the calling thread may be small.
pub(crate) const DEPLOY_STACK: usize = 8 << 20;

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
    /// How long a deployment waits for its code to be compiled. `None`: a minute, and ten seconds for each MiB of the module.
    pub compile_timeout: Option<Duration>,
    /// Where compiled code is kept between two starts; `None`: in memory only.
    pub cache: Option<CacheConfig>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            default_backend: None,
            max_concurrency: u32::try_from(cores * 8).unwrap_or(32).max(32),
            pool: Some(PoolConfig::default()),
            bounds: Bounds::default(),
            compile_timeout: None,
            cache: None,
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
        let (pool, pool_problem) = match config.pool.map(Pool::new) {
            None => (None, None),
            Some(Ok(pool)) => (Some(pool), None),
            // A machine that forbids large reservations still serves, with memory of the backends' own.
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        let cache = config.cache.as_ref().map(Cache::open).map(Arc::new);
        let shared = Shared {
            backends,
            default,
            features,
            bounds: config.bounds,
            calls: Calls::new(config.max_concurrency)?,
            pool,
            pool_problem,
            compiler: Compiler::new(config.compile_timeout, cache.clone()),
            cache,
            modules: Mutex::default(),
            buffers: (0..lanes())
                .map(|_| CachePadded::new(ArrayQueue::new(config.max_concurrency as usize)))
                .collect(),
            metrics: Metrics::default(),
        };
        let engine = Self {
            shared: Arc::new(shared),
        };
        engine.shared.backend(default)?;
        Ok(engine)
    }

    /// Makes a function of a module: validates, splits, compiles (or finds it compiled), loads, and tries one sandbox.
    ///
    /// Takes seconds for a large module that is new, and at most [`EngineConfig::compile_timeout`] longer than it would take if
    /// it were compiled. Runs on a thread of its own, whatever the caller's stack, and behind those that serve.
    pub fn deploy(&self, wasm: &[u8], config: FunctionConfig) -> Result<Function> {
        self.deploy_unless(&Cancel::new(), wasm, config)
    }

    /// [`Engine::deploy`] that can be cancelled: it then returns [`ErrorKind::Cancelled`] at once, however long its module
    /// still compiles.
    pub fn deploy_unless(
        &self,
        cancel: &Cancel,
        wasm: &[u8],
        config: FunctionConfig,
    ) -> Result<Function> {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("gojinn-deploy".into())
                .stack_size(DEPLOY_STACK)
                .spawn_scoped(scope, || {
                    step_back();
                    catch_unwind(AssertUnwindSafe(|| {
                        Function::deploy(&self.shared, wasm, config, cancel)
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

    #[cfg(feature = "conformance")]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
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
        self.shared.metrics.functions()
    }

    /// Compilations so far: an unchanged module is compiled once.
    #[must_use]
    pub fn compilations(&self) -> u64 {
        BackendKind::ALL
            .iter()
            .map(|&kind| self.shared.compiler.compiled(kind).0)
            .sum()
    }

    /// Figures of the artifact cache, if one was asked for.
    #[must_use]
    pub fn cache_figures(&self) -> Option<CacheFigures> {
        self.shared.cache.as_ref().map(|cache| cache.figures())
    }

    /// Removes everything from the artifact cache: what is deployed from now on is compiled again. Functions that are alive
    /// stay as they are. [`ErrorKind::Config`] if there is no cache.
    pub fn purge_cache(&self) -> Result<Purged> {
        match &self.shared.cache {
            Some(cache) => cache.purge(),
            None => Err(Error::config("there is no artifact cache: it is off")),
        }
    }

    /// What went wrong without failing anything: entries of the cache that were dropped, a folder that cannot be used. For
    /// the log. The list only grows at its end, so a caller that has logged some need not log them again; it is bounded,
    /// [`Engine::cache_figures`] go on counting.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.shared
            .cache
            .as_ref()
            .map(|cache| cache.warnings())
            .unwrap_or_default()
    }

    /// What compiles.
    pub(crate) fn compiler(&self) -> &Compiler {
        &self.shared.compiler
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
    pub(crate) calls: Calls,
    pub(crate) pool: Option<Pool>,
    pool_problem: Option<String>,
    cache: Option<Arc<Cache>>,
    compiler: Compiler,
    modules: Mutex<HashMap<ModuleKey, Arc<Mutex<Weak<Loaded>>>>>,
    /// Buffers that wait for their next call, by processor.
    buffers: Box<[CachePadded<ArrayQueue<Buffers>>]>,
    pub(crate) metrics: Metrics,
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
        cancel: &Cancel,
    ) -> Result<(Arc<Loaded>, Origin)> {
        let begun = Instant::now();
        let patience = self.compiler.patience(wasm.bytes().len(), cancel);
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
        let mut module = patience.lock(&cell)?;
        if let Some(loaded) = module.upgrade() {
            let origin = Origin {
                source: CodeSource::Memory,
                loaded_in: begun.elapsed(),
            };
            return Ok((loaded, origin));
        }
        let (loaded, origin) = self.load(backend, wasm, limits, &patience)?;
        let loaded = Arc::new(loaded);
        *module = Arc::downgrade(&loaded);
        Ok((loaded, origin))
    }

    fn load(
        &self,
        backend: &Arc<dyn Backend>,
        wasm: &Wasm,
        limits: &Limits,
        patience: &Patience<'_>,
    ) -> Result<(Loaded, Origin)> {
        let split = wasm.split()?;
        let begun = Instant::now();
        let (module, compiled_in, source) = self.code(backend, &split.code, patience)?;
        let loaded_in = begun.elapsed();
        let point = StartPoint {
            image: split.image.clone(),
            is_restorable: split.hidden_state.is_none(),
            ..StartPoint::default()
        };
        let loaded = Loaded {
            module,
            plain: Launch::new(point, &split.code.entries()),
            slots: self.pool.is_some() && backend.capabilities().slots,
            split,
            compiled_in,
        };
        // Whatever depends on the module alone comes to light now, and never in a request.
        loaded.sandbox(self, &loaded.plain, limits)?;
        Ok((loaded, Origin { source, loaded_in }))
    }

    /// `code`, compiled: out of the cache if it is there, and there afterwards if it was not. Also how long compiling it
    /// took, whoever did it.
    fn code(
        &self,
        backend: &Arc<dyn Backend>,
        code: &Wasm,
        patience: &Patience<'_>,
    ) -> Result<(Arc<dyn Module>, Duration, CodeSource)> {
        // What is not native code is the module itself: nothing to be saved.
        let native = backend.capabilities().native_artifact;
        let cache = self.cache.as_ref().filter(|_| native);
        if let Some(cache) = cache
            && let Some(found) = cache.find(&**backend, code)
        {
            // SAFETY: the cache has verified these very bytes, which nobody else can reach any more, with a key that only
            // this user can read: a process of this user wrote them as what a backend of this kind and fingerprint
            // compiled of this code.
            match unsafe { Arc::clone(backend).load(&found.artifact) } {
                Ok(module) => {
                    cache.used();
                    return Ok((module, found.compiled_in, CodeSource::Cache));
                }
                Err(error) => cache.refused(&**backend, code, &error),
            }
        }
        let Compiled { artifact, took } = self.compiler.compile(backend, code, patience)?;
        // SAFETY: the artifact came out of `compile` of this very backend just now, and was not written to since.
        let module = unsafe { Arc::clone(backend).load(&artifact)? };
        Ok((module, took, CodeSource::Compiled))
    }

    /// Buffers for one call.
    pub(crate) fn take_buffers(&self) -> Buffers {
        self.buffers[cpu() % self.buffers.len()]
            .pop()
            .unwrap_or_default()
    }

    /// Gives buffers back, emptied.
    pub(crate) fn give_buffers(&self, mut buffers: Buffers) {
        for buffer in [&mut buffers.stdin, &mut buffers.stdout] {
            buffer.clear();
            buffer.shrink_to(KEEP_BUFFER);
        }
        // A full queue means there are enough of them.
        let _ = self.buffers[cpu() % self.buffers.len()].push(buffers);
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

/// Where one deployment's code came from, and how long that took.
pub(crate) struct Origin {
    pub(crate) source: CodeSource,
    pub(crate) loaded_in: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Request;
    use crate::fake::{Fake, module};

    #[test]
    fn buffers_are_given_back_and_stay_small() {
        let fake = Arc::new(Fake::with(|host, _| {
            assert!(host.stdout.is_empty() && host.stdin_read == 0);
            host.stdout.extend_from_slice(b"{\"status\":200}");
            let long = KEEP_BUFFER * 4;
            host.stdout.resize(long, b' ');
            None
        }));
        let config = EngineConfig {
            pool: None,
            max_concurrency: 2,
            ..EngineConfig::default()
        };
        let engine = Engine::new(config, vec![fake]).unwrap();
        let function = engine
            .deploy(&module(1), FunctionConfig::default())
            .unwrap();
        for _ in 0..5 {
            let ticket = engine.reserve().unwrap();
            let request = Request {
                body: &[b'x'; KEEP_BUFFER * 2],
                ..Request::default()
            };
            let status = function.call(ticket, &request, &[], |answer| answer.status);
            assert_eq!(status.unwrap(), 200);
            let waiting: usize = engine.shared.buffers.iter().map(|lane| lane.len()).sum();
            assert!(
                (1..=engine.shared.buffers.len()).contains(&waiting),
                "used again, not made again: {waiting}"
            );
        }
        let buffers = engine.shared.take_buffers();
        for buffer in [&buffers.stdin, &buffers.stdout] {
            assert!(buffer.is_empty());
            assert!((1..=KEEP_BUFFER).contains(&buffer.capacity()));
        }
    }

    #[test]
    fn an_engine_needs_one_backend_of_each_kind() {
        let fake = || Arc::new(Fake::new()) as Arc<dyn Backend>;
        let refused = |config: EngineConfig, backends| {
            let error = Engine::new(config, backends).unwrap_err();
            (error.kind(), error.to_string())
        };
        let (kind, text) = refused(EngineConfig::default(), vec![]);
        assert_eq!(kind, ErrorKind::Config, "{text}");
        let (kind, text) = refused(EngineConfig::default(), vec![fake(), fake()]);
        assert_eq!(kind, ErrorKind::Config);
        assert!(text.contains("twice"), "{text}");
        let missing = EngineConfig {
            default_backend: Some(BackendKind::Wasmi),
            ..EngineConfig::default()
        };
        let (kind, text) = refused(missing, vec![fake()]);
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(text.contains("which has: fake"), "{text}");
        let none = EngineConfig {
            max_concurrency: 0,
            ..EngineConfig::default()
        };
        assert_eq!(refused(none, vec![fake()]).0, ErrorKind::Config);
    }
}
