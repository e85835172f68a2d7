//! Tests how guests end on wasmer, beyond the tests that the conformance suite runs on every backend.

use std::sync::Arc;
use std::time::Duration;

use backend_wasmer::{Wasmer, WasmerConfig};
use engine_core::backend::Backend;
use engine_core::{
    Engine, EngineConfig, Function, FunctionConfig, GuestExit, RawRun, SandboxLimits, Trap,
    TrapCode,
};

fn engine() -> Engine {
    let wasmer: Arc<dyn Backend> = Arc::new(Wasmer::new(WasmerConfig::default()).unwrap());
    Engine::new(EngineConfig::default(), vec![wasmer]).unwrap()
}

fn deploy(engine: &Engine, wat: &str, limits: SandboxLimits) -> Function {
    let config = FunctionConfig {
        name: "test".into(),
        limits,
        ..FunctionConfig::default()
    };
    engine
        .deploy(&wat::parse_str(wat).unwrap(), config)
        .unwrap()
}

fn run(engine: &Engine, wat: &str, limits: SandboxLimits) -> RawRun {
    let function = deploy(engine, wat, limits);
    function.run(engine.reserve().unwrap(), Vec::new()).unwrap()
}

fn trap(run: RawRun) -> Trap {
    match run.exit {
        GuestExit::Trap(trap) => trap,
        GuestExit::Exit(code) => panic!("it ended with exit code {code}"),
    }
}

#[test]
fn every_way_to_run_forever_is_killed_from_another_thread() {
    let engine = engine();
    for wat in [
        // Without memory, the flag's memory is the first.
        r#"(module (func (export "_start") (loop $l (br $l))))"#,
        r#"(module (memory 1) (func (export "_start") (loop $l (br $l))))"#,
        // Optimised to nothing but the poll.
        r#"(module (func (export "_start") (local i32)
            (loop $l (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br_if $l (i32.const 1)))))"#,
        // A loop with a parameter, whose head has something on the stack.
        r#"(module (func (export "_start")
            (i32.const 5) (loop $l (param i32) (br $l (i32.const 6)))))"#,
        // No loop at all.
        r#"(module (func $f (param i32)
                (if (local.get 0) (then
                    (call $f (i32.sub (local.get 0) (i32.const 1)))
                    (call $f (i32.sub (local.get 0) (i32.const 1))))))
            (func (export "_start") (call $f (i32.const 300))))"#,
        // Behind code that is never reached.
        r#"(module (func (export "_start")
            (block (br 0) (loop $never (br $never)))
            (loop $l (br $l))))"#,
    ] {
        let limits = SandboxLimits {
            timeout: Duration::from_secs(3600),
            ..SandboxLimits::default()
        };
        let function = deploy(&engine, wat, limits);
        let permit = engine.reserve().unwrap();
        let id = permit.id();
        let run = std::thread::scope(|scope| {
            let running = scope.spawn(|| function.run(permit, Vec::new()).unwrap());
            std::thread::sleep(Duration::from_millis(20));
            assert!(engine.cancel(id), "the guest is not running: {wat}");
            running.join().unwrap()
        });
        assert_eq!(trap(run).code, TrapCode::Cancelled, "{wat}");
    }
}

#[test]
fn a_trap_says_where_it_happened() {
    let wat = r#"(module
        (func $innermost unreachable)
        (func $caller (call $innermost) (call $innermost))
        (func (export "_start") (call $caller) (call $caller)))"#;
    let trap = trap(run(&engine(), wat, SandboxLimits::default()));
    assert_eq!(trap.code, TrapCode::Unreachable);
    assert!(
        trap.detail.contains("in innermost < caller"),
        "{}",
        trap.detail
    );
}

#[test]
fn a_trap_by_the_guest_is_never_reported_as_an_interruption() {
    let engine = engine();
    let limits = SandboxLimits {
        timeout: Duration::from_secs(3600),
        ..SandboxLimits::default()
    };
    let wat = r#"(module (func (export "_start") unreachable))"#;
    let function = deploy(&engine, wat, limits);
    for _ in 0..100 {
        let run = function.run(engine.reserve().unwrap(), Vec::new()).unwrap();
        assert_eq!(trap(run).code, TrapCode::Unreachable);
    }
}

