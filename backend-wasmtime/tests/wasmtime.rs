//! What is wasmtime's own, beyond the contract that every backend keeps: artifacts, small stacks, memory modes, the words
//! of a trap.

use std::sync::Arc;

use backend_wasmtime::{Wasmtime, WasmtimeConfig};
use engine_core::Split;
use engine_core::backend::{Artifact, Backend};
use engine_core::wasm::{Features, ModuleLimits, Wasm};
use engine_core::{
    CacheConfig, CodeSource, Engine, EngineConfig, ErrorKind, Function, FunctionConfig, GuestExit,
    RawRun, Trap, TrapCode,
};

fn backend() -> Arc<Wasmtime> {
    Arc::new(Wasmtime::new(WasmtimeConfig::default()).unwrap())
}

/// A backend whose memories wasmtime makes.
fn other_backend(memories: impl FnOnce(&mut wasmtime::Config)) -> Arc<Wasmtime> {
    Arc::new(Wasmtime::without_slots(WasmtimeConfig::default(), memories).unwrap())
}

/// wasmtime's pooling allocator.
fn pooling(config: &mut wasmtime::Config) {
    let mut pool = wasmtime::PoolingAllocationConfig::new();
    pool.total_core_instances(8)
        .total_memories(8)
        .total_tables(8)
        .linear_memory_keep_resident(1 << 20);
    config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
}

fn engine(backend: Arc<Wasmtime>) -> Engine {
    Engine::new(EngineConfig::default(), vec![backend]).unwrap()
}

fn deploy(engine: &Engine, wat: &str) -> Function {
    let config = FunctionConfig {
        name: "test".into(),
        ..FunctionConfig::default()
    };
    engine
        .deploy(&wat::parse_str(wat).unwrap(), config)
        .unwrap()
}

fn run(engine: &Engine, function: &Function) -> RawRun {
    function.run(engine.reserve().unwrap(), Vec::new()).unwrap()
}

fn trap(run: RawRun) -> Trap {
    match run.exit {
        GuestExit::Trap(trap) => trap,
        GuestExit::Exit(code) => panic!("exit {code} instead of a trap"),
    }
}

fn on_thread<R: Send>(stack: usize, f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(stack)
            .spawn_scoped(scope, f)
            .unwrap()
            .join()
            .unwrap()
    })
}

/// Counts its own runs in memory and in a global, and exits with the sum.
const COUNTER: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 2) (data (i32.const 70000) "\28") (global $runs (mut i32) (i32.const 2))
    (func (export "_start")
        (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
        (i32.store (i32.const 70000) (i32.add (i32.load (i32.const 70000)) (i32.const 1)))
        (drop (memory.grow (i32.const 1)))
        (i32.store (i32.const 131072) (i32.add (i32.load (i32.const 131072)) (i32.const 100)))
        (call $exit (i32.add (i32.load (i32.const 131072))
            (i32.add (i32.load (i32.const 70000)) (global.get $runs))))))"#;

#[test]
fn every_memory_mode_starts_every_sandbox_alike() {
    for (mode, backend) in [
        ("slots", backend()),
        ("on demand", other_backend(|_| {})),
        ("pooling", other_backend(pooling)),
    ] {
        let engine = engine(backend);
        let function = deploy(&engine, COUNTER);
        for _ in 0..20 {
            let run = run(&engine, &function);
            assert_eq!(run.exit, GuestExit::Exit(144), "{mode}");
            assert_eq!(run.memory_peak, 3 * 65_536, "{mode}");
        }
    }
}

