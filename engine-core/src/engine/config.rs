//! The settings of an engine.

use std::time::Duration;

use crate::artifacts::cache::CacheConfig;
use crate::artifacts::compile::CompileProcess;
use crate::memory::{self, PoolConfig};
use crate::wasm::ModuleLimits;

/// The settings of an engine. Nothing in it depends on the functions, so that adding a function never replaces the
/// engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The name of the backend of functions whose configuration names none. `None`: the first backend that is passed to
    /// [`Engine::new`](super::Engine::new).
    pub default_backend: Option<String>,
    /// The number of permits for running calls, which is the hard bound of concurrency. max(32, 8 x cores).
    pub max_concurrency: u32,
    /// The memory pool. `None`: the backend allocates the memory of every sandbox.
    pub pool: Option<PoolConfig>,
    /// How many bytes of memory the calls of all functions may hold together: memories and tables of guests, the buffers of
    /// requests and answers, and what free slots keep resident. At most a quarter of it is for the latter, and is not for
    /// calls. Half of the memory that this process may use.
    pub max_memory: u64,
    /// Whether a long answer stays counted in `max_memory` after its call, until the caller says that it is gone
    /// ([`Answer::held`](super::Answer::held)). Off: it does not.
    pub hold_answers: bool,
    /// How large a module may be.
    pub bounds: ModuleLimits,
    /// How long a deployment waits for its code to be compiled. `None`: a minute, plus ten seconds for each MiB of the
    /// module.
    pub compile_timeout: Option<Duration>,
    /// The process that compiles. `None`: modules are compiled in this process, where only [`ModuleLimits`] limit what a
    /// compilation takes, and where it cannot be ended.
    pub compile_process: Option<CompileProcess>,
    /// Where compiled code is kept between two starts. `None`: in memory only.
    pub cache: Option<CacheConfig>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            default_backend: None,
            max_concurrency: u32::try_from(cores * 8).unwrap_or(32).max(32),
            pool: Some(PoolConfig::default()),
            max_memory: memory::machine_memory() as u64 / 2,
            hold_answers: false,
            bounds: ModuleLimits::default(),
            compile_timeout: None,
            compile_process: None,
            cache: None,
        }
    }
}
