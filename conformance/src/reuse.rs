//! Cases about pooled instances: a guest cannot tell whether its instance was used before, and their number is bounded.

use std::sync::Arc;
use std::time::Duration;

use super::{CHECKS, expect};
use engine_core::SandboxLimits;
use engine_core::backend::Backend;
use engine_core::memory::PoolStats;
use engine_core::{Engine, EngineConfig};
use engine_core::{Function, FunctionConfig, RawRun};
use engine_core::{GuestExit, TrapCode};

/// A backend that reuses instances.
#[derive(Clone, Copy)]
pub struct Reusing {
    /// Makes it, with a budget of `places` for the instances that are in use or wait. `None`: the default budget.
    pub make: fn(places: Option<usize>) -> Arc<dyn Backend>,
    /// Whether an instance whose memory was grown is kept.
    pub shrinks: bool,
}

/// Makes the tests of this file for the [`Reusing`] that the expression makes.
#[macro_export]
macro_rules! reuse {
    ($reusing:expr) => {
        $crate::reuse! { $reusing;
            nothing_is_left_after_any_end_in_any_order
            nothing_is_left_on_sixteen_threads
            an_instance_is_kept_after_a_good_end_only
            an_instance_is_not_kept_where_it_cannot_be_restored_or_must_not_be
            kept_instances_are_bounded_over_all_functions_and_go_with_them
            functions_of_one_module_keep_their_own_limits
            stats_are_counted_for_each_sandbox
        }
    };
    ($reusing:expr; $($case:ident)*) => {
        mod reuse {
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::reuse::$case($reusing);
                }
            )*
        }
    };
}

impl Reusing {
    fn engine(self, places: Option<usize>) -> Engine {
        expect(Engine::new(
            EngineConfig::default(),
            vec![(self.make)(places)],
        ))
    }
}

fn deploy(engine: &Engine, wat: &str, pages: u64, timeout: Duration) -> Function {
    let config = FunctionConfig {
        name: "reuse".into(),
        limits: SandboxLimits {
            memory: pages * 65_536,
            timeout,
            ..SandboxLimits::default()
        },
        ..FunctionConfig::default()
    };
    match wat::parse_str(wat) {
        Ok(wasm) => expect(engine.deploy(&wasm, config)),
        Err(error) => panic!("the guest's wat is wrong: {error}"),
    }
}

/// Longer than any guest except a loop takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(engine: &Engine, function: &Function, stdin: &[u8]) -> RawRun {
    let permit = expect(engine.reserve());
    expect(function.run(permit, stdin.to_vec()))
}

/// A [`spoiler`], deployed.
struct Spoiler {
    patient: Function,
    /// The same module, for the end that is the deadline.
    hasty: Function,
}

impl Spoiler {
    fn new(engine: &Engine, more: &str) -> Self {
        let wat = spoiler(more);
        Self {
            patient: deploy(engine, &wat, 40, PATIENCE),
            hasty: deploy(engine, &wat, 40, Duration::from_millis(100)),
        }
    }

    fn run(&self, engine: &Engine, end: u8) -> RawRun {
        let function = if end == LOOP {
            &self.hasty
        } else {
            &self.patient
        };
        let run = run(engine, function, &[end]);
        match (end, &run.exit) {
            (0 | 1 | 4 | 5, GuestExit::Exit(0)) | (2, GuestExit::Exit(5)) => {}
            (3, GuestExit::Trap(trap)) if trap.code == TrapCode::Unreachable => {}
            (LOOP, GuestExit::Trap(trap)) if trap.code == TrapCode::Deadline => {}
            (_, exit) => panic!("{exit:?} after end {end}; exit code 99: found something"),
        }
        run
    }
}

/// The pool's stats. `None` if this machine has no pool, and so no pooled instances.
fn stats(engine: &Engine) -> Option<PoolStats> {
    engine.pool().map(|pool| pool.stats())
}

fn known(engine: &Engine) -> PoolStats {
    match stats(engine) {
        Some(stats) => stats,
        None => panic!("the pool is gone"),
    }
}

