//! Cases about guests that wait: their calls are suspended, resumed on any thread, and dropped at any time.

use std::time::{Duration, Instant};

use super::memory::{small_engine, take_all_but};
use super::{Fixture, command, expect, printer};
use engine_core::contract::Request;
use engine_core::{CallId, Event, Function, HostReply, Outcome, Reached};

/// How far a call has come, without what it borrows.
#[derive(Debug)]
enum Seen {
    Answer {
        outcome: Outcome,
        status: u16,
        reason: String,
        body: Vec<u8>,
    },
    Event {
        event: Event,
        deadline: Instant,
    },
}

impl Seen {
    fn of(reached: Reached<'_>) -> Self {
        match reached {
            Reached::Answer(answer) => Self::Answer {
                outcome: answer.outcome,
                status: answer.status,
                reason: answer.reason.to_owned(),
                body: answer
                    .response
                    .map_or_else(Vec::new, |response| response.body.to_vec()),
            },
            Reached::Waiting(waiting) => Self::Event {
                event: waiting.event.clone(),
                deadline: waiting.deadline,
            },
        }
    }

    /// The body of an answer that is ok.
    fn body(self) -> Vec<u8> {
        match self {
            Self::Answer {
                outcome: Outcome::Ok,
                body,
                ..
            } => body,
            other => panic!("no answer: {other:?}"),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Answer { outcome, .. } => *outcome,
            Self::Event { .. } => panic!("no answer: {self:?}"),
        }
    }

    /// The operation and the request of a host call.
    fn call(self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Event {
                event: Event::Call { operation, request },
                ..
            } => (operation, request),
            other => panic!("no host call: {other:?}"),
        }
    }
}

fn begin(fixture: &Fixture, function: &Function) -> (CallId, Seen) {
    let permit = expect(fixture.engine.reserve());
    let id = permit.id();
    let request = Request::default();
    (id, expect(function.begin(permit, &request, &[], Seen::of)))
}

fn resume(fixture: &Fixture, id: CallId, bytes: &[u8]) -> Seen {
    let reply = HostReply {
        code: 0,
        bytes: bytes.to_vec(),
    };
    expect(fixture.engine.resume(id, reply, Seen::of))
}

/// Asks the host `times` times for the operation `echo`, with one byte more each time, and answers with the last reply. Before
/// each call it fills a page with a pattern, and after it checks the page and traps if it has changed.
fn caller(times: u32, pattern: u8) -> String {
    let code = format!(
        r#"
        (local $at i32) (local $len i32) (local $round i32)
        (memory.fill (i32.const 131072) (i32.const {pattern}) (i32.const 65536))
        (loop $again
          (local.set $round (i32.add (local.get $round) (i32.const 1)))
          (local.set $len (call $call (i32.const 512) (i32.const 4) (i32.const 131072) (local.get $round)))
          (if (i32.lt_s (local.get $len) (i32.const 0)) (then (unreachable)))
          (local.set $at (i32.const 131072))
          (loop $check
            (if (i32.ne (i32.load8_u (local.get $at)) (i32.const {pattern})) (then (unreachable)))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $check (i32.lt_u (local.get $at) (i32.const 196608))))
          (br_if $again (i32.lt_u (local.get $round) (i32.const {times}))))
        (drop (call $reply (i32.const 1024) (i32.const 1024)))
        (call $print (i32.const 528) (i32.const 9))
        (call $print (i32.const 1024) (local.get $len))
        (call $print (i32.const 544) (i32.const 2))"#
    );
    let imports = r#"(module
        (import "gojinn" "call" (func $call (param i32 i32 i32 i32) (result i32)))
        (import "gojinn" "reply" (func $reply (param i32 i32) (result i32)))"#;
    let fields = r#"(memory (export "memory") 4)
        (data (i32.const 512) "echo") (data (i32.const 528) "{\"body\":\"") (data (i32.const 544) "\"}")"#;
    command(fields, &code).replacen("(module", imports, 1)
}

