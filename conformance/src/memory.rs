//! Cases about memory: every sandbox gets pristine memory, and cannot exceed its limit.

use std::time::Duration;

use super::{CHECKS, Fixture, HELLO, command, expect, module, printer, text};
use engine_core::Function;
use engine_core::contract::Request;
use engine_core::memory::PoolConfig;
use engine_core::{Engine, EngineConfig, GuestExit, Outcome, TrapCode};

/// A guest that exits with an error if any of its memory, globals or tables is not as it was declared, and then changes
/// all of it: initialised memory, zero memory, grown memory, a global, an exported global and a table.
fn spoiler(end: &str) -> String {
    let (data, at) = text(256, HELLO);
    module(
        &format!(
            r#"(memory (export "memory") 20)
               {data} (data (i32.const 70000) "0123456789abcdef")
               (global $g (mut i32) (i32.const 17)) (global $f (export "f") (mut f64) (f64.const 1.5))
               (table $t 3 9 funcref) (elem (table $t) (i32.const 1) func $seven)"#
        ),
        &format!(
            r#"{CHECKS}
               (func (export "_start")
                   (call $check (i32.eq (memory.size) (i32.const 20)))
                   (call $zero (i32.const 0) (i32.const 256))
                   (call $check (i64.eq (i64.load (i32.const 70000)) (i64.const 0x3736353433323130)))
                   (call $zero (i32.const 70016) (i32.const 1310720))
                   (call $check (i32.eq (global.get $g) (i32.const 17)))
                   (call $check (f64.eq (global.get $f) (f64.const 1.5)))
                   (call $check (ref.is_null (table.get $t (i32.const 0))))
                   (call $check (i32.eq (table.size $t) (i32.const 3)))
                   (call $check (i32.eq (call_indirect $t (result i32) (i32.const 1)) (i32.const 7)))
                   (call $check (i32.eq (memory.grow (i32.const 5)) (i32.const 20)))
                   (call $zero (i32.const 1310720) (i32.const 1638400))
                   (call $print {at})
                   ;; spoil
                   (memory.fill (i32.const 64) (i32.const 0xa5) (i32.const 1638336))
                   (global.set $g (i32.const -1))
                   (global.set $f (f64.const nan))
                   (table.set $t (i32.const 0) (ref.func $seven))
                   (table.set $t (i32.const 1) (ref.null func))
                   (drop (table.grow $t (ref.func $seven) (i32.const 4)))
                   {end})"#
        ),
    )
}

/// Of many sandboxes of one function, one after another, each finds everything as it was declared.
pub fn two_sandboxes_share_nothing(fixture: &Fixture) {
    let function = fixture.deploy(&spoiler(""));
    for round in 0..20 {
        let answer = fixture.get(&function);
        assert_eq!(
            (answer.outcome, answer.status),
            (Outcome::Ok, 201),
            "round {round}: {}",
            answer.reason
        );
    }
}

/// So does a sandbox after one that ended with a trap, an exit, a deadline, a refused growth or a cancellation.
pub fn nothing_survives_a_bad_end(fixture: &Fixture) {
    let ends = [
        ("unreachable", Outcome::Trap),
        ("(call $proc_exit (i32.const 5))", Outcome::Trap),
        ("(drop (i32.load (i32.const -1)))", Outcome::Trap),
        ("(loop $l (br $l))", Outcome::Timeout),
        (
            "(drop (memory.grow (i32.const 60000))) unreachable",
            Outcome::Oom,
        ),
    ];
    for (end, outcome) in ends {
        let function: Function = fixture.deploy_with(&spoiler(end), |config| {
            config.limits.timeout = Duration::from_millis(if outcome == Outcome::Timeout {
                60
            } else {
                60_000
            });
        });
        for round in 0..4 {
            let answer = fixture.get(&function);
            assert_eq!(
                answer.outcome, outcome,
                "{end}, round {round}: {}",
                answer.reason
            );
            assert!(
                !answer.reason.contains("exit code 99"),
                "{end}, round {round}: found something"
            );
        }
    }
    let function = fixture.deploy(&spoiler("(call $sleep (i64.const 3600000000000))"));
    for _ in 0..3 {
        let permit = super::expect(fixture.engine.reserve());
        let id = permit.id();
        let answer = std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(15));
                fixture.engine.cancel(id)
            });
            super::expect(function.call(
                permit,
                &engine_core::contract::Request::default(),
                &[],
                |answer| (answer.outcome, answer.reason.to_string()),
            ))
        });
        assert_eq!(answer.0, Outcome::Cancelled, "{}", answer.1);
    }
}

