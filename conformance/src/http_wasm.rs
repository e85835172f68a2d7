//! Cases about guests of http-wasm: that each request finds them as they were, and what they do with the response.

use engine_core::contract::{Contract, Request, named};
use engine_core::{Event, HostReply, Outcome, Reached};

use super::memory::{small_engine, take_all_but};
use super::{Fixture, Owned, expect};

fn contract() -> &'static dyn Contract {
    named("http-wasm").expect("it is there")
}

/// A guest with these functions, and 256 bytes of scratch in front of `data`.
fn guest(data: &str, functions: &str) -> String {
    format!(
        r#"(module
            (import "http_handler" "enable_features" (func $enable_features (param i32) (result i32)))
            (import "http_handler" "get_config" (func $get_config (param i32 i32) (result i32)))
            (import "http_handler" "get_status_code" (func $get_status_code (result i32)))
            (import "http_handler" "set_status_code" (func $set_status_code (param i32)))
            (import "http_handler" "set_header_value" (func $set_header_value (param i32 i32 i32 i32 i32)))
            (import "http_handler" "read_body" (func $read_body (param i32 i32 i32) (result i64)))
            (import "http_handler" "write_body" (func $write_body (param i32 i32 i32)))
            (memory (export "memory") 1)
            (data (i32.const 256) "{data}")
            {functions})"#
    )
}

/// How a call goes on after `handle_request`.
#[derive(Debug)]
enum Went {
    /// The guest has ended.
    Ended(Owned),
    /// It waits for the next handler.
    Waits { buffers: bool, changed: Vec<String> },
}

impl Fixture {
    fn deploy_http(&self, text: &str) -> engine_core::Function {
        self.deploy_with(text, |config| config.contract = contract())
    }

    /// Calls a guest, and says to `reply` what the next handler answers.
    fn exchange(
        &self,
        function: &engine_core::Function,
        reply: &HostReply,
    ) -> (Vec<Went>, Outcome) {
        let request = Request {
            method: b"GET",
            uri: b"/",
            host: b"example.org",
            proto: b"HTTP/1.1",
            ..Request::default()
        };
        let permit = expect(self.engine.reserve());
        let id = permit.id();
        let mut went = vec![expect(function.begin(permit, &request, &[], reached))];
        while let Some(Went::Waits { .. }) = went.last() {
            went.push(expect(self.engine.resume(id, reply.clone(), reached)));
        }
        let outcome = match went.last() {
            Some(Went::Ended(answer)) => answer.outcome,
            other => panic!("{other:?}"),
        };
        (went, outcome)
    }
}

fn reached(reached: Reached<'_>) -> Went {
    match reached {
        Reached::Answer(answer) => {
            let changes = answer
                .response
                .and_then(|response| response.next.as_deref())
                .map(|next| next.response_headers.set.clone())
                .unwrap_or_default();
            let headers = changes.into_iter().map(|(name, value)| {
                let value = String::from_utf8_lossy(&value).into_owned();
                (name.into_owned(), value)
            });
            Went::Ended(Owned {
                outcome: answer.outcome,
                status: answer.status,
                headers: headers.collect(),
                body: answer
                    .response
                    .map(|response| response.body.to_vec())
                    .unwrap_or_default(),
                reason: answer.reason.to_owned(),
                logs: super::log_lines(answer.logs),
                memory_peak: answer.memory_peak,
            })
        }
        Reached::Waiting(waiting) => match waiting.event {
            Event::Next { next, .. } => Went::Waits {
                buffers: next.buffers_response,
                changed: next
                    .response_headers
                    .set
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
                    .collect(),
            },
            other => panic!("{other:?}"),
        },
    }
}

/// What a next handler answers: a status, no headers, a body.
fn reply(status: u32, body: &str, failed: bool) -> HostReply {
    let mut bytes = status.to_le_bytes().to_vec();
    bytes.extend([0; 8]);
    bytes.extend(body.as_bytes());
    HostReply {
        code: i32::from(failed),
        bytes,
    }
}

