//! A loaded module: translated and linked once, instantiated for every request.

use std::sync::{Arc, Mutex, PoisonError};

use engine_core::GlobalValue;
use engine_core::backend::instances::{InstanceBudget, InstancePool};
use engine_core::backend::{Module, Sandbox, Start};
use engine_core::memory::{Image, Slot};
use engine_core::wasm::hidden_state;
use engine_core::{Error, ErrorKind, Limits, MemoryUse, PAGE, Result};
use wasmi::{Engine, F32, F64, Instance, Linker, Memory, MemoryType, Store, V128, Val};

use crate::config::WasmiConfig;
use crate::hostcalls;
use crate::reuse::Kept;
use crate::rewrite::{IMPORTED, Rewritten, rewrite};
use crate::sandbox::{Bound, Data, Fresh};

/// A module and an engine of its own: wasmi keeps a module's code for as long as the engine lives.
pub(crate) struct Loaded {
    engine: Engine,
    module: wasmi::Module,
    linker: Linker<Data>,
    /// Copies of `linker` for an instantiation each, where the module imports its memory.
    linkers: Mutex<Vec<Linker<Data>>>,
    slice: u64,
    /// Bytes that the module's memory may have by its own declaration.
    memory_max: Option<u64>,
    /// Pages that the imported memory has at least; `None`: none is imported.
    imported_pages: Option<u64>,
    table_elements: u64,
    /// For a module whose instances can be made pristine.
    shelf: Option<Arc<InstancePool<Kept>>>,
}

impl Loaded {
    /// Translates `wasm` and links it.
    pub(crate) fn new(
        config: &WasmiConfig,
        places: &Arc<InstanceBudget>,
        wasm: &[u8],
    ) -> Result<Self> {
        let failed = |error: wasmi::Error| {
            Error::new(ErrorKind::Compile, "wasmi cannot translate the module")
                .because(cause(&error))
        };
        let reusable = config.kept > 0 && hidden_state(wasm)?.is_none();
        let Rewritten {
            wasm,
            memory_max,
            imported_pages,
            table_elements,
        } = rewrite(wasm, reusable)?;
        let engine = Engine::new(&config.to_wasmi(wasm.len()));
        let mut linker = Linker::new(&engine);
        linker.allow_shadowing(true);
        hostcalls::define(&mut linker).map_err(failed)?;
        let module = wasmi::Module::new(&engine, &wasm).map_err(failed)?;
        Ok(Self {
            engine,
            module,
            linker,
            linkers: Mutex::default(),
            slice: config.slice,
            memory_max,
            imported_pages,
            table_elements,
            shelf: imported_pages
                .is_some()
                .then(|| InstancePool::new(PER_CORE, places)),
        })
    }