/// A command that answers with a stream: the head, then `code`, which has `$page` (32 KiB of `x`) and `$ask` to write a part of
/// the body and to wait.
fn streamer(code: &str) -> String {
    let head = r#"{\"status\":201,\"headers\":{\"X-Guest\":\"wat\"},\"stream\":true}\n"#;
    let fields = format!(
        r#"(memory (export "memory") 2)
        (data (i32.const 512) "echo") (data (i32.const 1024) "{head}") (data (i32.const 2048) "one")
        (func $page (call $print (i32.const 65536) (i32.const 32768)))
        (func $ask (drop (call $call (i32.const 512) (i32.const 4) (i32.const 0) (i32.const 0))))"#
    );
    let code = format!(
        r#"(memory.fill (i32.const 65536) (i32.const 120) (i32.const 32768))
        (call $print (i32.const 1024) (i32.const 57)) {code}"#
    );
    let imports = r#"(module
        (import "gojinn" "call" (func $call (param i32 i32 i32 i32) (result i32)))"#;
    command(&fields, &code).replacen("(module", imports, 1)
}

/// What of a stream comes with an event or an answer: the status, if the head comes with it, and bytes of the body.
fn part(reached: Reached<'_>) -> (Option<u16>, Vec<u8>, &'static str) {
    match reached {
        Reached::Waiting(waiting) => {
            let head = waiting.head.map(|head| {
                assert_eq!(head.headers.len(), 1);
                assert!(head.streams && head.body.is_empty());
                head.status
            });
            let what = match waiting.event {
                Event::Output => "output",
                Event::Call { .. } => "call",
                Event::Sleep(_) => "sleep",
                Event::Body(_) => "body",
                Event::Next { .. } => "next",
            };
            (head, waiting.output.to_vec(), what)
        }
        Reached::Answer(answer) => {
            let body = answer.response.map(|response| response.body.to_vec());
            let status = (!answer.is_rest).then_some(answer.status);
            let what = match answer.outcome {
                Outcome::Ok => "end",
                Outcome::Trap => "trap",
                other => panic!("{other:?}: {}", answer.reason),
            };
            (status, body.unwrap_or_default(), what)
        }
    }
}

/// The parts in which an answer comes.
fn parts(fixture: &Fixture, function: &Function) -> Vec<(Option<u16>, Vec<u8>, &'static str)> {
    let permit = expect(fixture.engine.reserve());
    let id = permit.id();
    let request = Request::default();
    let mut parts = vec![expect(function.begin(permit, &request, &[], part))];
    while !matches!(parts[parts.len() - 1].2, "end" | "trap") {
        parts.push(expect(fixture.engine.resume(
            id,
            HostReply::default(),
            part,
        )));
    }
    parts
}

/// The head of a stream and what the guest has written leave when it waits; what it writes afterwards is the rest.
pub fn a_stream_leaves_when_its_guest_waits(fixture: &Fixture) {
    let one = "(call $print (i32.const 2048) (i32.const 3))";
    let function = fixture.deploy(&streamer(&format!(
        "{one} (call $ask) (call $ask) {one} {one}"
    )));
    assert_eq!(
        parts(fixture, &function),
        [
            (Some(201), b"one".to_vec(), "call"),
            (None, Vec::new(), "call"),
            (None, b"oneone".to_vec(), "end"),
        ]
    );
    // One that does not wait is a whole answer, in a call that can be suspended and in one that cannot.
    let function = fixture.deploy(&streamer(one));
    assert_eq!(
        parts(fixture, &function),
        [(Some(201), b"one".to_vec(), "end")]
    );
    let whole = fixture.get(&function);
    assert_eq!((whole.status, whole.body), (201, b"one".to_vec()));
}

