//! Canary pairs: one sandbox fills everything that it can reach with a random canary. The next one, in the same slot,
//! prints everything that it finds, and the host searches that for the canary.
//!
//! ```text
//!   A: stdin ──▶ canary ──▶ all memory, a grown page, globals, table, stderr ──▶ ends (well, or in one of five bad ways)
//!   B: memory ─┬─▶ stdout ──▶ searched for A's canary and for what A left in globals, table and memory.size
//!      a grown page, globals, table ─┘
//! ```
//!
//! `GOJINN_CANARY_PAIRS` sets how many pairs run for each backend and mode; the default is [`PAIRS`]. If none of N
//! pairs leaks, the probability of a leak in one pair is at most 3/N, with 95 % confidence (the "rule of three").

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{expect, module};
use engine_core::backend::Backend;
use engine_core::memory::{PoolConfig, ResetMode};
use engine_core::{Engine, EngineConfig};
use engine_core::{Function, FunctionConfig, RawRun};
use engine_core::{GuestExit, TrapCode};

/// The number of pairs for each backend and mode in an ordinary test run.
pub const PAIRS: u64 = 100_000;

/// In one of this many pairs the first guest ends badly: with a trap, an exit code, a deadline, a refused growth or a
/// cancellation, in turn.
const BAD_END_EVERY: u64 = 50;

/// Bytes that the dumping guest's own read and writes touch, at the bottom of memory.
const SCRATCH: usize = 128;

/// Makes the tests that run [`pairs`] for the backend that the expression makes, one for each memory mode.
#[macro_export]
macro_rules! canary_pairs {
    ($backend:expr) => {
        mod canary_pairs {
            use super::*;
            use engine_core::memory::ResetMode;

            #[test]
            fn without_a_pool() {
                $crate::canary::pairs($backend, None);
            }

            #[test]
            fn with_copy() {
                $crate::canary::pairs($backend, Some(ResetMode::Copy));
            }

            #[test]
            fn with_madvise() {
                $crate::canary::pairs($backend, Some(ResetMode::Madvise));
            }

            #[test]
            fn with_scan() {
                $crate::canary::pairs($backend, Some(ResetMode::Scan));
            }
        }
    };
}

/// Runs the pairs on one backend and in one memory mode, most of them on two threads and the last tenth on sixteen.
///
/// # Panics
/// If a canary is found, or if a guest ends in another way than it was told to.
pub fn pairs(backend: Arc<dyn Backend>, mode: Option<ResetMode>) {
    let kind = backend.name();
    if let Some(mode) = mode {
        let pool = PoolConfig {
            reset: mode,
            ..PoolConfig::default()
        };
        if let Err(error) = engine_core::memory::Pool::new(pool) {
            println!("{kind}, {mode:?}: skipped, this machine cannot: {error}");
            return;
        }
    }
    let config = EngineConfig {
        pool: mode.map(|reset| PoolConfig {
            reset,
            ..PoolConfig::default()
        }),
        ..EngineConfig::default()
    };
    let engine = expect(Engine::new(config, vec![backend]));
    let deploy = |tables, timeout| {
        let wasm = match wat::parse_str(guest(tables)) {
            Ok(wasm) => wasm,
            Err(error) => panic!("the guest's wat is wrong: {error}"),
        };
        let mut config = FunctionConfig {
            name: "canary".into(),
            ..FunctionConfig::default()
        };
        config.limits.timeout = timeout;
        config.limits.memory = 4 << 20;
        expect(engine.deploy(&wasm, config))
    };
    let bench = Bench {
        forms: [true, false].map(|tables| Form {
            patient: deploy(tables, Duration::from_secs(60)),
            hasty: deploy(tables, Duration::from_millis(2)),
        }),
        engine,
        next: AtomicU64::new(0),
    };
    let wanted = std::env::var("GOJINN_CANARY_PAIRS")
        .ok()
        .and_then(|pairs| pairs.parse().ok())
        .unwrap_or(PAIRS);
    bench.run(2, wanted - wanted / 10);
    bench.run(16, wanted);
    println!(
        "{kind}, {}: {wanted} pairs, 0 canaries found: below {:.1e} per pair with 95 % confidence",
        mode.map_or("no pool".into(), |mode| format!("{mode:?}")),
        3.0 / wanted as f64
    );
}

