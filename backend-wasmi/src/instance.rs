//! Instances that are used again: how they are made pristine.
//!
//! All that a guest can find changed is its memory (a slot, which is reset), its globals (set to what they were) and its
//! tables and segments. The latter cannot be restored, so modules whose code changes them have no shelf.

use engine_core::memory::Image;
use engine_core::{Error, MemoryUse, Result};
use wasmi::{Extern, Global, Instance, Store, Val};

use crate::sandbox::Data;

/// An instance in a slot, as new while it waits.
pub(crate) struct Kept {
    pub(crate) store: Store<Data>,
    pub(crate) instance: Instance,
    /// Bytes of memory that it begins with.
    bytes: u64,
    /// Each mutable global, with the value it began with.
    globals: Vec<(Global, Val)>,
}

impl Kept {
    /// `instance`, which was made from `image` and has not run.
    pub(crate) fn new(store: Store<Data>, instance: Instance, image: &Image) -> Self {
        let globals = instance
            .exports(&store)
            .filter_map(|export| match export.into_extern() {
                Extern::Global(global) if global.ty(&store).mutability().is_mut() => {
                    Some((global, global.get(&store)))
                }
                _ => None,
            })
            .collect();
        Self {
            store,
            instance,
            bytes: image.len(),
            globals,
        }
    }

    /// Makes it as new again. After an error it must be dropped.
    pub(crate) fn restore(&mut self) -> Result<()> {
        let memory = self.store.data().memory;
        let size = memory.map_or(0, |memory| memory.data_size(&self.store) as u64);
        if size != self.bytes {
            return Err(Error::host("a memory that has grown cannot shrink"));
        }
        // No reference into the memory is left: hostcalls borrow it from the store, and they are over.
        let slot = &mut self.store.data_mut().bound.slot;
        let used = slot
            .take()
            .ok_or_else(|| Error::host("a bug: an instance is kept without its slot"))?;
        slot.insert(used.reset()?).set_waiting(true);
        for (global, value) in &self.globals {
            global
                .set(&mut self.store, value.clone())
                .map_err(|error| Error::host("a global cannot be restored").because(error))?;
        }
        Ok(())
    }

    /// Counts for another sandbox from now on.
    pub(crate) fn begin(&mut self, used: MemoryUse) {
        let bound = &mut self.store.data_mut().bound;
        bound.begin(used);
        if let Some(slot) = &mut bound.slot {
            slot.set_waiting(false);
        }
    }
}
