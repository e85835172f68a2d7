//! Compiling, apart from serving: on a bounded number of threads of its own, with large stacks and the caller's priority.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine_core::{Error, ErrorKind, Result};
use wasmtime::Engine;

use crate::sandbox::panic_text;
use crate::trap;

/// Stack of a compiling thread: a compiler recurses over what the guest nests.
const STACK: usize = 8 << 20;

/// Compiles a valid module to an artifact, on `threads` threads that end with it.
pub(crate) fn compile(engine: &Engine, wasm: &[u8], threads: usize) -> Result<Vec<u8>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .thread_name(|index| format!("gojinn-compile-{index}"))
        .stack_size(STACK)
        .build()
        .map_err(|error| Error::host("cannot start threads to compile on").because(error))?;
    // Wasmtime compiles functions in parallel on the rayon pool that it is called in.
    pool.install(|| {
        catch_unwind(AssertUnwindSafe(|| engine.precompile_module(wasm)))
            .unwrap_or_else(|panic| {
                Err(wasmtime::Error::msg(format!(
                    "the compiler panicked: {}",
                    panic_text(&*panic)
                )))
            })
            .map_err(|error| {
                Error::new(ErrorKind::Compile, "wasmtime cannot compile the module")
                    .because(trap::boxed(error))
            })
    })
}