/// Exits with 99 if any of its memory or globals is not as it was declared. Then it changes all of it, and ends as the
/// first byte of stdin says: 0 return, 1 exit 0, 2 exit 5, 3 a trap, 4 grow and return, 5 a refused growth, 6 a loop.
fn spoiler(more: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 20)
            (data (i32.const 70000) "0123456789abcdef")
            (global $a (mut i32) (i32.const 17)) (global $b (export "b") (mut i64) (i64.const -5))
            (global $c (mut f32) (f32.const 2.5)) (global $d (export "d") (mut f64) (f64.const -0.0))
            (global $e (mut v128) (v128.const i64x2 1 2))
            (table $t 2 2 funcref) (elem (table $t) (i32.const 0) func $seven)
            {more}
            {CHECKS}
            (func (export "_start")
                (local $end i32)
                (call $check (i32.eq (memory.size) (i32.const 20)))
                (call $zero (i32.const 0) (i32.const 70000))
                (call $check (i64.eq (i64.load (i32.const 70000)) (i64.const 0x3736353433323130)))
                (call $check (i64.eq (i64.load (i32.const 70008)) (i64.const 0x6665646362613938)))
                (call $zero (i32.const 70016) (i32.const 1310720))
                (call $check (i32.eq (global.get $a) (i32.const 17)))
                (call $check (i64.eq (global.get $b) (i64.const -5)))
                (call $check (f32.eq (global.get $c) (f32.const 2.5)))
                (call $check (i64.eq (i64.reinterpret_f64 (global.get $d)) (i64.const 0x8000000000000000)))
                (call $check (i8x16.all_true (i64x2.eq (global.get $e) (v128.const i64x2 1 2))))
                (call $check (i32.eq (table.size $t) (i32.const 2)))
                (call $check (i32.eq (call_indirect $t (result i32) (i32.const 0)) (i32.const 7)))
                (call $check (ref.is_null (table.get $t (i32.const 1))))
                (i32.store (i32.const 0) (i32.const 16))
                (i32.store (i32.const 4) (i32.const 1))
                (call $check (i32.eqz (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))))
                (local.set $end (i32.load8_u (i32.const 16)))
                ;; spoil
                (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 1310720))
                (global.set $a (i32.const -1)) (global.set $b (i64.const -1))
                (global.set $c (f32.const nan)) (global.set $d (f64.const nan))
                (global.set $e (v128.const i64x2 -1 -1))
                (block $loop (block $refused (block $grow (block $trap (block $five (block $zero (block $return
                    (br_table $return $zero $five $trap $grow $refused $loop (local.get $end)))
                    return)
                    (call $proc_exit (i32.const 0)))
                    (call $proc_exit (i32.const 5)))
                    unreachable)
                    (call $check (i32.eq (memory.grow (i32.const 5)) (i32.const 20)))
                    (call $zero (i32.const 1310720) (i32.const 1638400))
                    (memory.fill (i32.const 1310720) (i32.const 0xa5) (i32.const 327680))
                    return)
                    (call $check (i32.eq (memory.grow (i32.const 10000)) (i32.const -1)))
                    return)
                (loop $l (br $l))))"#
    )
}

/// The same with a segment that its code may drop, so that its instances are never reused.
const HIDDEN: &str = r#"(data $x "x") (func (export "drop") (data.drop $x))"#;

const ENDS: u8 = 7;
const LOOP: u8 = 6;

/// Ends in random order, but only a few that wait for the deadline.
fn ends(seed: u64, count: usize) -> impl Iterator<Item = u8> {
    let mut random = seed;
    std::iter::repeat_with(move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        match (random >> 20) % 64 {
            0 => LOOP,
            // Mostly good ends, so that there are pooled instances.
            n @ 1..48 => (n % 3) as u8,
            n => (n % u64::from(ENDS - 1)) as u8,
        }
    })
    .take(count)
}

/// A guest finds no trace of earlier guests, however those ended.
pub fn nothing_is_left_after_any_end_in_any_order(reusing: Reusing) {
    for more in ["", HIDDEN] {
        let engine = reusing.engine(None);
        let function = Spoiler::new(&engine, more);
        for end in (0..ENDS)
            .flat_map(|end| [end, 0, 0, 0, 0])
            .chain(ends(7, 100))
        {
            function.run(&engine, end);
        }
    }
}

/// Nor does it if sixteen threads use the same few instances.
pub fn nothing_is_left_on_sixteen_threads(reusing: Reusing) {
    for places in [Some(1), None] {
        let engine = reusing.engine(places);
        let function = Spoiler::new(&engine, "");
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (engine, function) = (&engine, &function);
                scope.spawn(move || {
                    for end in ends(thread + 1, 25).filter(|end| *end != LOOP) {
                        function.run(engine, end);
                    }
                });
            }
        });
        if let Some(stats) = stats(&engine) {
            assert_eq!(stats.busy, 0, "{stats:?}");
            assert!(
                stats.waiting <= places.unwrap_or(usize::MAX) as u64,
                "{stats:?}"
            );
        }
        drop(function);
        let left = stats(&engine).map_or((0, 0), |stats| (stats.busy, stats.waiting));
        assert_eq!(left, (0, 0));
    }
}

