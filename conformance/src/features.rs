//! Cases about WebAssembly features: one list, with the same meaning on every backend.

use super::{CHECKS, Fixture, command, module};
use engine_core::FunctionConfig;
use engine_core::{GuestExit, TrapCode};

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

/// Long bulk operations, which are done in pieces, do what one operation does: at the borders of pieces, where source and
/// target overlap, up to the last byte of memory, and out of bounds.
pub fn long_bulk_operations_are_exact(fixture: &Fixture) {
    let bytes: String = (0..300_000u32)
        .map(|at| format!("\\{:02x}", at % 251))
        .collect();
    let fields = format!(r#"(memory (export "memory") 64) (data $d "{bytes}")"#);
    let run = |code: &str| {
        let functions = format!(
            r#"{CHECKS}
            (func $fill (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
            (func $copy (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
            (func $init (param i32 i32 i32) (memory.init $d (local.get 0) (local.get 1) (local.get 2)))
            (func $drop (data.drop $d))
            ;; whether all of `count` bytes are `byte`
            (func $all (param $at i32) (param $byte i32) (param $count i32)
                (loop $more
                    (call $check (i32.eq (i32.load8_u (local.get $at)) (local.get $byte)))
                    (local.set $at (i32.add (local.get $at) (i32.const 1)))
                    (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))
            ;; a different word everywhere in the first 2 MiB
            (func $pattern (local $at i32)
                (loop $more
                    (i32.store (local.get $at) (i32.mul (local.get $at) (i32.const 0x9e3779b1)))
                    (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4)))
                        (i32.const 0x200000)))))
            ;; whether `at` has the `count` bytes of the pattern that were at `from`
            (func $was (param $at i32) (param $from i32) (param $count i32)
                (loop $more
                    (call $check (i32.eq (i32.load (local.get $at))
                        (i32.mul (local.get $from) (i32.const 0x9e3779b1))))
                    (local.set $at (i32.add (local.get $at) (i32.const 4)))
                    (local.set $from (i32.add (local.get $from) (i32.const 4)))
                    (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 4))))))
            (func $shift (param $to i32) (param $from i32) (param $count i32)
                (call $pattern)
                (call $copy (local.get $to) (local.get $from) (local.get $count))
                (call $was (local.get $to) (local.get $from) (local.get $count))
                (call $was (i32.sub (local.get $to) (i32.const 400)) (i32.sub (local.get $to) (i32.const 400))
                    (i32.const 400))
                (local.set $to (i32.add (local.get $to) (local.get $count)))
                (call $was (local.get $to) (local.get $to) (i32.const 400)))
            (func (export "_start") {code})"#
        );
        let function = fixture.deploy(&module(&fields, &functions));
        fixture.run(&function, b"").exit
    };
    let good = [
        // One byte less than a piece, a piece, one more; two pieces; in between; to the last byte.
        "(call $fill (i32.const 1001) (i32.const 0xab) (i32.const 262143))
         (call $all (i32.const 1001) (i32.const 0xab) (i32.const 262143))
         (call $all (i32.const 263144) (i32.const 0) (i32.const 99))",
        "(call $fill (i32.const 1001) (i32.const 0xab) (i32.const 262145))
         (call $all (i32.const 1001) (i32.const 0xab) (i32.const 262145))
         (call $all (i32.const 263146) (i32.const 0) (i32.const 99))",
        "(call $fill (i32.const 1001) (i32.const 0x1ab) (i32.const 524288))
         (call $all (i32.const 900) (i32.const 0) (i32.const 101))
         (call $all (i32.const 1001) (i32.const 0xab) (i32.const 524288))
         (call $all (i32.const 525289) (i32.const 0) (i32.const 99))",
        "(call $fill (i32.const 3494303) (i32.const 1) (i32.const 700001))
         (call $all (i32.const 3494203) (i32.const 0) (i32.const 100))
         (call $all (i32.const 3494303) (i32.const 1) (i32.const 700001))",
        // Downwards and upwards, by less and by more than a piece, and not at all.
        "(call $shift (i32.const 4000) (i32.const 4004) (i32.const 800000))",
        "(call $shift (i32.const 4004) (i32.const 4000) (i32.const 800000))",
        "(call $shift (i32.const 4000) (i32.const 266144) (i32.const 800000))",
        "(call $shift (i32.const 266144) (i32.const 4000) (i32.const 800000))",
        "(call $shift (i32.const 4000) (i32.const 304000) (i32.const 524288))",
        "(call $shift (i32.const 304000) (i32.const 4000) (i32.const 524288))",
        "(call $shift (i32.const 1204000) (i32.const 4000) (i32.const 262148))",
        "(call $shift (i32.const 4000) (i32.const 4000) (i32.const 800000))",
        "(call $pattern)
         (call $copy (i32.const 3394304) (i32.const 0) (i32.const 800000))
         (call $was (i32.const 3394304) (i32.const 0) (i32.const 800000))",
        // A segment.
        "(call $init (i32.const 100) (i32.const 0) (i32.const 300000))
         (call $all (i32.const 0) (i32.const 0) (i32.const 100))
         (call $check (i32.eq (i32.load8_u (i32.const 262243)) (i32.const 99)))
         (call $check (i32.eq (i32.load8_u (i32.const 262244)) (i32.const 100)))
         (call $check (i32.eq (i32.load8_u (i32.const 300099)) (i32.const 54)))
         (call $all (i32.const 300100) (i32.const 0) (i32.const 100))",
        "(call $init (i32.const 3894309) (i32.const 5) (i32.const 299995))
         (call $check (i32.eq (i32.load8_u (i32.const 3894309)) (i32.const 5)))
         (call $check (i32.eq (i32.load8_u (i32.const 4194303)) (i32.const 54)))
         (call $drop) (call $init (i32.const 0) (i32.const 0) (i32.const 0))",
    ];
    for code in good {
        assert_eq!(run(code), GuestExit::Exit(0), "{code}");
    }
    for code in [
        "(call $fill (i32.const 3894305) (i32.const 1) (i32.const 300000))",
        "(call $fill (i32.const 0) (i32.const 1) (i32.const -1))",
        "(call $fill (i32.const -1) (i32.const 1) (i32.const 300000))",
        "(call $copy (i32.const 0) (i32.const 3894305) (i32.const 300000))",
        "(call $copy (i32.const 3894305) (i32.const 0) (i32.const 300000))",
        "(call $copy (i32.const -4) (i32.const -8) (i32.const -16))",
        "(call $init (i32.const 3894305) (i32.const 0) (i32.const 300000))",
        "(call $init (i32.const 0) (i32.const 1) (i32.const 300000))",
        "(call $init (i32.const 0) (i32.const -1) (i32.const 300000))",
        "(call $drop) (call $init (i32.const 0) (i32.const 0) (i32.const 300000))",
    ] {
        let GuestExit::Trap(trap) = run(code) else {
            panic!("{code} does not trap");
        };
        assert_eq!(trap.code, TrapCode::MemoryOutOfBounds, "{code}");
    }
}
