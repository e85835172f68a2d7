//! The wasmer backend: it compiles with cranelift, handles traps with wasmer, and uses memory from engine-core's pool.
//!
//! ```text
//!   compile: module ──poll──▶ + a private memory ──cranelift, polling middleware──▶ artifact
//!   load:    artifact ──▶ code + hostcalls looked up once ──▶ WasmerModule, in a Runner
//!   request: slot + flag ──▶ WasmerInstance, entered by the runner
//! ```
//!
//! It uses wasmer's virtual machine ([`wasmer::sys::vm`]) directly, not its `Store`, `Instance` and `Imports`. Those
//! build names, signatures and handles again for every sandbox, look up a store in a thread-local variable for every
//! hostcall, and cannot give a sandbox a memory that exists already. The price: wasmer is pinned to one exact version,
//! whose source was read for the safety comments here.

mod backend;
mod helper;
mod hostcalls;
mod instance;
mod memory;
mod module;
mod poll;
mod shared;
mod trap;

pub use backend::{Wasmer, WasmerConfig};
