//! Modules that are ready to be instantiated: split into code and memory, loaded, and with a plan of how sandboxes start.
//!
//! Invariant: a [`Loaded`] module has made one sandbox successfully, so a request never meets a fault that depends on the
//! module alone.

mod loaded;
mod loader;
mod plan;
mod split;

pub(crate) use loaded::Loaded;
pub use loader::CodeSource;
pub(crate) use loader::Loader;
pub(crate) use plan::StartPlan;
pub use split::Split;
