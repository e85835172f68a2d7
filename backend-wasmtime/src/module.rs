//! A loaded artifact: linked once, instantiated for every request.

use std::sync::Arc;

use engine_core::GlobalValue;
use engine_core::backend::instances::InstancePool;
use engine_core::backend::{Module, Sandbox, Start};
use engine_core::{Error, ErrorKind, Interrupt, Limits, MemoryUse, Result};
use wasmtime::{
    Extern, ExternType, Global, Instance, InstancePre, ModuleExport, Mutability, Store, TypedFunc,
    V128, Val,
};

use crate::config::MemoryMode;
use crate::memory::{self, Pooled, Ready};
use crate::reuse::Kept;
use crate::sandbox::{Bound, Data, Fresh, epoch_moved};
use crate::{Shared, trap};

/// Entry points that are looked up once, when the module is loaded.
const USUAL_ENTRIES: [&str; 5] = [
    engine_core::wasm::START_EXPORT,
    engine_core::wasm::RESUME_EXPORT,
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
    /// Exported mutable globals by name, in the order of their exports.
    globals: Vec<(String, ModuleExport)>,
    /// Instances that can be used again.
    shelf: Arc<InstancePool<Box<Kept>>>,
}

/// Instances for each core that a module may have on its shelf, in use or waiting: guests may wait, and the scheduler may turn
/// to another.
const PER_CORE: usize = 4;

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
        let globals = module
            .exports()
            .filter(|export| {
                matches!(export.ty(), ExternType::Global(global) if global.mutability() == Mutability::Var)
            })
            .filter_map(|export| {
                Some((export.name().to_owned(), module.get_export_index(export.name())?))
            })
            .collect();
        Ok(Self {
            shelf: InstancePool::new(PER_CORE, &shared.places),
            shared,
            pre,
            memory,
            entries,
            globals,
        })
    }

    pub(crate) fn interrupt(&self) -> &Arc<dyn Interrupt> {
        &self.shared.interrupt
    }

    /// The entry point `name` of an instance.
    fn entry(
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

    /// The mutable global that an instance exports as `name`.
    pub(crate) fn global(
        &self,
        store: &mut Store<Data>,
        instance: Instance,
        name: &str,
    ) -> Result<Global> {
        self.globals
            .iter()
            .find(|(known, _)| known == name)
            .and_then(|(_, export)| instance.get_module_export(store, export))
            .and_then(Extern::into_global)
            .ok_or_else(|| Error::host(format!("the module exports no mutable global {name}")))
    }

    /// What the memory of a sandbox is to be, if the host makes it; and the bytes it will have.
    fn ready(&self, start: &Start<'_>) -> Option<(Ready, u64)> {
        if self.shared.config.memory != MemoryMode::Slots {
            return None;
        }
        match start.slot() {
            Some(slot) => {
                let len = slot.len() as u64;
                Some((Ready::Slot(Pooled::new(slot)), len))
            }
            None => start
                .image()
                .map(|image| (Ready::Image(Arc::clone(image)), image.len())),
        }
    }

    /// Fills wasmtime's own memory with the image of `start`.
    fn fill(&self, store: &mut Store<Data>, start: &Start<'_>) -> Result<()> {
        let Some(image) = start.image() else {
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

    /// An instance that was used before and is as new.
    fn again(&self, start: &Start<'_>, limits: &Limits) -> Result<Option<Fresh<'_>>> {
        let Some((mut kept, lease)) = self.shelf.take(start, limits) else {
            return Ok(None);
        };
        if !kept.begin(limits) {
            // Making a new one says what is wrong.
            lease.keep(kept);
            return Ok(None);
        }
        patch(&mut kept.parts.store, start)?;
        Ok(Some(Fresh::again(self, kept, lease)))
    }

    /// A sandbox of a new instance.
    fn fresh(&self, start: &Start<'_>, limits: &Limits) -> Result<Fresh<'_>> {
        let mut bound = Bound(MemoryUse::new(limits));
        let ready = self.ready(start);
        if let Some((_, bytes)) = &ready
            && !bound.0.may_grow_to(*bytes)
        {
            return Err(Error::config(format!(
                "a sandbox starts with {bytes} bytes of memory, more than its limit of {}",
                limits.memory_bytes()
            )));
        }
        let host_memory = ready.is_some();
        let slot = match &ready {
            // Whether a memory has grown is seen through its export.
            Some((Ready::Slot(slot), _)) if start.point.is_restorable && self.memory.is_some() => {
                Some(slot.clone())
            }
            _ => None,
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
        let (instance, taken) = memory::with(ready.map(|(ready, _)| ready), || {
            self.pre.instantiate(&mut store)
        });
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
            self.fill(&mut store, start)?;
        }
        for (name, value) in &start.point.globals {
            let global = self.global(&mut store, instance, name)?;
            set_global(&mut store, global, name, *value)?;
        }
        let parts = Parts {
            store,
            instance,
            entries: [const { None }; USUAL_ENTRIES.len()],
        };
        let lease = slot.and_then(|slot| {
            let lease = self.shelf.lease(start, slot.max_len() as u64, limits)?;
            Some((slot, lease))
        });
        let mut fresh = match lease {
            None => Fresh::once(self, parts),
            Some((slot, lease)) => Fresh::again(self, self.kept(parts, slot)?, lease),
        };
        patch(&mut fresh.parts_mut().store, start)?;
        Ok(fresh)
    }

    /// What is needed to make an instance that has not run pristine again and again.
    fn kept(&self, mut parts: Parts, slot: Pooled) -> Result<Box<Kept>> {
        let Parts {
            store, instance, ..
        } = &mut parts;
        let globals = self.globals.iter().map(|(_, export)| {
            instance
                .get_module_export(&mut *store, export)
                .and_then(Extern::into_global)
                .ok_or_else(|| Error::host("a bug: an export has another kind in its instance"))
        });
        let globals = globals.collect::<Result<_>>()?;
        Ok(Box::new(Kept::new(parts, slot, globals)))
    }
}

impl Module for Loaded {
    fn instantiate(&self, start: Start<'_>, limits: &Limits) -> Result<Box<dyn Sandbox + '_>> {
        Ok(Box::new(match self.again(&start, limits)? {
            Some(sandbox) => sandbox,
            None => self.fresh(&start, limits)?,
        }))
    }
}

/// A store and its instance.
pub(crate) struct Parts {
    pub(crate) store: Store<Data>,
    pub(crate) instance: Instance,
    /// The entry points that were called, in the order of [`USUAL_ENTRIES`].
    entries: [Option<TypedFunc<(), ()>>; USUAL_ENTRIES.len()],
}

impl Parts {
    /// Calls the entry point `name`.
    pub(crate) fn call(&mut self, module: &Loaded, name: &str) -> wasmtime::Result<()> {
        let Self {
            store,
            instance,
            entries,
        } = self;
        let Some(at) = USUAL_ENTRIES.iter().position(|usual| *usual == name) else {
            return module.entry(store, *instance, name)?.call(store, ());
        };
        let entry = match &mut entries[at] {
            Some(entry) => entry,
            none => none.insert(module.entry(store, *instance, name)?),
        };
        entry.call(store, ())
    }
}

/// Writes what is different in each sandbox over its memory, which holds the image.
fn patch(store: &mut Store<Data>, start: &Start<'_>) -> Result<()> {
    if start.point.patches.is_empty() {
        return Ok(());
    }
    let memory = store.data().memory.ok_or_else(|| {
        Error::host("a bug: a module that exports no memory has a start with patches")
    })?;
    start.point.patch(memory.data_mut(store))
}

fn set_global(
    store: &mut Store<Data>,
    global: Global,
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
    global.set(store, value).map_err(|error| {
        Error::host(format!("the global {name} cannot be set")).because(trap::boxed(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Wasmtime, WasmtimeConfig};
    use engine_core::Split;
    use engine_core::StartState;
    use engine_core::backend::Backend;
    use engine_core::memory::{Image, Pool, PoolConfig, Slot};
    use engine_core::wasm::{Bounds, Features, Wasm};

    fn load(memory: MemoryMode, wat: &str) -> (Arc<Loaded>, Split) {
        let backend = Wasmtime::new(WasmtimeConfig {
            memory,
            ..WasmtimeConfig::default()
        })
        .unwrap();
        let bytes = wat::parse_str(wat).unwrap();
        let wasm = Wasm::parse(bytes, Features::ALL, &Bounds::default()).unwrap();
        let split = Split::of(&wasm).unwrap();
        let artifact = backend.compile(&split.code).unwrap();
        // SAFETY: the bytes were compiled by this very engine in the line above.
        let module =
            unsafe { wasmtime::Module::deserialize(&backend.shared.engine, artifact.bytes()) };
        let loaded = Loaded::new(Arc::clone(&backend.shared), &module.unwrap()).unwrap();
        (Arc::new(loaded), split)
    }

    fn slots(pool: &Pool) -> impl Fn(&Arc<Image>) -> Option<Slot> {
        |image| Some(pool.slot(image, 1 << 20).unwrap())
    }

    const POOLING: MemoryMode = MemoryMode::Pooling {
        instances: 4,
        keep_resident: 65_536,
        scan: false,
    };

    const DATA: &str = r#"(module (memory (export "memory") 1 8) (data (i32.const 65000) "data")
        (func (export "_start")))"#;

    fn bytes(fresh: &mut Fresh<'_>) -> Vec<u8> {
        let store = &fresh.parts_mut().store;
        store.data().memory.unwrap().data(store).to_vec()
    }

    #[test]
    fn the_image_is_there_in_every_memory_mode() {
        for mode in [MemoryMode::Slots, MemoryMode::OnDemand, POOLING] {
            let (loaded, split) = load(mode, DATA);
            for _ in 0..6 {
                let start = Start::plain(split.image.clone());
                let mut fresh = loaded.fresh(&start, &Limits::default()).unwrap();
                let memory = bytes(&mut fresh);
                assert_eq!(memory.len(), 65_536, "{mode:?}");
                assert_eq!(&memory[65_000..65_004], b"data", "{mode:?}");
                assert_eq!(memory.iter().filter(|&&byte| byte != 0).count(), 4);
                let peak = fresh.parts_mut().store.data().bound.0.peak();
                assert_eq!(peak, 65_536, "{mode:?}");
            }
        }
    }

    #[test]
    fn an_image_may_be_longer_than_the_declared_minimum() {
        let image = Arc::new(Image::new(3 * 65_536, &[(150_000, b"captured")]).unwrap());
        let pool = Pool::new(PoolConfig::default()).unwrap();
        for (mode, pooled) in [
            (MemoryMode::Slots, true),
            (MemoryMode::Slots, false),
            (MemoryMode::OnDemand, false),
            (POOLING, false),
        ] {
            let (loaded, _) = load(mode, DATA);
            let slots = slots(&pool);
            let start = Start::new(
                Start::plain(Some(Arc::clone(&image))).point,
                pooled.then_some(&slots),
            );
            let mut fresh = loaded.fresh(&start, &Limits::default()).unwrap();
            let memory = bytes(&mut fresh);
            assert_eq!(memory.len(), 3 * 65_536, "{mode:?}");
            assert_eq!(&memory[150_000..150_008], b"captured", "{mode:?}");
        }
    }

    #[test]
    fn an_image_beyond_a_bound_is_refused_in_words() {
        let image = Arc::new(Image::new(9 * 65_536, &[]).unwrap());
        let (loaded, _) = load(MemoryMode::Slots, DATA);
        let plain = || Start::plain(Some(Arc::clone(&image)));
        let maximum = loaded.fresh(&plain(), &Limits::default());
        assert!(maximum.err().unwrap().to_string().contains("maximum"));
        let limits = Limits {
            memory: 2 * 65_536,
            ..Limits::default()
        };
        let limit = loaded.fresh(&plain(), &limits).err().unwrap();
        assert_eq!(limit.kind(), ErrorKind::Config);
        assert!(limit.to_string().contains("131072"), "{limit}");
    }

    #[test]
    fn a_slot_for_a_module_without_memory_is_a_bug_and_comes_back() {
        let image = Arc::new(Image::new(65_536, &[]).unwrap());
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let (loaded, _) = load(MemoryMode::Slots, r#"(module (func (export "_start")))"#);
        let slots = slots(&pool);
        let start = Start::new(Start::plain(Some(image)).point, Some(&slots));
        let refused = loaded.fresh(&start, &Limits::default()).err().unwrap();
        assert!(refused.to_string().contains("has none"), "{refused}");
        assert_eq!(pool.stats().busy, 0);
    }

    #[test]
    fn a_slot_goes_back_with_its_sandbox() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let (loaded, split) = load(MemoryMode::Slots, DATA);
        let image = split.image.unwrap();
        let slots = slots(&pool);
        let start = Start::new(Start::plain(Some(Arc::clone(&image))).point, Some(&slots));
        let mut fresh = loaded.fresh(&start, &Limits::default()).unwrap();
        assert_eq!(&bytes(&mut fresh)[65_000..65_004], b"data");
        assert_eq!(pool.stats().busy, 1);
        drop(fresh);
        assert_eq!(pool.stats().busy, 0);
    }

    #[test]
    fn globals_start_with_the_values_they_are_given() {
        let (loaded, split) = load(
            MemoryMode::Slots,
            r#"(module
                (global (mut i32) (i32.const 1)) (global (mut i64) (i64.const 2))
                (global (mut f32) (f32.const 3)) (global (export "mine") (mut f64) (f64.const 4))
                (global (mut v128) (v128.const i64x2 5 6)) (global i32 (i32.const 7))
                (func (export "_start")))"#,
        );
        let values = [
            GlobalValue::I32(-1),
            GlobalValue::I64(-2),
            GlobalValue::F32(0x7fa0_0001),
            GlobalValue::F64(0x7ff4_0000_0000_0001),
            GlobalValue::V128(u128::MAX - 5),
        ];
        let names: Vec<String> = split.globals.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), values.len());
        let start = Start::from(StartState {
            globals: names.iter().cloned().zip(values).collect(),
            ..StartState::default()
        });
        let mut fresh = loaded.fresh(&start, &Limits::default()).unwrap();
        let Parts {
            store, instance, ..
        } = fresh.parts_mut();
        for (name, expected) in names.iter().zip(values) {
            let global = instance.get_global(&mut *store, name).unwrap();
            let found = match global.get(&mut *store) {
                Val::I32(value) => GlobalValue::I32(value),
                Val::I64(value) => GlobalValue::I64(value),
                Val::F32(bits) => GlobalValue::F32(bits),
                Val::F64(bits) => GlobalValue::F64(bits),
                Val::V128(value) => GlobalValue::V128(value.into()),
                other => panic!("{name} is {other:?}"),
            };
            assert_eq!(found, expected, "{name}");
        }

        for (name, value, words) in [
            (
                "nobody",
                GlobalValue::I32(1),
                "exports no mutable global nobody",
            ),
            ("mine", GlobalValue::I32(1), "mine cannot be set"),
        ] {
            let start = Start::from(StartState {
                globals: vec![(name.to_string(), value)],
                ..StartState::default()
            });
            let refused = loaded.fresh(&start, &Limits::default()).err().unwrap();
            assert!(refused.to_string().contains(words), "{refused}");
        }
    }

    #[test]
    fn a_module_that_works_on_references_keeps_its_slot() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let (loaded, split) = load(
            MemoryMode::Slots,
            r#"(module (memory (export "memory") 1) (data (i32.const 9) "data") (table 4 externref)
                (func (export "_start") (table.set (i32.const 0) (table.get (i32.const 1)))))"#,
        );
        let image = split.image.unwrap();
        let slots = slots(&pool);
        let start = Start::new(Start::plain(Some(Arc::clone(&image))).point, Some(&slots));
        let mut fresh = loaded.fresh(&start, &Limits::default()).unwrap();
        assert_eq!(&bytes(&mut fresh)[9..13], b"data");
    }
}
