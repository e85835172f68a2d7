//! The facade of the crate: [`Engine`] deploys functions and owns what their calls share. It uses no process globals.
//!
//! Invariants:
//! - [`deploy`] and [`call`] are the only files that order the steps of a deployment and of a call.
//! - The result of a call is an [`Answer`], also if the guest or the host failed. An `Err` of a call means that the
//!   caller made a mistake and nothing ran.
//! - What a function needs stays alive with the function, even if the `Engine` is dropped.

mod buffers;
mod call;
mod config;
mod deploy;
mod function;
mod judge;
mod metrics;
mod shared;
mod suspended;
mod warnings;

use std::sync::Arc;

use crate::artifacts::cache::{CacheStats, Purged};
use crate::artifacts::compile::Compiler;
use crate::backend::Backend;
use crate::budget::Budget;
use crate::calls::{CallId, Permit};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::memory::Pool;
use crate::sandbox::HostReply;

pub use call::{Answer, RawRun, Reached, Waiting};
pub use config::EngineConfig;
pub use function::{Function, FunctionConfig, FunctionFacts};
use shared::Shared;

/// Deploys functions and owns what their calls share. Cheap to clone. What it owns lives until the last function is
/// dropped.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// An engine that runs functions on `backends`, which must have different names.
    pub fn new(config: EngineConfig, backends: Vec<Arc<dyn Backend>>) -> Result<Self> {
        Ok(Self {
            shared: Arc::new(Shared::new(config, backends)?),
        })
    }

    /// Makes a function of a module: validates it, splits it, compiles it (or finds it compiled), loads it, and tries one
    /// sandbox.
    ///
    /// Takes seconds for a large module that is new. Waits for the compilation for [`EngineConfig::compile_timeout`] at
    /// most. The work is done on a separate thread, which has a large stack and a lower priority than the threads that
    /// serve.
    pub fn deploy(&self, wasm: &[u8], config: FunctionConfig) -> Result<Function> {
        self.deploy_unless(&Cancel::new(), wasm, config)
    }

    /// [`Engine::deploy`] that can be cancelled: it then returns [`ErrorKind::Cancelled`](crate::ErrorKind) at once,
    /// even if its module is still being compiled.
    pub fn deploy_unless(
        &self,
        cancel: &Cancel,
        wasm: &[u8],
        config: FunctionConfig,
    ) -> Result<Function> {
        deploy::deploy_on_thread(&self.shared, wasm, config, cancel)
    }

    /// Takes a permit for a call that is about to begin. [`ErrorKind::Rejected`](crate::ErrorKind) if all are taken.
    pub fn reserve(&self) -> Result<Permit> {
        self.shared.calls.reserve()
    }

    /// [`Engine::reserve`] for callers that can only store a number. Every id must be [claimed](Engine::claim) once.
    pub fn reserve_id(&self) -> Result<CallId> {
        self.reserve().map(Permit::into_id)
    }

    /// Turns an id back into its permit. [`ErrorKind::Config`](crate::ErrorKind) if it is stale, unknown or claimed
    /// already.
    pub fn claim(&self, id: CallId) -> Result<Permit> {
        self.shared.calls.claim(id).ok_or_else(|| {
            Error::config(format!(
                "call id {:#x} is stale, unknown or in use; reserve a new one for every call",
                id.0
            ))
        })
    }

    /// Cancels a call. Returns whether the call was still running or reserved; if it has ended, nothing happens.
    pub fn cancel(&self, id: CallId) -> bool {
        self.shared.calls.cancel(id)
    }

    /// Goes on with a call that is suspended, on the calling thread, with the reply to its event. `sink` gets the answer, or
    /// the next event. If the call's deadline has passed or it was cancelled, its guest is dropped, and `sink` gets that answer.
    /// [`ErrorKind::Config`](crate::ErrorKind) if the id is stale or its call is not suspended.
    pub fn resume<R>(
        &self,
        id: CallId,
        reply: HostReply,
        sink: impl FnOnce(Reached<'_>) -> R,
    ) -> Result<R> {
        match self.shared.suspended.take(id) {
            Some(suspended) => Ok(Function::go_on(suspended, reply, sink)),
            None => Err(Error::config(format!(
                "call id {:#x} is stale, or its call is not suspended",
                id.0
            ))),
        }
    }

    /// Ends a call that is suspended, without an answer. Returns whether there was one; a call that runs is
    /// [cancelled](Engine::cancel) instead.
    pub fn drop_call(&self, id: CallId) -> bool {
        self.shared.suspended.take(id).is_some()
    }

    /// Ends all calls that are suspended. They keep their functions alive, and these the engine.
    pub fn drop_suspended(&self) {
        self.shared.suspended.clear();
    }

    /// The number of calls that are suspended.
    #[must_use]
    pub fn suspended(&self) -> usize {
        self.shared.suspended.count()
    }

    /// Takes bytes of the memory that all calls may hold together ([`EngineConfig::max_memory`]) for what the caller keeps
    /// of requests and answers. If it is false, nothing was taken.
    #[must_use = "if it is false, nothing was taken"]
    pub fn take_memory(&self, bytes: u64) -> bool {
        self.shared.slots.budget().take_outside(bytes)
    }

    /// Gives back what [`Engine::take_memory`] took, or what was [held](Answer::held) for an answer.
    pub fn give_memory(&self, bytes: u64) {
        self.shared.slots.budget().give_outside(bytes);
    }

    /// The memory that all calls may hold together: how it is bounded and used.
    #[must_use]
    pub fn memory(&self) -> &Budget {
        self.shared.slots.budget()
    }

    /// [`EngineConfig::max_memory`].
    #[must_use]
    pub fn max_memory(&self) -> u64 {
        self.shared.max_memory
    }

    /// What the verification says of a snapshot of `wasm` with `fault`; the inner `Err` says why it is refused.
    #[cfg(feature = "faults")]
    pub fn try_fault(
        &self,
        wasm: &[u8],
        args: &[&str],
        sample: Option<&[u8]>,
        fault: crate::snapshot::faults::Fault,
    ) -> Result<Result<(), String>> {
        let shared = &self.shared;
        let limits = crate::limits::SandboxLimits::default();
        let wasm = crate::wasm::Wasm::parse(wasm, shared.features, &shared.bounds)?;
        let (_, backend) = shared.backend(None)?;
        let cancel = Cancel::default();
        let (loaded, _) =
            shared
                .loader
                .module(&shared.slots, backend, &wasm, &limits, false, &cancel)?;
        let trial = crate::snapshot::faults::Trial {
            calls: &shared.calls,
            slots: &shared.slots,
            contract: crate::contract::default(),
            loaded: &loaded,
            form: wasm.form(),
            args,
            sample,
        };
        Ok(crate::snapshot::faults::prove(&trial, fault))
    }

    /// The backends, in the order they were passed to [`Engine::new`].
    #[must_use]
    pub fn backends(&self) -> &[Arc<dyn Backend>] {
        &self.shared.backends
    }

    /// The name of the backend of functions whose configuration names none.
    #[must_use]
    pub fn default_backend(&self) -> &'static str {
        self.shared
            .backend(None)
            .map_or("", |(_, backend)| backend.name())
    }

    /// Why there is no memory pool although the configuration asks for one.
    #[must_use]
    pub fn pool_problem(&self) -> Option<&str> {
        self.shared.pool_problem.as_deref()
    }

    /// The memory pool, if there is one.
    #[must_use]
    pub fn pool(&self) -> Option<&Pool> {
        self.shared.slots.pool()
    }

    /// Permits for running calls: how many are taken, and how many there are.
    #[must_use]
    pub fn permits(&self) -> (usize, usize) {
        (self.shared.calls.taken(), self.shared.calls.permits())
    }

    /// The number of functions that are alive.
    #[must_use]
    pub fn functions(&self) -> u64 {
        self.shared.counters.functions()
    }

    /// The number of compilations so far. An unchanged module is compiled once.
    #[must_use]
    pub fn compilations(&self) -> u64 {
        self.shared
            .backends
            .iter()
            .map(|backend| self.compiler().compiled(backend.name()).0)
            .sum()
    }

    /// Stats of the artifact cache, if there is one.
    #[must_use]
    pub fn cache_stats(&self) -> Option<CacheStats> {
        self.shared.loader.cache.as_ref().map(|cache| cache.stats())
    }

    /// Removes everything from the artifact cache: modules that are deployed from now on are compiled again. Functions
    /// that are alive stay as they are. [`ErrorKind::Config`](crate::ErrorKind) if there is no cache.
    pub fn purge_cache(&self) -> Result<Purged> {
        match &self.shared.loader.cache {
            Some(cache) => cache.purge(),
            None => Err(Error::config(
                "there is no artifact cache to purge: it is turned off in the configuration",
            )),
        }
    }

    /// Problems that do not make anything fail: no memory pool, no page scan, cache entries that were dropped, a cache
    /// directory that cannot be used. For the log.
    ///
    /// New warnings are added at the end only, so a caller can remember how many it has logged. The list is bounded;
    /// [`Engine::cache_stats`] go on counting.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        warnings::all(&self.shared)
    }

    /// The compiler of the engine's modules.
    pub(crate) fn compiler(&self) -> &Compiler {
        &self.shared.loader.compiler
    }

    /// All metrics of this engine in the Prometheus text format.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        metrics::render(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Request;
    use crate::error::ErrorKind;
    use crate::fake::{Fake, module};
    use buffers::KEEP_BUFFER;

    #[test]
    fn buffers_are_reused_and_stay_small() {
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
            let permit = engine.reserve().unwrap();
            let request = Request {
                body: &[b'x'; KEEP_BUFFER * 2],
                ..Request::default()
            };
            let status = function.call(permit, &request, &[], |answer| answer.status);
            assert_eq!(status.unwrap(), 200);
            let (waiting, processors) = engine.shared.buffers.kept();
            assert!(
                (1..=processors).contains(&waiting),
                "buffers are reused, but {waiting} exist"
            );
        }
        let buffers = engine.shared.buffers.take();
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
        assert!(text.contains("two backends"), "{text}");
        let missing = EngineConfig {
            default_backend: Some("wasmi".into()),
            ..EngineConfig::default()
        };
        let (kind, text) = refused(missing, vec![fake()]);
        assert_eq!(kind, ErrorKind::Config);
        assert!(text.contains("which has: fake"), "{text}");
        let none = EngineConfig {
            max_concurrency: 0,
            ..EngineConfig::default()
        };
        assert_eq!(refused(none, vec![fake()]).0, ErrorKind::Config);
    }
}