/// 3 MB are 45 pages: `memory.grow` succeeds for the 45th and fails for the 46th.
pub fn memory_grows_to_the_limit_and_not_beyond(fixture: &Fixture) {
    let function = fixture.deploy_with(
        &command(
            "",
            r#"(if (i32.ne (memory.grow (i32.const 44)) (i32.const 1)) (then unreachable))
               (i32.store (i32.const 2949116) (i32.const 1))
               (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
               (if (i32.ne (memory.grow (i32.const 65535)) (i32.const -1)) (then unreachable))
               (if (i32.ne (memory.grow (i32.const -1)) (i32.const -1)) (then unreachable))
               (if (i32.ne (memory.size) (i32.const 45)) (then unreachable))
               (if (i32.ne (memory.grow (i32.const 0)) (i32.const 45)) (then unreachable))"#,
        ),
        |config| config.limits.memory = 3_000_000,
    );
    for _ in 0..3 {
        let run = fixture.run(&function, b"");
        assert_eq!(run.exit, GuestExit::Exit(0));
        assert_eq!(run.memory_peak, 45 * 65_536);
        // Growth beyond 4 GiB can never succeed, so an engine may refuse it without asking the limiter.
        assert!(
            (1..=3).contains(&run.memory_refused),
            "{}",
            run.memory_refused
        );
    }
    let refused = fixture.try_deploy(
        r#"(module (memory (export "memory") 46) (func (export "_start")))"#,
        |config| {
            config.limits.memory = 3_000_000;
        },
    );
    assert!(refused.is_err_and(|error| error.to_string().contains("memory_limit")));
}

/// The outcome is `oom` only if growth was refused and the guest then ends badly.
pub fn a_refused_growth_and_a_death_is_oom(fixture: &Fixture) {
    let grow = "(drop (memory.grow (i32.const 60000)))";
    let dies = fixture.deploy(&command("", &format!("{grow} unreachable")));
    let answer = fixture.get(&dies);
    assert_eq!((answer.outcome, answer.status), (Outcome::Oom, 502));
    assert!(answer.reason.contains("memory_limit"), "{}", answer.reason);
    let copes = fixture.deploy(&printer(HELLO, grow));
    assert_eq!(fixture.get(&copes).outcome, Outcome::Ok);
}

/// Grown memory is zero and usable to its last byte, and the next sandbox does not have it.
pub fn grown_memory_is_zero_and_shrinks_back(fixture: &Fixture) {
    let function = fixture.deploy(&command(
        "",
        r#"(local $at i32)
           (if (i32.ne (memory.size) (i32.const 1)) (then unreachable))
           (if (i32.ne (memory.grow (i32.const 3)) (i32.const 1)) (then unreachable))
           (if (i32.ne (memory.grow (i32.const 2)) (i32.const 4)) (then unreachable))
           (local.set $at (i32.const 65536))
           (loop $more
               (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
               (i64.store (local.get $at) (i64.const -1))
               (local.set $at (i32.add (local.get $at) (i32.const 8)))
               (br_if $more (i32.lt_u (local.get $at) (i32.const 393216))))"#,
    ));
    for _ in 0..4 {
        assert_eq!(fixture.run(&function, b"").exit, GuestExit::Exit(0));
    }
    let beyond = fixture.deploy(&command(
        "",
        "(drop (memory.grow (i32.const 5))) (i32.store8 (i32.const 393216) (i32.const 1))",
    ));
    assert_eq!(fixture.trap(&beyond), TrapCode::MemoryOutOfBounds);
}

/// A maximum that the module declares is kept, even if the limit is higher.
pub fn a_declared_maximum_holds(fixture: &Fixture) {
    let function = fixture.deploy(&command(
        r#"(memory (export "memory") 1 3)"#,
        r#"(if (i32.ne (memory.grow (i32.const 3)) (i32.const -1)) (then unreachable))
           (if (i32.ne (memory.grow (i32.const 2)) (i32.const 1)) (then unreachable))
           (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))"#,
    ));
    assert_eq!(fixture.run(&function, b"").exit, GuestExit::Exit(0));
}

/// Growth of tables is limited too.
pub fn tables_are_bounded(fixture: &Fixture) {
    let function = fixture.deploy_with(
        &command(
            "(table $t 1 funcref)",
            r#"(local $n i32)
               (loop $more
                   (local.set $n (i32.add (local.get $n) (i32.const 1)))
                   (if (i32.gt_u (local.get $n) (i32.const 1000)) (then unreachable))
                   (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
               (if (i32.gt_u (table.size $t) (i32.const 50000)) (then unreachable))
               (if (i32.lt_u (table.size $t) (i32.const 40000)) (then unreachable))"#,
        ),
        |config| config.limits.table_elements = 50_000,
    );
    assert_eq!(fixture.run(&function, b"").exit, GuestExit::Exit(0));
}

/// Sandboxes on sixteen threads, each of which changes everything, share nothing.
pub fn callers_in_parallel_share_nothing(fixture: &Fixture) {
    let function = fixture.deploy(&spoiler(""));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..8 {
                    let answer = fixture.get(&function);
                    assert_eq!(
                        (answer.outcome, answer.status),
                        (Outcome::Ok, 201),
                        "{}",
                        answer.reason
                    );
                }
            });
        }
    });
}

