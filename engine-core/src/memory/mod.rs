//! The copy-on-write memory pool: images, and the slots that sandboxes get their linear memory from.

mod config;
mod figures;
mod image;
mod pool;
mod slot;

pub use config::{PoolConfig, ResetMode};
pub use figures::PoolFigures;
pub use image::Image;
pub use pool::Pool;
pub use slot::Slot;

/// Bytes of address space from a slot's base that a 32-bit memory can ever address: 4 GiB.
pub const RESERVED: usize = 4 << 30;

/// Bytes of address space behind [`RESERVED`] that stay inaccessible, for the constant offsets of loads and stores: 2 GiB.
pub const GUARD: usize = 2 << 30;
