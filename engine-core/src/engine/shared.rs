//! What an engine's functions share and keep alive.

use std::sync::Arc;

use crate::artifacts::cache::Cache;
use crate::artifacts::compile::Compiler;
use crate::backend::{Backend, SlotSource};
use crate::budget::Budget;
use crate::calls::Calls;
use crate::error::{Error, Result};
use crate::memory::{self, Pool, ResetMode};
use crate::module::Loader;
use crate::sandbox::wasi::FileBudget;
use crate::wasm::{Features, ModuleLimits};

use super::buffers::{self, BufferPool};
use super::config::EngineConfig;
use super::metrics::Counters;
use super::suspended::SuspendedCalls;

/// The index of a backend in [`Shared::backends`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BackendIndex(pub(super) usize);

/// What all functions of an engine share. It lives as long as the engine or one of its functions.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) backends: Vec<Arc<dyn Backend>>,
    default: BackendIndex,
    pub(crate) features: Features,
    pub(crate) bounds: ModuleLimits,
    pub(crate) calls: Calls,
    pub(crate) slots: SlotSource,
    /// Why there is no memory pool although the configuration asks for one.
    pub(super) pool_problem: Option<String>,
    /// How few sandboxes fit into the address space, if they are fewer than calls were to be.
    pub(super) narrow: Option<Narrow>,
    pub(crate) loader: Loader,
    pub(super) buffers: BufferPool,
    pub(super) max_memory: u64,
    /// Whether long answers stay counted after their calls.
    pub(super) hold_answers: bool,
    /// For all functions with mounts.
    pub(super) files: FileBudget,
    pub(super) counters: Counters,
    pub(super) suspended: Arc<SuspendedCalls>,
}

