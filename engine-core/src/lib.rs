//! Gojinn's engine: vocabulary, traits, deadlines, WASI, the guest contract, limits and figures.
//!
//! A `.wasm` file becomes a [`Function`] when it is deployed on an [`Engine`]; every call of it is answered by a fresh
//! sandbox. The engines that run the code plug in through the three traits of [`backend`]; this crate names none of them.

pub mod backend;
mod cache;
mod calls;
mod cancel;
mod compile;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod contract;
mod engine;
mod error;
#[cfg(test)]
mod fake;
mod function;
mod host;
pub mod hostcall;
mod launch;
mod limits;
pub mod logs;
pub mod memory;
mod metrics;
mod outcome;
pub mod priority;
pub mod shelf;
mod snapshot;
pub mod wasi;
pub mod wasm;

pub use cache::{CacheConfig, CacheFigures, Purged};
pub use calls::{Armed, Call, CallId, Interrupt, Interruption, Ticket};
pub use cancel::Cancel;
pub use engine::{Engine, EngineConfig};
pub use error::{Error, ErrorKind, Fault, Result, panic_text};
pub use function::{Answer, CodeSource, Function, FunctionConfig, FunctionFacts, RawRun};
pub use host::{HostState, MemoryUse, Program, Stop};
pub use limits::{Limits, PAGE};
pub use outcome::{Outcome, Trap, TrapCode, Verdict};
pub use snapshot::{Patch, SnapshotFacts, SnapshotKind, SnapshotMode, Warmup};
