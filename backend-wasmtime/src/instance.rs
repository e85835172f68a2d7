//! Instances that are used again: how they are made pristine.
//!
//! All that a guest can find changed is its memory (a slot, which is reset), its globals (set to what they were) and its
//! tables and segments. The latter cannot be restored, so modules whose code changes them are never used again
//! ([`StartState::is_restorable`](engine_core::StartState)). Entries of a table that wasmtime has filled in, as it does
//! when they are first called, stay filled in, with what the module says.

use engine_core::{Error, Limits, MemoryUse, Result};
use wasmtime::{Global, Val};

use crate::memory::Pooled;
use crate::module::Parts;
use crate::sandbox::Bound;
use crate::trap;

/// An instance in a slot, as new while it waits.
pub(crate) struct Kept {
    pub(crate) parts: Parts,
    slot: Pooled,
    /// Bytes of memory that it begins with.
    bytes: usize,
    /// Elements of its tables.
    table_elements: u64,
    /// Each mutable global, with the value it began with.
    globals: Vec<(Global, Val)>,
}

impl Kept {
    /// An instance that has not run, with its memory in `slot` and all of its mutable globals.
    pub(crate) fn new(mut parts: Parts, slot: Pooled, globals: Vec<Global>) -> Self {
        let store = &mut parts.store;
        let memory = store.data().memory;
        Self {
            bytes: memory.map_or(0, |memory| memory.data_size(&*store)),
            table_elements: store.data().bound.0.table_elements(),
            globals: globals
                .into_iter()
                .map(|global| (global, global.get(&mut *store)))
                .collect(),
            slot,
            parts,
        }
    }

    /// Makes it as new again. After an error it must be dropped.
    pub(crate) fn restore(&mut self) -> Result<()> {
        let store = &mut self.parts.store;
        // No reference into the memory is left: hostcalls borrow it from the store, and they are over.
        self.slot.reset()?;
        if let Some(memory) = store.data().memory {
            if memory.data_size(&*store) != self.bytes {
                // It was grown, and is short again. Whenever wasmtime is asked to grow a memory, be it by nothing, it tells
                // compiled code anew how long the memory is.
                memory.grow(&mut *store, 0).map_err(cannot)?;
            }
            if memory.data_size(&*store) != self.bytes {
                return Err(Error::host("a memory that has grown did not shrink"));
            }
        }
        for (global, value) in &self.globals {
            global.set(&mut *store, *value).map_err(cannot)?;
        }
        Ok(())
    }

    /// Counts for another sandbox from now on. False if that sandbox may not exist within its limits.
    pub(crate) fn begin(&mut self, limits: &Limits) -> bool {
        let mut used = MemoryUse::new(limits);
        if !used.may_grow_to(self.bytes as u64) || !used.may_add_elements(self.table_elements) {
            return false;
        }
        self.parts.store.data_mut().bound = Bound(used);
        self.slot.in_use();
        true
    }
}

fn cannot(error: wasmtime::Error) -> Error {
    Error::host("an instance cannot be restored").because(trap::boxed(error))
}
