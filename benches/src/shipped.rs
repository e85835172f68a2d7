//! The references for wasmtime: our backend with wasmtime's memories as shipped, so that only the memories differ.

use backend_wasmtime::{Wasmtime, WasmtimeConfig};
use engine_core::Result;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// The number of sandboxes for which wasmtime's pooling allocator has memory.
const POOLED: u32 = 64;

/// Bytes of each memory that stay resident with the page scan: as many as our pool kept when both were compared.
const KEPT_BY_SCAN: usize = 4 << 20;

/// A new mapping by wasmtime for every sandbox.
pub fn on_demand() -> Result<Wasmtime> {
    Wasmtime::without_slots(WasmtimeConfig::default(), |_| {})
}

/// wasmtime's pooling allocator.
///
/// `scan`: whether resets ask the kernel which pages are dirty. For measurements only: wasmtime 48's scan asks for pages
/// that are present, and misses a page that is being migrated or swapped out at that moment.
pub fn pooling(scan: bool) -> Result<Wasmtime> {
    Wasmtime::without_slots(WasmtimeConfig::default(), |config: &mut Config| {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(POOLED)
            .total_memories(POOLED)
            .total_tables(POOLED)
            .total_gc_heaps(POOLED)
            .max_core_instance_size(16 << 20)
            .table_elements(1 << 20)
            .linear_memory_keep_resident(if scan { KEPT_BY_SCAN } else { 0 })
            .pagemap_scan(if scan { Enabled::Yes } else { Enabled::No });
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    })
}
