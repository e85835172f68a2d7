//! Tests of frames: the bytes of requests, and every way in which a response may be wrong.

use std::borrow::Cow;

use super::*;
use crate::contract::json::Json;
use crate::contract::{HeaderChanges, MAX_HEADERS, Next, json};

/// Reads a request as a guest does.
struct Read<'a> {
    frame: &'a [u8],
    entry: usize,
    at: usize,
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

impl<'a> Read<'a> {
    fn new(frame: &'a [u8]) -> Self {
        assert_eq!(frame[..4], MAGIC);
        let (entry, headers) = (8, number(frame, 44));
        let at = REQUEST_HEAD + 8 * headers;
        assert_eq!(number(frame, 4), frame.len());
        Self { frame, entry, at }
    }

    fn part(&mut self) -> &'a [u8] {
        let begin = self.at;
        self.at += number(self.frame, self.entry);
        self.entry += 4;
        &self.frame[begin..self.at]
    }

    /// The nine fields, the headers and the body.
    fn all(mut self) -> (Vec<&'a [u8]>, Pairs, &'a [u8]) {
        let fields = (0..9).map(|_| self.part()).collect();
        self.entry = REQUEST_HEAD;
        let headers = (0..number(self.frame, 44))
            .map(|_| (self.part().to_vec(), self.part().to_vec()))
            .collect();
        self.entry = 48;
        let body = self.part();
        assert_eq!(self.at, self.frame.len());
        (fields, headers, body)
    }
}

fn number(frame: &[u8], at: usize) -> usize {
    u32::from_le_bytes(*frame[at..].first_chunk().unwrap()) as usize
}

fn pairs(of: &[(&str, &[u8])]) -> Pairs {
    of.iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
        .collect()
}

#[test]
fn a_request_has_these_bytes() {
    let request = Request {
        method: b"PUT",
        uri: b"/a",
        headers: &[(b"x-a", b"1"), (b"Accept", b"")],
        body: b"\0body",
        trace_id: b"t",
        remote_addr: b"",
        client_ip: b"c",
        scheme: b"http",
        host: b"h",
        proto: b"p",
        original_uri: b"/o",
    };
    let mut frame = b"before".to_vec();
    write_request(&mut frame, &request);
    let numbers = [111_u32, 3, 2, 1, 0, 1, 4, 1, 1, 2, 3, 5];
    let table = [6_u32, 0, 4, 1, 3, 1];
    let mut expected = b"before\xf1GJ\x01".to_vec();
    for number in numbers.into_iter().chain(table) {
        expected.extend(number.to_le_bytes());
    }
    expected.extend(b"PUT/atchttphp/oAcceptHosthX-A1\0body");
    assert_eq!(frame, expected);
}

#[test]
fn a_request_has_the_headers_of_the_json_contract_and_their_bytes() {
    let request = Request {
        method: b"G\xff",
        uri: b"/\xe4 \"",
        original_uri: b"/\x7f",
        headers: &[
            (b"connection", b"close, x-gone"),
            (b"X-Gone", b"1"),
            (b"proxy", b"2"),
            (b"b-b", b"\xff\0"),
            (b"A", b"3"),
            (b"B-B", b"4"),
            (b"host", b"other"),
            (b"not a name", b"5"),
            (b"content-length", b"6"),
        ],
        host: b"h",
        ..Request::default()
    };
    let mut frame = Vec::new();
    write_request(&mut frame, &request);
    let (fields, headers, body) = Read::new(&frame).all();
    assert_eq!(fields[..3], [&b"G\xff"[..], b"/%E4%20\"", b""]);
    assert_eq!(fields[8], b"/%7F");
    assert!(body.is_empty());
    let expected = pairs(&[
        ("A", b"3"),
        ("B-B", b"\xff\0"),
        ("B-B", b"4"),
        ("Content-Length", b"6"),
        ("Host", b"h"),
    ]);
    assert_eq!(headers, expected);
}

#[test]
fn the_samples_are_those_of_the_json_contract() {
    let samples = Frames.samples(Fields::default());
    let json = Json.samples(Fields::all());
    assert_eq!(samples.len(), json.len());
    for (frame, line) in samples.iter().zip(&json) {
        if line.is_empty() {
            assert!(frame.is_empty());
            continue;
        }
        let checked = Frames.check_sample(line, 1000).unwrap();
        assert_eq!(checked, *frame);
    }
}

