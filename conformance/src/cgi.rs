//! Cases about the contract `cgi`: a request in the environment, a body that is read as it arrives, and a response that is sent
//! as it is written.

use std::time::{Duration, Instant};

use super::{Fixture, command, expect};
use engine_core::contract::{Request, cgi::Cgi};
use engine_core::{BODY_ENDS, CallId, Event, Function, HostReply, Outcome, Reached};

/// How far a call has come, without what it borrows.
#[derive(Debug, Eq, PartialEq)]
enum Seen {
    /// The guest waits for more of its body. The status, if the head of the response has come, and what it has written.
    Body(Option<u16>, String),
    /// The guest waits for more of its body, or a time.
    BodyOrTime,
    /// The guest waits for the client.
    Output(Option<u16>, usize),
    /// It has ended: whether this is the rest of a stream, the outcome, the status and the body.
    Answer(bool, Outcome, u16, String),
}

impl Seen {
    fn of(reached: Reached<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match reached {
            Reached::Waiting(waiting) => {
                let status = waiting.head.map(|head| head.status);
                match waiting.event {
                    Event::Body(None) => Self::Body(status, text(waiting.output)),
                    Event::Body(Some(_)) => Self::BodyOrTime,
                    Event::Output => Self::Output(status, waiting.output.len()),
                    other => panic!("{other:?}"),
                }
            }
            Reached::Answer(answer) => {
                let body = answer.response.map(|response| text(&response.body));
                Self::Answer(
                    answer.is_rest,
                    answer.outcome,
                    answer.status,
                    body.unwrap_or_default(),
                )
            }
        }
    }
}

fn deploy(fixture: &Fixture, wat: &str) -> Function {
    fixture.deploy_with(wat, |config| config.contract = &Cgi)
}

fn begin(fixture: &Fixture, function: &Function, request: &Request<'_>) -> (CallId, Seen) {
    let permit = expect(fixture.engine.reserve());
    let id = permit.id();
    (id, expect(function.begin(permit, request, &[], Seen::of)))
}

fn resume(fixture: &Fixture, id: CallId, code: i32, bytes: &[u8]) -> Seen {
    let bytes = bytes.to_vec();
    expect(
        fixture
            .engine
            .resume(id, HostReply { code, bytes }, Seen::of),
    )
}

fn post<'a>(length: &'a [u8], headers: &'a mut Vec<(&'a [u8], &'a [u8])>) -> Request<'a> {
    headers.push((b"Content-Length", length));
    Request {
        method: b"POST",
        uri: b"/",
        headers,
        ..Request::default()
    }
}

const HEAD: &str = "Content-Type: text/plain\\n\\n";

/// `$read` reads up to 8 bytes of stdin to 4096, and returns how many.
fn reader(code: &str) -> String {
    let fields = format!(
        r#"(memory (export "memory") 2)
        (data (i32.const 512) "{HEAD}") (data (i32.const 600) "end") (data (i32.const 610) "Status: 418\n\n")
        (func $head (call $print (i32.const 512) (i32.const 26)))
        (func $read (result i32)
          (i32.store (i32.const 128) (i32.const 4096))
          (i32.store (i32.const 132) (i32.const 8))
          (if (call $fd_read (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 136)) (then (unreachable)))
          (i32.load (i32.const 136)))"#
    );
    command(&fields, code)
}

/// Writes each part of the body as it arrives, and `end` at its end.
fn echo() -> String {
    reader(
        r#"(local $len i32)
        (call $head)
        (loop $more
          (local.set $len (call $read))
          (call $print (i32.const 4096) (local.get $len))
          (br_if $more (local.get $len)))
        (call $print (i32.const 600) (i32.const 3))"#,
    )
}

