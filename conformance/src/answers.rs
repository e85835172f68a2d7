//! Cases about answers: of guests that keep the contract, and of guests that do not.

use super::{Fixture, HELLO, command, module, printer, text};
use engine_core::contract::Request;
use engine_core::{GuestExit, Outcome};

/// `_start` runs once, and what it has printed is the answer.
pub fn a_command_answers(fixture: &Fixture) {
    let function = fixture.deploy(&printer(HELLO, ""));
    for _ in 0..3 {
        let answer = fixture.get(&function);
        assert_eq!(answer.outcome, Outcome::Ok, "{}", answer.reason);
        assert_eq!(answer.status, 201);
        assert_eq!(answer.headers, [("X-Guest".to_string(), "wat".to_string())]);
        assert_eq!(answer.body, b"hello");
        assert!(
            answer.memory_peak >= engine_core::PAGE,
            "{}",
            answer.memory_peak
        );
    }
}

/// In every sandbox `_initialize` runs first, and then `gojinn_handle`.
pub fn a_reactor_is_initialised_and_answers(fixture: &Fixture) {
    let (data, at) = text(256, HELLO);
    let function = fixture.deploy(&module(
        &format!("{data} (global $ready (mut i32) (i32.const 0))"),
        &format!(
            r#"(func (export "_initialize") (global.set $ready (i32.add (global.get $ready) (i32.const 1))))
               (func (export "gojinn_handle")
                   (if (i32.ne (global.get $ready) (i32.const 1)) (then unreachable))
                   (call $print {at}))"#
        ),
    ));
    for _ in 0..3 {
        let answer = fixture.get(&function);
        assert_eq!(
            (answer.outcome, answer.status),
            (Outcome::Ok, 201),
            "{}",
            answer.reason
        );
    }
    let bare = fixture.deploy(&module(
        &data,
        &format!(r#"(func (export "gojinn_handle") (call $print {at}))"#),
    ));
    assert_eq!(fixture.get(&bare).status, 201);
}

/// A start section runs before `_start`, sees the initialised memory and may call the host.
pub fn a_start_function_runs_before_the_entry(fixture: &Fixture) {
    let function = fixture.deploy(&module(
        r#"(data (i32.const 256) "ab") (start $first)"#,
        r#"(func $first
               (call $print (i32.const 256) (i32.const 1))
               (i32.store8 (i32.const 257) (i32.const 0x7a)))
           (func (export "_start") (call $print (i32.const 257) (i32.const 1)))"#,
    ));
    for _ in 0..2 {
        let run = fixture.run(&function, b"");
        assert_eq!(run.stdout, b"az");
        assert_eq!(run.exit, GuestExit::Exit(0));
    }
}

/// `proc_exit(0)` ends the guest at once, and its answer counts.
pub fn an_exit_of_zero_is_an_answer(fixture: &Fixture) {
    let function = fixture.deploy(&printer(
        HELLO,
        "(call $proc_exit (i32.const 0)) unreachable",
    ));
    let answer = fixture.get(&function);
    assert_eq!(
        (answer.outcome, answer.status),
        (Outcome::Ok, 201),
        "{}",
        answer.reason
    );
}

/// Output that is not one valid response is a 502, with a reason that says why.
pub fn output_that_is_no_response_is_refused_with_the_rule(fixture: &Fixture) {
    for output in [
        "",
        "hello",
        "{} {}",
        r#"{"status":99}"#,
        r#"{"status":1000}"#,
        r#"{"status":-1}"#,
        r#"{"headers":{"A":"x\r\ny"}}"#,
        r#"{"body":"a","Body":"b"}"#,
        r#"{"body":"a","body_base64":"YQ=="}"#,
    ] {
        let function = fixture.deploy(&printer(output, ""));
        let answer = fixture.get(&function);
        assert_eq!(
            (answer.outcome, answer.status),
            (Outcome::BadOutput, 502),
            "{output}"
        );
        assert!(!answer.reason.is_empty(), "{output}");
        assert!(
            answer.body.is_empty() && answer.headers.is_empty(),
            "{output}"
        );
    }
}

/// A complete response does not count if the guest then traps or exits with an error.
pub fn a_trap_after_a_response_is_refused(fixture: &Fixture) {
    let function = fixture.deploy(&printer(HELLO, "unreachable"));
    let answer = fixture.get(&function);
    assert_eq!((answer.outcome, answer.status), (Outcome::Trap, 502));
    assert!(answer.reason.contains("unreachable"), "{}", answer.reason);
    let function = fixture.deploy(&printer(HELLO, "(call $proc_exit (i32.const 3))"));
    let answer = fixture.get(&function);
    assert_eq!((answer.outcome, answer.status), (Outcome::Trap, 502));
    assert!(answer.reason.contains("exit code 3"), "{}", answer.reason);
}

