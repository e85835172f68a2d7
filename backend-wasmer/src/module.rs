//! A loaded module, and how it makes instances.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use engine_core::backend::{self, Instantiate, MemorySource};
use engine_core::{Error, ErrorKind, Meter, PerCpu, Result, panic_text};
use wasmer::ExternType;
use wasmer::sys::vm::{
    InternalStoreHandle, MaybeInstanceOwned, StoreObjects, VMCallerCheckedAnyfunc, VMContext,
    VMExtern, VMFunction, VMFunctionBody, VMFunctionContext, VMFunctionKind, VMSignatureHash,
};
use wasmer::sys::{Artifact, EngineBuilder};

use crate::hostcalls::{self, Env, Hostcall};
use crate::instance::{Parts, WasmerInstance};
use crate::memory::{Resources, Tables, VM_CONFIG};
use crate::shared::Shared;

/// A loaded module, with its hostcalls looked up.
pub(crate) struct WasmerModule {
    /// The code. Each processor has its own reference count for it, so that instances on different processors do not
    /// write to the same cache line.
    code: PerCpu<Arc<CodeShare>>,
    imports: Box<[Import]>,
    /// The number of the guest's memories, none or one. The memory for the flag comes after them.
    guest_memories: usize,
    tables: Tables,
}

/// A module's code in executable memory.
struct Code {
    /// It must be dropped before the engine: dropping the module removes its trap tables, dropping the engine removes
    /// the code that they describe.
    module: wasmer::Module,
    /// Each module has its own engine, because wasmer frees the code of a module only when its engine is dropped.
    _engine: wasmer::Engine,
}

/// What the instances on one processor hold of the code.
pub(crate) struct CodeShare(Arc<Code>);

struct Import {
    hostcall: Hostcall,
    hash: VMSignatureHash,
}

impl WasmerModule {
    /// Loads an artifact of `Wasmer::compile`.
    ///
    /// # Safety
    /// `artifact` must be unchanged since `Wasmer::compile` made it: its machine code is executed.
    pub(crate) unsafe fn load(artifact: &backend::Artifact) -> Result<Self> {
        // wasmer keeps the bytes as long as the module, so it shares them with the artifact. Copying them took 5 of the
        // 8 ms of loading (10.6 MB, Linux 6.18, 2 vCPU).
        let bytes = Bytes::from_owner(ArtifactBytes(artifact.clone()));
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let engine: wasmer::Engine = EngineBuilder::headless().engine().into();
            // SAFETY: the caller's promise; and `ArtifactBytes` keeps the artifact, whose bytes cannot be changed, as
            // long as wasmer has them. (In wasmer 7.3.0 `deserialize` only calls this function; neither checks the
            // layout.)
            let module = unsafe { wasmer::Module::deserialize_unchecked(&engine, bytes) };
            module.map(|module| (engine, module))
        }));
        let (engine, module) = match loaded {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => {
                return Err(refused("wasmer does not accept it").because(error.to_string()));
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
            return Err(refused(
                "it has no memory for the flag that stops its guests",
            ));
        }
        if info.start_function.is_some() {
            return Err(refused(
                "it has a start section, which engine-core removes from modules",
            ));
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
        let guest_memories = info.memories.len() - 1;
        let code = Arc::new(Code {
            module,
            _engine: engine,
        });
        Ok(Self {
            code: PerCpu::new(|| Arc::new(CodeShare(Arc::clone(&code)))),
            imports: imports.into(),
            guest_memories,
            tables,
        })
    }

    /// Makes the functions that one instance imports. Each instance needs its own, since they have a pointer to its
    /// `Env`.
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
                // wasmer treats a function whose data is `()` as a function of wasm, and would pass it other arguments.
                host_data: Box::new(HostFunction),
            };
            VMExtern::Function(InternalStoreHandle::new(objects, function))
        };
        self.imports.iter().map(import).collect()
    }
}

impl Instantiate for WasmerModule {
    type Instance = WasmerInstance;

    fn make(&self, memory: MemorySource, meter: Meter) -> Result<WasmerInstance> {
        let code = Arc::clone(self.code.here());
        let elements_left = meter.table_elements_left();
        let shared = Arc::new(Shared::new(meter));
        let mut parts = Parts::new();
        let env = parts.env;
        let imports = self.imports(parts.objects_mut(), env);
        let (memories, tables) = (self.guest_memories, self.tables);
        let resources = Resources::new(&shared, memory, memories, tables, elements_left);
        let artifact = artifact(&code.0.module)?;
        // SAFETY: the imports belong to these objects. The objects (`Parts`) keep their address and live as long as the
        // instance, and so does the module, since the instance holds its code. `Resources` fills in every definition that
        // wasmer asks it for.
        let instance = unsafe {
            let mut instance = artifact
                .instantiate(&resources, &imports, parts.objects_mut())
                .map_err(|error| shared.usage(|meter| meter.explain(cannot_instantiate(&error))))?;
            artifact
                .finish_instantiation(&VM_CONFIG, None, &mut instance)
                .map_err(|error| cannot_instantiate(&error))?;
            instance
        };
        drop(resources);
        Ok(WasmerInstance::new(instance, parts, shared, code))
    }
}

/// An artifact, as the owner of the bytes that wasmer uses.
struct ArtifactBytes(backend::Artifact);

impl AsRef<[u8]> for ArtifactBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// The data of imported functions. Its type tells wasmer that they are host functions.
struct HostFunction;

/// The trampoline of hostcalls, which wasmer requires for calls from outside of wasm. It is never called: only exports
/// of type `[] -> []` are called from outside, and no hostcall has that type.
unsafe extern "C" fn never_called<Values>(
    _: *mut VMContext,
    _: *const VMFunctionBody,
    _: *mut Values,
) {
}

