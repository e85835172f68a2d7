//! Cases about ends: traps, exits, deadlines and cancellation. A hostile guest ends within its limits, and the next
//! guest is not affected.

use std::time::{Duration, Instant};

use super::{Fixture, HELLO, command, expect, module, printer};
use engine_core::CallId;
use engine_core::Function;
use engine_core::{GuestExit, Outcome, TrapCode};

const SHORT: Duration = Duration::from_millis(40);

/// Much more than any end takes on a busy machine, and much less than these guests would run.
const SOON: Duration = Duration::from_secs(20);

/// Stack sizes of calling threads: the default of musl, and less.
const STACKS: [usize; 3] = [64 << 10, 128 << 10, 8 << 20];

/// Each class of trap has the same code on every engine.
pub fn every_trap_has_the_same_code_everywhere(fixture: &Fixture) {
    let cases = [
        ("unreachable", TrapCode::Unreachable),
        (
            "(drop (i32.load (i32.const -4)))",
            TrapCode::MemoryOutOfBounds,
        ),
        (
            "(drop (i32.load offset=0xffffffff (i32.const -1)))",
            TrapCode::MemoryOutOfBounds,
        ),
        (
            "(i32.store (i32.const 65533) (i32.const 1))",
            TrapCode::MemoryOutOfBounds,
        ),
        (
            "(memory.fill (i32.const 65530) (i32.const 0) (i32.const 7))",
            TrapCode::MemoryOutOfBounds,
        ),
        (
            "(memory.copy (i32.const 0) (i32.const 65530) (i32.const 7))",
            TrapCode::MemoryOutOfBounds,
        ),
        (
            "(drop (i32.div_s (i32.const 1) (i32.load (i32.const 128))))",
            TrapCode::Arithmetic,
        ),
        (
            "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (i32.load (i32.const 128)) (i32.const 1))))",
            TrapCode::Arithmetic,
        ),
        (
            "(drop (i32.rem_u (i32.const 1) (i32.load (i32.const 128))))",
            TrapCode::Arithmetic,
        ),
        (
            "(drop (i32.trunc_f32_s (f32.const nan)))",
            TrapCode::Arithmetic,
        ),
        (
            "(drop (i32.trunc_f64_u (f64.const 1e10)))",
            TrapCode::Arithmetic,
        ),
        (
            "(call_indirect (type $none) (i32.const 1))",
            TrapCode::BadIndirectCall,
        ),
        (
            "(call_indirect (type $none) (i32.const 0))",
            TrapCode::BadIndirectCall,
        ),
        (
            "(call_indirect (type $none) (i32.const 99))",
            TrapCode::TableOutOfBounds,
        ),
        (
            "(drop (table.get $t (i32.const 99)))",
            TrapCode::TableOutOfBounds,
        ),
    ];
    for (code, expected) in cases {
        let function = fixture.deploy(&module(
            "(type $none (func)) (table $t 2 funcref) (elem (table $t) (i32.const 0) func $one)",
            &format!("(func $one (param i32)) (func (export \"_start\") {code})"),
        ));
        assert_eq!(fixture.trap(&function), expected, "{code}");
        assert_eq!(fixture.trap(&function), expected, "{code}, again");
    }
}

/// `proc_exit` keeps its code, and a return is 0.
pub fn an_exit_code_is_kept(fixture: &Fixture) {
    for code in [0, 1, 2, 42, 125] {
        let function = fixture.deploy(&command(
            "",
            &format!("(call $proc_exit (i32.const {code})) unreachable"),
        ));
        assert_eq!(fixture.run(&function, b"").exit, GuestExit::Exit(code));
    }
    let function = fixture.deploy(&command("", ""));
    assert_eq!(fixture.run(&function, b"").exit, GuestExit::Exit(0));
}

/// A loop ends soon after its deadline, with 504.
pub fn a_loop_ends_at_its_deadline(fixture: &Fixture) {
    for code in [
        "(loop $l (br $l))",
        "(loop $l (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1))) (br $l))",
        "(loop $l (call $print (i32.const 0) (i32.const 0)) (br $l))",
        "(loop $l (call $again) (br $l))",
    ] {
        ends_in_time(
            fixture,
            &module(
                "",
                &format!("(func $again) (func (export \"_start\") {code})"),
            ),
        );
    }
}

