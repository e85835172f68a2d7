//! Cases about the contract `json` in frames, which guests get that say that they take them.

use engine_core::contract::frames::{MAGIC, MARKER, NEXT, REMOVED, RESPONSE_HEAD, STREAM};
use engine_core::contract::{self, Request, frames};
use engine_core::{Function, Outcome, Reached};

use super::next::all_changes;
use super::{Fixture, HELLO, command, expect, printer, text};

type Pair<'a> = (&'a [u8], Option<&'a [u8]>);

/// A response. `lies` are numbers that are written over those in the frame, each with its place.
#[derive(Clone, Copy, Default)]
struct Frame<'a> {
    flags: u32,
    status: u32,
    method: &'a [u8],
    uri: &'a [u8],
    headers: &'a [Pair<'a>],
    vars: &'a [Pair<'a>],
    response_headers: &'a [Pair<'a>],
    body: &'a [u8],
    lies: &'a [(usize, u32)],
}

impl Frame<'_> {
    fn bytes(&self) -> Vec<u8> {
        let groups = [self.headers, self.vars, self.response_headers];
        let length = |bytes: &[u8]| bytes.len() as u32;
        let mut numbers = vec![
            self.flags,
            self.status,
            length(self.method),
            length(self.uri),
        ];
        numbers.extend(groups.map(|group| group.len() as u32));
        numbers.push(length(self.body));
        let pairs = || groups.into_iter().flatten();
        numbers.extend(
            pairs().flat_map(|(name, value)| [length(name), value.map_or(REMOVED, length)]),
        );
        let mut out = MAGIC.to_vec();
        out.extend(numbers.into_iter().flat_map(u32::to_le_bytes));
        out.extend([self.method, self.uri].concat());
        out.extend(pairs().flat_map(|(name, value)| [name, value.unwrap_or_default()].concat()));
        out.extend(self.body);
        for (at, number) in self.lies {
            out[*at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        out
    }
}

/// A data segment by which a module says that it takes frames.
fn marker() -> String {
    text(16, MARKER).0
}

/// A command that takes frames, prints `output` and then runs `code`.
fn framed(output: &[u8], code: &str) -> String {
    let (data, at) = text(1024, output);
    let fields = format!("(memory (export \"memory\") 16) {} {data}", marker());
    command(&fields, &format!("(call $print {at}) {code}"))
}

/// A command that takes frames and answers with all of its memory but the first bytes, after it has read its request.
fn dumper() -> String {
    let length = 2 * 65_536 - 4096;
    let head = Frame {
        status: 200,
        lies: &[(32, length)],
        ..Frame::default()
    };
    let (data, at) = text(1024, head.bytes());
    let fields = format!("(memory (export \"memory\") 2) {} {data}", marker());
    let code = format!(
        r#"(i32.store (i32.const 0) (i32.const 4096))
           (i32.store (i32.const 4) (i32.const 126976))
           (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
           ;; the second read must find the end
           (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 12)))
           (if (i32.load (i32.const 12)) (then unreachable))
           (call $print {at})
           (call $print (i32.const 4096) (i32.const {length}))"#
    );
    command(&fields, &code)
}

/// stdin holds one frame, with the fields that a function of the contract `json` must include, and then ends. Nothing of it
/// is left for the next request.
pub fn a_request_is_a_frame(fixture: &Fixture) {
    let function = fixture.deploy(&dumper());
    assert!(function.facts().frames);
    let long = vec![b'x'; 100_000];
    for body in [&b"{\"a\":\xff}"[..], &long, b""] {
        let request = Request {
            method: b"POST",
            uri: b"/api/x?q=1",
            headers: &[(b"Content-Type", b"text/\xe9"), (b"te", b"1")],
            body,
            trace_id: b"abc",
            remote_addr: b"192.0.2.1:1",
            host: b"h",
            ..Request::default()
        };
        let mut expected = Vec::new();
        frames::write_request(&mut expected, &request);
        let answer = fixture.call(&function, &request, &[]);
        assert_eq!(answer.outcome, Outcome::Ok, "{}", answer.reason);
        let (frame, rest) = answer.body.split_at(expected.len());
        assert!(frame == expected, "{}", frame.escape_ascii());
        assert!(rest.iter().all(|byte| *byte == 0), "memory is as it was");
    }
}