#[test]
fn all_tables_together_stay_within_the_limit() {
    // Grows both tables by one until neither does; then traps with their sum as the exit code.
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (table $a 2 funcref)
        (table $b 3 100 externref)
        (table $fixed 4 4 funcref)
        (func (export "_start")
            (loop $l
                (br_if $l (i32.or
                    (i32.ne (table.grow $a (ref.null func) (i32.const 1)) (i32.const -1))
                    (i32.ne (table.grow $b (ref.null extern) (i32.const 1)) (i32.const -1)))))
            (call $proc_exit (i32.add (table.size $fixed)
                (i32.add (table.size $a) (table.size $b))))))"#;
    let limits = SandboxLimits {
        table_elements: 29,
        ..SandboxLimits::default()
    };
    let run = run(&engine(), wat, limits);
    assert_eq!(run.exit, GuestExit::Exit(29));
}

#[test]
fn a_declared_table_maximum_below_the_limit_holds() {
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
        (table $t 1 5 funcref)
        (func (export "_start")
            (drop (table.grow $t (ref.null func) (i32.const 4)))
            (drop (table.grow $t (ref.null func) (i32.const 1)))
            (call $proc_exit (table.size $t))))"#;
    let run = run(&engine(), wat, SandboxLimits::default());
    assert_eq!(run.exit, GuestExit::Exit(5));
}

#[test]
fn a_trap_at_the_very_end_of_the_stack_harms_no_other_guest() {
    // Recurses as deep as stdin says, and traps there in one of wasmer's Rust functions.
    let wat = r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (table $t 1 funcref)
        (elem $e func)
        (data $d "")
        (func $deep (param i32) (if (local.get 0)
            (then (call $deep (i32.sub (local.get 0) (i32.const 1))))
            (else OPERATION)))
        (func (export "_start")
            (i32.store (i32.const 0) (i32.const 16))
            (i32.store (i32.const 4) (i32.const 4))
            (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $deep (i32.load (i32.const 16)))))"#;
    let engine = engine();
    for operation in [
        "(unreachable)",
        "(memory.fill (i32.const -1) (i32.const 0) (i32.const 5))",
        "(memory.copy (i32.const -1) (i32.const 0) (i32.const 5))",
        "(memory.init $d (i32.const -1) (i32.const 0) (i32.const 5))",
        "(drop (table.get $t (i32.const 9)))",
        "(table.set $t (i32.const 9) (ref.null func))",
        "(table.fill $t (i32.const 9) (ref.null func) (i32.const 5))",
        "(table.copy $t $t (i32.const 9) (i32.const 0) (i32.const 5))",
        "(table.init $t $e (i32.const 9) (i32.const 0) (i32.const 5))",
        // Not of this kind, but close to the end too.
        "(drop (i32.div_u (i32.const 1) (i32.load (i32.const 99))))",
        "(drop (i32.load (i32.const -1)))",
        "(drop (table.grow $t (ref.null func) (i32.const 1)))",
        "(drop (memory.grow (i32.const 1)))",
        "(drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))",
    ] {
        let function = deploy(
            &engine,
            &wat.replace("OPERATION", operation),
            SandboxLimits::default(),
        );
        let overflows = |depth: u32| {
            let stdin = depth.to_le_bytes().to_vec();
            let run = function.run(engine.reserve().unwrap(), stdin).unwrap();
            matches!(run.exit, GuestExit::Trap(trap) if trap.code == TrapCode::StackOverflow)
        };
        assert!(!overflows(0), "{operation}");
        let (mut fits, mut too_deep) = (0, 1 << 20);
        while too_deep - fits > 1 {
            let middle = fits + (too_deep - fits) / 2;
            if overflows(middle) {
                too_deep = middle;
            } else {
                fits = middle;
            }
        }
        assert!(fits > 1000, "{operation}: {fits} calls fit");
        // The last 40 KiB or so, at all kinds of distances from the end. Not every one: wasmer walks the whole stack for
        // each trap.
        for depth in (too_deep - 1000..too_deep + 400).step_by(61) {
            overflows(depth);
        }
    }
}
