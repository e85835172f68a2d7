//! The environment of requests and the grammar of responses.

use std::collections::BTreeMap;

use super::Cgi;
use crate::contract::{Begins, Contract, Request, Scan};

type Headers<'a> = &'a [(&'a [u8], &'a [u8])];

fn environment(request: &Request<'_>) -> BTreeMap<String, String> {
    let variables = Cgi.variables(request).into_iter();
    variables
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect()
}

fn request<'a>(headers: Headers<'a>) -> Request<'a> {
    Request {
        method: b"POST",
        uri: b"/b?x=1&y=%20",
        headers,
        body: b"body",
        trace_id: b"abc",
        remote_addr: b"[2001:db8::1]:4711",
        scheme: b"https",
        host: b"example.com:8443",
        proto: b"HTTP/2.0",
        original_uri: b"/a/b?x=1&y=%20",
        ..Request::default()
    }
}

#[test]
fn a_request_is_in_the_environment() {
    let headers: Headers<'_> = &[
        (b"Content-Type", b"text/plain"),
        (b"Content-Length", b"9"),
        (b"Accept", b"a"),
        (b"accept", b"b"),
        (b"Cookie", b"a=1"),
        (b"Cookie", b"b=2"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b":cgi:SCRIPT_NAME", b"/a"),
        (b":cgi:PATH_INFO", b"/b"),
        (b":cgi:REMOTE_USER", b"me"),
    ];
    let environment = environment(&request(headers));
    let expected = [
        ("CONTENT_LENGTH", "9"),
        ("CONTENT_TYPE", "text/plain"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("HTTPS", "on"),
        ("HTTP_ACCEPT", "a, b"),
        ("HTTP_COOKIE", "a=1; b=2"),
        ("HTTP_HOST", "example.com:8443"),
        ("HTTP_X_FORWARDED_FOR", "192.0.2.1"),
        ("PATH_INFO", "/b"),
        ("QUERY_STRING", "x=1&y=%20"),
        ("REMOTE_ADDR", "2001:db8::1"),
        ("REMOTE_HOST", "2001:db8::1"),
        ("REMOTE_PORT", "4711"),
        ("REMOTE_USER", "me"),
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_SCHEME", "https"),
        ("REQUEST_URI", "/a/b?x=1&y=%20"),
        ("SCRIPT_NAME", "/a"),
        ("SERVER_NAME", "example.com"),
        ("SERVER_PORT", "8443"),
        ("SERVER_PROTOCOL", "HTTP/2.0"),
        ("SERVER_SOFTWARE", "Gojinn"),
        ("TRACE_ID", "abc"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(environment, BTreeMap::from(expected));
}

#[test]
fn some_headers_are_no_variables() {
    for (name, value, connection) in [
        (&b"Proxy"[..], &b"http://evil.example"[..], &b""[..]),
        (b"proxy", b"x", b""),
        (b"X_Y", b"taken for X-Y", b""),
        (b"X.Y", b"a point", b""),
        (b"X Y", b"a space", b""),
        (b"", b"no name", b""),
        (b"X-Y", b"a\0b", b""),
        (b"X-Y", b"for the server only", b"x-y"),
        (b"Transfer-Encoding", b"chunked", b""),
        (b"Te", b"trailers", b""),
        (b"Proxy-Authorization", b"x", b""),
        (b"Upgrade", b"h2c", b""),
        (b":cgi:A=B", b"x", b""),
        (b":cgi:A\0", b"x", b""),
    ] {
        let headers: Headers<'_> = &[(name, value), (b"Connection", connection)];
        let with = environment(&request(headers));
        assert_eq!(with, environment(&request(&[])), "{}", name.escape_ascii());
    }
}

#[test]
fn hosts_and_addresses_have_ports_or_not() {
    for (host, scheme, name, port) in [
        ("example.com", "http", "example.com", "80"),
        ("example.com", "https", "example.com", "443"),
        ("example.com:8080", "https", "example.com", "8080"),
        ("[::1]", "http", "[::1]", "80"),
        ("[::1]:81", "http", "[::1]", "81"),
        ("::1", "http", "::1", "80"),
        ("", "http", "", "80"),
        ("example.com:", "http", "example.com", "80"),
    ] {
        let environment = environment(&Request {
            host: host.as_bytes(),
            scheme: scheme.as_bytes(),
            ..Request::default()
        });
        let shown = (&*environment["SERVER_NAME"], &*environment["SERVER_PORT"]);
        assert_eq!(shown, (name, port), "{host}");
    }
    for (address, shown, port) in [
        ("192.0.2.1:5", "192.0.2.1", Some("5")),
        ("[2001:db8::1]:5", "2001:db8::1", Some("5")),
        ("2001:db8::1", "2001:db8::1", None),
        ("192.0.2.1", "192.0.2.1", None),
        ("@", "@", None),
        ("", "", None),
    ] {
        let environment = environment(&Request {
            remote_addr: address.as_bytes(),
            ..Request::default()
        });
        assert_eq!(environment["REMOTE_ADDR"], shown, "{address}");
        let found = environment.get("REMOTE_PORT").map(String::as_str);
        assert_eq!(found, port, "{address}");
    }
}

#[test]
fn the_rest_of_a_body_follows() {
    let follows = |length: &[u8], body: &[u8]| {
        Cgi.body_follows(&Request {
            headers: &[(b"content-length", length)],
            body,
            ..Request::default()
        })
    };
    assert_eq!(follows(b"10", b""), 10);
    assert_eq!(follows(b"10", b"1234"), 6);
    assert_eq!(follows(b"4", b"1234"), 0);
    assert_eq!(follows(b"3", b"1234"), 0);
    assert_eq!(follows(b"x", b""), 0);
    assert_eq!(Cgi.body_follows(&Request::default()), 0);
    // A body without a length is all there is.
    let whole = Request {
        body: b"1234",
        ..Request::default()
    };
    assert_eq!(Cgi.body_follows(&whole), 0);
    assert_eq!(environment(&whole)["CONTENT_LENGTH"], "4");
    assert!(!environment(&Request::default()).contains_key("CONTENT_LENGTH"));
}

/// `Ok`: status, whether it is named, headers, body. `Err`: the error.
type Parsed = Result<(u16, bool, Vec<(String, String)>, String), String>;

fn parse(output: &[u8]) -> Parsed {
    let response = Cgi.parse_response(output).map_err(|bad| bad.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = response.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_string(), text(value)));
    Ok((
        response.status,
        response.names_status,
        headers.collect(),
        text(&response.body),
    ))
}

#[test]
fn responses_are_read() {
    type Row<'a> = (&'a str, u16, bool, &'a [(&'a str, &'a str)], &'a str);
    let plain = ("Content-Type", "text/plain");
    let rows: &[Row<'_>] = &[
        (
            "Content-Type: text/plain\n\nhello\n",
            200,
            false,
            &[plain],
            "hello\n",
        ),
        (
            "Content-Type: text/plain\r\n\r\n\r\nx",
            200,
            false,
            &[plain],
            "\r\nx",
        ),
        ("content-type:text/plain\n\n", 200, false, &[plain], ""),
        ("Status: 404 Not Found\n\n", 404, true, &[], ""),
        ("status:404\r\n\n", 404, true, &[], ""),
        (
            "Status: 200\nContent-Type: text/plain\n\nx",
            200,
            true,
            &[plain],
            "x",
        ),
        ("Location: /x\n\n", 302, true, &[("Location", "/x")], ""),
        (
            "Location: /x\nStatus: 301\n\n",
            301,
            true,
            &[("Location", "/x")],
            "",
        ),
        (
            "Status: 201\nLocation: /x\n\n",
            201,
            true,
            &[("Location", "/x")],
            "",
        ),
        ("Status: 204\nX: y\n\nno body", 204, true, &[("X", "y")], ""),
        ("Status: 304\n\nno body", 304, true, &[], ""),
        (
            "Set-Cookie: a=1\nX: y\nset-cookie: b=2\n\n",
            200,
            false,
            &[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X", "y")],
            "",
        ),
        (
            "Content-Length: 3\n\nabc",
            200,
            false,
            &[("Content-Length", "3")],
            "abc",
        ),
        (
            "X: y\nConnection: close, x\nTransfer-Encoding: chunked\n\nb",
            200,
            false,
            &[],
            "b",
        ),
        ("X:\n\n", 200, false, &[("X", "")], ""),
        ("X:  a:b \t\n\n", 200, false, &[("X", "a:b")], ""),
    ];
    for &(output, status, named, headers, body) in rows {
        let headers = headers.iter();
        let headers = headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let expected = Ok((status, named, headers.collect(), body.to_owned()));
        assert_eq!(parse(output.as_bytes()), expected, "{output:?}");
    }
    let bytes = Cgi.parse_response(b"X: caf\xe9\n\n\xff\0").unwrap();
    assert_eq!(
        (&*bytes.headers[0].1, &*bytes.body),
        (&b"caf\xe9"[..], &b"\xff\0"[..])
    );
}

#[test]
fn what_is_no_response_is_refused() {
    for (output, part) in [
        ("", "no output"),
        ("hello", "no end"),
        ("Content-Type: text/plain\n", "no end"),
        ("Content-Type: text/plain\r\n\r", "no end"),
        ("\nhello", "begins with an empty line"),
        ("\r\n", "begins with an empty line"),
        ("hello\n\n", "\"hello\" is not a header field"),
        ("<html>\n\n", "not a header field"),
        ("HTTP/1.1 200 OK\n\n", "print a field instead"),
        ("X: a\n b\n\n", "begins with white space"),
        (": x\n\n", "not a valid header name"),
        ("X Y: x\n\n", "\"X Y\" is not a valid header name"),
        ("X : x\n\n", "not a valid header name"),
        ("X: a\x01b\n\n", "0x01"),
        ("X: a\rb\n\n", "0x0d"),
        ("Status: 99\n\n", "from 200 to 599"),
        ("Status: 100 Continue\n\n", "from 200 to 599"),
        ("Status: 600\n\n", "from 200 to 599"),
        ("Status: 0200\n\n", "from 200 to 599"),
        ("Status: +20\n\n", "from 200 to 599"),
        ("Status:\n\n", "from 200 to 599"),
        ("Status: OK\n\n", "\"OK\""),
        ("Status: 200\nstatus: 200\n\n", "second time"),
        (
            "Content-Length: 1\nContent-Length: 1\n\nx",
            "must occur once",
        ),
        ("Content-Length: -1\n\n", "a number of bytes"),
        ("Content-Length: +1\n\nx", "a number of bytes"),
        (
            "Content-Length: 99999999999999999999\n\n",
            "a number of bytes",
        ),
        ("Content-Length:\n\n", "a number of bytes"),
    ] {
        let error = parse(output.as_bytes()).expect_err(output);
        assert!(error.contains(part), "{output:?}: {error}");
        assert!(error.len() < 200, "{error}");
    }
    let many = "A: b\n".repeat(257) + "\n";
    assert!(
        parse(many.as_bytes())
            .unwrap_err()
            .contains("more than 256")
    );
    let large = format!("A: {}\nB: {}\n\n", "x".repeat(40_000), "y".repeat(40_000));
    assert!(parse(large.as_bytes()).unwrap_err().contains("64 KiB"));
}

#[test]
fn a_head_that_is_right_begins_a_stream() {
    let begins = |output: &[u8]| Cgi.stream_head(&mut Scan::default(), output);
    assert_eq!(begins(b"A: b\n"), Begins::Open);
    assert_eq!(begins(b"A: b\n\nbody"), Begins::Head(6));
    assert_eq!(begins(b"no field\n\nbody"), Begins::Else);
    assert_eq!(begins(b"\nbody"), Begins::Else);
}

/// Untrusted output of any length and content neither panics nor takes long.
#[test]
fn any_output_is_read_or_refused() {
    let mut seed = 1_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize
    };
    let words: [&[u8]; 12] = [
        b"Status",
        b": ",
        b"200",
        b"\n",
        b"\r\n",
        b"Location",
        b"\xff",
        b"\0",
        b"Content-Length",
        b" ",
        b"X",
        b"\n\n",
    ];
    for _ in 0..20_000 {
        let output: Vec<u8> = (0..random() % 12)
            .flat_map(|_| words[random() % words.len()].iter().copied())
            .collect();
        let whole = Cgi.parse_response(&output);
        if let Begins::Head(len) = Cgi.stream_head(&mut Scan::default(), &output) {
            let (whole, head) = (whole.unwrap(), Cgi.parse_response(&output[..len]).unwrap());
            assert_eq!((whole.status, whole.headers), (head.status, head.headers));
        } else {
            assert!(whole.is_err(), "{}", output.escape_ascii());
        }
    }
}
