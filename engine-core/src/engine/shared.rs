//! What an engine's functions share, and keep alive.

use std::sync::Arc;

use crate::artifacts::cache::Cache;
use crate::backend::{Backend, SlotSource};
use crate::calls::Calls;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{Pool, PoolConfig, ResetMode};
use crate::module::Loader;
use crate::wasm::{Bounds, Features};

use super::buffers::BufferPool;
use super::config::EngineConfig;
use super::metrics::Counters;

/// The index of a backend in [`Shared::backends`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BackendIndex(pub(super) usize);

/// What functions keep alive.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) backends: Vec<Arc<dyn Backend>>,
    default: BackendIndex,
    pub(crate) features: Features,
    pub(crate) bounds: Bounds,
    pub(crate) calls: Calls,
    pub(crate) slots: SlotSource,
    /// Why there is no memory pool although one was asked for.
    pub(super) pool_problem: Option<String>,
    pub(crate) loader: Loader,
    pub(super) buffers: BufferPool,
    pub(super) counters: Counters,
}

impl Shared {
    /// Checks `config` and makes what it asks for.
    pub(super) fn new(config: EngineConfig, backends: Vec<Arc<dyn Backend>>) -> Result<Self> {
        if backends.is_empty() {
            return Err(Error::config("an engine needs at least one backend"));
        }
        for (index, backend) in backends.iter().enumerate() {
            let name = backend.name();
            if backends[..index].iter().any(|other| other.name() == name) {
                return Err(Error::config(format!(
                    "there are two backends with the name {name}"
                )));
            }
        }
        let default = match &config.default_backend {
            Some(name) => find(&backends, name)?,
            None => BackendIndex(0),
        };
        if config.max_concurrency == 0 {
            return Err(Error::config("max_concurrency is 0; it must be at least 1"));
        }
        let features = backends
            .iter()
            .map(|backend| backend.capabilities().features)
            .fold(Features::ALL, Features::intersect);
        let (pool, pool_problem) = pool(config.pool)?;
        let cache = config.cache.as_ref().map(Cache::open).map(Arc::new);
        Ok(Self {
            counters: Counters::new(backends.len()),
            backends,
            default,
            features,
            bounds: config.bounds,
            calls: Calls::new(config.max_concurrency)?,
            slots: SlotSource::new(pool),
            pool_problem,
            loader: Loader::new(config.compile_timeout, cache),
            buffers: BufferPool::new(config.max_concurrency as usize),
        })
    }

    /// The backend with that name, or the default one; the error lists what this build has.
    pub(crate) fn backend(&self, name: Option<&str>) -> Result<(BackendIndex, &Arc<dyn Backend>)> {
        let index = match name {
            Some(name) => find(&self.backends, name)?,
            None => self.default,
        };
        Ok((index, &self.backends[index.0]))
    }
}

fn find(backends: &[Arc<dyn Backend>], name: &str) -> Result<BackendIndex> {
    let found = backends.iter().position(|backend| backend.name() == name);
    found.map(BackendIndex).ok_or_else(|| {
        let names: Vec<_> = backends.iter().map(|backend| backend.name()).collect();
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "backend {name} is not in this build, which has: {}",
                names.join(", ")
            ),
        )
    })
}

/// The memory pool that was asked for. A machine that cannot have one still serves, with memory of the backends; the second
/// value says why. Where the settings name a way to reset slots, that is an error instead.
fn pool(config: Option<PoolConfig>) -> Result<(Option<Pool>, Option<String>)> {
    let Some(config) = config else {
        return Ok((None, None));
    };
    let reset = config.reset;
    match Pool::new(config) {
        Ok(pool) => Ok((Some(pool), None)),
        Err(error) if reset == ResetMode::Auto => Ok((None, Some(error.to_string()))),
        Err(error) => Err(Error::config(format!(
            "pool_reset {} cannot be had here: {error}; choose another one, or auto",
            reset.name()
        ))),
    }
}
