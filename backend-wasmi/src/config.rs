//! The settings of wasmi: what a guest may use of the interpreter, and how much fuel each kind of work costs.

use crate::rewrite::DEAR;
use engine_core::{Error, Result};
use wasmi::{CompilationMode, Config, CustomFuelCosts, OperatorCost};

/// Calls that a guest may nest. This is far more than the two thousand that every backend must allow: the frames are on
/// the heap, not on the calling thread's stack.
const FRAMES: usize = 100_000;

/// Bytes of locals and operands that all frames of a guest may have together.
const VALUES: usize = 8 << 20;

/// Interpreter stacks that a module keeps between calls. Each keeps as much memory as the deepest guest on it has
/// touched.
const KEPT_STACKS: usize = 16;

/// Bytes that bulk operations move for one unit of fuel; an instruction also costs one unit. Wasmi's default of 64
/// bytes is for memory in the processor's cache. The deadline must hold for memory outside of it too, so a byte costs
/// eight times as much here.
const BYTES_PER_FUEL: u32 = 8;

/// About how many growths of memory and tables a guest can do in a slice. Each keeps up to 176 bytes of the thread's stack
/// until the guest pauses (see [`rewrite`](crate::rewrite)), so this is 18 KB.
const GROWTHS: u64 = 100;

/// The largest slice. An instruction takes at most 255 units of fuel, so in a slice of this size there are 980 growths.
const MOST_SLICE: u64 = 1_000_000;

/// The smallest slice. With fewer instructions, a guest that paused in a `table.grow` could use up its fuel on the way
/// back to it (see `rewrite`).
const LEAST_SLICE: u64 = 10;

/// Settings of [`Wasmi`](crate::Wasmi). The defaults are meant for servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WasmiConfig {
    /// About how many instructions a guest runs before the backend checks whether its call must stop; from 10 to 1 000 000. The
    /// default is 100 000, which take 0.12 ms.
    pub slice: u64,
    /// Modules of up to this many bytes are translated completely when they are loaded. A larger module is only validated
    /// when it is loaded, and each of its functions is translated when it is first called. The default is 2 MiB.
    pub eager_up_to: usize,
    /// Instances of all modules together whose memory may be in a slot of the memory pool, in use or kept for the next
    /// sandbox. The default is 32 for each processor, a quarter of the pool's slots; with 0, no instance is used again.
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
    /// Refuses settings that cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        if !(LEAST_SLICE..=MOST_SLICE).contains(&self.slice) {
            return Err(Error::config(format!(
                "the setting `slice` of wasmi is {} instructions; set it to a number from {LEAST_SLICE} to {MOST_SLICE}",
                self.slice
            )));
        }
        Ok(())
    }

    /// Converts the settings to wasmi's configuration for a module of `bytes` bytes.
    pub(crate) fn to_wasmi(&self, bytes: usize) -> Config {
        let mut config = Config::default();

        // The features of engine-core's `Features::ALL`; modules were validated against that list before. Other features
        // that wasmi enables by default are switched off, so that no code with such a feature ever runs. (Support for
        // memory64 is not built in.)
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
                // Never `Lazy`: errors in a module must be found when it is deployed.
                CompilationMode::LazyTranslation
            });

        // Translation costs no fuel because wasmi cannot resume a guest that ran out of fuel during translation.
        let growth = self.slice / (GROWTHS * (DEAR + 1));
        let growth = u8::try_from(growth).unwrap_or(u8::MAX).max(1);
        config
            .consume_fuel(true)
            .fuel_cost(CustomFuelCosts {
                bytes_copied_per_fuel: BYTES_PER_FUEL,
                fuel_per_bytes_translated: 0,
                fuel_per_bytes_validated: 0,
            })
            .operator_cost(OperatorCost {
                // Guests hardly have it, but for the added functions and as an operand of `table.grow`.
                ref_null: growth,
                memory_grow: growth,
                table_grow: growth,
                ..OperatorCost::default()
            });
        config
    }
}
