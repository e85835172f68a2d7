//! An engine with all backends, for targets that compare them.

use std::sync::Arc;

use engine_core::backend::Backend;
use engine_core::memory::PoolConfig;
use engine_core::{Engine, EngineConfig, Result};

/// The backends, in order. The others are compared with the first.
pub(crate) const BACKENDS: [&str; 3] = ["wasmi", "wasmtime", "wasmer"];

/// An engine with them, whose memory pool has so many slots.
pub(crate) fn engine(slots: usize) -> Result<Engine> {
    let backends: Vec<Arc<dyn Backend>> = vec![
        Arc::new(backend_wasmi::Wasmi::new(Default::default())?),
        Arc::new(backend_wasmtime::Wasmtime::new(Default::default())?),
        Arc::new(backend_wasmer::Wasmer::new(Default::default())?),
    ];
    let config = EngineConfig {
        max_concurrency: 4,
        pool: Some(PoolConfig {
            slots,
            ..PoolConfig::default()
        }),
        ..EngineConfig::default()
    };
    Engine::new(config, backends)
}
