//! Tests of the hostcalls: what a guest reads and changes, and what ends it.

use super::*;
use crate::contract::Request;
use crate::contract::http_wasm::HttpWasm;
use crate::contract::{Contract, Next, Response};
use crate::limits::SandboxLimits;
use crate::outcome::GuestExit;
use crate::sandbox::HostReply;
use crate::sandbox::wasi::testing::host;

const REQUEST: Request<'_> = Request {
    method: b"POST",
    uri: b"/a?b=c",
    headers: &[
        (b"X-Two", b"1"),
        (b"accept", b"*/*"),
        (b"X-Two", b"2"),
        (b"Host", b"ignored"),
        (b":trailer:X-T", b"t"),
        (b":response:Vary", b"Origin"),
    ],
    body: b"0123456789",
    trace_id: b"",
    remote_addr: b"192.0.2.1:4711",
    client_ip: b"",
    scheme: b"http",
    host: b"example.org",
    proto: b"HTTP/2.0",
    original_uri: b"",
};

/// A guest with 64 bytes of scratch, then texts.
struct Guest {
    host: HostState,
    memory: Vec<u8>,
}

impl Guest {
    fn new() -> Self {
        let limits = SandboxLimits {
            body: 16,
            output: 20,
            ..SandboxLimits::default()
        };
        let mut host = host();
        host.http = HttpWasm.exchange(&REQUEST, &limits);
        Self {
            host,
            memory: vec![0; 1 << 17],
        }
    }

    /// Puts texts into memory, and returns pointers and lengths.
    fn put<const N: usize>(&mut self, texts: [&[u8]; N]) -> [(i32, i32); N] {
        let mut at = 4096;
        texts.map(|text| {
            self.memory[at..at + text.len()].copy_from_slice(text);
            let put = (at as i32, text.len() as i32);
            at += text.len();
            put
        })
    }

    fn get(&mut self, get: fn(&mut HostState, &mut [u8], i32, i32) -> Result<i32, Stop>) -> String {
        let len = get(&mut self.host, &mut self.memory, 0, 4096).expect("it is allowed");
        String::from_utf8(self.memory[..len as usize].to_vec()).expect("UTF-8")
    }

    fn list(&self, count_len: i64) -> Vec<String> {
        let (count, len) = ((count_len >> 32) as usize, count_len as u32 as usize);
        let list = self.memory[..len].split(|byte| *byte == 0);
        let list = list.map(|text| String::from_utf8(text.to_vec()).expect("UTF-8"));
        list.take(count).collect()
    }

    fn names(&mut self, kind: i32) -> Vec<String> {
        let result = get_header_names(&mut self.host, &mut self.memory, kind, 0, 4096);
        self.list(result.expect("it is allowed"))
    }

    fn values(&mut self, kind: i32, name: &str) -> Vec<String> {
        let [(at, len)] = self.put([name.as_bytes()]);
        let result = get_header_values(&mut self.host, &mut self.memory, kind, at, len, 0, 4096);
        self.list(result.expect("it is allowed"))
    }

    fn set(&mut self, kind: i32, name: &str, value: &str) -> Result<(), Stop> {
        let [name, value] = self.put([name.as_bytes(), value.as_bytes()]);
        let (host, memory) = (&mut self.host, &mut self.memory);
        set_header_value(host, memory, kind, name.0, name.1, value.0, value.1)
    }

    fn add(&mut self, kind: i32, name: &str, value: &str) -> Result<(), Stop> {
        let [name, value] = self.put([name.as_bytes(), value.as_bytes()]);
        let (host, memory) = (&mut self.host, &mut self.memory);
        add_header_value(host, memory, kind, name.0, name.1, value.0, value.1)
    }

    fn remove(&mut self, kind: i32, name: &str) -> Result<(), Stop> {
        let [(at, len)] = self.put([name.as_bytes()]);
        remove_header(&mut self.host, &mut self.memory, kind, at, len)
    }