fn artifact(module: &wasmer::Module) -> Result<&Artifact> {
    module
        .sys_artifact()
        .ok_or_else(|| refused("it was made by another kind of wasmer engine"))
}

fn cannot_instantiate(error: &dyn std::fmt::Display) -> Error {
    Error::host(format!("wasmer cannot make a sandbox: {error}"))
}

fn refused(why: &str) -> Error {
    Error::new(
        ErrorKind::Load,
        format!("wasmer cannot load the compiled module: {why}; remove it from the artifact cache"),
    )
}

fn unknown(module: &str, name: &str) -> Error {
    Error::invalid_module(format!(
        "the module imports {module}.{name}, but the host has no function with this name and type"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Wasmer, WasmerConfig};
    use engine_core::backend::{Backend, Instance};
    use engine_core::wasm::{Features, ModuleLimits, Wasm};
    use engine_core::{GlobalValue, SandboxLimits};

    const COMMAND: &str = r#"(module
        (memory (export "memory") 2 4)
        (table 3 funcref)
        (global $i (mut i32) (i32.const 1))
        (global $l (mut i64) (i64.const 2))
        (global $v (mut v128) (v128.const i64x2 3 4))
        (global $f (mut f32) (f32.const 1))
        (global $d (mut f64) (f64.const 2))
        (global $c i32 (i32.const 5))
        (data (i32.const 65530) "image")
        (export "gojinn:global:0" (global $i))
        (export "gojinn:global:1" (global $l))
        (export "gojinn:global:2" (global $v))
        (export "gojinn:global:3" (global $f))
        (export "gojinn:global:4" (global $d))
        (export "constant" (global $c))
        (func (export "_start")))"#;

    /// Compiles and loads a module without engine-core's split. The reserved prefix "gojinn:" is replaced, because guests
    /// must not use it.
    fn load(wat: &str) -> Result<Arc<WasmerModule>> {
        let wat = wat.replace("gojinn:", "own-");
        let bytes = wat::parse_str(wat).expect("the test's wat is valid");
        let wasm = Wasm::parse(bytes, Features::ALL, &ModuleLimits::default())?;
        let artifact = Wasmer::new(WasmerConfig::default())?.compile(&wasm)?;
        // SAFETY: it was compiled just now.
        Ok(Arc::new(unsafe { WasmerModule::load(&artifact) }?))
    }

    fn meter(limits: &SandboxLimits) -> Meter {
        Meter::new(
            engine_core::MemoryUse::new(limits),
            engine_core::Share::default(),
        )
    }

    fn make(module: &WasmerModule, bytes: u64) -> WasmerInstance {
        module
            .make(
                MemorySource::Engine { bytes },
                meter(&SandboxLimits::default()),
            )
            .unwrap()
    }

    #[test]
    fn globals_of_every_width_are_set_and_read() {
        let module = load(COMMAND).unwrap();
        let (mut changed, mut other) = (make(&module, 0), make(&module, 0));
        for (name, declared, value) in [
            ("own-global:0", GlobalValue::I32(1), GlobalValue::I32(-7)),
            ("own-global:1", GlobalValue::I64(2), GlobalValue::I64(-8)),
            (
                "own-global:2",
                GlobalValue::V128(4 << 64 | 3),
                GlobalValue::V128(9 << 100),
            ),
            (
                "own-global:3",
                GlobalValue::F32(0x3f80_0000),
                GlobalValue::F32(0x7fa0_0001),
            ),
            (
                "own-global:4",
                GlobalValue::F64(1 << 62),
                GlobalValue::F64(0x7ff4_0000_0000_0001),
            ),
        ] {
            let global = changed.find_global(&module, name).unwrap();
            assert_eq!(changed.global(&global), Some(declared));
            changed.set_global(&global, value).unwrap();
            assert_eq!(changed.global(&global), Some(value));
            let global = other.find_global(&module, name).unwrap();
            assert_eq!(other.global(&global), Some(declared), "in another instance");
        }
    }

    #[test]
    fn only_mutable_globals_are_found_and_only_their_type_is_set() {
        let module = load(COMMAND).unwrap();
        let mut instance = make(&module, 0);
        for name in ["own-global:9", "constant", "memory"] {
            assert!(instance.find_global(&module, name).is_none(), "{name}");
        }
        let global = instance.find_global(&module, "own-global:0").unwrap();
        let refused = instance
            .set_global(&global, GlobalValue::I64(1))
            .unwrap_err();
        assert!(refused.to_string().contains("the type I32"), "{refused}");
        assert_eq!(instance.global(&global), Some(GlobalValue::I32(1)));
    }

    #[test]
    fn memory_without_a_slot_has_the_segments_and_may_be_longer_than_declared() {
        let module = load(COMMAND).unwrap();
        for (bytes, len) in [(0, 2), (65536, 2), (3 * 65536, 3)] {
            let mut instance = make(&module, bytes);
            assert_eq!(instance.memory().len(), len * 65536);
            assert_eq!(&instance.memory()[65530..65535], b"image");
            assert_eq!(instance.used().peak(), len as u64 * 65536);
        }
    }

    #[test]
    fn a_module_beyond_the_limits_is_refused() {
        let module = load(COMMAND).unwrap();
        let little_memory = SandboxLimits {
            memory: 65536,
            ..SandboxLimits::default()
        };
        let small_tables = SandboxLimits {
            table_elements: 2,
            ..SandboxLimits::default()
        };
        for limits in [little_memory, small_tables] {
            let memory = MemorySource::Engine { bytes: 0 };
            assert!(module.make(memory, meter(&limits)).is_err());
        }
    }

    #[test]
    fn the_features_it_claims_compile_and_the_others_do_not() {
        let claimed = Wasmer::new(WasmerConfig::default()).unwrap().features();
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