struct Bench {
    engine: Engine,
    /// With tables and growth, and without: other code serves guests whose instances can be reused.
    forms: [Form; 2],
    next: AtomicU64,
}

/// Two functions of one module, which share its image and so its slots.
struct Form {
    patient: Function,
    hasty: Function,
}

impl Bench {
    /// Runs pairs on `threads` threads until number `until`.
    fn run(&self, threads: usize, until: u64) {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let number = self.next.fetch_add(1, Ordering::Relaxed);
                        if number >= until {
                            break;
                        }
                        self.pair(number);
                    }
                    // Give back the number that was taken and not used.
                    self.next.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
    }

    fn pair(&self, number: u64) {
        let end = if number.is_multiple_of(BAD_END_EVERY) {
            1 + (number / BAD_END_EVERY) % 5
        } else {
            0
        };
        let canary = canary(number);
        let mut stdin = vec![b'A', end as u8];
        stdin.resize(16, 0);
        stdin.extend(canary);
        let form = &self.forms[(number / 3 % 2) as usize];
        let run = self.spoil(form, end, stdin);
        let logged = run
            .logs
            .windows(canary.len())
            .any(|window| window == canary);
        // On a busy machine a deadline or a cancellation may come before the guest has filled everything.
        assert!(
            logged || matches!(end, 3 | 5),
            "pair {number}: the first guest did not run to its end: {:?}",
            run.exit
        );

        let mut stdin = vec![b'B'];
        stdin.resize(16, 0);
        stdin.extend([0; 16]);
        let run = self.go(&form.patient, stdin);
        assert_eq!(
            run.exit,
            GuestExit::Exit(0),
            "pair {number}: the second guest found a changed table or size"
        );
        // Two pages of initial memory, one that was grown or a third initial one, and two globals.
        assert_eq!(run.stdout.len(), 3 * 65_536 - SCRATCH + 16, "pair {number}");
        let half = [&canary[..8], &canary[8..]];
        let found = run
            .stdout
            .chunks_exact(8)
            .position(|word| half.contains(&word));
        assert_eq!(
            found, None,
            "pair {number} (end {end}): the canary is in word {found:?} of what the next guest saw"
        );
        let logs = run.logs.windows(8).any(|window| half.contains(&window));
        assert!(
            !logs,
            "pair {number}: the canary is in the next guest's log"
        );
        let globals = &run.stdout[run.stdout.len() - 16..];
        assert_eq!(
            globals,
            [17u64.to_le_bytes(), 0u64.to_le_bytes()].concat(),
            "pair {number}: the globals"
        );
    }

    /// Runs the first guest, and checks that it ends as it is told to.
    fn spoil(&self, form: &Form, end: u64, stdin: Vec<u8>) -> RawRun {
        let function = if end == 3 { &form.hasty } else { &form.patient };
        if end != 5 {
            let run = self.go(function, stdin);
            let expected = match end {
                0 => GuestExit::Exit(0),
                2 => GuestExit::Exit(7),
                _ => run.exit.clone(),
            };
            assert_eq!(run.exit, expected);
            if let (GuestExit::Exit(_), 1 | 3 | 4) = (&run.exit, end) {
                panic!("end {end} should be a trap, not {:?}", run.exit);
            }
            return run;
        }
        let permit = expect(self.engine.reserve());
        let id = permit.id();
        let run = std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(3));
                self.engine.cancel(id)
            });
            expect(function.run(permit, stdin))
        });
        assert!(matches!(&run.exit, GuestExit::Trap(trap) if trap.code == TrapCode::Cancelled));
        run
    }

    fn go(&self, function: &Function, stdin: Vec<u8>) -> RawRun {
        expect(function.run(expect(self.engine.reserve()), stdin))
    }
}