/// After a return or `proc_exit` the instance is pooled for the next sandbox. After any other end it is not.
pub fn an_instance_is_kept_after_a_good_end_only(reusing: Reusing) {
    let engine = reusing.engine(None);
    let Some(_) = stats(&engine) else { return };
    let function = Spoiler::new(&engine, "");
    let grown = u64::from(reusing.shrinks);
    for (end, kept) in [(0, 1), (1, 1), (2, 1), (5, 1), (3, 0), (4, grown), (6, 0)] {
        // Enough runs that an instance is pooled again, however long the backend pauses after it has lost some.
        for _ in 0..20 {
            function.run(&engine, 0);
        }
        let before = known(&engine);
        assert_eq!((before.busy, before.waiting), (0, 1), "before {end}");
        function.run(&engine, end);
        let after = known(&engine);
        assert_eq!((after.busy, after.waiting), (0, kept), "after {end}");
        // The guest ran in that instance: no other slot was made.
        assert_eq!(after.slots_total, before.slots_total);
        assert_eq!((after.retired, after.reset_failures), (0, 0));
    }
}

/// With hidden state, or with a budget of 0, every sandbox has a new instance.
pub fn an_instance_is_not_kept_where_it_cannot_be_restored_or_must_not_be(reusing: Reusing) {
    for (places, more) in [
        (None, HIDDEN),
        (None, "(func (table.set $t (i32.const 1) (ref.null func)))"),
        (None, "(global (mut funcref) (ref.null func))"),
        (Some(0), ""),
    ] {
        let engine = reusing.engine(places);
        let function = Spoiler::new(&engine, more);
        for _ in 0..5 {
            function.run(&engine, 0);
        }
        assert_eq!(stats(&engine).map_or(0, |stats| stats.waiting), 0);
    }
}

/// Waiting instances are bounded, and are dropped with their function.
pub fn kept_instances_are_bounded_over_all_functions_and_go_with_them(reusing: Reusing) {
    let engine = reusing.engine(Some(2));
    let Some(_) = stats(&engine) else { return };
    let functions: Vec<Spoiler> = (0..4)
        .map(|n| {
            let more = format!("(func (result i32) (i32.const {n}))");
            Spoiler::new(&engine, &more)
        })
        .collect();
    for _ in 0..5 {
        for function in &functions {
            function.run(&engine, 0);
        }
    }
    assert_eq!(known(&engine).waiting, 2);
    drop(functions);
    let stats = known(&engine);
    assert_eq!((stats.busy, stats.waiting, stats.retired), (0, 0, 0));
}

/// Grows its memory as far as it can if stdin has a byte, and exits with the number of its pages.
const PAGES: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1 60)
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 1))
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (if (i32.load (i32.const 8))
            (then (loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))))
        (call $proc_exit (memory.size))))"#;

/// Two functions of one module share instances, and keep their own limits.
pub fn functions_of_one_module_keep_their_own_limits(reusing: Reusing) {
    let engine = reusing.engine(None);
    let limits = [30, 40, 90];
    let functions = limits.map(|pages| deploy(&engine, PAGES, pages, PATIENCE));
    assert_eq!(engine.compilations(), 1);
    for before in &functions {
        for (function, pages) in functions.iter().zip(limits) {
            for _ in 0..9 {
                assert_eq!(run(&engine, before, b"").exit, GuestExit::Exit(1));
            }
            let run = run(&engine, function, b"x");
            let most = pages.min(60);
            assert_eq!(run.exit, GuestExit::Exit(most as i32));
            assert_eq!((run.memory_peak, run.memory_refused), (most * 65_536, 1));
        }
    }
}

/// The peak and the refusals of memory are counted for each sandbox.
pub fn stats_are_counted_for_each_sandbox(reusing: Reusing) {
    let engine = reusing.engine(None);
    let function = Spoiler::new(&engine, "");
    for _ in 0..5 {
        for (end, refused) in [(5, 1), (0, 0)] {
            let run = function.run(&engine, end);
            assert_eq!(
                (run.memory_peak, run.memory_refused),
                (20 * 65_536, refused)
            );
        }
    }
}
