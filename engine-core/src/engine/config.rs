//! The settings of an engine.

use std::time::Duration;

use crate::artifacts::cache::CacheConfig;
use crate::memory::PoolConfig;
use crate::wasm::Bounds;

/// What an engine is made of. Nothing in it derives from the functions: adding one never replaces the engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The name of the backend of functions that name none. `None`: the first one handed to [`Engine::new`](super::Engine::new).
    pub default_backend: Option<String>,
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