/// Sixteen bytes that occur nowhere else. They differ for every pair and every process.
fn canary(number: u64) -> [u8; 16] {
    let mut random = [0; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        panic!("no randomness: {error}");
    }
    // A word of zeros would be found in any memory.
    random[0] |= 1;
    random[8] |= 1;
    random[15] ^= number as u8;
    // A newline would split the line in stderr.
    random.map(|byte| if byte == b'\n' { b'.' } else { byte })
}

/// Both guests of a pair in one module, so that they share slots. The first byte of stdin says which one runs.
fn guest(tables: bool) -> String {
    // The form without tables does not grow its memory either: it has three pages at the start.
    let with_tables = |code: &'static str| if tables { code } else { "" };
    let fields = format!(
        r#"(memory (export "memory") {pages})
           (data (i32.const 4096) "initialised") (data (i32.const 70000) "more of it")
           (global $one (mut i64) (i64.const 17)) (global $two (mut i64) (i64.const 0))
           {table}"#,
        pages = if tables { 2 } else { 3 },
        table = with_tables("(table $t 2 6 funcref)"),
    );
    let functions = format!(
        r#"(func $spoil (local $filled i32)
               {grow}
               ;; the canary is at 80: over everything above the scratch, by doubling
               (memory.copy (i32.const 128) (i32.const 80) (i32.const 16))
               (local.set $filled (i32.const 16))
               (loop $more
                   (memory.copy (i32.add (i32.const 128) (local.get $filled)) (i32.const 128)
                       (select (local.get $filled) (i32.sub (i32.const 196480) (local.get $filled))
                           (i32.lt_u (local.get $filled) (i32.sub (i32.const 196480) (local.get $filled)))))
                   (local.set $filled (i32.shl (local.get $filled) (i32.const 1)))
                   (br_if $more (i32.lt_u (local.get $filled) (i32.const 196480))))
               (global.set $one (i64.load (i32.const 80)))
               (global.set $two (i64.load (i32.const 88)))
               {set_table}
               (call $write (i32.const 2) (i32.const 80) (i32.const 16)))
           {declare}
           (func $dump
               (call $print (i32.const 128) (i32.const 130944))
               {grow_again}
               (call $print (i32.const 131072) (i32.const 65536))
               (i64.store (i32.const 96) (global.get $one))
               (i64.store (i32.const 104) (global.get $two))
               (call $print (i32.const 96) (i32.const 16))
               {check_table})
           (func (export "_start") (local $end i32)
               (i32.store (i32.const 0) (i32.const 64))
               (i32.store (i32.const 4) (i32.const 32))
               (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
               (if (i32.eq (i32.load8_u (i32.const 64)) (i32.const 0x42))
                   (then (call $dump) (return)))
               (local.set $end (i32.load8_u (i32.const 65)))
               (call $spoil)
               (if (i32.eq (local.get $end) (i32.const 1)) (then unreachable))
               (if (i32.eq (local.get $end) (i32.const 2)) (then (call $proc_exit (i32.const 7))))
               (if (i32.eq (local.get $end) (i32.const 3)) (then (loop $l (br $l))))
               (if (i32.eq (local.get $end) (i32.const 4))
                   (then (drop (memory.grow (i32.const 60000))) unreachable))
               (if (i32.eq (local.get $end) (i32.const 5)) (then (loop $l (br $l)))))"#,
        grow = with_tables("(drop (memory.grow (i32.const 1)))"),
        set_table = with_tables(
            "(table.set $t (i32.const 1) (ref.func $spoil))
             (drop (table.grow $t (ref.func $spoil) (i32.const 2)))"
        ),
        declare = with_tables("(elem declare func $spoil)"),
        grow_again = with_tables(
            "(if (i32.ne (memory.grow (i32.const 1)) (i32.const 2)) (then unreachable))"
        ),
        check_table = with_tables(
            "(if (i32.ne (table.size $t) (i32.const 2)) (then unreachable))
             (if (i32.eqz (ref.is_null (table.get $t (i32.const 1)))) (then unreachable))"
        ),
    );
    module(&fields, &functions)
}
