//! A loaded artifact, and how sandboxes are made of it.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use engine_core::GlobalValue;
use engine_core::backend::{self, Captured, Module, Sandbox, Start};
use engine_core::{Error, ErrorKind, Limits, Result, panic_text};
use wasmer::sys::vm::{
    InternalStoreHandle, LinearMemory, MaybeInstanceOwned, StoreObjects, VMCallerCheckedAnyfunc,
    VMContext, VMExtern, VMFunction, VMFunctionBody, VMFunctionContext, VMFunctionKind,
    VMSignatureHash,
};
use wasmer::sys::{Artifact, EngineBuilder};
use wasmer::{ExternType, Mutability, Type};

use crate::hostcalls::{self, Env, Hostcall};
use crate::memory::{Resources, Tables, VM_CONFIG};
use crate::sandbox::{Parts, WasmerSandbox};
use crate::shared::Shared;

/// Code in executable memory, with its hostcalls looked up.
pub(crate) struct WasmerModule {
    /// Dropped before the engine: it takes its trap tables with it, and the engine the code they speak of.
    module: wasmer::Module,
    /// One engine a module, because code lives as long as the engine it was loaded into.
    _engine: wasmer::Engine,
    imports: Box<[Import]>,
    /// Memories of the guest: none or one, before the flag's.
    guest_memories: usize,
    tables: Tables,
}

struct Import {
    hostcall: Hostcall,
    hash: VMSignatureHash,
}

impl WasmerModule {
    /// Loads what `Wasmer::compile` made.
    ///
    /// # Safety
    /// `artifact` came unchanged from there: its code is executed.
    pub(crate) unsafe fn load(artifact: &backend::Artifact) -> Result<Self> {
        // wasmer keeps the bytes as long as the module. A copy for it took 5 of 8 ms (10.6 MB, Linux 6.18, 2 vCPU).
        let bytes = Bytes::from_owner(Kept(artifact.clone()));
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let engine: wasmer::Engine = EngineBuilder::headless().engine().into();
            // SAFETY: the caller's promise; and `Kept` holds the artifact, whose bytes nobody can change, as long as
            // wasmer has them. (In wasmer 7.3.0 `deserialize` is this very call: neither looks at the layout.)
            let module = unsafe { wasmer::Module::deserialize_unchecked(&engine, bytes) };
            module.map(|module| (engine, module))
        }));
        let (engine, module) = match loaded {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => {
                return Err(refused("wasmer does not take it").because(error.to_string()));
            }
            Err(panic) => return Err(refused(panic_text(&*panic))),
        };
        Self::link(engine, module)
    }

    fn link(engine: wasmer::Engine, module: wasmer::Module) -> Result<Self> {
        let info = module.info();
        artifact(&module)?;
        let flag = info.memories.values().last();
        if !flag
            .is_some_and(|flag| flag.minimum.0 == 0 && flag.maximum.is_some_and(|max| max.0 == 0))
        {
            return Err(refused("it has no flag to stop its guests by"));
        }
        if info.start_function.is_some() {
            return Err(refused("it has a start section, which the split removes"));
        }
        let mut imports = Vec::new();
        for import in module.imports() {
            let hostcall = hostcalls::find(import.module(), import.name());
            let (Some(hostcall), ExternType::Function(ty)) = (hostcall, import.ty()) else {
                return Err(unknown(import.module(), import.name()));
            };
            if *ty != hostcall.ty {
                return Err(unknown(import.module(), import.name()));
            }
            imports.push(Import {
                hash: engine.as_sys().register_signature(ty),
                hostcall,
            });
        }
        let mut tables = Tables::default();
        info.tables.values().for_each(|table| tables.add(table));
        Ok(Self {
            guest_memories: info.memories.len() - 1,
            imports: imports.into(),
            tables,
            module,
            _engine: engine,
        })
    }

    /// Makes the functions to import: of one sandbox, since each knows its `Env`.
    fn imports(&self, objects: &mut StoreObjects, env: NonNull<Env>) -> Vec<VMExtern> {
        let import = |import: &Import| {
            let anyfunc = VMCallerCheckedAnyfunc {
                func_ptr: import.hostcall.body.0,
                type_signature_hash: import.hash,
                vmctx: VMFunctionContext {
                    host_env: env.as_ptr().cast(),
                },
                call_trampoline: never_called,
            };
            let function = VMFunction {
                anyfunc: MaybeInstanceOwned::Host(Box::new(UnsafeCell::new(anyfunc))),
                signature: import.hostcall.ty.clone(),
                kind: VMFunctionKind::Static,
                // wasmer takes a function whose data is `()` for one of wasm, and would pass it more arguments.
                host_data: Box::new(HostFunction),
            };
            VMExtern::Function(InternalStoreHandle::new(objects, function))
        };
        self.imports.iter().map(import).collect()
    }
}

