//! Gojinn's engine: vocabulary, traits, deadlines, WASI, the guest contract, limits and figures.
//!
//! A `.wasm` file becomes a [`Function`] when it is deployed on an [`Engine`]; every call of it is answered by a fresh
//! sandbox. The engines that run the code plug in through the three traits of [`backend`]; this crate names none of them.
//!
//! The modules are the floors of a house: each uses only those listed below it. `tests/floors.rs` holds that.

// Floor 6: the facade.
mod engine;

// Floor 5: how sandboxes start elsewhere than at the beginning.
mod snapshot;

// Floor 4: from bytes to a module that is ready.
mod artifacts;
mod module;

// Floor 3: the traits of engines, and what is known of Go programs.
pub mod backend;
mod go;

// Floor 2: what a module is, and what a guest can reach.
pub mod sandbox;
pub mod wasm;

// Floor 1: what sandboxes are made of.
mod calls;
pub mod contract;
pub mod memory;
mod start;

// Floor 0: vocabulary.
mod cancel;
mod error;
mod limits;
pub mod logs;
mod outcome;
mod per_cpu;
pub mod priority;
mod threads;

#[cfg(test)]
mod fake;

pub use artifacts::cache::{CacheConfig, CacheStats, Purged};
pub use calls::{Armed, Call, CallId, Interrupt, Interruption, Permit};
pub use cancel::Cancel;
pub use engine::{Answer, Engine, EngineConfig, Function, FunctionConfig, FunctionFacts, RawRun};
pub use error::{Error, ErrorKind, Fault, Result, panic_text};
pub use limits::{Limits, PAGE};
pub use module::{CodeSource, Split};
pub use outcome::{GuestExit, Outcome, Trap, TrapCode};
pub use sandbox::{HostState, MemoryUse, Program, Stop};
#[cfg(feature = "faults")]
pub use snapshot::faults::Fault as SnapshotFault;
pub use snapshot::{SnapshotFacts, SnapshotKind, SnapshotMode, Warmup};
pub use start::{GlobalValue, Patch, StartState};