#[test]
fn a_sample_of_a_user_becomes_a_frame() {
    let text = "{\"method\":\"POST\",\"uri\":\"/x\",\"headers\":{\"host\":[\"h\"],\"B\":[\"1\",\"\u{10ffff}\"]},\"body\":\"\",
        \"body_base64\":\"/w==\",\"trace_id\":\"t\"}";
    let frame = Frames.check_sample(text.as_bytes(), 1).unwrap();
    let (fields, headers, body) = Read::new(&frame).all();
    let expected: [&[u8]; 9] = [b"POST", b"/x", b"t", b"", b"", b"", b"h", b"", b""];
    assert_eq!(fields, expected);
    assert_eq!(
        headers,
        pairs(&[("B", b"1"), ("B", b"\xff"), ("Host", b"h")])
    );
    assert_eq!(body, b"\xff");

    let error = Frames.check_sample(b"{\n}", 1).unwrap_err().to_string();
    assert!(error.starts_with("1:1: the request lacks"), "{error}");
}

/// Writes responses, also wrong ones.
#[derive(Clone, Default)]
struct Write<'a> {
    flags: u32,
    status: u32,
    method: &'a [u8],
    uri: &'a [u8],
    headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    vars: &'a [(&'a [u8], Option<&'a [u8]>)],
    response_headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    body: &'a [u8],
}

impl Write<'_> {
    fn bytes(&self) -> Vec<u8> {
        let groups = [self.headers, self.vars, self.response_headers];
        let mut out = MAGIC.to_vec();
        let length = |bytes: &[u8]| bytes.len() as u32;
        let mut numbers = vec![
            self.flags,
            self.status,
            length(self.method),
            length(self.uri),
        ];
        numbers.extend(groups.map(|group| group.len() as u32));
        numbers.push(length(self.body));
        for (name, value) in groups.into_iter().flatten() {
            numbers.extend([length(name), value.map_or(REMOVED, length)]);
        }
        for number in numbers {
            out.extend(number.to_le_bytes());
        }
        out.extend([self.method, self.uri].concat());
        for (name, value) in groups.into_iter().flatten() {
            out.extend([name, value.unwrap_or_default()].concat());
        }
        out.extend(self.body);
        out
    }
}

#[track_caller]
fn refused(output: &[u8], reason: &str) {
    match parse_response(output) {
        Ok(response) => panic!("{}: {response:?}", output.escape_ascii()),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains(reason), "{error}");
            assert!(error.is_ascii() && error.len() < 500, "{error}");
        }
    }
}

#[test]
fn a_response_has_these_bytes() {
    let response = Write {
        status: 404,
        headers: &[(b"A", Some(b"1"))],
        body: b"body",
        ..Write::default()
    };
    assert_eq!(
        response.bytes(),
        b"\xf1GJ\x01\0\0\0\0\x94\x01\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\x01\0\0\0\x01\0\0\0A1body"
    );
}

#[test]
fn an_answer_is_read() {
    let written = Write {
        status: 404,
        headers: &[
            (b"x-a", Some(b" \xff\t")),
            (b"x-a", Some(b"")),
            (b"B", None),
            (b"Connection", Some(b"close, c")),
            (b"C", Some(b"gone")),
        ],
        body: b"\0\xff",
        ..Write::default()
    }
    .bytes();
    let response = parse_response(&written).unwrap();
    assert_eq!((response.status, response.names_status), (404, true));
    let value = |bytes: &'static [u8]| Cow::Borrowed(bytes);
    let name = || Cow::Borrowed("X-A");
    assert_eq!(
        response.headers,
        [(name(), value(b"\xff")), (name(), value(b""))]
    );
    assert!(matches!(response.body, Cow::Borrowed(b"\0\xff")));
    assert!(!response.streams && response.next.is_none());

    let written = Write::default().bytes();
    let response = parse_response(&written).unwrap();
    assert_eq!((response.status, response.names_status), (200, false));
    let written = Write {
        status: 304,
        body: b"x",
        ..Write::default()
    };
    assert!(parse_response(&written.bytes()).unwrap().body.is_empty());
}