    fn text(
        &mut self,
        set: fn(&mut HostState, &mut [u8], i32, i32) -> Result<(), Stop>,
        text: &[u8],
    ) -> Result<(), Stop> {
        let [(at, len)] = self.put([text]);
        set(&mut self.host, &mut self.memory, at, len)
    }

    fn write(&mut self, kind: i32, text: &str) -> Result<(), Stop> {
        let [(at, len)] = self.put([text.as_bytes()]);
        write_body(&mut self.host, &mut self.memory, kind, at, len)
    }

    fn read(&mut self, kind: i32, limit: i32) -> (String, bool) {
        let result = read_body(&mut self.host, &mut self.memory, kind, 0, limit);
        let result = result.expect("it is allowed");
        let text = &self.memory[..result as u32 as usize];
        let text = String::from_utf8(text.to_vec()).expect("UTF-8");
        (text, result >> 32 == 1)
    }

    /// Lets the request go on with the features that are enabled.
    fn go_on(&mut self) -> (Next<'static>, Vec<u8>) {
        assert!(self.host.goes_on(&[], 7 << 32 | 1));
        match self.host.waits_for.take() {
            Some(Event::Next { next, body }) => (*next, body),
            other => panic!("{other:?}"),
        }
    }

    /// The next handler answers.
    fn hear(&mut self, status: u32, header: (&str, &str), body: &str, failed: bool) -> i64 {
        let mut bytes = Vec::new();
        let string = |text: &str, bytes: &mut Vec<u8>| {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        bytes.extend(status.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        string(header.0, &mut bytes);
        string(header.1, &mut bytes);
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(body.as_bytes());
        let code = i32::from(failed);
        self.host.resumed_with = Some(HostReply { code, bytes });
        self.host.next_has_answered().expect("a whole reply")
    }

    fn response(mut self) -> Response<'static> {
        self.host.http.take().expect("an exchange").into_response()
    }

    /// Checks that a hostcall has ended the guest, and why.
    #[track_caller]
    fn ended<R: std::fmt::Debug + PartialEq>(&mut self, result: Result<R, Stop>, why: &str) {
        assert_eq!(result, Err(Stop::Violation), "{why}");
        self.host.stop(Stop::Violation);
        let GuestExit::Trap(trap) = self.host.exit(None) else {
            panic!("it is a trap");
        };
        assert!(trap.to_string().contains(why), "{trap}");
        self.host.violated = None;
    }
}

/// A hostcall as a guest makes it.
type Step = fn(&mut Guest, i32, i32) -> Result<(), Stop>;

fn pairs(pairs: &[(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, [u8]>)]) -> Vec<String> {
    let pair = |(name, value): &(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, [u8]>)| {
        format!("{name}: {}", String::from_utf8_lossy(value))
    };
    pairs.iter().map(pair).collect()
}

#[test]
fn a_request_is_read() {
    let mut guest = Guest::new();
    assert_eq!(guest.get(get_method), "POST");
    assert_eq!(guest.get(get_uri), "/a?b=c");
    assert_eq!(guest.get(get_protocol_version), "HTTP/2.0");
    assert_eq!(guest.get(get_source_addr), "192.0.2.1:4711");
    assert_eq!(guest.names(0), ["accept", "host", "x-two"]);
    assert_eq!(guest.values(0, "X-TWO"), ["1", "2"]);
    assert_eq!(guest.values(0, "host"), ["example.org"]);
    assert!(guest.values(0, "none").is_empty());
    assert_eq!(guest.names(1), ["vary"]);
    assert_eq!(guest.names(2), ["x-t"]);
    assert_eq!(guest.values(2, "X-T"), ["t"]);
    assert!(guest.names(3).is_empty());
    assert_eq!(guest.read(0, 4), ("0123".into(), false));
    assert_eq!(guest.read(0, 100), ("456789".into(), true));
    assert_eq!(guest.read(0, 1), (String::new(), true));
}

#[test]
fn a_result_that_does_not_fit_is_not_written() {
    let mut guest = Guest::new();
    guest.memory[..8].fill(9);
    let (host, memory) = (&mut guest.host, &mut guest.memory);
    assert_eq!(get_method(host, memory, 0, 3), Ok(4));
    assert_eq!(get_header_names(host, memory, 0, 0, 17), Ok(3 << 32 | 18));
    assert_eq!(memory[..8], [9; 8]);
    // Also where nothing could be written: the pointer is not looked at.
    assert_eq!(get_method(host, memory, -1, 0), Ok(4));
    assert_eq!(get_method(host, memory, 0, -1), Ok(4));
    assert_eq!(&memory[..4], b"POST");
}

#[test]
fn changes_of_a_request_go_on() {
    let mut guest = Guest::new();
    guest.text(set_method, b"PUT").unwrap();
    guest.text(set_uri, b"/new%2F?q").unwrap();
    guest.set(0, "x-user", " alice ").unwrap();
    guest.add(0, "x-two", "3").unwrap();
    guest.remove(0, "Accept").unwrap();
    guest.set(0, "host", "inner:81").unwrap();
    guest.set(0, "Content-Length", "99").unwrap();
    guest.add(0, "connection", "close").unwrap();
    guest.remove(0, "transfer-encoding").unwrap();
    guest.set(1, "x-f", "1").unwrap();
    guest.add(1, "vary", "Cookie").unwrap();
    guest.set(2, "x-t", "u").unwrap();
    guest.write(0, "other ").unwrap();
    guest.write(0, "body").unwrap();
    assert_eq!(guest.get(get_method), "PUT");
    assert_eq!(guest.get(get_uri), "/new%2F?q");
    assert_eq!(guest.values(0, "x-user"), ["alice"]);
    let (next, body) = guest.go_on();
    assert_eq!(next.method.as_deref(), Some("PUT"));
    assert_eq!(next.uri.as_deref(), Some("/new%2F?q"));
    assert_eq!(
        pairs(&next.headers.set),
        [
            "X-User: alice",
            "X-Two: 1",
            "X-Two: 2",
            "X-Two: 3",
            "Host: inner:81"
        ]
    );
    assert_eq!(next.headers.delete, ["Accept"]);
    assert_eq!(
        pairs(&next.response_headers.set),
        ["X-F: 1", "Vary: Origin", "Vary: Cookie"]
    );
    assert_eq!(pairs(&next.trailers.set), ["X-T: u"]);
    assert!(next.replaces_body && !next.buffers_response);
    assert_eq!(body, b"other body");

    let mut guest = Guest::new();
    guest.text(set_uri, b"").unwrap();
    assert_eq!(guest.go_on().0.uri.as_deref(), Some("/"));
    assert_eq!(Guest::new().go_on(), (Next::default(), Vec::new()));
}

#[test]
fn a_guest_answers() {
    let mut guest = Guest::new();
    assert_eq!(get_status_code(&mut guest.host, &mut []), Ok(200));
    set_status_code(&mut guest.host, &mut [], 401).unwrap();
    guest.set(1, "www-authenticate", "Basic").unwrap();
    guest.remove(1, "vary").unwrap();
    guest.write(1, "go ").unwrap();
    guest.write(1, "away").unwrap();
    assert_eq!(get_status_code(&mut guest.host, &mut []), Ok(401));
    let response = guest.response();
    assert_eq!((response.status, response.names_status), (401, true));
    assert_eq!(&*response.body, b"go away");
    let next = response.next.expect("changes");
    assert_eq!(
        pairs(&next.response_headers.set),
        ["Www-Authenticate: Basic"]
    );
    assert_eq!(next.response_headers.delete, ["Vary"]);
    assert!(next.replaces_body);

    let response = Guest::new().response();
    assert_eq!((response.status, response.names_status), (200, false));
    assert!(response.body.is_empty());
}

#[test]
fn a_buffered_response_is_read_and_changed() {
    let mut guest = Guest::new();
    let all = enable_features(&mut guest.host, &mut [], -1).unwrap();
    assert_eq!(all, 7);
    // What was written so far is the beginning of the response.
    set_status_code(&mut guest.host, &mut [], 404).unwrap();
    guest.write(1, "early").unwrap();
    let next = guest.go_on().0;
    assert!(next.buffers_response);
    assert_eq!(next.early, Some((404, (&b"early"[..]).into())));
    let context = guest.hear(203, ("X-Up", "1"), "response", true);
    assert_eq!(context, 7 << 32 | 1);
    assert_eq!(get_status_code(&mut guest.host, &mut []), Ok(203));
    assert_eq!(guest.names(1), ["x-up"]);
    assert_eq!(guest.read(1, 100), ("response".into(), true));
    // The request is there to read still.
    assert_eq!(guest.values(0, "accept"), ["*/*"]);
    assert_eq!(guest.read(0, 100), ("0123456789".into(), true));
    set_status_code(&mut guest.host, &mut [], 500).unwrap();
    guest.remove(1, "x-up").unwrap();
    guest.set(3, "x-sum", "9").unwrap();
    guest.write(1, "redacted").unwrap();
    let response = guest.response();
    assert_eq!((response.status, response.names_status), (500, true));
    assert_eq!(&*response.body, b"redacted");
    let next = response.next.expect("changes");
    assert_eq!(next.response_headers.delete, ["X-Up"]);
    assert_eq!(pairs(&next.trailers.set), ["X-Sum: 9"]);

    let mut guest = Guest::new();
    assert_eq!(enable_features(&mut guest.host, &mut [], 2), Ok(2));
    guest.go_on();
    assert_eq!(guest.hear(404, ("A", "b"), "as it is", false), 7 << 32);
    let response = guest.response();
    assert_eq!((response.status, response.names_status), (404, false));
    let next = response.next.expect("changes");
    assert_eq!(*next, Next::default());
}

#[test]
fn what_the_abi_does_not_allow_ends_the_guest() {
    let mut guest = Guest::new();
    for (method, why) in [
        (&b""[..], "not a valid method"),
        (b"GET /x HTTP/1.1\r\n", "not a valid method"),
    ] {
        let result = guest.text(set_method, method);
        guest.ended(result, why);
    }
    for uri in [&b"http://a/"[..], b"/ HTTP/1.1\r\nA: b", b"/%", b"*", b"/#"] {
        let result = guest.text(set_uri, uri);
        guest.ended(result, "the URI");
    }
    for kind in [-1, 4, i32::MAX] {
        let result = get_header_names(&mut guest.host, &mut guest.memory, kind, 0, 0);
        guest.ended(result, "no header kind");
        let result = guest.set(kind, "a", "b");
        guest.ended(result, "no header kind");
    }
    for kind in [0, 1, 2, 3] {
        for (name, value, why) in [
            ("", "b", "empty"),
            ("a b", "c", "not a valid header name"),
            ("a\r\nb", "c", "not a valid header name"),
            ("a", "b\r\nc: d", "0x0d"),
            ("a", "\0", "0x00"),
        ] {
            let result = guest.set(kind, name, value);
            guest.ended(result, why);
            let result = guest.add(kind, name, value);
            guest.ended(result, why);
        }
        let result = guest.remove(kind, "");
        guest.ended(result, "empty");
        let result = get_header_values(&mut guest.host, &mut guest.memory, kind, 0, 0, 0, 0);
        guest.ended(result, "empty");
    }
    let steps: [Step; 3] = [
        |g, _, _| g.set(0, "Host", "a b"),
        |g, _, _| g.add(0, "host", "b"),
        |g, _, _| g.remove(0, "HOST"),
    ];
    for step in steps {
        let result = step(&mut guest, 0, 0);
        guest.ended(result, "host");
    }
    for status in [0, 99, 101, 199, 600, -1, 65_736] {
        let result = set_status_code(&mut guest.host, &mut [], status);
        guest.ended(result, "the status is");
    }
    for kind in [-1, 2] {
        let result = guest.write(kind, "x");
        guest.ended(result, "no body kind");
    }
    let result = read_body(&mut guest.host, &mut guest.memory, 0, 0, 0);
    guest.ended(result, "0 bytes");
    let result = guest.write(0, "17 bytes are many");
    guest.ended(result, "max_body");
    let result = guest.write(1, "21 bytes are too many");
    guest.ended(result, "max_output");
    guest.write(1, "20 bytes fit exactly").unwrap();
    let result = guest.write(1, "x");
    guest.ended(result, "max_output");
}

#[test]
fn pointers_outside_of_memory_end_the_guest() {
    let mut guest = Guest::new();
    let end = guest.memory.len() as i32;
    let steps: [Step; 9] = [
        |g, ptr, len| set_method(&mut g.host, &mut g.memory, ptr, len),
        |g, ptr, len| set_uri(&mut g.host, &mut g.memory, ptr, len),
        |g, ptr, len| set_header_value(&mut g.host, &mut g.memory, 0, ptr, len, 0, 1),
        |g, ptr, len| add_header_value(&mut g.host, &mut g.memory, 1, ptr, len, 0, 1),
        |g, ptr, len| remove_header(&mut g.host, &mut g.memory, 1, ptr, len),
        |g, ptr, len| write_body(&mut g.host, &mut g.memory, 1, ptr, len),
        |g, ptr, len| log(&mut g.host, &mut g.memory, 0, ptr, len),
        |g, ptr, len| {
            let result = get_header_values(&mut g.host, &mut g.memory, 0, ptr, len, 0, 0);
            result.map(|_| ())
        },
        |g, ptr, len| read_body(&mut g.host, &mut g.memory, 0, ptr, len).map(|_| ()),
    ];
    for (ptr, len) in [
        (end, 1),
        (end - 1, 2),
        (-1, 4),
        (0, -1),
        (i32::MIN, i32::MIN),
    ] {
        for step in steps {
            let result = step(&mut guest, ptr, len);
            guest.ended(result, "outside of the guest's memory");
        }
    }
    let steps: [Step; 3] = [
        |g, ptr, limit| get_method(&mut g.host, &mut g.memory, ptr, limit).map(|_| ()),
        |g, ptr, limit| get_uri(&mut g.host, &mut g.memory, ptr, limit).map(|_| ()),
        |g, ptr, limit| get_header_names(&mut g.host, &mut g.memory, 0, ptr, limit).map(|_| ()),
    ];
    for ptr in [end, end - 3, -1, i32::MIN] {
        for (step, limit) in steps.iter().zip([4096, -1, 4096]) {
            let result = step(&mut guest, ptr, limit);
            guest.ended(result, "outside of the guest's memory");
        }
    }
}

#[test]
fn headers_that_a_guest_sets_are_bounded() {
    let mut guest = Guest::new();
    for n in 0..256 {
        guest.set(1, &format!("x-{n}"), "").unwrap();
    }
    let result = guest.set(1, "x-256", "");
    guest.ended(result, "more than 256 headers");
    let mut guest = Guest::new();
    for _ in 0..256 {
        guest.add(0, "x", "").unwrap();
    }
    let result = guest.add(0, "x", "");
    guest.ended(result, "more than 256 headers");
    let mut guest = Guest::new();
    let result = guest.set(1, "x", &"v".repeat(64 << 10));
    guest.ended(result, "64 KiB");
    let mut guest = Guest::new();
    for n in 0..256 {
        guest.remove(0, &format!("x-{n}")).unwrap();
    }
    let result = guest.remove(0, "x-256");
    guest.ended(result, "more than 256 headers");
    // One that is replaced counts once.
    let mut guest = Guest::new();
    for _ in 0..1000 {
        guest.set(1, "x", "v").unwrap();
    }
}

#[test]
fn after_next_the_request_cannot_change_and_the_response_only_if_it_is_buffered() {
    let mut guest = Guest::new();
    guest.go_on();
    guest.hear(200, ("A", "b"), "", false);
    let steps: [Step; 6] = [
        |g, _, _| g.text(set_method, b"PUT"),
        |g, _, _| g.text(set_uri, b"/"),
        |g, _, _| g.set(0, "a", "b"),
        |g, _, _| g.add(2, "a", "b"),
        |g, _, _| g.remove(0, "a"),
        |g, _, _| g.write(0, "x"),
    ];
    for step in steps {
        let result = step(&mut guest, 0, 0);
        guest.ended(result, "after the request has gone on");
    }
    let steps: [Step; 6] = [
        |g, _, _| g.set(1, "a", "b"),
        |g, _, _| g.add(3, "a", "b"),
        |g, _, _| g.remove(1, "a"),
        |g, _, _| g.write(1, "x"),
        |g, _, _| set_status_code(&mut g.host, &mut [], 200),
        |g, _, _| read_body(&mut g.host, &mut g.memory, 1, 0, 1).map(|_| ()),
    ];
    for step in steps {
        let result = step(&mut guest, 0, 0);
        guest.ended(result, "buffer_response");
    }
    // Reading headers and status needs no feature.
    assert_eq!(guest.values(1, "a"), ["b"]);
    assert_eq!(get_status_code(&mut guest.host, &mut []), Ok(200));
    // Features that are enabled now are too late.
    enable_features(&mut guest.host, &mut [], 7).unwrap();
    let result = guest.write(1, "x");
    guest.ended(result, "buffer_response");
}

#[test]
fn without_a_request_there_is_nothing_to_read() {
    let mut guest = Guest::new();
    guest.host.http = None;
    let result = get_method(&mut guest.host, &mut guest.memory, 0, 100);
    guest.ended(result, "there is no request");
    assert!(!guest.host.goes_on(&[], 1));
    assert!(guest.host.next_has_answered().is_err());
    // These need none.
    assert_eq!(enable_features(&mut guest.host, &mut [], 1), Ok(1));
    assert_eq!(get_config(&mut guest.host, &mut guest.memory, 0, 9), Ok(0));
    let levels = [-1, 0, 1, 2, 3].map(|level| log_enabled(&mut guest.host, &mut [], level));
    assert_eq!(levels, [Ok(0), Ok(1), Ok(1), Ok(1), Ok(0)]);
}

#[test]
fn config_and_log_are_passed() {
    let mut guest = Guest::new();
    let program = crate::sandbox::Program {
        data: Some((*b"config").into()),
        ..Default::default()
    };
    guest.host.program = std::sync::Arc::new(program);
    assert_eq!(guest.get(get_config), "config");
    guest.memory[..4].copy_from_slice(b"text");
    for level in [-1, 0, 1, 2, 3, i32::MAX, i32::MIN] {
        log(&mut guest.host, &mut guest.memory, level, 0, 4).unwrap();
    }
    let (packed, _) = guest.host.logs.finish();
    let levels: Vec<_> = crate::logs::lines(&packed)
        .map(|(level, line)| {
            assert_eq!(line, b"text");
            level
        })
        .collect();
    assert_eq!(levels, [0, 1, 2, 3, 0]);
}

#[test]
fn a_malformed_reply_is_a_fault_of_the_host() {
    for bytes in [
        &b""[..],
        b"\xc8\0\0\0",
        b"\xc8\0\0\0\xff\xff\xff\xff\0\0\0\0",
    ] {
        let mut guest = Guest::new();
        guest.go_on();
        guest.host.resumed_with = Some(HostReply {
            code: 0,
            bytes: bytes.to_vec(),
        });
        assert!(guest.host.next_has_answered().is_err(), "{bytes:?}");
    }
}
