//! Tests that the behaviour of a guest does not depend on where its slices of fuel end.

use std::sync::Arc;

use backend_wasmi::{Wasmi, WasmiConfig};
use engine_core::{
    Engine, EngineConfig, Function, FunctionConfig, GuestExit, RawRun, SandboxLimits, TrapCode,
};

/// Slices to test with: the shortest ones pause a guest every few instructions, each at other instructions.
const SLICES: [u64; 9] = [10, 11, 13, 17, 23, 50, 1_000, 100_000, 1_000_000];

fn deploy(config: WasmiConfig, wat: &str) -> (Engine, Function) {
    let backend = Arc::new(Wasmi::new(config).unwrap());
    let engine = Engine::new(EngineConfig::default(), vec![backend]).unwrap();
    let config = FunctionConfig {
        name: "slices".into(),
        limits: SandboxLimits {
            memory: 40 * 65_536,
            table_elements: 30_000,
            ..SandboxLimits::default()
        },
        ..FunctionConfig::default()
    };
    let function = engine
        .deploy(&wat::parse_str(wat).unwrap(), config)
        .unwrap();
    (engine, function)
}

fn run(config: WasmiConfig, wat: &str) -> RawRun {
    let (engine, function) = deploy(config, wat);
    function.run(engine.reserve().unwrap(), Vec::new()).unwrap()
}

/// A guest that does every operation that can pause, and checks each result.
fn guest(end: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
            (memory (export "memory") 1 30)
            (table $t 1 20000 funcref) (table $x 0 externref)
            (elem $e func $seven $eight)
            (data $d "0123456789")
            (type $number (func (result i32)))
            (func $seven (result i32) (i32.const 7))
            (func $eight (result i32) (i32.const 8))
            (func $check (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
            (func $fib (param i32) (result i32)
                (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
                    (then (local.get 0))
                    (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                                   (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
            (func $floats (param f64 f32) (result f64)
                (f64.sub (f64.mul (local.get 0) (f64.const 2)) (f64.promote_f32 (local.get 1))))
            (func $grow (param $by i32) (result i32)
                (local $before i32) (local $calls i32)
                (local.set $before (table.size $t))
                ;; counts how often it is really done
                (local.set $calls (i32.add (local.get $calls) (i32.const 1)))
                (call $check (i32.eq (table.grow $t (ref.func $eight) (local.get $by)) (local.get $before)))
                (call $check (i32.eq (local.get $calls) (i32.const 1)))
                (call $check (i32.eq (table.size $t) (i32.add (local.get $before) (local.get $by))))
                (call_indirect $t (type $number) (i32.sub (table.size $t) (i32.const 1))))
            (func (export "_start")
                (local $n i32)
                (call $check (i32.eq (call $fib (i32.const 12)) (i32.const 144)))
                (call $check (f64.eq (call $floats (f64.const 1.5) (f32.const 0.5)) (f64.const 2.5)))
                (loop $more
                    (call $check (i32.eq (call $grow (i32.const 900)) (i32.const 8)))
                    (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5))))
                (call $check (i32.eq (table.grow $x (ref.null extern) (i32.const 3)) (i32.const 0)))
                (call $check (i32.eq (table.grow $t (ref.null func) (i32.const 20000)) (i32.const -1)))
                (table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))
                (table.copy $t $t (i32.const 100) (i32.const 0) (i32.const 2000))
                (call $check (i32.eq (call_indirect $t (type $number) (i32.const 100)) (i32.const 7)))
                (table.fill $t (i32.const 0) (ref.func $eight) (i32.const 3000))
                (call $check (i32.eq (call_indirect $t (type $number) (i32.const 100)) (i32.const 8)))
                (call $check (i32.eq (memory.grow (i32.const 20)) (i32.const 1)))
                (call $check (i32.eq (memory.grow (i32.const 10)) (i32.const -1)))
                (call $check (i32.eqz (i32.load (i32.const 1376252))))
                (memory.fill (i32.const 1000) (i32.const 7) (i32.const 1000000))
                (memory.copy (i32.const 300) (i32.const 900) (i32.const 500000))
                (call $check (i32.eqz (i32.load8_u (i32.const 399))))
                (call $check (i32.eq (i32.load8_u (i32.const 400)) (i32.const 7)))
                (memory.init $d (i32.const 50) (i32.const 1) (i32.const 9))
                (call $check (i32.eq (i32.load8_u (i32.const 58)) (i32.const 0x39)))
                (call $check (i32.eqz (call $random_get (i32.const 70000) (i32.const 1))))
                {end}))"#
    )
}

#[test]
fn a_guest_does_the_same_in_slices_of_any_size() {
    let wat = guest("(call $proc_exit (i32.const 42))");
    for slice in SLICES {
        for eager_up_to in [0, 1 << 20] {
            let config = WasmiConfig {
                slice,
                eager_up_to,
                ..WasmiConfig::default()
            };
            let run = run(config, &wat);
            let what = format!("slices of {slice}, eager up to {eager_up_to}");
            assert_eq!(run.exit, GuestExit::Exit(42), "{what}");
            assert_eq!(run.memory_peak, 21 * 65_536, "{what}");
            // One memory.grow beyond the declared maximum, and one table.grow.
            assert_eq!(run.memory_refused, 2, "{what}");
        }
    }
}

#[test]
fn a_trap_is_the_same_in_slices_of_any_size() {
    let overflow = r#"(module (func $f (result i64) (i64.add (call $f) (i64.const 1)))
        (func (export "_start") (drop (call $f))))"#;
    for slice in SLICES {
        let config = WasmiConfig {
            slice,
            ..WasmiConfig::default()
        };
        let GuestExit::Trap(trap) = run(config.clone(), overflow).exit else {
            panic!("no trap in slices of {slice}");
        };
        assert_eq!(trap.code, TrapCode::StackOverflow);
        let wat = r#"(module (memory (export "memory") 1) (func (export "_start")
            (memory.fill (i32.const 1) (i32.const 7) (i32.const 65536))))"#;
        let GuestExit::Trap(trap) = run(config, wat).exit else {
            panic!("no trap in slices of {slice}");
        };
        assert_eq!(trap.code, TrapCode::MemoryOutOfBounds);
    }
}

#[test]
fn elements_are_counted_once_however_often_a_growth_pauses() {
    let wat = r#"(module (table $t 0 funcref) (func (export "_start") (local $n i32)
        (loop $more
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
        (if (i32.ne (table.size $t) (i32.const 30000)) (then unreachable))
        (if (i32.ne (local.get $n) (i32.const 31)) (then unreachable))))"#;
    for slice in SLICES {
        let run = run(
            WasmiConfig {
                slice,
                ..WasmiConfig::default()
            },
            wat,
        );
        assert_eq!(
            (run.exit, run.memory_refused),
            (GuestExit::Exit(0), 1),
            "{slice}"
        );
    }
}

#[test]
fn slices_that_lead_nowhere_are_refused() {
    for slice in [0, 9, 1_000_001, u64::MAX] {
        let error = Wasmi::new(WasmiConfig {
            slice,
            ..WasmiConfig::default()
        })
        .unwrap_err();
        assert!(error.to_string().contains("slice"), "{error}");
    }
}
