//! The settings of wasmtime: its memories, and everything that determines the compiled code.

use std::num::NonZeroUsize;
use std::sync::Arc;

use engine_core::memory::{GUARD, RESERVED};
use wasmtime::{Config, OptLevel, WasmBacktraceDetails};

use crate::memory::{GC_GUARD, GC_RESERVED, Memories};
use crate::stack::{STACK, Stacks};

/// Native stack a guest may use before its recursion traps: what other hosts give to programs whose own stacks grow as
/// needed, Go's first of all.
pub(crate) const WASM_STACK: usize = 8 << 20;

/// The maximum number of functions that a trap names, innermost first.
const FRAMES: usize = 16;

/// Settings of [`Wasmtime`](crate::Wasmtime). The default is what a server should run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WasmtimeConfig {
    /// The number of threads that compile one module, at the lowest priority. Default: all cores except one, at least
    /// one, so that one core serves undisturbed. One more thread, at a low priority, joins them if they get almost
    /// nothing of the machine.
    pub compile_threads: usize,
    /// The maximum number of pooled instances of all modules together, in use or waiting. Default: 32 for each core,
    /// which is a quarter of the pool's slots. 0: no instance is reused.
    pub kept: usize,
}

impl Default for WasmtimeConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            compile_threads: (cores - 1).max(1),
            kept: 32 * cores,
        }
    }
}

impl WasmtimeConfig {
    /// These settings as wasmtime's configuration, without its memories.
    pub(crate) fn to_wasmtime(&self) -> Config {
        let mut config = Config::new();

        // The features of engine-core's `Features::ALL`, with which modules were validated before. Other features that
        // wasmtime turns on by default are off, so that nothing outside of the list is ever compiled.
        config
            .wasm_reference_types(true)
            .wasm_bulk_memory(true)
            .wasm_multi_value(true)
            .wasm_simd(true)
            .wasm_tail_call(true)
            .wasm_extended_const(true)
            .wasm_relaxed_simd(false)
            .wasm_multi_memory(false)
            .wasm_memory64(false)
            .wasm_function_references(false)
            .wasm_gc(false)
            .wasm_exceptions(false)
            .wasm_wide_arithmetic(false)
            .wasm_custom_page_sizes(false)
            .concurrency_support(false);

        config
            .cranelift_opt_level(OptLevel::Speed)
            .epoch_interruption(true)
            .max_wasm_stack(WASM_STACK)
            .async_stack_size(STACK)
            .with_host_stack(Arc::new(Stacks::default()))
            .table_lazy_init(true);

        // Traps name the guest's functions. A hostcall that ends its guest needs no names, see `Unwinder`.
        config
            .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES))
            .wasm_backtrace_details(WasmBacktraceDetails::Disable)
            .generate_address_map(false)
            .native_unwind_info(false);

        config
    }
}

/// Lets wasmtime get its memories from engine-core.
pub(crate) fn host_memory(config: &mut Config) {
    config
        .with_host_memory(Arc::new(Memories))
        .memory_reservation(RESERVED as u64)
        .memory_guard_size(GUARD as u64)
        .memory_may_move(false)
        .guard_before_linear_memory(false)
        // `Memories` distinguishes a heap for references from a guest's memory by its reservation.
        .gc_heap_reservation(GC_RESERVED as u64)
        .gc_heap_guard_size(GC_GUARD as u64)
        .gc_heap_reservation_for_growth(0)
        .gc_heap_may_move(false)
        // engine-core has the images. wasmtime's images would be used with memory that is not wasmtime's, and panic.
        .memory_init_cow(false);
}