impl Module for WasmerModule {
    fn instantiate(&self, start: Start<'_>, limits: &Limits) -> Result<Box<dyn Sandbox + '_>> {
        Ok(Box::new(self.sandbox(start, limits)?))
    }
}

impl WasmerModule {
    fn sandbox(&self, start: Start<'_>, limits: &Limits) -> Result<WasmerSandbox<'_>> {
        let shared = Arc::new(Shared::new(limits));
        let mut parts = Parts::new();
        let env = parts.env;
        let imports = self.imports(parts.objects_mut(), env);
        let resources = Resources::new(
            &shared,
            start.slot(),
            start.point.image.as_deref(),
            self.guest_memories,
            self.tables,
            limits,
        );
        let artifact = artifact(&self.module)?;
        // SAFETY: the imports belong to these objects, which stay in place as long as the instance (`Parts`), as does
        // the module (the sandbox holds it). `Resources` fills in every definition it is asked for.
        let instance = unsafe {
            let mut instance = artifact
                .instantiate(&resources, &imports, parts.objects_mut())
                .map_err(|error| cannot_instantiate(&error))?;
            artifact
                .finish_instantiation(&VM_CONFIG, None, &mut instance)
                .map_err(|error| cannot_instantiate(&error))?;
            instance
        };
        drop(resources);
        let mut sandbox = WasmerSandbox::new(instance, parts, shared, self);
        sandbox.find_memory();
        for (name, value) in &start.point.globals {
            sandbox.set_global(name, *value)?;
        }
        if !start.point.patches.is_empty() {
            start.point.patch(sandbox.memory())?;
        }
        Ok(sandbox)
    }
}

impl WasmerSandbox<'_> {
    /// Finds the memory that hostcalls work on.
    fn find_memory(&mut self) {
        if let Some(VMExtern::Memory(handle)) = self.lookup("memory") {
            let definition = handle.get(self.parts().objects()).vmmemory();
            self.parts_mut().env_mut().memory = Some(definition);
        }
    }

    /// The guest's memory; empty if it exports none.
    pub(crate) fn memory(&mut self) -> &mut [u8] {
        let Some(definition) = self.parts_mut().env_mut().memory else {
            return &mut [];
        };
        // SAFETY: the definition lives in the instance and describes bytes that are accessible and the sandbox's own; no guest
        // code runs while the sandbox is borrowed, so they stay so and nobody else refers to them.
        unsafe {
            let definition = definition.as_ref();
            std::slice::from_raw_parts_mut(definition.base, definition.current_length)
        }
    }

    /// The value of the mutable global that is exported as `name`; `None` if there is none, or it is a reference.
    fn global(&mut self, name: &str) -> Option<GlobalValue> {
        let Some(VMExtern::Global(handle)) = self.lookup(name) else {
            return None;
        };
        let global = handle.get(self.parts().objects());
        // SAFETY: the definition lives in the instance, where no guest code runs; the field is the one of the global's type.
        unsafe {
            let raw = &global.vmglobal().as_ref().val;
            Some(match global.ty().ty {
                Type::I32 => GlobalValue::I32(raw.i32),
                Type::I64 => GlobalValue::I64(raw.i64),
                Type::F32 => GlobalValue::F32(raw.u32),
                Type::F64 => GlobalValue::F64(raw.u64),
                Type::V128 => GlobalValue::V128(raw.u128),
                _ => return None,
            })
        }
    }

    /// All of the guest's state; `None` if a global is not there.
    pub(crate) fn state(&mut self, names: &[String]) -> Option<Captured> {
        let globals = names
            .iter()
            .map(|name| Some((name.clone(), self.global(name)?)));
        let globals = globals.collect::<Option<_>>()?;
        Some(Captured {
            memory: self.memory().to_vec(),
            globals,
        })
    }

