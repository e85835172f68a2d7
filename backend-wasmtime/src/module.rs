//! A loaded artifact: it is linked once, and instances are made from it.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use engine_core::backend::{Instantiate, MemorySource};
use engine_core::{Error, ErrorKind, Interrupt, Meter, Result};
use wasmtime::{Extern, ExternType, InstancePre, ModuleExport, Mutability, Store};

use crate::instance::{Data, WasmtimeInstance, epoch_moved};
use crate::limiter::Limiter;
use crate::memory::{self, Pooled, Ready};
use crate::{Shared, trap};

/// Names of entry points that are looked up once, when the module is loaded.
pub(crate) const USUAL_ENTRIES: [&str; 7] = [
    engine_core::wasm::START_EXPORT,
    engine_core::wasm::RESUME_EXPORT,
    "_start",
    "_initialize",
    "gojinn_handle",
    engine_core::wasm::HANDLE_REQUEST_EXPORT,
    engine_core::wasm::HANDLE_RESPONSE_EXPORT,
];

/// A linked module.
pub(crate) struct WasmtimeModule {
    shared: Arc<Shared>,
    pre: InstancePre<Data>,
    /// Whether calls of its guests may be suspended.
    suspends: bool,
    memory: Option<ModuleExport>,
    entries: Vec<(&'static str, ModuleExport)>,
    /// Exported mutable globals, sorted by name.
    globals: Vec<(String, ModuleExport)>,
}

impl WasmtimeModule {
    /// Links `module` with the hostcalls, for calls that may be suspended if `suspends`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        module: &wasmtime::Module,
        suspends: bool,
    ) -> Result<Self> {
        let linker = if suspends {
            &shared.suspending
        } else {
            &shared.linker
        };
        let pre = linker.instantiate_pre(module).map_err(|error| {
            Error::new(
                ErrorKind::Load,
                "the module imports something that the host does not provide",
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
        let mut globals: Vec<_> = module
            .exports()
            .filter(|export| {
                matches!(export.ty(), ExternType::Global(global) if global.mutability() == Mutability::Var)
            })
            .filter_map(|export| {
                Some((export.name().to_owned(), module.get_export_index(export.name())?))
            })
            .collect();
        globals.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Self {
            shared,
            pre,
            suspends,
            memory,
            entries,
            globals,
        })
    }

    pub(crate) fn interrupt(&self) -> &Arc<dyn Interrupt> {
        &self.shared.interrupt
    }

    /// The export `name`, which should be an entry point.
    pub(crate) fn entry(&self, name: &str) -> Option<ModuleExport> {
        match self.entries.iter().find(|(known, _)| *known == name) {
            Some((_, export)) => Some(*export),
            None => self.pre.module().get_export_index(name),
        }
    }

    /// The mutable global that is exported as `name`.
    pub(crate) fn global(&self, name: &str) -> Option<&ModuleExport> {
        let at = self
            .globals
            .binary_search_by(|(known, _)| known.as_str().cmp(name));
        at.ok().map(|at| &self.globals[at].1)
    }

    /// All exported mutable globals.
    pub(crate) fn globals(&self) -> impl Iterator<Item = &ModuleExport> {
        self.globals.iter().map(|(_, export)| export)
    }
}

impl Instantiate for WasmtimeModule {
    type Instance = WasmtimeInstance;

    fn make(&self, memory: MemorySource, meter: Meter) -> Result<WasmtimeInstance> {
        let data = Data {
            host: None,
            outside: self.suspends.then(Arc::default),
            memory: None,
            limiter: Limiter(meter),
        };
        let mut store = Store::new(&self.shared.engine, data);
        store.limiter(|data| &mut data.limiter);
        store.epoch_deadline_callback(epoch_moved);
        let (ready, slot, bytes) = match memory {
            MemorySource::Slot(slot) => {
                let slot = Pooled::new(slot);
                (Ready::Slot(slot.clone()), Some(slot), 0)
            }
            MemorySource::Engine { bytes } => (Ready::Bytes(bytes), None, bytes),
        };
        let (instance, taken) = memory::with(ready, || {
            if self.suspends {
                at_once(self.pre.instantiate_async(&mut store))
            } else {
                self.pre.instantiate(&mut store)
            }
        });
        let instance = instance.map_err(|error| {
            let error = Error::host("wasmtime cannot make a sandbox").because(trap::boxed(error));
            store.data().limiter.0.explain(error)
        })?;
        if slot.is_some() && !taken {
            return Err(Error::host(
                "a bug in Gojinn: there is a slot for a module that has no memory; please report it",
            ));
        }
        if let Some(export) = &self.memory {
            store.data_mut().memory = instance
                .get_module_export(&mut store, export)
                .and_then(Extern::into_memory);
        }
        // In comparisons (`Wasmtime::without_slots`), wasmtime makes the memory, with the declared length.
        if let Some(memory) = store.data().memory
            && let missing = bytes.saturating_sub(memory.data_size(&store) as u64)
            && missing > 0
        {
            let pages = missing.div_ceil(engine_core::PAGE);
            memory.grow(&mut store, pages).map_err(|error| {
                Error::host("the sandbox's memory cannot grow to the size of its image")
                    .because(trap::boxed(error))
            })?;
        }
        store.data_mut().limiter.0.made();
        Ok(WasmtimeInstance::new(store, instance, slot))
    }
}

/// The result of an instantiation, which waits for nothing: it runs nothing of the guest's but its segments.
fn at_once<T>(future: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(wasmtime::Error::msg("a bug: an instantiation waits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Wasmtime, WasmtimeConfig};
    use engine_core::backend::{Backend, Instance};
    use engine_core::memory::{Image, Pool, PoolConfig};
    use engine_core::wasm::{Features, ModuleLimits, Wasm};
    use engine_core::{GlobalValue, SandboxLimits, Split};

    fn load(wat: &str) -> (WasmtimeModule, Split) {
        load_on(Wasmtime::new(WasmtimeConfig::default()).unwrap(), wat)
    }

    fn load_on(backend: Wasmtime, wat: &str) -> (WasmtimeModule, Split) {
        let bytes = wat::parse_str(wat).unwrap();
        let wasm = Wasm::parse(bytes, Features::ALL, &ModuleLimits::default()).unwrap();
        let split = Split::of(&wasm).unwrap();
        let artifact = backend.compile(&split.code).unwrap();
        // SAFETY: this engine has compiled the bytes in the line above.
        let module =
            unsafe { wasmtime::Module::deserialize(&backend.shared.engine, artifact.bytes()) };
        let module = WasmtimeModule::new(Arc::clone(&backend.shared), &module.unwrap(), false);
        (module.unwrap(), split)
    }

    fn make(module: &WasmtimeModule, memory: MemorySource) -> Result<WasmtimeInstance> {
        let mut used = engine_core::MemoryUse::new(&SandboxLimits::default());
        assert!(used.may_grow_to(match &memory {
            MemorySource::Slot(slot) => slot.len() as u64,
            MemorySource::Engine { bytes } => *bytes,
        }));
        module.make(memory, Meter::new(used, engine_core::Share::default()))
    }

    fn in_slot(module: &WasmtimeModule, pool: &Pool, image: &Image) -> Result<WasmtimeInstance> {
        make(module, MemorySource::Slot(pool.slot(image, 1 << 20)?))
    }

    const DATA: &str = r#"(module (memory (export "memory") 1 8) (data (i32.const 65000) "data")
        (func (export "_start")))"#;

    #[test]
    fn memory_without_a_slot_has_the_bytes_that_are_asked_for() {
        let config = WasmtimeConfig::default;
        for (mode, backend) in [
            ("ours", Wasmtime::new(config())),
            ("wasmtime's", Wasmtime::without_slots(config(), |_| {})),
        ] {
            let (module, _) = load_on(backend.unwrap(), DATA);
            for (bytes, len) in [(0, 1), (65_536, 1), (3 * 65_536, 3)] {
                let mut instance = make(&module, MemorySource::Engine { bytes }).unwrap();
                assert_eq!(instance.memory().len(), len * 65_536, "{mode}");
                assert!(instance.memory().iter().all(|&byte| byte == 0), "{mode}");
                assert_eq!(instance.used().peak(), len as u64 * 65_536, "{mode}");
            }
        }
    }

    #[test]
    fn a_slot_is_the_memory_and_goes_back_with_its_instance() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let (module, split) = load(DATA);
        let longer = Image::new(3 * 65_536, &[(150_000, b"captured")]).unwrap();
        for (image, pages, at, text) in [
            (&*split.image.unwrap(), 1, 65_000, &b"data"[..]),
            (&longer, 3, 150_000, b"captured"),
        ] {
            let mut instance = in_slot(&module, &pool, image).unwrap();
            assert_eq!(instance.memory().len(), pages * 65_536);
            assert_eq!(&instance.memory()[at..at + text.len()], text);
            assert_eq!(pool.stats().busy, 1);
            drop(instance);
            assert_eq!(pool.stats().busy, 0);
        }
    }

    #[test]
    fn an_image_beyond_the_maximum_is_refused_with_a_reason() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let (module, _) = load(DATA);
        let image = Image::new(9 * 65_536, &[]).unwrap();
        let bytes = image.len();
        for refused in [
            make(&module, MemorySource::Engine { bytes }),
            in_slot(&module, &pool, &image),
        ] {
            assert!(refused.err().unwrap().to_string().contains("maximum"));
        }
    }

    #[test]
    fn a_slot_for_a_module_without_memory_is_a_bug_and_is_given_back() {
        let image = Image::new(65_536, &[]).unwrap();
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let (module, _) = load(r#"(module (func (export "_start")))"#);
        let refused = in_slot(&module, &pool, &image).err().unwrap();
        assert!(refused.to_string().contains("has no memory"), "{refused}");
        assert_eq!(pool.stats().busy, 0);
    }

    #[test]
    fn globals_of_every_width_are_set_and_read() {
        let (module, split) = load(
            r#"(module
                (global (mut i32) (i32.const 1)) (global (mut i64) (i64.const 2))
                (global (mut f32) (f32.const 3)) (global (export "mine") (mut f64) (f64.const 4))
                (global (mut v128) (v128.const i64x2 5 6)) (global (export "constant") i32 (i32.const 7))
                (func (export "_start")))"#,
        );
        let values = [
            GlobalValue::I32(-1),
            GlobalValue::I64(-2),
            GlobalValue::F32(0x7fa0_0001),
            GlobalValue::F64(0x7ff4_0000_0000_0001),
            GlobalValue::V128(u128::MAX - 5),
        ];
        let mut instance = make(&module, MemorySource::Engine { bytes: 0 }).unwrap();
        assert_eq!(split.globals.len(), values.len());
        for ((name, _), value) in split.globals.iter().zip(values) {
            let global = instance.find_global(&module, name).unwrap();
            instance.set_global(&global, value).unwrap();
            assert_eq!(instance.global(&global), Some(value), "{name}");
        }
        let all = instance.globals(&module);
        let all: Vec<_> = all
            .iter()
            .filter_map(|global| instance.global(global))
            .collect();
        assert!(values.iter().all(|value| all.contains(value)), "{all:?}");

        for name in ["missing", "constant", "_start"] {
            assert!(instance.find_global(&module, name).is_none(), "{name}");
        }
        let mine = instance.find_global(&module, "mine").unwrap();
        assert!(instance.set_global(&mine, GlobalValue::I32(1)).is_err());
    }

    #[test]
    fn a_module_that_works_on_references_keeps_its_slot() {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let (module, split) = load(
            r#"(module (memory (export "memory") 1) (data (i32.const 9) "data") (table 4 externref)
                (func (export "_start") (table.set (i32.const 0) (table.get (i32.const 1)))))"#,
        );
        let mut instance = in_slot(&module, &pool, &split.image.unwrap()).unwrap();
        assert_eq!(&instance.memory()[9..13], b"data");
    }
}
