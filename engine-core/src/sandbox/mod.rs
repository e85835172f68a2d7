//! Everything one guest can reach: the host state of its sandbox, and the hostcalls over it.

mod event;
mod host;
pub mod hostcalls;
pub(crate) mod http_handler;
mod meter;
mod observed;
mod operations;
mod output;
pub mod wasi;
mod world;

pub use event::{BODY_ENDS, Event, HostReply};
pub(crate) use host::{Buffers, FIRST_READING, Reads};
pub use host::{HostState, MemoryUse, Program, Stop};
pub(crate) use meter::MEMORY_FULL;
pub use meter::Meter;
pub(crate) use observed::{Asked, Observed};
pub(crate) use output::Output;
pub(crate) use world::{World, WorldState, bytes_of};