    fn set_global(&mut self, name: &str, value: GlobalValue) -> Result<()> {
        let Some(VMExtern::Global(handle)) = self.lookup(name) else {
            return Err(Error::host(format!(
                "a start names global {name}, which the module does not export"
            )));
        };
        let global = handle.get(self.parts().objects());
        let ty = match value {
            GlobalValue::I32(_) => Type::I32,
            GlobalValue::I64(_) => Type::I64,
            GlobalValue::F32(_) => Type::F32,
            GlobalValue::F64(_) => Type::F64,
            GlobalValue::V128(_) => Type::V128,
        };
        if global.ty().ty != ty || global.ty().mutability != Mutability::Var {
            return Err(Error::host(format!(
                "a start sets global {name} to {value:?}, but it is a {}",
                global.ty()
            )));
        }
        // SAFETY: the definition lives in the instance, where no guest code runs; the value has the global's type.
        unsafe {
            let raw = &mut (*global.vmglobal().as_ptr()).val;
            match value {
                GlobalValue::I32(value) => raw.i32 = value,
                GlobalValue::I64(value) => raw.i64 = value,
                GlobalValue::F32(bits) => raw.u32 = bits,
                GlobalValue::F64(bits) => raw.u64 = bits,
                GlobalValue::V128(value) => raw.u128 = value,
            }
        }
        Ok(())
    }
}

/// An artifact as the owner of its bytes.
struct Kept(backend::Artifact);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Marks a function of the host in wasmer's eyes.
struct HostFunction;

/// Stands where wasmer wants a way to call a function from outside of wasm. Only exports of type `[] -> []` are called
/// that way, and no hostcall is of that type.
unsafe extern "C" fn never_called<Values>(
    _: *mut VMContext,
    _: *const VMFunctionBody,
    _: *mut Values,
) {
}

fn artifact(module: &wasmer::Module) -> Result<&Artifact> {
    module
        .sys_artifact()
        .ok_or_else(|| refused("it belongs to another of wasmer's engines"))
}

fn cannot_instantiate(error: &dyn std::fmt::Display) -> Error {
    Error::host(format!("wasmer could not make a sandbox: {error}"))
}

fn refused(why: &str) -> Error {
    Error::new(
        ErrorKind::Load,
        format!("the compiled module cannot be loaded: {why}; remove it from the cache"),
    )
}

fn unknown(module: &str, name: &str) -> Error {
    Error::invalid_module(format!(
        "the module imports {module}.{name}, which does not exist with that type"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Wasmer, WasmerConfig};
    use engine_core::StartState;
    use engine_core::backend::Backend;
    use engine_core::wasm::{Bounds, Features, Wasm};

    const COMMAND: &str = r#"(module
        (memory (export "memory") 2 4)
        (table 3 funcref)
        (global $i (mut i32) (i32.const 1))
        (global $l (mut i64) (i64.const 2))
        (global $v (mut v128) (v128.const i64x2 3 4))
        (global $c i32 (i32.const 5))
        (data (i32.const 65530) "image")
        (export "gojinn:global:0" (global $i))
        (export "gojinn:global:1" (global $l))
        (export "gojinn:global:2" (global $v))
        (export "constant" (global $c))
        (func (export "_start")))"#;

    /// Compiles and loads a module as it stands, without engine-core's split: wasm with reserved names is not a guest's.
    fn load(wat: &str) -> Result<Arc<WasmerModule>> {
        let wat = wat.replace("gojinn:", "own-");
        let bytes = wat::parse_str(wat).expect("the test's wat is valid");
        let wasm = Wasm::parse(bytes, Features::ALL, &Bounds::default())?;
        let artifact = Wasmer::new(WasmerConfig::default())?.compile(&wasm)?;
        // SAFETY: it was compiled just now.
        Ok(Arc::new(unsafe { WasmerModule::load(&artifact) }?))
    }

    fn start(globals: &[(&str, GlobalValue)]) -> Start<'static> {
        Start::from(StartState {
            globals: globals
                .iter()
                .map(|(name, value)| (name.to_string(), *value))
                .collect(),
            ..StartState::default()
        })
    }

    fn global(sandbox: &mut WasmerSandbox<'_>, name: &str) -> u128 {
        let Some(VMExtern::Global(handle)) = sandbox.lookup(name) else {
            panic!("there is no global {name}");
        };
        let global = handle.get(sandbox.parts().objects()).vmglobal();
        // SAFETY: no guest code runs, and any bits are a u128.
        unsafe { global.as_ref().val.u128 }
    }