/// Each request carries random bytes in all of its parts, and no guest finds those of the request before it.
pub fn nothing_of_a_frame_reaches_the_next_guest(fixture: &Fixture) {
    let function = fixture.deploy(&dumper());
    let mut before: Option<[u8; 16]> = None;
    for number in 0..300_usize {
        let mut canary = [0; 16];
        if let Err(error) = getrandom::fill(&mut canary) {
            panic!("no randomness: {error}");
        }
        // Visible characters, so that they pass in a URI too.
        let canary = canary.map(|byte| b'0' + byte % 75);
        let body = canary.repeat(1 + number * 37 % 3000);
        let request = Request {
            method: b"POST",
            uri: &[&b"/"[..], &canary].concat(),
            headers: &[(b"X-Canary", &canary), (b"Cookie", &canary)],
            body: &body,
            trace_id: &canary,
            host: &canary,
            ..Request::default()
        };
        let answer = fixture.call(&function, &request, &[]);
        assert_eq!(answer.outcome, Outcome::Ok, "{}", answer.reason);
        let has = |canary: &[u8; 16]| answer.body.windows(16).any(|part| part == canary);
        assert!(has(&canary));
        assert!(!before.is_some_and(|before| has(&before)), "pair {number}");
        before = Some(canary);
    }
}

