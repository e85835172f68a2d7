//! A loaded artifact: linked once, instantiated for every request.

use std::sync::Arc;

use engine_core::backend::{GlobalValue, Module, Sandbox, Start};
use engine_core::{Error, ErrorKind, Interrupt, Limits, MemoryUse, Result};
use wasmtime::{
    Extern, ExternType, Instance, InstancePre, ModuleExport, Store, TypedFunc, V128, Val,
};

use crate::config::MemoryMode;
use crate::memory::{self, Ready};
use crate::sandbox::{Bound, Data, Fresh, epoch_moved};
use crate::{Shared, trap};

/// Entry points that are looked up once, when the module is loaded.
const USUAL_ENTRIES: [&str; 4] = [
    engine_core::wasm::START_EXPORT,
    "_start",
    "_initialize",
    "gojinn_handle",
];

/// A module, linked.
pub(crate) struct Loaded {
    shared: Arc<Shared>,
    pre: InstancePre<Data>,
    memory: Option<ModuleExport>,
    entries: Vec<(&'static str, ModuleExport)>,
}

impl Loaded {
    /// Links `module`.
    pub(crate) fn new(shared: Arc<Shared>, module: &wasmtime::Module) -> Result<Self> {
        let pre = shared.linker.instantiate_pre(module).map_err(|error| {
            Error::new(
                ErrorKind::Load,
                "the module imports something that the host does not have",
            )
            .because(trap::boxed(error))
        })?;
        let memory = match module.get_export("memory") {
            Some(ExternType::Memory(_)) => module.get_export_index("memory"),
            _ => None,
        };
        let entries = USUAL_ENTRIES
            .into_iter()
            .filter_map(|name| Some((name, module.get_export_index(name)?)))
            .collect();
        Ok(Self {
            shared,
            pre,
            memory,
            entries,
        })
    }

    pub(crate) fn stacks(&self) -> &crate::stack::Stacks {
        &self.shared.stacks
    }

    pub(crate) fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::clone(&self.shared.interrupt)
    }

    /// The entry point `name` of an instance.
    pub(crate) fn entry(
        &self,
        store: &mut Store<Data>,
        instance: Instance,
        name: &str,
    ) -> wasmtime::Result<TypedFunc<(), ()>> {
        let known = self.entries.iter().find(|(known, _)| *known == name);
        let export = match known {
            Some((_, export)) => Some(*export),
            None => self.pre.module().get_export_index(name),
        };
        export
            .and_then(|export| instance.get_module_export(&mut *store, &export))
            .and_then(Extern::into_func)
            .ok_or_else(|| wasmtime::Error::msg(format!("the module exports no function {name}")))?
            .typed(&*store)
    }

    /// What the memory of a sandbox is to be, if the host makes it; and the bytes it will have.
    fn ready(&self, start: &mut Start) -> Result<Option<(Ready, u64)>> {
        let slots = self.shared.config.memory == MemoryMode::Slots;
        Ok(match (start.slot.take(), &start.image) {
            (Some(slot), _) if slots => {
                let len = slot.len() as u64;
                Some((Ready::Slot(slot), len))
            }
            (Some(_), _) => {
                return Err(Error::host(format!(
                    "a bug: a slot was given to a backend whose memory mode is {:?}",
                    self.shared.config.memory
                )));
            }
            (None, Some(image)) if slots => Some((Ready::Image(Arc::clone(image)), image.len())),
            (None, _) => None,
        })
    }

    /// Fills wasmtime's own memory with the image of `start`.
    fn fill(&self, store: &mut Store<Data>, start: &Start) -> Result<()> {
        let Some(image) = &start.image else {
            return Ok(());
        };
        if image.is_empty() {
            return Ok(());
        }
        let Some(memory) = store.data().memory else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the memory mode {:?} needs the module to export its memory as \"memory\"",
                    self.shared.config.memory
                ),
            ));
        };
        let missing = image.len().saturating_sub(memory.data_size(&*store) as u64);
        memory
            .grow(&mut *store, missing.div_ceil(engine_core::PAGE))
            .map_err(|error| {
                Error::host("memory cannot grow to the size of its image")
                    .because(trap::boxed(error))
            })?;
        image.write_to(memory.data_mut(store));
        Ok(())
    }
}

impl Module for Loaded {
    fn instantiate(self: Arc<Self>, mut start: Start, limits: &Limits) -> Result<Box<dyn Sandbox>> {
        let mut bound = Bound(MemoryUse::new(limits));
        let ready = self.ready(&mut start)?;
        let host_memory = ready.is_some();
        let ready = match ready {
            Some((_, bytes)) if !bound.0.may_grow_to(bytes) => {
                return Err(Error::config(format!(
                    "a sandbox starts with {bytes} bytes of memory, more than its limit of {}",
                    limits.memory_bytes()
                )));
            }
            Some((ready, _)) => Some(ready),
            None => None,
        };

        let mut store = Store::new(
            &self.shared.engine,
            Data {
                host: None,
                memory: None,
                bound,
            },
        );
        store.limiter(|data| &mut data.bound);
        store.epoch_deadline_callback(epoch_moved);
        let (instance, taken) = memory::with(ready, || self.pre.instantiate(&mut store));
        let instance = instance.map_err(|error| {
            Error::host("wasmtime cannot make a sandbox").because(trap::boxed(error))
        })?;
        if host_memory && !taken {
            return Err(Error::host(
                "a bug: memory was made ready for a module that has none",
            ));
        }

        if let Some(export) = &self.memory {
            store.data_mut().memory = instance
                .get_module_export(&mut store, export)
                .and_then(Extern::into_memory);
        }
        if !host_memory {
            self.fill(&mut store, &start)?;
        }
        for (name, value) in start.globals.iter() {
            set_global(&mut store, instance, name, *value)?;
        }
        Ok(Box::new(Fresh {
            store,
            instance,
            module: self,
        }))
    }
}

fn set_global(
    store: &mut Store<Data>,
    instance: Instance,
    name: &str,
    value: GlobalValue,
) -> Result<()> {
    let value = match value {
        GlobalValue::F32(bits) => Val::F32(bits),
        GlobalValue::F64(bits) => Val::F64(bits),
        GlobalValue::I32(value) => Val::I32(value),
        GlobalValue::I64(value) => Val::I64(value),
        GlobalValue::V128(value) => Val::V128(V128::from(value)),
    };
    instance
        .get_global(&mut *store, name)
        .ok_or_else(|| Error::host(format!("the module exports no global {name}")))?
        .set(store, value)
        .map_err(|error| {
            Error::host(format!("the global {name} cannot be set")).because(trap::boxed(error))
        })
}
