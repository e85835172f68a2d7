//! Modules that are ready to be instantiated: split into code and memory, loaded, with a plan of how sandboxes start.

mod loaded;
mod loader;
mod plan;
mod split;

pub(crate) use loaded::Loaded;
pub use loader::CodeSource;
pub(crate) use loader::Loader;
pub(crate) use plan::StartPlan;
pub use split::Split;
