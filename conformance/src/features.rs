//! Cases about WebAssembly features: one list, with the same meaning on every backend.

use super::{Fixture, command, module};
use engine_core::FunctionConfig;
use engine_core::GuestExit;

/// The features of the 2.0 core, which are always on.
pub fn the_core_features_work(fixture: &Fixture) {
    let function = fixture.deploy(&module(
        r#"(table $t 4 10 funcref) (elem $e func $seven)
           (global $g (mut i64) (i64.const 5))
           (data $d "passive")"#,
        r#"(func $seven (result i32) (i32.const 7))
           (func $pair (param i32) (result i32 i32) (local.get 0) (i32.add (local.get 0) (i32.const 1)))
           (func $check (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
           (func (export "_start")
               ;; multi-value
               (call $check (i32.eq (i32.mul (call $pair (i32.const 6))) (i32.const 42)))
               ;; sign extension
               (call $check (i32.eq (i32.extend8_s (i32.const 0x80)) (i32.const -128)))
               ;; saturating conversion
               (call $check (i32.eq (i32.trunc_sat_f64_s (f64.const 1e300)) (i32.const 0x7fffffff)))
               ;; bulk memory
               (memory.init $d (i32.const 128) (i32.const 0) (i32.const 7))
               (memory.copy (i32.const 140) (i32.const 128) (i32.const 7))
               (call $check (i32.eq (i32.load8_u (i32.const 146)) (i32.const 0x65)))
               (data.drop $d)
               ;; reference types and table operations
               (table.init $t $e (i32.const 2) (i32.const 0) (i32.const 1))
               (call $check (i32.eqz (ref.is_null (table.get $t (i32.const 2)))))
               (call $check (i32.eq (call_indirect $t (result i32) (i32.const 2)) (i32.const 7)))
               (call $check (i32.eq (table.grow $t (ref.null func) (i32.const 3)) (i32.const 4)))
               (call $check (i32.eq (table.size $t) (i32.const 7)))
               (call $check (i32.eq (table.grow $t (ref.null func) (i32.const 30)) (i32.const -1)))
               (table.set $t (i32.const 3) (ref.func $seven))
               (table.copy $t $t (i32.const 0) (i32.const 3) (i32.const 1))
               (call $check (i32.eq (call_indirect $t (result i32) (i32.const 0)) (i32.const 7)))
               ;; mutable globals have their initial values in every sandbox
               (call $check (i64.eq (global.get $g) (i64.const 5)))
               (global.set $g (i64.const 6)))"#,
    ));
    for _ in 0..3 {
        assert_eq!(fixture.run(&function, b"").exit, GuestExit::Exit(0));
    }
}

/// A backend has the optional features that it claims. A module that needs another is refused, and the error names the
/// feature.
pub fn optional_features_work_where_they_are_claimed(fixture: &Fixture) {
    let claimed = fixture.engine.backends()[0].features();
    let cases = [
        (
            claimed.simd,
            "simd",
            command(
                "",
                r#"(if (i32.ne (i32x4.extract_lane 2 (i32x4.add (v128.const i32x4 1 2 3 4) (v128.const i32x4 10 20 30 40))) (i32.const 33))
                       (then unreachable))"#,
            ),
        ),
        (
            claimed.tail_calls,
            "tail",
            module(
                "",
                r#"(func $down (param i32) (result i32)
                       (if (result i32) (local.get 0)
                           (then (return_call $down (i32.sub (local.get 0) (i32.const 1))))
                           (else (i32.const 9))))
                   (func (export "_start") (if (i32.ne (call $down (i32.const 1000000)) (i32.const 9)) (then unreachable)))"#,
            ),
        ),
        (
            claimed.extended_const,
            "extended",
            command(
                r#"(data (offset (i32.add (i32.const 200) (i32.const 56))) "x") (global $g i32 (i32.mul (i32.const 6) (i32.const 7)))"#,
                r#"(if (i32.ne (i32.load8_u (i32.const 256)) (i32.const 0x78)) (then unreachable))
                   (if (i32.ne (global.get $g) (i32.const 42)) (then unreachable))"#,
            ),
        ),
    ];
    for (claimed, name, wat) in cases {
        match fixture.try_deploy(&wat, |_: &mut FunctionConfig| {}) {
            Ok(function) => {
                assert!(claimed, "{name} works without being claimed");
                assert_eq!(
                    fixture.run(&function, b"").exit,
                    GuestExit::Exit(0),
                    "{name}"
                );
            }
            Err(error) => {
                assert!(!claimed, "{name} is claimed: {error}");
                assert!(error.to_string().to_lowercase().contains(name), "{error}");
            }
        }
    }
}

/// Taking active segments out of the code does not change the indices of the passive ones.
pub fn passive_segments_keep_their_indices(fixture: &Fixture) {
    let function = fixture.deploy(&command(
        r#"(data $a (i32.const 256) "active") (data $p "passive") (data $b (i32.const 300) "more")"#,
        r#"(memory.init $p (i32.const 400) (i32.const 0) (i32.const 7))
           (call $print (i32.const 256) (i32.const 6))
           (call $print (i32.const 400) (i32.const 7))
           (call $print (i32.const 300) (i32.const 4))
           ;; an active segment is dropped after it was applied: only nothing can be taken from it
           (memory.init $a (i32.const 500) (i32.const 0) (i32.const 0))
           (memory.init $a (i32.const 500) (i32.const 0) (i32.const 1))"#,
    ));
    let run = fixture.run(&function, b"");
    assert_eq!(run.stdout, b"activepassivemore");
    assert!(
        matches!(run.exit, GuestExit::Trap(trap) if trap.code == engine_core::TrapCode::MemoryOutOfBounds)
    );
}

/// Where segments overlap, the bytes of the later one count.
pub fn overlapping_segments_apply_in_order(fixture: &Fixture) {
    let function = fixture.deploy(&command(
        r#"(data (i32.const 256) "aaaa") (data (i32.const 258) "bbbb") (data (i32.const 257) "c")"#,
        "(call $print (i32.const 256) (i32.const 6))",
    ));
    for _ in 0..2 {
        assert_eq!(fixture.run(&function, b"").stdout, b"acbbbb");
    }
}

/// A module without memory and hostcalls can be deployed. Its output is empty, and so refused.
pub fn a_module_without_memory_works(fixture: &Fixture) {
    let function = fixture.deploy(r#"(module (func (export "_start")))"#);
    let run = fixture.run(&function, b"");
    assert_eq!((run.exit, run.memory_peak), (GuestExit::Exit(0), 0));
    let exits = fixture.deploy(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
             (func (export "_start") (call $exit (i32.const 4))))"#,
    );
    assert_eq!(fixture.run(&exits, b"").exit, GuestExit::Exit(4));
}