/// A guest that writes more of a stream than may wait, waits until the host has taken it. No byte is lost.
pub fn a_stream_waits_for_its_reader(fixture: &Fixture) {
    let function = fixture.deploy(&streamer("(call $page) (call $page) (call $page)"));
    let seen = parts(fixture, &function);
    let lengths: Vec<_> = seen
        .iter()
        .map(|part| (part.0, part.1.len(), part.2))
        .collect();
    assert_eq!(
        lengths,
        [
            (Some(201), 32768, "output"),
            (None, 32768, "output"),
            (None, 32768, "end"),
        ]
    );
    assert!(
        seen.iter()
            .all(|part| part.1.iter().all(|&byte| byte == b'x'))
    );
    // A guest that fails says so, whatever has left before.
    let function = fixture.deploy(&streamer("(call $page) (call $page) (unreachable)"));
    let ends: Vec<_> = parts(fixture, &function)
        .iter()
        .map(|part| part.2)
        .collect();
    assert_eq!(ends, ["output", "trap"]);
}

/// What a guest has written to a stream leaves while it computes, where the backend can suspend it then.
pub fn a_stream_leaves_while_its_guest_computes(fixture: &Fixture) {
    let yields = fixture.engine.backends()[0].capabilities().suspends;
    let one = "(call $print (i32.const 2048) (i32.const 3))";
    // It computes until it is stopped, in a loop without a hostcall.
    let text = streamer(&format!("{one} (loop $ever (br $ever))"));
    let function = fixture.deploy_with(&text, |config| {
        config.limits.flush_after = Duration::from_millis(5);
        if !yields {
            config.limits.timeout = Duration::from_millis(100);
        }
    });
    let permit = expect(fixture.engine.reserve());
    let id = permit.id();
    let request = Request::default();
    if !yields {
        let answer = begin(fixture, &function).1;
        assert_eq!(answer.outcome(), Outcome::Timeout);
        return;
    }
    let first = expect(function.begin(permit, &request, &[], part));
    assert_eq!(first, (Some(201), b"one".to_vec(), "output"));
    assert!(fixture.engine.cancel(id));
    assert_eq!(resume(fixture, id, b"").outcome(), Outcome::Cancelled);

    // It goes on where it was, in loops that call the host and in loops that do not. How often it is interrupted is a matter of time.
    let counts = "(local.set $n (i32.const 0))
        (loop $again
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $n) (i32.const 30000000))))
        (if (i32.ne (local.get $n) (i32.const 30000000)) (then (unreachable)))";
    let calls = format!(
        "(local.set $n (i32.const 0))
        (loop $again
          {one}
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $again (i32.lt_u (local.get $n) (i32.const 1000))))"
    );
    let text = streamer(&format!("{one} {counts} {calls} (call $ask) {one}")).replacen(
        r#"(func (export "_start")"#,
        r#"(func (export "_start") (local $n i32)"#,
        1,
    );
    let function = fixture.deploy_with(&text, |config| {
        config.limits.flush_after = Duration::ZERO;
    });
    let seen = parts(fixture, &function);
    let whats: Vec<_> = seen.iter().map(|part| part.2).collect();
    let body: Vec<u8> = seen.iter().flat_map(|part| part.1.clone()).collect();
    let (outputs, ends) = whats.split_at(whats.len() - 2);
    assert_eq!(ends, ["call", "end"], "{seen:?}");
    assert!(outputs.iter().all(|what| *what == "output"), "{seen:?}");
    assert_eq!(body, b"one".repeat(1002));
    assert_eq!(fixture.engine.permits().0, 0);
}

/// A guest that has waited for room in its stream calls the host afterwards: that it has room is not the reply to its call.
pub fn a_call_after_a_full_stream_reaches_the_host(fixture: &Fixture) {
    let function = fixture.deploy(&streamer("(call $page) (call $page) (call $ask)"));
    let whats: Vec<_> = parts(fixture, &function)
        .iter()
        .map(|part| part.2)
        .collect();
    assert_eq!(whats, ["output", "call", "end"]);
}