#[test]
fn recursion_without_end_is_a_trap_on_small_stacks() {
    let engine = engine(backend());
    let function = deploy(&engine, r#"(module (func $f (export "_start") (call $f)))"#);
    for stack in [64 << 10, 128 << 10, 256 << 10, 600 << 10, 8 << 20] {
        for _ in 0..3 {
            let trap = on_thread(stack, || trap(run(&engine, &function)));
            assert_eq!(trap.code, TrapCode::StackOverflow, "{stack}");
        }
    }
}

#[test]
fn deep_recursion_with_hostcalls_works_on_small_stacks() {
    let engine = engine(backend());
    // Each frame keeps its argument across the calls; the hostcall is made where the stack is deepest, and on the way
    // back.
    let function = deploy(
        &engine,
        r#"(module
            (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (func $deep (param $n i32) (result i32)
                (if (i32.eqz (local.get $n)) (then (return (call $yield))))
                (i32.add (i32.const 1) (i32.add
                    (call $deep (i32.sub (local.get $n) (i32.const 1)))
                    (if (result i32) (i32.rem_u (local.get $n) (i32.const 1000))
                        (then (i32.const 0)) (else (call $yield))))))
            (func (export "_start") (call $exit (call $deep (i32.const 8000)))))"#,
    );
    for stack in [64 << 10, 128 << 10, 8 << 20] {
        let exit = on_thread(stack, || run(&engine, &function).exit);
        assert_eq!(exit, GuestExit::Exit(8000), "{stack}");
    }
}

#[test]
fn a_trap_says_where() {
    let engine = engine(backend());
    let function = deploy(
        &engine,
        r#"(module (memory (export "memory") 1)
            (func $inner (drop (i32.load (i32.const 65536))))
            (func $outer (call $inner) (call $inner))
            (func $main (export "_start") (call $outer) (call $outer)))"#,
    );
    let trap = trap(run(&engine, &function));
    assert_eq!(trap.code, TrapCode::MemoryOutOfBounds);
    let detail = &trap.detail;
    assert!(
        detail.starts_with("out of bounds memory access"),
        "{detail}"
    );
    assert!(detail.contains("0x10000"), "{detail}");
    assert!(detail.ends_with(", in inner < outer < main"), "{detail}");
}

fn code() -> Wasm {
    let bytes = wat::parse_str(COUNTER).unwrap();
    let wasm = Wasm::parse(bytes, Features::ALL, &ModuleLimits::default()).unwrap();
    Split::of(&wasm).unwrap().code
}

#[test]
fn an_artifact_fits_the_same_configuration_in_another_backend() {
    let artifact = backend().compile(&code()).unwrap();
    let again = backend();
    assert_eq!(*artifact.fingerprint(), again.fingerprint());
    // SAFETY: it came unchanged from `compile` of a backend with the same fingerprint.
    unsafe { again.load(&artifact, false) }.map(drop).unwrap();
}

#[test]
fn an_artifact_of_another_configuration_is_refused() {
    let artifact = other_backend(|_| {}).compile(&code()).unwrap();
    let other = backend();
    assert_ne!(*artifact.fingerprint(), other.fingerprint());
    // SAFETY: `load` compares the fingerprints before it looks at a byte.
    let refused = unsafe { Arc::clone(&other).load(&artifact, false) }
        .err()
        .unwrap();
    assert_eq!(refused.kind(), ErrorKind::Load);
    assert!(
        refused.to_string().contains("compile the module again"),
        "{refused}"
    );

    // Wasmtime checks for itself, too.
    let relabelled = Artifact::new(&*other, artifact.bytes());
    // SAFETY: these are whole bytes of this version of wasmtime, which compares their settings before it uses their code.
    let refused = unsafe { other.load(&relabelled, false) }.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Load);
}

#[test]
fn one_thread_is_enough_to_compile() {
    let config = WasmtimeConfig {
        compile_threads: 0,
        ..WasmtimeConfig::default()
    };
    let one = Wasmtime::new(config).unwrap().compile(&code()).unwrap();
    let many = backend().compile(&code()).unwrap();
    assert!(
        one.bytes() == many.bytes(),
        "artifacts do not depend on how they were compiled"
    );
}

#[test]
fn code_from_the_cache_is_mapped_and_not_copied() {
    let directory = std::env::temp_dir().join(format!("gojinn-mapped-{}", std::process::id()));
    let engine = || {
        let config = EngineConfig {
            cache: Some(CacheConfig::new(&directory)),
            ..EngineConfig::default()
        };
        Engine::new(config, vec![backend()]).unwrap()
    };
    let first = engine();
    assert_eq!(deploy(&first, COUNTER).facts().source, CodeSource::Compiled);
    let second = engine();
    let function = deploy(&second, COUNTER);
    assert_eq!(function.facts().source, CodeSource::Cache);
    for _ in 0..3 {
        assert!(matches!(run(&second, &function).exit, GuestExit::Exit(144)));
    }
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        maps.lines()
            .filter(|line| line.contains("memfd:gojinn-code") && line.contains("r-xp"))
            .count()
    };
    assert_eq!(mapped(), usize::from(cfg!(target_os = "linux")));
    drop(function);
    assert_eq!(mapped(), 0);
    std::fs::remove_dir_all(&directory).unwrap();
}