#[test]
fn a_request_goes_on() {
    let written = Write {
        flags: NEXT,
        method: b"PUT",
        uri: b"/b?c",
        headers: &[
            (b"x-user", Some(b"alice")),
            (b"Cookie", None),
            (b"Host", Some(b"h:1")),
        ],
        vars: &[(b"user", Some(b"al\xc3\xafce")), (b"x", Some(b""))],
        response_headers: &[
            (b"Vary", Some(b"a")),
            (b"Vary", Some(b"b")),
            (b"server", None),
        ],
        ..Write::default()
    }
    .bytes();
    let response = parse_response(&written).unwrap();
    assert!(response.headers.is_empty() && response.body.is_empty());
    let set = |of: &[(&'static str, &'static [u8])]| {
        of.iter()
            .map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)))
            .collect()
    };
    let expected = Next {
        method: Some("PUT".into()),
        uri: Some("/b?c".into()),
        headers: HeaderChanges {
            set: set(&[("X-User", b"alice"), ("Host", b"h:1")]),
            delete: vec!["Cookie".into()],
        },
        response_headers: HeaderChanges {
            set: set(&[("Vary", b"a"), ("Vary", b"b")]),
            delete: vec!["Server".into()],
        },
        vars: vec![
            ("user".into(), "al\u{ef}ce".into()),
            ("x".into(), "".into()),
        ],
        ..Next::default()
    };
    assert_eq!(response.next.as_deref(), Some(&expected));

    let nothing = Write {
        flags: NEXT,
        ..Write::default()
    };
    let nothing = nothing.bytes();
    let response = parse_response(&nothing).unwrap();
    assert_eq!(response.next.as_deref(), Some(&Next::default()));
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_place() {
    let with = |write: Write<'_>, reason: &str| refused(&write.bytes(), reason);
    let plain = Write::default;
    let next = || Write {
        flags: NEXT,
        ..Write::default()
    };
    refused(b"", "no output");
    refused(
        b"{\"status\":200}",
        "byte 0: the output is no frame: it begins with \"{\\\"status\\\":200}\"",
    );
    refused(b"\xf1GJ\x02\0\0\0\0", "byte 0: the output is no frame");
    refused(b"\xf1G", "byte 2: the frame ends in its head");
    let flags = |flags| Write { flags, ..plain() };
    with(flags(4), "byte 4: the flags are 0x4");
    with(flags(u32::MAX), "byte 4: the flags are 0xffffffff");
    with(
        flags(NEXT | STREAM),
        "byte 4: the frame has the flag stream",
    );
    let stream = Write {
        body: b"x",
        ..flags(STREAM)
    };
    with(stream, "byte 4: the frame has the flag stream");
    for status in [1, 99, 199, 600, 65736, u32::MAX] {
        let reason = format!("byte 8: the status is {status}");
        with(Write { status, ..plain() }, &reason);
    }
    with(
        Write {
            status: 200,
            ..next()
        },
        "byte 4: the frame has the flag next, and a status",
    );
    with(
        Write {
            body: b"x",
            ..next()
        },
        "byte 4: the frame has the flag next, and a status or a body",
    );
    with(
        Write {
            method: b"GET",
            ..plain()
        },
        "byte 12: the frame has a method, and not the flag next",
    );
    with(
        Write {
            uri: b"/",
            ..plain()
        },
        "byte 16: the frame has a URI",
    );
    with(
        Write {
            vars: &[(b"a", Some(b"b"))],
            ..plain()
        },
        "byte 24: the frame has variables",
    );
    with(
        Write {
            response_headers: &[(b"a", None)],
            ..plain()
        },
        "byte 28: the frame has response headers",
    );

    let headers = |headers: &[(&[u8], Option<&[u8]>)], reason: &str| {
        with(Write { headers, ..plain() }, reason);
    };
    headers(
        &[(b"A", Some(b"1")), (b"a b", Some(b"1"))],
        "byte 54: \"a b\" is not a valid header name",
    );
    headers(&[(b"", None)], "byte 44: \"\" is not a valid header name");
    headers(&[(b"\xff", None)], "byte 44: \"\\u{fffd}\" is not a valid");
    headers(
        &[(b"A", Some(b"x\r\ny"))],
        "byte 45: the value of header \"A\" contains the byte 0x0d",
    );
    headers(
        &[(b"a", Some(b"1")), (b"A", Some(b"2"))],
        "byte 54: the header \"A\" occurs a second time",
    );
    headers(
        &[(b"A", Some(b"1")), (b"B", None), (b"A", Some(b"2"))],
        "the header \"A\" occurs a second time",
    );
    headers(
        &[(b"A", Some(b"1")), (b"A", None)],
        "the header \"A\" occurs a second time",
    );
    headers(
        &[(b"A", None), (b"A", Some(b"1"))],
        "the header \"A\" occurs a second time",
    );

    with(
        Write {
            method: b"a b",
            ..next()
        },
        "byte 36: \"a b\" is not a valid method",
    );
    with(
        Write {
            uri: b"x",
            ..next()
        },
        "byte 36: the uri \"x\" does not begin with a slash",
    );
    with(
        Write {
            headers: &[(b"Host", None)],
            ..next()
        },
        "the header Host of the request is null or empty",
    );
    with(
        Write {
            vars: &[(b"a b", Some(b"1"))],
            ..next()
        },
        "byte 44: \"a b\" is not the name of a variable",
    );
    with(
        Write {
            vars: &[(b"a", Some(b"1")), (b"A", Some(b"1"))],
            ..next()
        },
        "byte 54: the variable \"A\" occurs a second time",
    );
    for value in [None, Some(&b"\xff"[..])] {
        with(
            Write {
                vars: &[(b"a", value)],
                ..next()
            },
            "the variable \"a\" must be text in UTF-8",
        );
    }
    with(
        Write {
            response_headers: &[(b"a\n", None)],
            ..next()
        },
        "is not a valid header name",
    );
    let longer = [&plain().bytes()[..], b"\n\n"].concat();
    refused(&longer, "byte 36: 2 bytes follow the frame");
}