/// What a guest writes in a frame is the answer, whatever bytes the body has.
pub fn an_answer_is_a_frame(fixture: &Fixture) {
    let all: Vec<u8> = (0..=255).collect();
    let frame = Frame {
        status: 404,
        headers: &[
            (b"x-guest", Some(b" wat ")),
            (b"Set-Cookie", Some(b"a=1")),
            (b"Set-Cookie", Some(b"b=2")),
            (b"X-None", None),
            (b"Content-Length", Some(b"7")),
        ],
        body: &all,
        ..Frame::default()
    };
    let function = fixture.deploy(&framed(&frame.bytes(), ""));
    for _ in 0..3 {
        let answer = fixture.get(&function);
        assert_eq!(answer.outcome, Outcome::Ok, "{}", answer.reason);
        let headers = [
            ("X-Guest", "wat"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
        ];
        assert_eq!((answer.status, &answer.body), (404, &all));
        assert_eq!(
            answer.headers,
            headers.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
    // Without a status it is 200; a bad end counts more than an answer.
    let nothing = Frame::default().bytes();
    assert_eq!(
        fixture.get(&fixture.deploy(&framed(&nothing, ""))).status,
        200
    );
    let function = fixture.deploy(&framed(&nothing, "unreachable"));
    assert_eq!(fixture.get(&function).outcome, Outcome::Trap);
}

/// A frame that breaks a rule is a 502, with a reason that names the byte. Numbers that are too large take no memory.
pub fn a_frame_that_breaks_a_rule_is_refused(fixture: &Fixture) {
    let whole = Frame {
        status: 200,
        headers: &[(b"A", Some(b"1"))],
        body: b"body",
        ..Frame::default()
    };
    let lie = |at: usize, number: u32| {
        Frame {
            lies: &[(at, number)],
            ..whole
        }
        .bytes()
    };
    let whole_bytes = whole.bytes();
    let cut = |length: usize| whole_bytes[..length].to_vec();
    let next = Frame {
        flags: NEXT,
        ..Frame::default()
    };
    let table: &[(Vec<u8>, &str)] = &[
        (Vec::new(), "no output"),
        (HELLO.into(), "byte 0: the output is no frame"),
        (
            [b"debug\n", &whole_bytes[..]].concat(),
            "byte 0: the output is no frame",
        ),
        (b"\xf1GJ\x02".to_vec(), "byte 0: the output is no frame"),
        (cut(3), "byte 3: the frame ends in its head"),
        (
            cut(RESPONSE_HEAD - 1),
            "byte 35: the frame ends in its head",
        ),
        (cut(RESPONSE_HEAD), "byte 36: the frame ends before byte 44"),
        (
            cut(45),
            "byte 45: the frame ends after 45 bytes; by its lengths it has 50",
        ),
        (cut(49), "byte 49: the frame ends after 49 bytes"),
        (
            [&whole_bytes[..], b"\n"].concat(),
            "byte 50: 1 bytes follow the frame",
        ),
        (lie(4, 8), "byte 4: the flags are 0x8"),
        (lie(8, 99), "byte 8: the status is 99"),
        (lie(8, u32::MAX), "byte 8: the status is 4294967295"),
        (lie(12, 1), "byte 12: the frame has a method"),
        (
            lie(20, u32::MAX),
            "byte 20: the response has more than 256 headers",
        ),
        (
            lie(20, 257),
            "byte 20: the response has more than 256 headers",
        ),
        (lie(20, 256), "byte 50: the frame ends before byte 2084"),
        (lie(24, u32::MAX), "byte 24: the frame has variables"),
        (
            lie(32, u32::MAX),
            "byte 50: the frame ends after 50 bytes; by its lengths it has 4294967341",
        ),
        (
            lie(32, 5),
            "byte 50: the frame ends after 50 bytes; by its lengths it has 51",
        ),
        (
            lie(36, u32::MAX),
            "byte 36: the response has more than 256 headers, or more than 64 KiB",
        ),
        (
            lie(40, u32::MAX - 1),
            "byte 36: the response has more than 256 headers, or more than 64 KiB",
        ),
        (
            Frame {
                headers: &[(b"a b", Some(b"1"))],
                ..whole
            }
            .bytes(),
            "byte 44: \"a b\" is not a valid header name",
        ),
        (
            Frame {
                headers: &[(b"A", Some(b"x\r\ny"))],
                ..whole
            }
            .bytes(),
            "byte 45: the value of header \"A\" contains the byte 0x0d",
        ),
        (
            Frame {
                headers: &[(b"A", Some(b"1")), (b"a", Some(b"2"))],
                ..whole
            }
            .bytes(),
            "byte 54: the header \"A\" occurs a second time",
        ),
        (
            Frame {
                status: 200,
                ..next
            }
            .bytes(),
            "byte 4: the frame has the flag next, and a status",
        ),
        (
            Frame {
                uri: b"http://example.org/",
                ..next
            }
            .bytes(),
            "byte 36: the uri",
        ),
        (
            Frame {
                method: b"a b",
                ..next
            }
            .bytes(),
            "byte 36: \"a b\" is not a valid method",
        ),
        (
            Frame {
                vars: &[(b"a", Some(b"\xff"))],
                ..next
            }
            .bytes(),
            "byte 45: the variable \"a\" must be text",
        ),
        (
            Frame {
                lies: &[(28, u32::MAX)],
                ..next
            }
            .bytes(),
            "byte 28: the response has more than 256",
        ),
        (
            Frame {
                flags: NEXT | STREAM,
                ..next
            }
            .bytes(),
            "byte 4: the frame has the flag stream",
        ),
    ];
    for (output, reason) in table {
        let function = fixture.deploy(&framed(output, ""));
        let answer = fixture.get(&function);
        let expected = (Outcome::BadOutput, 502);
        assert_eq!((answer.outcome, answer.status), expected, "{reason}");
        assert!(answer.reason.contains(reason), "{}", answer.reason);
    }

    let function =
        fixture.deploy_with(&framed(&whole_bytes, ""), |config| config.limits.output = 3);
    let answer = fixture.get(&function);
    assert_eq!(answer.outcome, Outcome::BadOutput);
    assert!(
        answer.reason.contains("4 bytes, more than max_output (3)"),
        "{}",
        answer.reason
    );
}

/// A guest lets a request go on by a frame, with all changes that there are.
pub fn a_request_goes_on_by_a_frame(fixture: &Fixture) {
    let frame = Frame {
        flags: NEXT,
        method: b"PUT",
        uri: b"/b?c",
        headers: &[(b"x-user", Some(b"alice")), (b"Cookie", None)],
        vars: &[(b"user", Some(b"alice"))],
        response_headers: &[
            (b"Vary", Some(b"a")),
            (b"Vary", Some(b"b")),
            (b"Server", None),
        ],
        ..Frame::default()
    };
    let function = fixture.deploy(&framed(&frame.bytes(), ""));
    let expected = all_changes();
    let permit = expect(fixture.engine.reserve());
    expect(function.call(permit, &Request::default(), &[], |answer| {
        assert_eq!(answer.outcome, Outcome::Ok, "{}", answer.reason);
        let response = answer.response.expect("a response");
        assert_eq!(response.next.as_deref(), Some(&expected));
    }));
}

/// The body of a stream follows its frame, and leaves while the guest goes on. A line break at its beginning is part of it.
pub fn a_stream_follows_its_frame(fixture: &Fixture) {
    let head = Frame {
        flags: STREAM,
        status: 201,
        headers: &[(b"X-Guest", Some(b"wat"))],
        ..Frame::default()
    };
    let output = [&head.bytes()[..], b"\none"].concat();
    // The second write fills what may wait, and the third waits. The import says that calls of the function can be suspended.
    let wat = framed(
        &output,
        "(call $print (i32.const 4096) (i32.const 32764)) (call $print (i32.const 4096) (i32.const 3))",
    )
    .replacen(
        "(module",
        r#"(module (import "gojinn" "call" (func $call (param i32 i32 i32 i32) (result i32)))"#,
        1,
    );
    let function = fixture.deploy(&wat);
    let mut seen = Vec::new();
    let permit = expect(fixture.engine.reserve());
    let id = permit.id();
    let mut waits = false;
    let mut note = |reached: Reached<'_>| match reached {
        Reached::Waiting(waiting) => {
            if let Some(head) = waiting.head {
                assert!(head.streams && head.status == 201 && head.headers.len() == 1);
            }
            seen.extend_from_slice(waiting.output);
            waits = true;
            true
        }
        Reached::Answer(answer) => {
            assert_eq!(answer.outcome, Outcome::Ok, "{}", answer.reason);
            let response = answer.response.expect("a response");
            seen.extend_from_slice(&response.body);
            false
        }
    };
    let mut goes_on = expect(function.begin(permit, &Request::default(), &[], &mut note));
    while goes_on {
        goes_on = expect(fixture.engine.resume(id, Default::default(), &mut note));
    }
    assert!(waits, "it has waited for its reader");
    assert!(seen.starts_with(b"\none\0\0") && seen.len() > 32768);
    // In a call that cannot be suspended it is a whole answer.
    let whole = fixture.get(&function);
    assert_eq!((whole.status, whole.body == seen), (201, true));
}

/// A guest without the marker gets JSON, and one with another contract what that contract says.
pub fn only_guests_that_take_frames_get_them(fixture: &Fixture) {
    let function = fixture.deploy(&printer(HELLO, ""));
    assert!(!function.facts().frames);
    assert_eq!(fixture.get(&function).status, 201);
    let part = text(16, &MARKER[..MARKER.len() - 1]).0;
    let function =
        fixture.deploy(&printer(HELLO, "").replacen("(data", &format!("{part} (data"), 1));
    assert!(!function.facts().frames);
    assert_eq!(fixture.get(&function).status, 201);

    let in_cgi = |config: &mut engine_core::FunctionConfig| {
        config.contract = contract::named("cgi").expect("the contract cgi");
    };
    let function = fixture.deploy_with(&framed(b"Status: 201\n\nx", ""), in_cgi);
    assert!(!function.facts().frames);
    assert_eq!(fixture.get(&function).status, 201);
}

/// The sample of a warm-up is checked as JSON, and reaches the guest as a frame.
pub fn a_sample_becomes_a_frame(fixture: &Fixture) {
    let deploy = |sample: &str| -> engine_core::Result<Function> {
        fixture.try_deploy(&dumper(), |config| {
            let (rounds, sample) = (1, Some(sample.as_bytes().to_vec()));
            config.warmup = Some(engine_core::Warmup { rounds, sample });
        })
    };
    let sample = r#"{"method":"GET","uri":"/","headers":{},"body":"","trace_id":"t"}"#;
    assert!(expect(deploy(sample)).facts().frames);
    let error = deploy("{\n}").err().map(|error| error.to_string());
    let expected = "the sample of warmup, 1:1: the request lacks";
    assert!(
        error.as_ref().is_some_and(|error| error.contains(expected)),
        "{error:?}"
    );
}