/// Sleeps for so many milliseconds, and answers.
fn sleeper(millis: u64) -> String {
    let nanos = millis * 1_000_000;
    printer(r#"{"body":"ok"}"#, "").replacen(
        r#"(func (export "_start") (call $print"#,
        &format!(r#"(func (export "_start") (call $sleep (i64.const {nanos})) (call $print"#),
        1,
    )
}

/// A host call suspends its guest until it is resumed, as often as it calls; the reply is the host's.
pub fn a_host_call_suspends_and_is_resumed(fixture: &Fixture) {
    let function = fixture.deploy(&caller(3, 7));
    let (id, seen) = begin(fixture, &function);
    assert_eq!(seen.call(), (b"echo".to_vec(), vec![7; 1]));
    assert_eq!(fixture.engine.suspended(), 1);
    assert_eq!(resume(fixture, id, b"one").call().1, [7; 2]);
    assert_eq!(resume(fixture, id, b"two").call().1, [7; 3]);
    assert_eq!(resume(fixture, id, b"three").body(), b"three");
    assert_eq!(fixture.engine.suspended(), 0);
    let stale = fixture.engine.resume(id, HostReply::default(), Seen::of);
    assert!(stale.is_err(), "the id is stale");
    assert_eq!(fixture.engine.permits().0, 0);
}

/// What a guest asks of the host and what the host replies count in the memory of all calls, and end a call for which there is no
/// room.
pub fn requests_and_replies_count_in_the_memory_of_all_calls(fixture: &Fixture) {
    const MIB: u64 = 1 << 20;
    let fixture = &small_engine(fixture);
    let text = caller(1, 7)
        .replace(
            "(i32.const 131072) (local.get $round))",
            "(i32.const 131072) (i32.const 3145728))",
        )
        .replace(
            "(memory (export \"memory\") 4)",
            "(memory (export \"memory\") 66)",
        )
        .replace(
            "(i32.const 1024) (local.get $len))",
            "(i32.const 1024) (i32.const 2))",
        );
    let function = fixture.deploy(&text);
    let memory = || fixture.engine.memory().used();
    let full = |seen: Seen| match seen {
        Seen::Answer {
            outcome,
            status,
            reason,
            ..
        } => {
            assert_eq!((outcome, status), (Outcome::Oom, 503), "{reason}");
            assert!(reason.contains("max_memory"), "{reason}");
        }
        other => panic!("{other:?}"),
    };
    let reply = vec![b'y'; 2 << 20];

    let (id, seen) = begin(fixture, &function);
    assert_eq!(seen.call().1.len(), 3 << 20);
    assert!(memory() >= 66 * 65_536 + 6 * MIB, "{}", memory());
    assert_eq!(resume(fixture, id, &reply).body(), b"yy");
    assert!(memory() < MIB, "{}", memory());

    // There is room for the sandbox, and not for its request.
    take_all_but(fixture, 10 * MIB);
    full(begin(fixture, &function).1);
    fixture.engine.give_memory(u64::MAX);
    // There is room for both, and not for the reply.
    let (id, seen) = begin(fixture, &function);
    assert_eq!(seen.call().1.len(), 3 << 20);
    take_all_but(fixture, 5 * MIB);
    full(resume(fixture, id, &reply));
    assert_eq!(fixture.engine.suspended(), 0);
    fixture.engine.give_memory(u64::MAX);
    // A short reply is in what each call holds.
    let (id, _) = begin(fixture, &function);
    take_all_but(fixture, 0);
    assert_eq!(resume(fixture, id, b"zz").body(), b"zz");
    fixture.engine.give_memory(u64::MAX);
    drop(function);
    assert_eq!(memory(), 0);
}

/// The part of a stream that waits for its reader counts.
pub fn streams_count_in_the_memory_of_all_calls(fixture: &Fixture) {
    let fixture = &small_engine(fixture);
    // The head and 2 MiB of the body in one write.
    let text = streamer("(call $ask)")
        .replace(
            "(memory (export \"memory\") 2)",
            "(memory (export \"memory\") 40)",
        )
        .replace("(i32.const 57)", "(i32.const 2097209)");
    let function = fixture.deploy(&text);
    let used = || fixture.engine.memory().used();
    let (id, seen) = begin(fixture, &function);
    assert!(matches!(seen, Seen::Event { .. }), "{seen:?}");
    assert!(used() >= 40 * 65_536 + 3 * (2 << 20), "{}", used());
    resume(fixture, id, b"").body();
    assert!(used() < 1 << 20, "{}", used());
    // There is room for what the guest writes, and not for the host's copy.
    take_all_but(fixture, 6 << 20);
    let (_, seen) = begin(fixture, &function);
    let Seen::Answer {
        outcome, status, ..
    } = seen
    else {
        panic!("{seen:?}")
    };
    assert_eq!((outcome, status), (Outcome::Oom, 503));
    fixture.engine.give_memory(u64::MAX);
    drop(function);
    assert_eq!(used(), 0);
}

/// When the memory of all calls is full, guests that wait hold what they have written only: not the rest of the memory that they
/// were given, nor of what they have grown.
pub fn a_guest_that_waits_holds_what_it_has_written(fixture: &Fixture) {
    const MIB: u64 = 1 << 20;
    let fixture = &small_engine(fixture);
    // 5 MiB at first and 10 MiB more, of which it writes 2 MiB.
    let text = caller(2, 7)
        .replace(
            "(memory (export \"memory\") 4)",
            "(memory (export \"memory\") 80)",
        )
        .replacen(
            "(loop $again",
            "(if (i32.eq (memory.grow (i32.const 160)) (i32.const -1)) (then (unreachable)))
            (memory.fill (i32.const 8388608) (i32.const 1) (i32.const 2097152))
            (loop $again",
            1,
        );
    let function = fixture.deploy(&text);
    let used = || fixture.engine.memory().used();
    let (id, _) = begin(fixture, &function);
    assert!(used() >= 15 * MIB, "there is enough: {}", used());
    assert!(fixture.engine.drop_call(id));
    assert_eq!(used(), 0);

    // Wasmi writes zeros to what a memory grows by.
    let calls = match fixture.engine.backends()[0].name() {
        "wasmi" => 2,
        _ => 8,
    };
    take_all_but(fixture, 40 * MIB);
    let taken = used();
    let waiting: Vec<_> = (0..calls)
        .map(|at| {
            let (id, seen) = begin(fixture, &function);
            assert_eq!(seen.call().1, [7], "{at}");
            id
        })
        .collect();
    assert!(used() - taken >= calls * 2 * MIB, "{}", used() - taken);
    for (at, id) in waiting.into_iter().enumerate() {
        match at % 3 {
            0 => assert!(fixture.engine.drop_call(id)),
            1 => {
                assert_eq!(resume(fixture, id, b"x").call().1, [7; 2]);
                assert_eq!(resume(fixture, id, b"end").body(), b"end");
            }
            _ => {
                assert!(fixture.engine.cancel(id));
                assert_eq!(resume(fixture, id, b"x").outcome(), Outcome::Cancelled);
            }
        }
    }
    assert_eq!(used(), taken);
    fixture.engine.give_memory(u64::MAX);
    drop(function);
    assert_eq!(used(), 0);
}

/// A guest goes on where it waited on whatever thread resumes it, and nothing of other sandboxes is in its memory.
pub fn suspended_guests_are_apart(fixture: &Fixture) {
    let functions: Vec<_> = (1..=8).map(|at| fixture.deploy(&caller(4, at))).collect();
    let functions = functions.as_slice();
    let mut waiting: Vec<_> = functions
        .iter()
        .enumerate()
        .map(|(at, function)| {
            let (id, seen) = begin(fixture, function);
            assert_eq!(seen.call().1, [at as u8 + 1]);
            (at, id)
        })
        .collect();
    for round in 2..=4 {
        waiting.reverse();
        std::thread::scope(|scope| {
            for &(at, id) in &waiting {
                // Another sandbox of another function runs on the same thread in between.
                scope.spawn(move || {
                    let other = begin(fixture, &functions[(at + 1) % functions.len()]).0;
                    assert!(fixture.engine.drop_call(other));
                    let seen = resume(fixture, id, b"x");
                    assert_eq!(seen.call().1, vec![at as u8 + 1; round]);
                });
            }
        });
    }
    for (at, id) in waiting {
        let answer = format!("answer {at}").into_bytes();
        assert_eq!(resume(fixture, id, &answer).body(), answer);
    }
    assert_eq!(fixture.engine.suspended(), 0);
}

/// A suspended call can be dropped at any time, and leaves nothing: no permit, no slot, no wrong byte in the next sandbox.
pub fn a_suspended_call_can_be_dropped(fixture: &Fixture) {
    let times = std::env::var("GOJINN_TEST_DROPS").ok();
    let times = times.and_then(|times| times.parse().ok()).unwrap_or(200);
    let function = fixture.deploy(&caller(2, 9));
    for round in 0..times {
        let (id, _) = begin(fixture, &function);
        if round % 2 == 1 {
            assert_eq!(resume(fixture, id, b"x").call().1, [9; 2]);
        }
        assert!(fixture.engine.drop_call(id));
        assert!(!fixture.engine.drop_call(id));
    }
    assert_eq!(fixture.engine.suspended(), 0);
    assert_eq!(fixture.engine.permits().0, 0);
    if let Some(pool) = fixture.engine.pool() {
        assert_eq!(pool.stats().busy, 0);
    }
    let (id, _) = begin(fixture, &function);
    assert_eq!(resume(fixture, id, b"x").call().1, [9; 2]);
    assert_eq!(resume(fixture, id, b"end").body(), b"end");
}

/// A suspended call whose deadline has passed, or that was cancelled, ends where it waits when it is resumed.
pub fn a_suspended_call_ends_with_its_deadline(fixture: &Fixture) {
    let function = fixture.deploy_with(&caller(2, 3), |config| {
        config.limits.timeout = Duration::from_millis(30);
    });
    let (id, seen) = begin(fixture, &function);
    let Seen::Event { deadline, .. } = seen else {
        panic!("it waits");
    };
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    assert_eq!(resume(fixture, id, b"late").outcome(), Outcome::Timeout);

    let function = fixture.deploy(&caller(2, 3));
    let (id, _) = begin(fixture, &function);
    assert!(fixture.engine.cancel(id));
    assert_eq!(resume(fixture, id, b"gone").outcome(), Outcome::Cancelled);
    assert_eq!(fixture.engine.permits().0, 0);
}

/// A guest that sleeps gives its thread back where the backend can suspend it, and sleeps for as long as it wants.
pub fn a_sleep_is_as_long_as_it_should_be(fixture: &Fixture) {
    let function = fixture.deploy(&sleeper(20));
    let begun = Instant::now();
    let (id, seen) = begin(fixture, &function);
    let suspends = fixture.engine.backends()[0].capabilities().suspends;
    if !suspends {
        assert_eq!(seen.body(), b"ok");
        assert!(begun.elapsed() >= Duration::from_millis(20));
        return;
    }
    let Seen::Event {
        event: Event::Sleep(Some(until)),
        ..
    } = seen
    else {
        panic!("it sleeps: {seen:?}");
    };
    assert!(until >= begun + Duration::from_millis(20));
    // Too early: it goes on sleeping, until the same time.
    match resume(fixture, id, b"") {
        Seen::Event {
            event: Event::Sleep(again),
            ..
        } => assert_eq!(again, Some(until)),
        seen => assert!(until <= Instant::now(), "{seen:?}"),
    }
    if fixture.engine.suspended() == 1 {
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        assert_eq!(resume(fixture, id, b"").body(), b"ok");
    }
    // A call that cannot be suspended blocks its thread.
    let begun = Instant::now();
    assert_eq!(fixture.get(&function).body, b"ok");
    assert!(begun.elapsed() >= Duration::from_millis(20));
}

/// The negative code of a reply reaches the guest, and so does the text that goes with it.
pub fn the_code_of_a_reply_reaches_the_guest(fixture: &Fixture) {
    let function = fixture.deploy(&caller(1, 5));
    let (id, _) = begin(fixture, &function);
    let reply = HostReply {
        code: -2,
        bytes: b"denied".to_vec(),
    };
    let seen = expect(fixture.engine.resume(id, reply, Seen::of));
    // The guest of this case takes it as a reason to trap.
    assert_eq!(seen.outcome(), Outcome::Trap);
}