impl Shared {
    /// Checks `config` and makes the parts that it describes.
    pub(super) fn new(mut config: EngineConfig, backends: Vec<Arc<dyn Backend>>) -> Result<Self> {
        if backends.is_empty() {
            return Err(Error::config("an engine needs at least one backend"));
        }
        for (index, backend) in backends.iter().enumerate() {
            let name = backend.name();
            if backends[..index].iter().any(|other| other.name() == name) {
                return Err(Error::config(format!(
                    "there are two backends with the name {name}; each backend may be passed once"
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
            .map(|backend| backend.features())
            .fold(Features::ALL, Features::intersect);
        let narrow = Narrow::of_this_process(&backends[default.0], config.max_concurrency)?;
        if let Some(narrow) = &narrow {
            // If none fits, there is only code that is interpreted.
            if narrow.sandboxes > 0 {
                config.max_concurrency = config.max_concurrency.min(narrow.sandboxes);
            }
            if let Some(pool) = &mut config.pool {
                pool.slots = pool.slots.min(narrow.sandboxes as usize);
            }
        }
        let (pool, budget, pool_problem) = memory(&config)?;
        if let Some(process) = &config.compile_process {
            process.check()?;
        }
        let suspended = Arc::new(SuspendedCalls::new(config.max_concurrency as usize));
        let calls = Arc::downgrade(&suspended);
        budget.set_lender(move || calls.upgrade().is_some_and(|calls| calls.lend()));
        let cache = config.cache.as_ref().map(Cache::open).map(Arc::new);
        let compiler = Compiler::new(
            config.compile_timeout,
            config.compile_process,
            cache.clone(),
        );
        Ok(Self {
            counters: Counters::new(backends.len()),
            backends,
            default,
            features,
            bounds: config.bounds,
            calls: Calls::new(config.max_concurrency)?,
            buffers: BufferPool::new(
                (config.max_concurrency as usize).min(buffers::KEPT),
                budget.clone(),
            ),
            slots: SlotSource::new(pool, budget, narrow.is_some()),
            pool_problem,
            narrow,
            loader: Loader::new(compiler, cache),
            max_memory: config.max_memory,
            hold_answers: config.hold_answers,
            files: FileBudget::of_this_process(),
            suspended,
        })
    }

    /// The backend with that name; for `None` the default one. The error lists the backends that there are.
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
        Error::config(format!(
            "backend {name} is not in this build, which has: {}; use one of these or build with it",
            names.join(", ")
        ))
    })
}

/// An address space (`ulimit -v`) that has room for fewer sandboxes than calls may run.
#[derive(Debug)]
pub(super) struct Narrow {
    limit: usize,
    /// How many sandboxes of native code fit.
    sandboxes: u32,
    wanted: u32,
}

impl Narrow {
    /// `None`: the address space is not limited, or large enough for `wanted` sandboxes of the default backend. An error if there
    /// is hardly room for the engine itself: the process would end where a thread or an allocation must not fail.
    fn of_this_process(default: &Arc<dyn Backend>, wanted: u32) -> Result<Option<Self>> {
        let (Some(limit), Some(left)) = (memory::address_space(), memory::address_space_left())
        else {
            return Ok(None);
        };
        if left < memory::REST {
            return Err(Error::config(format!(
                "{} of address space is left to this process, and an engine needs {} besides the memory of sandboxes; raise \
                 `ulimit -v`, which is {}",
                gib(left),
                gib(memory::REST),
                gib(limit)
            )));
        }
        if !default.capabilities().native_artifact {
            return Ok(None);
        }
        let sandboxes = memory::slots_in_address_space(wanted as usize) as u32;
        Ok((sandboxes < wanted).then_some(Self {
            limit,
            sandboxes,
            wanted,
        }))
    }

    /// The text for the log.
    pub(super) fn warning(&self) -> String {
        let effect = match self.sandboxes {
            0 => "functions can be interpreted only".to_owned(),
            fit => format!("max_concurrency is {fit} and not {}", self.wanted),
        };
        format!(
            "{effect}, because the memory of a sandbox of native code needs {} of address space, and `ulimit -v` is {}; raise it",
            gib(memory::RESERVED + memory::GUARD),
            gib(self.limit)
        )
    }

    /// Why `backend` can run nothing, if that is so.
    pub(super) fn check(&self, backend: &dyn Backend) -> Result<()> {
        if self.sandboxes > 0 || !backend.capabilities().native_artifact {
            return Ok(());
        }
        Err(Error::host(format!(
            "{} needs {} of address space for the memory of a sandbox, and {} besides, and `ulimit -v` is {}; raise it, or \
             choose the backend wasmi",
            backend.name(),
            gib(memory::RESERVED + memory::GUARD),
            gib(memory::REST),
            gib(self.limit)
        )))
    }
}

fn gib(bytes: usize) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// The least that [`EngineConfig::max_memory`] may be: a sandbox of an ordinary program, and its request.
const LEAST_MEMORY: u64 = 16 << 20;

/// The memory pool that `config` describes, and the budget of all calls. If this machine cannot have a pool the engine works
/// without, and the last value says why. But if the settings name a reset mode explicitly, that is an error.
fn memory(config: &EngineConfig) -> Result<(Option<Pool>, Budget, Option<String>)> {
    let most = config.max_memory;
    if most < LEAST_MEMORY {
        return Err(Error::config(format!(
            "max_memory is {most} bytes; it must be at least {LEAST_MEMORY}"
        )));
    }
    let Some(mut pool) = config.pool else {
        return Ok((None, Budget::new(most), None));
    };
    let quarter = usize::try_from(most / 4).unwrap_or(usize::MAX);
    pool.keep_resident_total = pool.keep_resident_total.min(quarter);
    let for_calls = Budget::new(most - pool.keep_resident_total as u64);
    let reset = pool.reset;
    match Pool::new(pool) {
        Ok(pool) => Ok((Some(pool), for_calls, None)),
        Err(error) if reset == ResetMode::Auto => {
            Ok((None, Budget::new(most), Some(error.to_string())))
        }
        Err(error) => Err(Error::config(format!(
            "pool_reset {} is not available on this machine: {error}; choose another mode, or auto",
            reset.name()
        ))),
    }
}