/// An engine like the fixture's, whose calls may hold 64 MiB together, and a quarter of that in free slots.
pub(super) fn small_engine(fixture: &Fixture) -> Fixture {
    let config = EngineConfig {
        max_memory: 64 << 20,
        hold_answers: true,
        pool: fixture.engine.pool().map(|_| PoolConfig::default()),
        ..EngineConfig::default()
    };
    let backends = fixture.engine.backends().to_vec();
    Fixture {
        engine: expect(Engine::new(config, backends)),
    }
}

/// A guest whose growth the engine has no memory for sees it refused, and no other guest notices; what guests held is free
/// again when they have ended.
pub fn the_memory_of_all_calls_is_bounded(fixture: &Fixture) {
    let fixture = &small_engine(fixture);
    let grow = |pages: u32, otherwise: &str| {
        printer(
            HELLO,
            &format!(
                "(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then {otherwise}))"
            ),
        )
    };
    let large = fixture.deploy(&grow(1200, "unreachable"));
    let fits = fixture.deploy(&grow(300, "unreachable"));
    let copes = fixture.deploy(&grow(1200, ""));
    let hello = fixture.deploy(&printer(HELLO, ""));
    for round in 0..3 {
        let answer = fixture.get(&large);
        assert_eq!(
            (answer.outcome, answer.status),
            (Outcome::Oom, 503),
            "{round}"
        );
        assert!(answer.reason.contains("max_memory"), "{}", answer.reason);
        for function in [&fits, &copes, &hello] {
            let answer = fixture.get(function);
            assert_eq!(answer.outcome, Outcome::Ok, "{round}: {}", answer.reason);
        }
    }
    assert_eq!(fixture.engine.memory().refused(), 6);

    // What the caller takes is missing for guests, and a call for which nothing is left is refused before it runs.
    take_all_but(fixture, 10 << 20);
    assert_eq!(fixture.get(&fits).outcome, Outcome::Oom);
    assert_eq!(fixture.get(&hello).outcome, Outcome::Ok);
    take_all_but(fixture, 0);
    let answer = fixture.get(&hello);
    assert_eq!((answer.outcome, answer.status), (Outcome::Rejected, 503));
    assert!(answer.reason.contains("max_memory"), "{}", answer.reason);
    fixture.engine.give_memory(u64::MAX);
    assert_eq!(fixture.get(&fits).outcome, Outcome::Ok);
    drop((large, fits, copes, hello));
    assert_eq!(fixture.engine.memory().used(), 0);
}

/// Takes memory as the engine's caller, and leaves some.
pub(super) fn take_all_but(fixture: &Fixture, bytes: u64) {
    let memory = fixture.engine.memory();
    let rest = memory.most() - memory.used() - bytes;
    assert!(fixture.engine.take_memory(rest));
}

/// What guests write to stdout counts, and answers that the caller keeps.
pub fn buffers_count_in_the_memory_of_all_calls(fixture: &Fixture) {
    let fixture = &small_engine(fixture);
    // A body of `bytes` times "x".
    let writer = |bytes: u32| {
        let pages = bytes / 65_536 + 2;
        let (head, head_at) = text(256, r#"{"body":""#);
        let (tail, tail_at) = text(512, r#""}"#);
        let fields = format!(r#"(memory (export "memory") {pages}) {head} {tail}"#);
        let code = format!(
            "(memory.fill (i32.const 1024) (i32.const 120) (i32.const {bytes}))
             (call $print {head_at})
             (call $print (i32.const 1024) (i32.const {bytes}))
             (call $print {tail_at})"
        );
        fixture.deploy(&command(&fields, &code))
    };
    let held = |function: &Function| {
        let permit = expect(fixture.engine.reserve());
        let call = function.call(permit, &Request::default(), &[], |answer| {
            (answer.outcome, answer.status, answer.held)
        });
        expect(call)
    };
    let (long, short) = (writer(5 << 20), writer(64 << 10));
    assert_eq!(held(&long), (Outcome::Ok, 200, 5 << 20));
    assert_eq!(fixture.engine.memory().outside(), 5 << 20);
    fixture.engine.give_memory(5 << 20);
    assert_eq!(held(&short), (Outcome::Ok, 200, 0));
    assert_eq!(fixture.engine.memory().outside(), 0);

    // There is room for the sandbox and not for what it writes.
    take_all_but(fixture, 8 << 20);
    assert_eq!(held(&long), (Outcome::Oom, 503, 0));
    assert_eq!(held(&short), (Outcome::Ok, 200, 0));
    fixture.engine.give_memory(u64::MAX);
    assert_eq!(held(&long), (Outcome::Ok, 200, 5 << 20));
    drop((long, short));
    assert_eq!(fixture.engine.memory().used(), 5 << 20);
}
