//! A loaded module. It is translated and linked once, and makes the instances of all its sandboxes.

use std::sync::{Mutex, PoisonError};

use engine_core::backend::{Instantiate, MemorySource};
use engine_core::memory::Slot;
use engine_core::wasm::hidden_state;
use engine_core::{Error, ErrorKind, Meter, PAGE, Result};
use wasmi::{Engine, Instance, Linker, Memory, MemoryType, Store};

use crate::config::WasmiConfig;
use crate::hostcalls;
use crate::instance::{Data, WasmiInstance};
use crate::limiter::Limiter;
use crate::rewrite::{IMPORTED, Rewritten, rewrite};

/// A module. It has its own engine, because wasmi frees a module's code only when the engine is dropped.
pub(crate) struct WasmiModule {
    engine: Engine,
    module: wasmi::Module,
    linker: Linker<Data>,
    /// Copies of `linker` that are not in use, for modules that import their memory: each instantiation defines its
    /// memory in a copy.
    linkers: Mutex<Vec<Linker<Data>>>,
    slice: u64,
    /// The declared maximum of the module's memory, in bytes.
    memory_max: Option<u64>,
    /// The declared minimum of the imported memory, in pages; `None`: the module imports no memory.
    imported_pages: Option<u64>,
}

impl WasmiModule {
    /// Translates `wasm` and links its hostcalls.
    pub(crate) fn new(config: &WasmiConfig, wasm: &[u8]) -> Result<Self> {
        let failed = |error: wasmi::Error| {
            Error::new(
                ErrorKind::Compile,
                "wasmi cannot translate the module; try another backend",
            )
            .because(cause(&error))
        };
        let reusable = config.kept > 0 && hidden_state(wasm)?.is_none();
        let Rewritten {
            wasm,
            memory_max,
            imported_pages,
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
        })
    }

    /// Whether the memory of an instance can be in a slot, so that the instance can be used again.
    pub(crate) fn is_reusable(&self) -> bool {
        self.imported_pages.is_some()
    }

    /// Makes a memory in `slot`, which contains the image.
    fn memory_in_slot(&self, store: &mut Store<Data>, mut slot: Slot) -> Result<Memory> {
        if !self.is_reusable() {
            return Err(Error::host(
                "a bug in Gojinn: a module that imports no memory got a slot; please report it",
            ));
        }
        let bytes = slot.len() as u64;
        let most = slot.max_len();
        slot.grow_to(most)?;
        // SAFETY: the line above made the first `most` bytes of the slot accessible, and we own the slot, so there is
        // no other reference to its bytes. The reference ends in `new_static`, which keeps a raw pointer; the
        // references that wasmi makes from it live no longer than a borrow of the store. Wasmi reads and writes only
        // the bytes of the memory, which are accessible: `bytes` after `renew` below, and more after `Limiter` has
        // grown the slot. The address range belongs to the slot while the slot is in the store's data. The slot leaves
        // the store in two ways: it is dropped with the store, and dropping a store does not touch the buffer; or
        // `WasmiInstance::reset` takes it out, and then either puts it back or fails, after which the store is dropped.
        let buffer = unsafe { std::slice::from_raw_parts_mut(slot.base(), most) };
        let memory = Memory::new_static(&mut *store, memory_type(bytes / PAGE)?, buffer)
            .map_err(|error| Error::host("wasmi refuses a slot").because(cause(&error)))?;
        // Wasmi has filled the memory with zeros; `renew` restores the image.
        store.data_mut().limiter.slot = Some(slot.renew()?);
        Ok(memory)
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
                // A linker holds one memory at a time, so each instantiation needs a copy. Making a copy takes longer
                // than making an instance, so the copies are used again.
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

impl Instantiate for WasmiModule {
    type Instance = WasmiInstance;

    /// `false`: wasmi fills a slot with zeros when it makes a memory in it, see the crate's documentation.
    const SLOT_FOR_ONE_SANDBOX: bool = false;

    fn make(&self, memory: MemorySource, meter: Meter) -> Result<WasmiInstance> {
        let data = Data {
            host: None,
            memory: None,
            limiter: Limiter::new(meter, self.memory_max),
            again: None,
        };
        let mut store = Store::new(&self.engine, data);
        store.limiter(|data| &mut data.limiter);
        let failed = |error| Error::host("wasmi cannot make a memory").because(error);
        let (memory, bytes) = match (memory, self.imported_pages) {
            (MemorySource::Slot(slot), _) => (Some(self.memory_in_slot(&mut store, slot)?), 0),
            (MemorySource::Engine { bytes }, None) => (None, bytes),
            (MemorySource::Engine { bytes }, Some(least)) => {
                let ty = memory_type(least.max(bytes / PAGE))?;
                let memory = Memory::new(&mut store, ty);
                (Some(memory.map_err(|error| failed(cause(&error)))?), bytes)
            }
        };
        let instance = self.link(&mut store, memory);
        let instance = instance.map_err(|error| store.data().limiter.meter.explain(error))?;
        if let Some(memory) = store.data().memory
            && let missing = bytes.saturating_sub(memory.data_size(&store) as u64)
            && missing > 0
        {
            memory
                .grow(&mut store, missing.div_ceil(PAGE))
                .map_err(|error| failed(cause(&error)))?;
        }
        store.data_mut().limiter.meter.made();
        Ok(WasmiInstance::new(store, instance, self.slice))
    }
}

fn memory_type(pages: u64) -> Result<MemoryType> {
    let mut ty = MemoryType::builder();
    ty.min(pages);
    ty.build()
        .map_err(|error| Error::host("wasmi refuses a memory's size").because(cause(&error)))
}

/// Converts an error of wasmi to the cause of an error of engine-core.
pub(crate) fn cause(error: &impl std::fmt::Display) -> Box<dyn std::error::Error + Send + Sync> {
    error.to_string().into()
}