/// The variables of a request are in the environment, after those of the configuration, which win.
pub fn a_request_is_in_the_environment(fixture: &Fixture) {
    let code = r#"(call $print (i32.const 512) (i32.const 26))
        (drop (call $environ_sizes_get (i32.const 64) (i32.const 68)))
        (drop (call $environ_get (i32.const 1024) (i32.const 8192)))
        (call $print (i32.const 8192) (i32.load (i32.const 68)))"#;
    let imports = r#"(module
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))"#;
    let wat = command(&format!(r#"(data (i32.const 512) "{HEAD}")"#), code);
    let function = fixture.deploy_with(&wat.replacen("(module", imports, 1), |config| {
        config.contract = &Cgi;
        config.env = vec![
            ("OWN".into(), Some("1".into())),
            ("SERVER_SOFTWARE".into(), Some("mine".into())),
        ];
    });
    assert!(
        function
            .facts()
            .snapshot
            .why_not
            .as_ref()
            .is_some_and(|why| why.contains("environment"))
    );
    for number in ["one", "two"] {
        let request = Request {
            method: b"GET",
            uri: b"/x?q",
            headers: &[(b"X-Number", number.as_bytes()), (b"Proxy", b"evil")],
            ..Request::default()
        };
        let answer = fixture.call(&function, &request, &[]);
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        let mut variables: Vec<_> = body.split_terminator('\0').collect();
        assert_eq!(variables[..2], ["OWN=1", "SERVER_SOFTWARE=mine"]);
        variables.retain(|variable| {
            ["HTTP_", "QUERY_", "PATH_"]
                .iter()
                .any(|prefix| variable.starts_with(prefix))
        });
        let number = format!("HTTP_X_NUMBER={number}");
        assert_eq!(variables, [&*number, "PATH_INFO=/x", "QUERY_STRING=q"]);
    }
}

/// The guest gets each part of the body when it arrives, and no byte beyond the length that was announced.
pub fn a_body_is_read_as_it_arrives(fixture: &Fixture) {
    let function = deploy(fixture, &echo());
    let mut headers = Vec::new();
    let request = post(b"20", &mut headers);
    let (id, seen) = begin(fixture, &function, &request);
    assert_eq!(seen, Seen::Body(Some(200), String::new()));
    assert_eq!(
        resume(fixture, id, 0, b"hello"),
        Seen::Body(None, "hello".into())
    );
    // Nothing has come: it waits again.
    assert_eq!(resume(fixture, id, 0, b""), Seen::Body(None, String::new()));
    assert_eq!(
        resume(fixture, id, 0, b"more than 8 b"),
        Seen::Body(None, "more than 8 b".into())
    );
    assert_eq!(
        resume(fixture, id, 0, b"yes, and no more"),
        Seen::Answer(true, Outcome::Ok, 200, "yeend".into())
    );

    // It ends early, with bytes and without.
    let (id, _) = begin(fixture, &function, &request);
    assert_eq!(
        resume(fixture, id, BODY_ENDS, b"x"),
        Seen::Answer(true, Outcome::Ok, 200, "xend".into())
    );
    let (id, _) = begin(fixture, &function, &request);
    assert_eq!(
        resume(fixture, id, BODY_ENDS, b""),
        Seen::Answer(true, Outcome::Ok, 200, "end".into())
    );

    // What is there when the call begins comes first.
    let begun = Request {
        body: b"0123456789",
        ..request.clone()
    };
    let (id, seen) = begin(fixture, &function, &begun);
    assert_eq!(seen, Seen::Body(Some(200), "0123456789".into()));
    assert_eq!(
        resume(fixture, id, 0, b"abcdefghij"),
        Seen::Answer(true, Outcome::Ok, 200, "abcdefghijend".into())
    );

    // A whole body, and none, need no wait; so does a call that cannot be suspended.
    let whole = Request {
        body: b"whole",
        ..Request::default()
    };
    let (_, seen) = begin(fixture, &function, &whole);
    assert_eq!(
        seen,
        Seen::Answer(false, Outcome::Ok, 200, "wholeend".into())
    );
    let (_, seen) = begin(fixture, &function, &Request::default());
    assert_eq!(seen, Seen::Answer(false, Outcome::Ok, 200, "end".into()));
    assert_eq!(fixture.call(&function, &begun, &[]).body, b"0123456789end");
}

/// A guest that does not read its body answers without it.
pub fn a_body_that_is_not_read_is_not_waited_for(fixture: &Fixture) {
    let function = deploy(
        fixture,
        &reader("(call $print (i32.const 610) (i32.const 13))"),
    );
    let mut headers = Vec::new();
    let (_, seen) = begin(fixture, &function, &post(b"1000000000000", &mut headers));
    assert_eq!(seen, Seen::Answer(false, Outcome::Ok, 418, String::new()));
}

/// A guest polls stdin: it is ready when a part of the body has arrived, and not before. A time that passes is told as well.
pub fn a_body_can_be_polled(fixture: &Fixture) {
    let poll = |count: u32| {
        format!(
            r#"(i64.store (i32.const 144) (i64.const 5)) (i32.store8 (i32.const 152) (i32.const 1))
            (i32.store (i32.const 160) (i32.const 0))
            (i64.store (i32.const 192) (i64.const 6)) (i32.store8 (i32.const 200) (i32.const 0))
            (i32.store (i32.const 208) (i32.const 1)) (i64.store (i32.const 216) (i64.const 5000000))
            (i64.store (i32.const 224) (i64.const 0)) (i32.store16 (i32.const 232) (i32.const 0))
            (if (call $poll_oneoff (i32.const 144) (i32.const 1024) (i32.const {count}) (i32.const 140)) (then (unreachable)))
            ;; the digit of the event's userdata: 5 for stdin, 6 for the clock
            (i32.store8 (i32.const 700) (i32.add (i32.const 48) (i32.load8_u (i32.const 1024))))
            (call $print (i32.const 700) (i32.const 1))"#
        )
    };
    let read = "(call $print (i32.const 4096) (call $read))";
    let code = format!("(call $head) {} {read} {} {read}", poll(1), poll(2));
    let function = deploy(fixture, &reader(&code));
    let mut headers = Vec::new();
    let request = post(b"6", &mut headers);
    let (id, seen) = begin(fixture, &function, &request);
    assert_eq!(seen, Seen::Body(Some(200), String::new()));
    assert_eq!(resume(fixture, id, 0, b"abc"), Seen::BodyOrTime);
    assert_eq!(
        resume(fixture, id, 0, b"def"),
        Seen::Answer(true, Outcome::Ok, 200, "5def".into())
    );

    let (id, _) = begin(fixture, &function, &request);
    let begun = Instant::now();
    let mut seen = resume(fixture, id, 0, b"abc");
    while seen == Seen::BodyOrTime {
        std::thread::sleep(Duration::from_millis(1));
        seen = resume(fixture, id, 0, b"");
    }
    assert!(begun.elapsed() >= Duration::from_millis(5));
    assert_eq!(seen, Seen::Body(None, "6".into()));
    assert_eq!(
        resume(fixture, id, BODY_ENDS, b""),
        Seen::Answer(true, Outcome::Ok, 200, String::new())
    );
}

/// A guest that waits for its body ends with its deadline and its cancellation, and can be dropped.
pub fn a_wait_for_a_body_ends(fixture: &Fixture) {
    let function = fixture.deploy_with(&echo(), |config| {
        config.contract = &Cgi;
        config.limits.timeout = Duration::from_millis(20);
    });
    let mut headers = Vec::new();
    let request = post(b"20", &mut headers);
    let (id, _) = begin(fixture, &function, &request);
    std::thread::sleep(Duration::from_millis(25));
    let seen = resume(fixture, id, 0, b"late");
    assert!(
        matches!(seen, Seen::Answer(_, Outcome::Timeout, 504, _)),
        "{seen:?}"
    );

    let function = deploy(fixture, &echo());
    let (id, _) = begin(fixture, &function, &request);
    assert!(fixture.engine.cancel(id));
    let seen = resume(fixture, id, 0, b"gone");
    assert!(
        matches!(seen, Seen::Answer(_, Outcome::Cancelled, ..)),
        "{seen:?}"
    );

    for _ in 0..100 {
        let (id, _) = begin(fixture, &function, &request);
        fixture.engine.drop_call(id);
    }
    assert_eq!(fixture.engine.suspended(), 0);
    assert_eq!(fixture.engine.permits().0, 0);
}

/// A response leaves when 32 KiB are full. A guest that fails afterwards says so.
pub fn a_response_leaves_as_it_is_written(fixture: &Fixture) {
    let page = "(call $print (i32.const 65536) (i32.const 32768))";
    let function = deploy(fixture, &reader(&format!("(call $head) {page} {page}")));
    let (id, seen) = begin(fixture, &function, &Request::default());
    assert_eq!(seen, Seen::Output(Some(200), 32768));
    let seen = resume(fixture, id, 0, b"");
    let rest = "\0".repeat(32768);
    assert_eq!(seen, Seen::Answer(true, Outcome::Ok, 200, rest));

    let code = format!("(call $head) {page} {page} (unreachable)");
    let function = deploy(fixture, &reader(&code));
    let (id, _) = begin(fixture, &function, &Request::default());
    let seen = resume(fixture, id, 0, b"");
    assert!(
        matches!(seen, Seen::Answer(true, Outcome::Trap, ..)),
        "{seen:?}"
    );

    // What is no head of a response is refused at the end, and no byte of it has left.
    let function = deploy(fixture, &reader(&format!("{page} {page}")));
    let (_, seen) = begin(fixture, &function, &Request::default());
    assert!(
        matches!(seen, Seen::Answer(false, Outcome::BadOutput, 502, _)),
        "{seen:?}"
    );
}