/// The deadline applies to a start section too.
pub fn a_start_function_ends_at_its_deadline(fixture: &Fixture) {
    ends_in_time(
        fixture,
        &module(
            "(start $spin)",
            r#"(func $spin (loop $l (br $l))) (func (export "_start"))"#,
        ),
    );
}

/// The deadline applies to `_initialize` too.
pub fn an_initialize_ends_at_its_deadline(fixture: &Fixture) {
    ends_in_time(
        fixture,
        &module(
            "",
            r#"(func (export "_initialize") (loop $l (br $l))) (func (export "gojinn_handle"))"#,
        ),
    );
}

/// The deadline includes waiting in the host.
pub fn a_wait_ends_at_its_deadline(fixture: &Fixture) {
    ends_in_time(
        fixture,
        &command("", "(call $sleep (i64.const 3600000000000))"),
    );
    // Many short sleeps do not avoid the deadline.
    ends_in_time(
        fixture,
        &command("", "(loop $l (call $sleep (i64.const 1000000)) (br $l))"),
    );
}

/// Endless recursion is a trap, whatever the stack size of the calling thread is.
pub fn recursion_without_end_is_a_trap_on_any_stack(fixture: &Fixture) {
    let function = fixture.deploy(&module(
        "",
        r#"(func $deeper (param i64 i64) (result i64)
               (i64.add (call $deeper (local.get 1) (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
           (func (export "_start") (drop (call $deeper (i64.const 0) (i64.const 1))))"#,
    ));
    for stack in STACKS {
        on_a_stack_of(stack, || {
            for _ in 0..3 {
                assert_eq!(
                    fixture.trap(&function),
                    TrapCode::StackOverflow,
                    "on {stack} bytes"
                );
            }
        });
    }
}

/// Two thousand frames are possible with every stack size.
pub fn deep_recursion_within_reason_works_on_any_stack(fixture: &Fixture) {
    let function = fixture.deploy(&module(
        "",
        r#"(func $down (param i32) (result i32)
               (if (result i32) (local.get 0)
                   (then (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))
                   (else (i32.const 0))))
           (func (export "_start")
               (if (i32.ne (call $down (i32.const 2000)) (i32.const 2000)) (then unreachable)))"#,
    ));
    for stack in STACKS {
        on_a_stack_of(stack, || {
            assert_eq!(
                fixture.run(&function, b"").exit,
                GuestExit::Exit(0),
                "on {stack} bytes"
            );
        });
    }
}

/// However often a guest grows something, and whether or not that succeeds, its growths need no stack of the host's.
pub fn millions_of_growths_work_on_any_stack(fixture: &Fixture) {
    for (kind, growth) in [
        ("memory beyond its limit", "(memory.grow (i32.const 65535))"),
        ("memory by nothing", "(memory.grow (i32.const 0))"),
        ("memory by what is 0", "(memory.grow (global.get $zero))"),
        ("memory by a page at first", "(memory.grow (i32.const 1))"),
        (
            "a table beyond its limit",
            "(table.grow $t (ref.null func) (i32.const -1))",
        ),
        (
            "a table by nothing",
            "(table.grow $t (ref.null func) (global.get $zero))",
        ),
        (
            "a table by one at first",
            "(table.grow $t (ref.null func) (i32.const 1))",
        ),
        (
            "a table of others by nothing",
            "(table.grow $x (ref.null extern) (global.get $zero))",
        ),
    ] {
        let many = format!("(drop {growth})").repeat(5_000);
        let function = fixture.deploy(&module(
            "(table $t 1 funcref) (table $x 1 externref) (global $zero (mut i32) (i32.const 0))",
            &format!(
                r#"(func (export "_start") (local $left i32)
                     {many}
                     (local.set $left (i32.const 1000000))
                     (loop $more
                         (drop {growth})
                         (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#
            ),
        ));
        on_a_stack_of(STACKS[0], || {
            let exit = fixture.run(&function, b"").exit;
            assert_eq!(exit, GuestExit::Exit(0), "{kind}");
        });
    }
}

/// Cancelling ends a loop.
pub fn a_loop_is_cancelled(fixture: &Fixture) {
    is_cancelled(fixture, &command("", "(loop $l (br $l))"));
}

/// Cancelling ends a wait.
pub fn a_wait_is_cancelled(fixture: &Fixture) {
    is_cancelled(
        fixture,
        &command("", "(call $sleep (i64.const 3600000000000))"),
    );
}

/// If the client has gone before its call begins, the guest does not run.
pub fn a_call_cancelled_before_it_began_does_not_answer(fixture: &Fixture) {
    let function = fixture.deploy(&command("", "(loop $l (br $l))"));
    let permit = expect(fixture.engine.reserve());
    assert!(fixture.engine.cancel(permit.id()));
    let outcome = expect(function.call(
        permit,
        &engine_core::contract::Request::default(),
        &[],
        |answer| answer.outcome,
    ));
    assert_eq!(outcome, Outcome::Cancelled);
}

/// `max_output` ends the guest in the middle of its write.
pub fn too_much_output_ends_the_guest(fixture: &Fixture) {
    let wat = command(
        "",
        "(loop $l (call $print (i32.const 0) (i32.const 65536)) (br $l))",
    );
    let function = fixture.deploy_with(&wat, |config| config.limits.output = 1_000_000);
    assert_eq!(fixture.trap(&function), TrapCode::OutputLimit);
    let answer = fixture.get(&function);
    assert_eq!((answer.outcome, answer.status), (Outcome::BadOutput, 502));
    assert!(answer.reason.contains("max_output"), "{}", answer.reason);
}

/// A bulk operation is done in pieces, with a look at the deadline before each.
pub fn a_long_bulk_operation_ends_soon_after_its_deadline(fixture: &Fixture) {
    ends_in_time(
        fixture,
        &command(
            r#"(memory (export "memory") 512)"#,
            "(loop $l (memory.fill (i32.const 64) (i32.const 7) (i32.const 33000000)) (br $l))",
        ),
    );
}

/// Traps, deadlines and cancellations on many threads, while another function keeps answering.
pub fn many_ends_at_once_disturb_no_other_call(fixture: &Fixture) {
    let good = fixture.deploy(&printer(HELLO, ""));
    let spin = fixture.deploy_with(&command("", "(loop $l (br $l))"), |config| {
        config.limits.timeout = Duration::from_millis(3);
    });
    let bad = fixture.deploy(&printer(HELLO, "unreachable"));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (good, spin, bad) = (&good, &spin, &bad);
            scope.spawn(move || {
                for round in 0..12 {
                    match (thread + round) % 3 {
                        0 => assert_eq!(fixture.get(bad).outcome, Outcome::Trap),
                        1 => assert_eq!(fixture.get(spin).outcome, Outcome::Timeout),
                        _ => {}
                    }
                    let answer = fixture.get(good);
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

fn ends_in_time(fixture: &Fixture, wat: &str) {
    let function = fixture.deploy_with(wat, |config| config.limits.timeout = SHORT);
    let begun = Instant::now();
    let answer = fixture.get(&function);
    assert_eq!(
        (answer.outcome, answer.status),
        (Outcome::Timeout, 504),
        "{}",
        answer.reason
    );
    assert!(begun.elapsed() >= SHORT, "it ended before its deadline");
    assert!(
        begun.elapsed() < SOON,
        "it ended {:?} after it began",
        begun.elapsed()
    );
}

fn is_cancelled(fixture: &Fixture, wat: &str) {
    let function: Function = fixture.deploy(wat);
    let permit = expect(fixture.engine.reserve());
    let id: CallId = permit.id();
    let begun = Instant::now();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            assert!(fixture.engine.cancel(id));
        });
        expect(function.call(
            permit,
            &engine_core::contract::Request::default(),
            &[],
            |answer| answer.outcome,
        ))
    });
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(
        begun.elapsed() < SOON,
        "it ended {:?} after it began",
        begun.elapsed()
    );
    assert!(
        !fixture.engine.cancel(id),
        "the id is stale once the call has ended"
    );
}

fn on_a_stack_of(bytes: usize, work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = match std::thread::Builder::new()
            .stack_size(bytes)
            .spawn_scoped(scope, work)
        {
            Ok(thread) => thread,
            Err(error) => panic!("cannot start a thread with a stack of {bytes} bytes: {error}"),
        };
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