    /// An instance that was used before and is as new.
    fn again(&self, start: &Start<'_>, limits: &Limits) -> Option<Fresh<'_>> {
        let shelf = self.shelf.as_ref()?;
        let (mut kept, lease) = shelf.take(start, limits)?;
        let mut used = MemoryUse::new(limits);
        let image = start.image().map_or(0, |image| image.len());
        if !used.may_grow_to(image) || !used.may_add_elements(self.table_elements) {
            // It may not exist within these limits: making a new one says so.
            lease.keep(kept);
            return None;
        }
        kept.begin(used);
        if patch(&mut kept.store, start).is_err() {
            // Making a new one says what is wrong.
            drop(kept);
            lease.lost();
            return None;
        }
        Some(Fresh::Again(kept, lease))
    }

    /// An instance in a slot, which can be used again. `None`: the module has enough of them, or there is no slot.
    fn in_slot(&self, start: &Start<'_>, limits: &Limits) -> Option<Fresh<'_>> {
        let image = start.image()?;
        let shelf = self.shelf.as_ref()?;
        let lease = shelf.lease(start, limits.memory_bytes(), limits)?;
        let slot = start.slot()?;
        match self.make_in_slot(slot, image, start, limits) {
            Ok(kept) => Some(Fresh::Again(kept, lease)),
            Err(_) => {
                // Memory of its own will do.
                lease.lost();
                None
            }
        }
    }

    fn make_in_slot(
        &self,
        mut slot: Slot,
        image: &Arc<Image>,
        start: &Start<'_>,
        limits: &Limits,
    ) -> Result<Kept> {
        let mut store = self.store(limits);
        let most = slot.max_len();
        slot.grow_to(most)?;
        // SAFETY: the first `most` bytes of the slot are accessible since the line above, and nobody else has a reference
        // into a slot that we own. The reference ends in `new_static`, which keeps a raw pointer; what wasmi makes of that
        // pointer lives as long as a borrow of the store. It reads and writes only the bytes that its memory has, which are
        // accessible: `image.len()` after `renew` below, and more when `Bound` has grown the slot. The range stays the
        // slot's for as long as the slot is in the store's data: it goes with the store, and dropping a store does not touch
        // the buffer; or `Kept::restore` takes it out, and puts it back or has the store dropped.
        let buffer = unsafe { std::slice::from_raw_parts_mut(slot.base(), most) };
        let memory = Memory::new_static(&mut store, memory_type(image.len() / PAGE)?, buffer)
            .map_err(|error| Error::host("wasmi refuses a slot").because(cause(&error)))?;
        // Wasmi has filled the memory with zeros: this brings the image back.
        store.data_mut().bound.slot = Some(slot.renew()?);
        let instance = self.link(&mut store, Some(memory))?;
        set_globals(&mut store, instance, start)?;
        let mut kept = Kept::new(store, instance, image);
        patch(&mut kept.store, start)?;
        Ok(kept)
    }

    /// An instance with memory of wasmi's own, for one use.
    fn once(&self, start: &Start<'_>, limits: &Limits) -> Result<Fresh<'_>> {
        let mut store = self.store(limits);
        let memory = match self.imported_pages {
            None => None,
            Some(least) => {
                let pages = start.image().map_or(least, |image| image.len() / PAGE);
                let memory = Memory::new(&mut store, memory_type(pages)?).map_err(|error| {
                    Error::host("wasmi cannot make a memory").because(cause(&error))
                })?;
                Some(memory)
            }
        };
        let instance = self.link(&mut store, memory)?;
        fill(&mut store, start)?;
        set_globals(&mut store, instance, start)?;
        patch(&mut store, start)?;
        Ok(Fresh::Once(store, instance))
    }

    fn store(&self, limits: &Limits) -> Store<Data> {
        let mut store = Store::new(
            &self.engine,
            Data {
                host: None,
                memory: None,
                bound: Bound::new(MemoryUse::new(limits), self.memory_max),
                slice: self.slice,
            },
        );
        store.limiter(|data| &mut data.bound);
        store
    }

    fn link(&self, store: &mut Store<Data>, memory: Option<Memory>) -> Result<Instance> {
        let failed =
            |error: wasmi::Error| Error::host("wasmi cannot make a sandbox").because(cause(&error));
        let instance = match memory {
            None => self
                .linker
                .instantiate_and_start(&mut *store, &self.module)
                .map_err(failed)?,
            Some(memory) => {
                // A copy takes longer to make than an instance, and a linker holds one memory at a time.
                let linkers = || self.linkers.lock().unwrap_or_else(PoisonError::into_inner);
                let spare = linkers().pop();
                let mut linker = spare.unwrap_or_else(|| self.linker.clone());
                let (module, name) = IMPORTED;
                linker
                    .define(module, name, memory)
                    .map_err(|error| failed(error.into()))?;
                let instance = linker
                    .instantiate_and_start(&mut *store, &self.module)
                    .map_err(failed)?;
                linkers().push(linker);
                instance
            }
        };
        store.data_mut().memory = instance.get_memory(&*store, "memory");
        Ok(instance)
    }
}

impl Module for Loaded {
    fn instantiate(&self, start: Start<'_>, limits: &Limits) -> Result<Box<dyn Sandbox + '_>> {
        let sandbox = self
            .again(&start, limits)
            .or_else(|| self.in_slot(&start, limits));
        Ok(Box::new(match sandbox {
            Some(sandbox) => sandbox,
            None => self.once(&start, limits)?,
        }))
    }
}

/// Instances in slots that a module may have for each core. More than one, because guests may wait.
const PER_CORE: usize = 2;

fn memory_type(pages: u64) -> Result<MemoryType> {
    let mut ty = MemoryType::builder();
    ty.min(pages);
    ty.build()
        .map_err(|error| Error::host("wasmi refuses a memory's size").because(cause(&error)))
}

/// Makes memory what the image of `start` says.
fn fill(store: &mut Store<Data>, start: &Start<'_>) -> Result<()> {
    let Some(image) = start.image() else {
        return Ok(());
    };
    let Some(memory) = store.data().memory else {
        return Err(Error::host(
            "a bug: there is an image for a module that exports no memory",
        ));
    };
    let missing = image.len().saturating_sub(memory.data_size(&*store) as u64);
    memory
        .grow(&mut *store, missing.div_ceil(PAGE))
        .map_err(|error| {
            Error::host("memory cannot grow to the size of its image").because(error)
        })?;
    image.write_to(memory.data_mut(store));
    Ok(())
}

fn set_globals(store: &mut Store<Data>, instance: Instance, start: &Start<'_>) -> Result<()> {
    for (name, value) in &start.point.globals {
        let value = match *value {
            GlobalValue::F32(bits) => Val::F32(F32::from_bits(bits)),
            GlobalValue::F64(bits) => Val::F64(F64::from_bits(bits)),
            GlobalValue::I32(value) => Val::I32(value),
            GlobalValue::I64(value) => Val::I64(value),
            GlobalValue::V128(value) => Val::V128(V128::from(value)),
        };
        instance
            .get_global(&*store, name)
            .ok_or_else(|| Error::host(format!("the module exports no global {name}")))?
            .set(&mut *store, value)
            .map_err(|error| {
                Error::host(format!("the global {name} cannot be set")).because(error)
            })?;
    }
    Ok(())
}

/// Writes what is different in each sandbox over its memory, which holds the image.
fn patch(store: &mut Store<Data>, start: &Start<'_>) -> Result<()> {
    if start.point.patches.is_empty() {
        return Ok(());
    }
    let Some(memory) = store.data().memory else {
        return Err(Error::host(
            "a bug: a module that exports no memory has a start with patches",
        ));
    };
    start.point.patch(memory.data_mut(store))
}

/// An error of wasmi's as the cause of one of engine-core's.
fn cause(error: &impl std::fmt::Display) -> Box<dyn std::error::Error + Send + Sync> {
    error.to_string().into()
}