/// A guest that copies stdin to stdout in pieces of odd lengths.
fn cat() -> String {
    command(
        r#"(memory (export "memory") 2)"#,
        r#"(local $n i32)
           (loop $more
               (i32.store (i32.const 0) (i32.const 1000))
               (i32.store (i32.const 4) (i32.const 7777))
               (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
               (local.set $n (i32.load (i32.const 8)))
               (if (local.get $n)
                   (then
                       (call $print (i32.const 1000) (local.get $n))
                       (br $more))))"#,
    )
}

/// Megabytes pass through stdin and stdout unchanged.
pub fn a_large_body_crosses_both_ways(fixture: &Fixture) {
    let function = fixture.deploy(&cat());
    let body: Vec<u8> = (0..3_000_000u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let run = fixture.run(&function, &body);
    assert_eq!(run.exit, GuestExit::Exit(0));
    assert!(run.stdout == body, "the bytes differ");
}

/// `max_body` is checked before anything runs.
pub fn a_body_over_the_limit_is_refused(fixture: &Fixture) {
    let function = fixture.deploy_with(&printer(HELLO, ""), |config| config.limits.body = 3);
    for (body, outcome, status) in [
        (&b"abc"[..], Outcome::Ok, 201),
        (b"abcd", Outcome::Rejected, 413),
    ] {
        let answer = fixture.call(
            &function,
            &Request {
                method: b"POST",
                uri: b"/",
                body,
                ..Request::default()
            },
            &[],
        );
        assert_eq!(
            (answer.outcome, answer.status),
            (outcome, status),
            "{}",
            answer.reason
        );
    }
}

/// stdin holds one JSON object and a newline, and then ends.
pub fn stdin_holds_one_request_and_then_ends(fixture: &Fixture) {
    // Prints stdin as a JSON string: the guest escapes `"` and `\` and drops the newline.
    let function = fixture.deploy(&command(
        r#"(data (i32.const 256) "{\"body\":\"") (data (i32.const 300) "\"}") (data (i32.const 310) "\\") (data (i32.const 320) "(newline)")"#,
        r#"(local $at i32) (local $end i32) (local $byte i32)
           (i32.store (i32.const 0) (i32.const 4096))
           (i32.store (i32.const 4) (i32.const 60000))
           (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
           (local.set $at (i32.const 4096))
           (local.set $end (i32.add (i32.const 4096) (i32.load (i32.const 8))))
           ;; the second read must find the end
           (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
           (if (i32.load (i32.const 8)) (then unreachable))
           (call $print (i32.const 256) (i32.const 9))
           (loop $more
               (local.set $byte (i32.load8_u (local.get $at)))
               (if (i32.eq (local.get $byte) (i32.const 10))
                   (then (call $print (i32.const 320) (i32.const 9)))
                   (else
                       (if (i32.or (i32.eq (local.get $byte) (i32.const 0x22)) (i32.eq (local.get $byte) (i32.const 0x5c)))
                           (then (call $print (i32.const 310) (i32.const 1))))
                       (call $print (local.get $at) (i32.const 1))))
               (local.set $at (i32.add (local.get $at) (i32.const 1)))
               (br_if $more (i32.lt_u (local.get $at) (local.get $end))))
           (call $print (i32.const 300) (i32.const 2))"#,
    ));
    let request = Request {
        method: b"POST",
        uri: b"/api/x?q=1",
        headers: &[(b"Content-Type", b"application/json")],
        body: b"{\"a\":1}",
        trace_id: b"abc",
        ..Request::default()
    };
    let answer = fixture.call(&function, &request, &[]);
    assert_eq!(answer.outcome, Outcome::Ok, "{}", answer.reason);
    assert_eq!(
        String::from_utf8_lossy(&answer.body),
        r#"{"method":"POST","uri":"/api/x?q=1","headers":{"Content-Type":["application/json"]},"body":"{\"a\":1}","trace_id":"abc"}(newline)"#
    );
}

/// Deploying the same bytes again, also with other settings, does not compile them again.
pub fn an_unchanged_module_is_compiled_once(fixture: &Fixture) {
    let wat = printer(HELLO, "");
    let before = fixture.engine.compilations();
    let one = fixture.deploy(&wat);
    let two = fixture.deploy_with(&wat, |config| config.limits.memory = 1 << 20);
    assert_eq!(fixture.engine.compilations(), before + 1);
    assert_eq!(fixture.get(&one).status, 201);
    drop(one);
    assert_eq!(fixture.get(&two).status, 201);
}