#[test]
fn counts_and_sizes_are_bounded_before_anything_is_read() {
    let pair: (&[u8], Option<&[u8]>) = (b"A", Some(b"1"));
    let most = vec![pair; MAX_HEADERS];
    let written = Write {
        headers: &most,
        ..Write::default()
    };
    let bytes = written.bytes();
    assert_eq!(parse_response(&bytes).unwrap().headers.len(), MAX_HEADERS);
    // Too many, of which the output has none.
    for (at, flags) in [(20, 0), (24, NEXT), (28, NEXT)] {
        for count in [MAX_HEADERS as u32 + 1, u32::MAX] {
            let mut bytes = Write {
                flags,
                ..Write::default()
            }
            .bytes();
            bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
            refused(
                &bytes,
                &format!("byte {at}: the response has more than 256"),
            );
        }
    }
    let value = vec![b'x'; crate::contract::MAX_HEADER_BYTES];
    let too_long: [(&[u8], Option<&[u8]>); 1] = [(b"A", Some(&value))];
    let written = Write {
        headers: &too_long,
        ..Write::default()
    };
    refused(&written.bytes(), "byte 36: the response has more than 256");
    let fits: [(&[u8], Option<&[u8]>); 1] = [(b"A", Some(&value[1..]))];
    let written = Write {
        headers: &fits,
        ..Write::default()
    };
    assert!(parse_response(&written.bytes()).is_ok());
}

/// A response with all parts, one that goes on, and one that streams.
fn several() -> [Vec<u8>; 3] {
    let answer = Write {
        status: 200,
        headers: &[(b"A", Some(b"12")), (b"B", None)],
        body: b"body",
        ..Write::default()
    };
    let next = Write {
        flags: NEXT,
        method: b"PUT",
        uri: b"/b",
        headers: &[(b"A", Some(b"12")), (b"B", None)],
        vars: &[(b"v", Some(b"w"))],
        response_headers: &[(b"C", Some(b"3"))],
        ..Write::default()
    };
    let stream = Write {
        flags: STREAM,
        headers: &[(b"A", Some(b"12"))],
        ..Write::default()
    };
    [answer, next, stream].map(|write| write.bytes())
}

#[test]
fn a_frame_that_is_cut_off_is_refused() {
    for frame in several() {
        for length in 1..frame.len() {
            refused(&frame[..length], &format!("byte {length}: the frame ends"));
        }
        assert!(parse_response(&frame).is_ok());
    }
}

#[test]
fn any_number_in_any_place_is_read_or_refused() {
    for frame in several() {
        for at in 0..frame.len() - 3 {
            for number in [
                0,
                1,
                2,
                7,
                255,
                256,
                1 << 16,
                1 << 31,
                u32::MAX - 1,
                u32::MAX,
            ] {
                let mut frame = frame.clone();
                frame[at..at + 4].copy_from_slice(&number.to_le_bytes());
                let _ = parse_response(&frame);
                let _ = response::stream_head(&frame);
            }
        }
    }
}

#[test]
fn the_body_of_a_stream_follows_its_frame() {
    let [answer, next, head] = several();
    let written = [&head[..], b"\n\xffbody"].concat();
    let response = parse_response(&written).unwrap();
    assert!(response.streams);
    assert_eq!(&*response.body, b"\n\xffbody");

    for length in 0..written.len() {
        let expected = if length < head.len() {
            Begins::Open
        } else {
            Begins::Head(head.len())
        };
        assert_eq!(
            response::stream_head(&written[..length]),
            expected,
            "{length}"
        );
    }
    for output in [&answer[..], &next, b"{\"stream\":true}", b"\xf1GK"] {
        assert_eq!(response::stream_head(output), Begins::Else);
    }
    let wrong = Write {
        flags: STREAM,
        headers: &[(b"A", Some(b"\n"))],
        ..Write::default()
    };
    assert_eq!(response::stream_head(&wrong.bytes()), Begins::Else);
    let long = vec![b'x'; 65_000];
    let long: [(&[u8], Option<&[u8]>); 1] = [(b"A", Some(&long))];
    let long = Write {
        flags: STREAM,
        headers: &long,
        ..Write::default()
    };
    let head = long.bytes();
    assert_eq!(response::stream_head(&head), Begins::Head(head.len()));
}

#[test]
fn no_json_text_and_no_marker_is_a_frame_by_mistake() {
    assert!(MARKER.starts_with(&MAGIC));
    // Nor is it text, which a program may have in its data.
    assert!(std::str::from_utf8(&MAGIC).is_err());
    assert!(json::parse_response(&MAGIC).is_err());
}
