//! A loaded module: translated and linked once, instantiated for every request.

use std::sync::Arc;

use engine_core::backend::{GlobalValue, Module, Sandbox, Start};
use engine_core::{Error, ErrorKind, Limits, MemoryUse, PAGE, Result};
use wasmi::{Engine, F32, F64, Instance, Linker, Store, V128, Val};

use crate::config::WasmiConfig;
use crate::hostcalls;
use crate::rewrite::{Rewritten, rewrite};
use crate::sandbox::{Bound, Data, Fresh};

/// A module and an engine of its own: wasmi keeps a module's code for as long as the engine lives.
pub(crate) struct Loaded {
    engine: Engine,
    linker: Linker<Data>,
    module: wasmi::Module,
    slice: u64,
    /// Bytes that the module's memory may have by its own declaration.
    memory_max: Option<u64>,
}

impl Loaded {
    /// Translates `wasm` and links it.
    pub(crate) fn new(config: &WasmiConfig, wasm: &[u8]) -> Result<Self> {
        let failed = |error: wasmi::Error| {
            Error::new(ErrorKind::Compile, "wasmi cannot translate the module")
                .because(cause(&error))
        };
        let Rewritten { wasm, memory_max } = rewrite(wasm)?;
        let engine = Engine::new(&config.to_wasmi(wasm.len()));
        let mut linker = Linker::new(&engine);
        hostcalls::define(&mut linker).map_err(failed)?;
        let module = wasmi::Module::new(&engine, &wasm).map_err(failed)?;
        Ok(Self {
            engine,
            linker,
            module,
            slice: config.slice,
            memory_max,
        })
    }
}

impl Module for Loaded {
    fn instantiate(self: Arc<Self>, start: Start, limits: &Limits) -> Result<Box<dyn Sandbox>> {
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
        let instance = self
            .linker
            .instantiate_and_start(&mut store, &self.module)
            .map_err(|error| Error::host("wasmi cannot make a sandbox").because(cause(&error)))?;
        store.data_mut().memory = instance.get_memory(&store, "memory");
        fill(&mut store, &start)?;
        for (name, value) in start.globals.iter() {
            set_global(&mut store, instance, name, *value)?;
        }
        Ok(Box::new(Fresh { store, instance }))
    }
}

/// Makes memory what the image of `start` says.
fn fill(store: &mut Store<Data>, start: &Start) -> Result<()> {
    let Some(image) = &start.image else {
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

fn set_global(
    store: &mut Store<Data>,
    instance: Instance,
    name: &str,
    value: GlobalValue,
) -> Result<()> {
    let value = match value {
        GlobalValue::F32(bits) => Val::F32(F32::from_bits(bits)),
        GlobalValue::F64(bits) => Val::F64(F64::from_bits(bits)),
        GlobalValue::I32(value) => Val::I32(value),
        GlobalValue::I64(value) => Val::I64(value),
        GlobalValue::V128(value) => Val::V128(V128::from(value)),
    };
    instance
        .get_global(&*store, name)
        .ok_or_else(|| Error::host(format!("the module exports no global {name}")))?
        .set(store, value)
        .map_err(|error| Error::host(format!("the global {name} cannot be set")).because(error))
}

/// An error of wasmi's as the cause of one of engine-core's.
fn cause(error: &wasmi::Error) -> Box<dyn std::error::Error + Send + Sync> {
    error.to_string().into()
}