    fn memory<'a>(sandbox: &'a mut WasmerSandbox<'_>) -> &'a [u8] {
        sandbox.memory()
    }

    #[test]
    fn a_start_sets_globals_of_every_width() {
        let module = load(COMMAND).unwrap();
        let start = start(&[
            ("own-global:0", GlobalValue::I32(-7)),
            ("own-global:1", GlobalValue::I64(-8)),
            ("own-global:2", GlobalValue::V128(9 << 100)),
        ]);
        let mut sandbox = module.sandbox(start, &Limits::default()).unwrap();
        assert_eq!(global(&mut sandbox, "own-global:0") as i32, -7);
        assert_eq!(global(&mut sandbox, "own-global:1") as i64, -8);
        assert_eq!(global(&mut sandbox, "own-global:2"), 9 << 100);
        let mut other = module
            .sandbox(self::start(&[]), &Limits::default())
            .unwrap();
        assert_eq!(global(&mut other, "own-global:0") as i32, 1);
        assert_eq!(global(&mut other, "own-global:2"), 4 << 64 | 3);
    }

    #[test]
    fn a_start_that_does_not_fit_the_module_is_refused() {
        let module = load(COMMAND).unwrap();
        for (name, value) in [
            ("own-global:9", GlobalValue::I32(1)),
            ("own-global:0", GlobalValue::I64(1)),
            ("constant", GlobalValue::I32(1)),
            ("memory", GlobalValue::I32(1)),
        ] {
            let made = module.sandbox(start(&[(name, value)]), &Limits::default());
            assert!(made.is_err(), "{name} = {value:?}");
        }
    }

    #[test]
    fn memory_without_a_slot_holds_the_image_and_may_be_longer_than_declared() {
        let module = load(COMMAND).unwrap();
        let mut plain = module
            .sandbox(Start::plain(None), &Limits::default())
            .unwrap();
        assert_eq!(memory(&mut plain).len(), 2 * 65536);
        assert_eq!(&memory(&mut plain)[65530..65535], b"image");
        let image = engine_core::memory::Image::new(3 * 65536, &[(7, b"other")]).unwrap();
        let start = Start::plain(Some(Arc::new(image)));
        let mut snapshot = module.sandbox(start, &Limits::default()).unwrap();
        assert_eq!(memory(&mut snapshot).len(), 3 * 65536);
        assert_eq!(&memory(&mut snapshot)[7..12], b"other");
    }

    #[test]
    fn a_module_beyond_the_limits_is_refused() {
        let module = load(COMMAND).unwrap();
        let little_memory = Limits {
            memory: 65536,
            ..Limits::default()
        };
        let small_tables = Limits {
            table_elements: 2,
            ..Limits::default()
        };
        for limits in [little_memory, small_tables] {
            assert!(module.sandbox(Start::plain(None), &limits).is_err());
        }
    }

    #[test]
    fn the_features_it_claims_compile_and_the_others_do_not() {
        let claimed = Wasmer::new(WasmerConfig::default())
            .unwrap()
            .capabilities()
            .features;
        for (has, wat) in [
            (
                claimed.simd,
                r#"(func (export "_start") (drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 31
                    (i32x4.splat (i32.const 1)) (f64x2.nearest (f64x2.splat (f64.const 2.5))))))"#,
            ),
            (
                claimed.tail_calls,
                r#"(func $f (param i32)) (func (export "_start") (return_call $f (i32.const 1)))"#,
            ),
            (
                claimed.extended_const,
                r#"(global i32 (i32.add (i32.const 1) (i32.mul (i32.const 2) (i32.const 3)))) (func (export "_start"))"#,
            ),
        ] {
            assert_eq!(load(&format!("(module {wat})")).is_ok(), has, "{wat}");
        }
    }

    #[test]
    fn an_artifact_of_something_else_is_refused() {
        let backend = Wasmer::new(WasmerConfig::default()).unwrap();
        for bytes in [&b""[..], b"wasmer-universal", b"\0asm\x01\0\0\0"] {
            let artifact = backend::Artifact::new(&backend, bytes);
            // SAFETY: none of these holds code.
            assert!(unsafe { WasmerModule::load(&artifact) }.is_err());
        }
    }
}
