//! Gojinn's engine: it deploys WebAssembly modules as functions and runs their calls, within limits and deadlines.
//!
//! An [`Engine`] deploys a `.wasm` file and returns a [`Function`]. A fresh sandbox answers every call of the function. A
//! WebAssembly engine that compiles and runs the code is a *backend*. It implements the traits in [`backend`], and this
//! crate does not depend on any of them.
//!
//! ```
//! use std::sync::Arc;
//!
//! use engine_core::backend::Backend;
//! use engine_core::contract::Request;
//! use engine_core::{Engine, EngineConfig, FunctionConfig, Result};
//!
//! /// Deploys a function, and answers one request with it.
//! fn answer_once(backend: Arc<dyn Backend>, wasm: &[u8]) -> Result<(u16, Vec<u8>)> {
//!     // Once for a process.
//!     let engine = Engine::new(EngineConfig::default(), vec![backend])?;
//!     // Once for a module: validated, compiled, linked, and given a snapshot if it can have one.
//!     let config = FunctionConfig { name: "hello".into(), ..FunctionConfig::default() };
//!     let function = engine.deploy(wasm, config)?;
//!     // For each request: a permit, which bounds how many run at once, and a fresh sandbox.
//!     let request = Request { method: b"GET", uri: b"/", ..Request::default() };
//!     let permit = engine.reserve()?;
//!     function.call(permit, &request, &[], |answer| match answer.response {
//!         Some(response) => (response.status, response.body.to_vec()),
//!         None => (answer.status, answer.reason.as_bytes().to_vec()),
//!     })
//! }
//! ```
//!
//! The first page of `backend-wasmi` calls it on a module; `backend-wasmi/examples/embed.rs` is a program that does.
//!
//! The modules are floors: each uses only modules of lower floors. `tests/floors.rs` checks that.

// Floor 6: the facade.
mod engine;

// Floor 5: snapshots, from which sandboxes can start.
mod snapshot;

// Floor 4: from a validated module to one that is ready to be instantiated.
mod artifacts;
mod module;

// Floor 3: the traits of backends, and all knowledge about Go programs.
pub mod backend;
mod go;

// Floor 2: the rules and facts of modules, and what a guest can reach.
pub mod sandbox;
pub mod wasm;

// Floor 1: the parts of a sandbox.
mod calls;
pub mod contract;
pub mod memory;
mod start;

// Floor 0: vocabulary.
mod budget;
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
pub use artifacts::compile::{CompileProcess, serve_compilation};
pub use budget::{Budget, Share};
pub use calls::{Armed, Call, CallId, Interrupt, Interruption, Permit};
pub use cancel::Cancel;
pub use engine::{
    Answer, Engine, EngineConfig, Function, FunctionConfig, FunctionFacts, RawRun, Reached, Waiting,
};
pub use error::{Error, ErrorKind, Fault, Result, panic_text};
pub use limits::{PAGE, SandboxLimits};
pub use module::{CodeSource, Split};
pub use outcome::{GuestExit, Outcome, Trap, TrapCode};
pub use per_cpu::PerCpu;
pub use sandbox::{BODY_ENDS, Event, HostReply, HostState, MemoryUse, Meter, Program, Stop};
#[cfg(feature = "faults")]
pub use snapshot::faults::Fault as SnapshotFault;
pub use snapshot::{SnapshotFacts, SnapshotKind, SnapshotMode, Warmup};
pub use start::{GlobalValue, Patch, StartState};