fn ended(went: &[Went]) -> &Owned {
    match went.last() {
        Some(Went::Ended(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

/// What a guest writes to a body counts in the memory of all calls, and so does the response that it is given.
pub fn bodies_of_http_wasm_count_in_the_memory_of_all_calls(fixture: &Fixture) {
    let fixture = &small_engine(fixture);
    let writer = fixture.deploy_http(&guest(
        "",
        r#"(func (export "handle_request") (result i64) (local $left i32)
               (local.set $left (i32.const 100))
               (loop $more
                   (call $write_body (i32.const 1) (i32.const 0) (i32.const 65536))
                   (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
               (i64.const 0))
           (func (export "handle_response") (param i32 i32))"#,
    ));
    let reader = fixture.deploy_http(&guest(
        "",
        r#"(func (export "handle_request") (result i64)
               (drop (call $enable_features (i32.const 2)))
               (i64.const 1))
           (func (export "handle_response") (param i32 i32)
               (drop (call $read_body (i32.const 1) (i32.const 0) (i32.const 100))))"#,
    ));
    let short = reply(200, "short", false);
    let long = reply(200, &"x".repeat(3 << 20), false);
    for _ in 0..2 {
        let (went, outcome) = fixture.exchange(&writer, &short);
        assert_eq!(outcome, Outcome::Ok, "{}", ended(&went).reason);
        assert_eq!(ended(&went).body.len(), 100 * 65_536);
        assert_eq!(fixture.exchange(&reader, &long).1, Outcome::Ok);

        take_all_but(fixture, 4 << 20);
        for (function, reply) in [(&writer, &short), (&reader, &long)] {
            let (went, outcome) = fixture.exchange(function, reply);
            let answer = ended(&went);
            assert_eq!((outcome, answer.status), (Outcome::Oom, 503));
            assert!(answer.reason.contains("max_memory"), "{}", answer.reason);
        }
        assert_eq!(fixture.exchange(&reader, &short).1, Outcome::Ok);
        fixture.engine.give_memory(u64::MAX);
    }
    drop((writer, reader));
    assert_eq!(fixture.engine.memory().used(), 0);
}

/// A guest counts its requests in memory and in a global, at its start, when it handles requests and when it handles responses.
/// Each request is its first.
pub fn each_request_finds_the_guest_as_it_was(fixture: &Fixture) {
    for start in ["", r#"(export "_start")"#, r#"(export "_initialize")"#] {
        let function = fixture.deploy_http(&guest(
            "",
            &format!(
                r#"(global $count (mut i32) (i32.const 48))
                (func $begin {start}
                    (global.set $count (i32.add (global.get $count) (i32.const 1))))
                (func $add (param $at i32)
                    (global.set $count (i32.add (global.get $count) (i32.const 1)))
                    (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (global.get $count)))
                    (call $write_body (i32.const 1) (local.get $at) (i32.const 1)))
                (func (export "handle_request") (result i64)
                    (drop (call $enable_features (i32.const 2)))
                    (call $add (i32.const 0))
                    (i64.const 0x700000001))
                (func (export "handle_response") (param $context i32) (param $failed i32)
                    (if (i32.ne (local.get $context) (i32.const 7)) (then unreachable))
                    (call $add (i32.const 1)))"#
            ),
        ));
        let expected = if start.is_empty() { b"2" } else { b"3" };
        for _ in 0..5 {
            let (went, outcome) = fixture.exchange(&function, &reply(200, "", false));
            let answer = ended(&went);
            assert_eq!(outcome, Outcome::Ok, "{}", answer.reason);
            assert_eq!(answer.body, expected, "{start}");
        }
    }
}

/// A guest sees the buffered response, and whether the next handler failed; what it changes is in the answer.
pub fn a_guest_changes_a_buffered_response(fixture: &Fixture) {
    let function = fixture.deploy_http(&guest(
        "x-seen",
        r#"(func (export "handle_request") (result i64)
            (drop (call $enable_features (i32.const 2)))
            (call $set_header_value (i32.const 1) (i32.const 256) (i32.const 6) (i32.const 258) (i32.const 4))
            (i64.const 1))
        (func (export "handle_response") (param $context i32) (param $failed i32) (local $len i32)
            ;; The body, with a ! for each failure.
            (local.set $len (i32.wrap_i64 (call $read_body (i32.const 1) (i32.const 0) (i32.const 100))))
            (i32.store8 (local.get $len) (i32.const 33))
            (call $write_body (i32.const 1) (i32.const 0) (i32.add (local.get $len) (local.get $failed)))
            (call $set_status_code (i32.add (call $get_status_code) (i32.const 1))))"#,
    ));
    for (failed, body) in [(false, "response"), (true, "response!")] {
        let (went, outcome) = fixture.exchange(&function, &reply(202, "response", failed));
        assert_eq!(outcome, Outcome::Ok);
        let Went::Waits { buffers, changed } = &went[0] else {
            panic!("{went:?}");
        };
        assert!(*buffers);
        assert_eq!(changed, &["X-Seen: seen"]);
        let answer = ended(&went);
        assert_eq!((answer.status, &*answer.body), (203, body.as_bytes()));
    }
}

/// A guest that answers does not wait.
pub fn a_guest_answers_without_the_next_handler(fixture: &Fixture) {
    let function = fixture.deploy_http(&guest(
        "go away",
        r#"(func (export "handle_request") (result i64)
            (call $set_status_code (i32.const 403))
            (call $write_body (i32.const 1) (i32.const 256) (i32.const 7))
            ;; The upper half has no meaning then.
            (i64.const 0x100000000))
        (func (export "handle_response") (param i32 i32) unreachable)"#,
    ));
    let (went, outcome) = fixture.exchange(&function, &reply(200, "", false));
    assert_eq!((outcome, went.len()), (Outcome::Ok, 1));
    let answer = ended(&went);
    assert_eq!((answer.status, &*answer.body), (403, &b"go away"[..]));
}

/// What guests do wrong is a 502 with a reason, wherever they do it.
pub fn hostile_guests_are_ended(fixture: &Fixture) {
    const FINE: &str = "(i64.const 1)";
    for (request, response, reason) in [
        ("unreachable", "", "unreachable"),
        (FINE, "unreachable", "unreachable"),
        (
            "(call $write_body (i32.const 1) (i32.const -1) (i32.const 4)) (i64.const 0)",
            "",
            "outside",
        ),
        (
            "(call $write_body (i32.const 9) (i32.const 0) (i32.const 4)) (i64.const 0)",
            "",
            "body kind",
        ),
        (
            "(call $set_status_code (i32.const 42)) (i64.const 0)",
            "",
            "42",
        ),
        (
            "(call $set_header_value (i32.const 0) (i32.const 256) (i32.const 3) (i32.const 256) (i32.const 3)) (i64.const 1)",
            "",
            "header name",
        ),
        (
            FINE,
            "(call $set_status_code (i32.const 200))",
            "buffer_response",
        ),
        (
            FINE,
            "(call $write_body (i32.const 0) (i32.const 0) (i32.const 1))",
            "next handler",
        ),
        (
            FINE,
            "(drop (call $read_body (i32.const 1) (i32.const 0) (i32.const 1)))",
            "buffer_response",
        ),
        (
            "(loop $more (call $write_body (i32.const 1) (i32.const 0) (i32.const 65536)) (br $more)) (i64.const 0)",
            "",
            "max_output",
        ),
    ] {
        let function = fixture.deploy_http(&guest(
            "a b",
            &format!(
                r#"(func (export "handle_request") (result i64) {request})
                (func (export "handle_response") (param i32 i32) {response})"#
            ),
        ));
        let (went, outcome) = fixture.exchange(&function, &reply(200, "", false));
        let answer = ended(&went);
        assert_eq!(
            (outcome, answer.status),
            (Outcome::Trap, 502),
            "{reason}: {went:?}"
        );
        assert!(
            answer.reason.contains(reason),
            "{reason}: {}",
            answer.reason
        );
    }
}

/// The time in the next handler does not count towards `timeout`; that in the guest does.
pub fn the_deadline_pauses_while_the_next_handler_works(fixture: &Fixture) {
    let text = guest(
        "",
        r#"(func (export "handle_request") (result i64) (i64.const 1))
        (func (export "handle_response") (param $context i32) (param $spin i32)
            (if (local.get $spin) (then (loop $more (br $more)))))"#,
    );
    let function = fixture.deploy_with(&text, |config| {
        config.contract = contract();
        config.limits.timeout = std::time::Duration::from_millis(200);
    });
    for (failed, outcome) in [(false, Outcome::Ok), (true, Outcome::Timeout)] {
        let request = Request {
            method: b"GET",
            uri: b"/",
            ..Request::default()
        };
        let permit = expect(fixture.engine.reserve());
        let id = permit.id();
        let Went::Waits { .. } = expect(function.begin(permit, &request, &[], reached)) else {
            panic!("it waits");
        };
        std::thread::sleep(std::time::Duration::from_millis(400));
        let went = expect(fixture.engine.resume(id, reply(200, "", failed), reached));
        assert_eq!(ended(&[went]).outcome, outcome);
    }
    // A call that is dropped while it waits leaves its permit free.
    for _ in 0..100 {
        let request = Request::default();
        let permit = expect(fixture.engine.reserve());
        let id = permit.id();
        expect(function.begin(permit, &request, &[], reached));
        assert!(fixture.engine.cancel(id));
        let went = expect(fixture.engine.resume(id, reply(200, "", false), reached));
        assert_eq!(ended(&[went]).outcome, Outcome::Cancelled);
        let permit = expect(fixture.engine.reserve());
        let id = permit.id();
        expect(function.begin(permit, &request, &[], reached));
        fixture.engine.drop_call(id);
    }
}

/// Contract and entry points must fit each other.
pub fn contract_and_entry_points_must_fit(fixture: &Fixture) {
    let http = guest(
        "",
        r#"(func (export "handle_request") (result i64) (i64.const 0))
        (func (export "handle_response") (param i32 i32))"#,
    );
    let wasm = wat::parse_str(&http).expect("a module");
    let refused = |wasm: &[u8], name: &str| {
        let config = engine_core::FunctionConfig {
            name: "f".into(),
            contract: named(name).expect("it is there"),
            ..engine_core::FunctionConfig::default()
        };
        match fixture.engine.deploy(wasm, config) {
            Ok(_) => panic!("it was deployed with {name}"),
            Err(error) => error.to_string(),
        }
    };
    let error = refused(&wasm, "json");
    assert!(error.contains("set the contract http-wasm"), "{error}");
    let command = wat::parse_str(r#"(module (func (export "_start")))"#).expect("a module");
    let error = refused(&command, "http-wasm");
    assert!(error.contains("handle_request"), "{error}");
}
