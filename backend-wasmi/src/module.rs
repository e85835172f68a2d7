//! A loaded module: translated and linked once, instantiated for every sandbox.

use std::sync::{Mutex, PoisonError};

use engine_core::backend::{Instantiate, MemorySource};
use engine_core::memory::Slot;
use engine_core::wasm::hidden_state;
use engine_core::{Error, ErrorKind, MemoryUse, PAGE, Result};
use wasmi::{Engine, Instance, Linker, Memory, MemoryType, Store};

use crate::config::WasmiConfig;
use crate::hostcalls;
use crate::instance::{Data, WasmiInstance};
use crate::limiter::Limiter;
use crate::rewrite::{IMPORTED, Rewritten, rewrite};

/// A module, with an engine for it alone: wasmi keeps a module's code for as long as the engine lives.
pub(crate) struct WasmiModule {
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
}

impl WasmiModule {
    /// Translates `wasm` and links it.
    pub(crate) fn new(config: &WasmiConfig, wasm: &[u8]) -> Result<Self> {
        let failed = |error: wasmi::Error| {
            Error::new(ErrorKind::Compile, "wasmi cannot translate the module")
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

    /// Whether instances can lie in slots, and so be used again.
    pub(crate) fn is_reusable(&self) -> bool {
        self.imported_pages.is_some()
    }

    /// A memory in `slot`, which holds the image.
    fn memory_in_slot(&self, store: &mut Store<Data>, mut slot: Slot) -> Result<Memory> {
        if !self.is_reusable() {
            return Err(Error::host(
                "a bug: a slot for a module that imports no memory",
            ));
        }
        let bytes = slot.len() as u64;
        let most = slot.max_len();
        slot.grow_to(most)?;
        // SAFETY: the first `most` bytes of the slot are accessible since the line above, and there is no other reference into
        // a slot that we own. The reference ends in `new_static`, which keeps a raw pointer; what wasmi makes of that pointer
        // lives as long as a borrow of the store. It reads and writes only the bytes that its memory has, which are
        // accessible: `bytes` after `renew` below, and more when `Limiter` has grown the slot. The range stays the slot's for
        // as long as the slot is in the store's data: it goes with the store, and dropping a store does not touch the buffer;
        // or `WasmiInstance::reset` takes it out, and puts it back or has the store dropped.
        let buffer = unsafe { std::slice::from_raw_parts_mut(slot.base(), most) };
        let memory = Memory::new_static(&mut *store, memory_type(bytes / PAGE)?, buffer)
            .map_err(|error| Error::host("wasmi refuses a slot").because(cause(&error)))?;
        // Wasmi has filled the memory with zeros: this brings the image back.
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

impl Instantiate for WasmiModule {
    type Instance = WasmiInstance;

    /// Wasmi fills a slot with zeros when it makes a memory of it, see the crate's documentation.
    const SLOT_FOR_ONE_SANDBOX: bool = false;

    fn make(&self, memory: MemorySource, used: MemoryUse) -> Result<WasmiInstance> {
        let data = Data {
            host: None,
            memory: None,
            limiter: Limiter::new(used, self.memory_max),
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
        let instance = self.link(&mut store, memory)?;
        if let Some(memory) = store.data().memory
            && let missing = bytes.saturating_sub(memory.data_size(&store) as u64)
            && missing > 0
        {
            memory
                .grow(&mut store, missing.div_ceil(PAGE))
                .map_err(|error| failed(cause(&error)))?;
        }
        Ok(WasmiInstance::new(store, instance, self.slice))
    }
}

fn memory_type(pages: u64) -> Result<MemoryType> {
    let mut ty = MemoryType::builder();
    ty.min(pages);
    ty.build()
        .map_err(|error| Error::host("wasmi refuses a memory's size").because(cause(&error)))
}

/// An error of wasmi's as the cause of one of engine-core's.
pub(crate) fn cause(error: &impl std::fmt::Display) -> Box<dyn std::error::Error + Send + Sync> {
    error.to_string().into()
}
