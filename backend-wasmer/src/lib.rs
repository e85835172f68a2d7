//! The wasmer backend: cranelift code with wasmer's own traps, memory from engine-core's pool.
//!
//! ```text
//!   compile: module ──poll──▶ + a private memory ──cranelift, polling middleware──▶ artifact
//!   load:    artifact ──▶ code + hostcalls looked up once ──▶ WasmerModule, in a Runner
//!   request: slot + flag ──▶ WasmerInstance, entered by the runner
//! ```
//!
//! It sits on wasmer's virtual machine ([`wasmer::sys::vm`]) and not on its `Store`, `Instance` and `Imports`: those
//! build names, signatures and handles anew for every sandbox, look a store up in a thread-local for every hostcall, and
//! have no way to hand one sandbox its memory. The price is that wasmer is pinned to the exact version read here.

mod backend;
mod hostcalls;
mod instance;
mod memory;
mod module;
mod poll;
mod shared;
mod trap;

pub use backend::{Wasmer, WasmerConfig};
