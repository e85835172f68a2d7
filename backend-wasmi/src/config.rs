//! How wasmi is set up: what a guest may use of the interpreter, and what counts as how much work.

use engine_core::{Error, Result};
use wasmi::{CompilationMode, Config, CustomFuelCosts};

/// Frames a guest may nest. Far more than the two thousand that every backend must allow; they live on the heap, not on the
/// calling thread's stack.
const FRAMES: usize = 20_000;

/// Bytes of locals and operands that all frames of a guest may have together.
const VALUES: usize = 4 << 20;

/// Interpreter stacks that a module keeps between calls. Each holds what its deepest guest touched.
const KEPT_STACKS: usize = 16;

/// Bytes that bulk operations move for one unit of fuel, which is also what an instruction costs. Wasmi's own 64 is for
/// memory in the cache; the deadline must hold for memory that is not, so a byte counts eight times as much.
const BYTES_PER_FUEL: u32 = 8;

/// Fewer, and a guest that paused in a `table.grow` could use up its fuel on the way back there (see `rewrite`).
const LEAST_SLICE: u64 = 10;

/// Settings of [`Wasmi`](crate::Wasmi). The default is what a server should run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WasmiConfig {
    /// Instructions, about, between two looks at the clock; at least 10. 100 000: 0.12 ms.
    pub slice: u64,
    /// Bytes of code up to which all of a module is translated when it is loaded. A larger one is checked as a whole
    /// when it is loaded, and each function translated when it is first called. 2 MiB.
    pub eager_up_to: usize,
    /// Instances that may be in slots of the memory pool, in use or kept for the next sandbox, of all modules together.
    /// 32 for each core, a quarter of the pool's slots; 0: no instance is used again.
    pub kept: usize,
}

impl Default for WasmiConfig {
    fn default() -> Self {
        Self {
            slice: 100_000,
            eager_up_to: 2 << 20,
            kept: 32 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

impl WasmiConfig {
    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        if self.slice < LEAST_SLICE {
            return Err(Error::config(format!(
                "wasmi's slice is {} instructions; it must be at least {LEAST_SLICE}",
                self.slice
            )));
        }
        Ok(())
    }

    /// The same in wasmi's terms, for a module of `bytes`.
    pub(crate) fn to_wasmi(&self, bytes: usize) -> Config {
        let mut config = Config::default();

        // The list of engine-core's `Features::ALL`; modules were validated against it before they come here. What wasmi has
        // on by default beyond it is off, so that nothing outside of the list ever runs. (memory64 is not built in.)
        config
            .wasm_mutable_global(true)
            .wasm_sign_extension(true)
            .wasm_saturating_float_to_int(true)
            .wasm_multi_value(true)
            .wasm_bulk_memory(true)
            .wasm_reference_types(true)
            .floats(true)
            .wasm_simd(true)
            .wasm_tail_call(true)
            .wasm_extended_const(true)
            .wasm_relaxed_simd(false)
            .wasm_multi_memory(false)
            .wasm_wide_arithmetic(false)
            .wasm_custom_page_sizes(false);

        config
            .set_max_recursion_depth(FRAMES)
            .set_max_stack_height(VALUES)
            .set_max_cached_stacks(KEPT_STACKS)
            .ignore_custom_sections(true)
            .compilation_mode(if bytes <= self.eager_up_to {
                CompilationMode::Eager
            } else {
                // Never `Lazy`: what is wrong with a module comes to light when it is deployed.
                CompilationMode::LazyTranslation
            });

        // Translation is free because wasmi cannot resume a guest that ran out of fuel in the middle of it.
        config.consume_fuel(true).fuel_cost(CustomFuelCosts {
            bytes_copied_per_fuel: BYTES_PER_FUEL,
            fuel_per_bytes_translated: 0,
            fuel_per_bytes_validated: 0,
        });
        config
    }
}
