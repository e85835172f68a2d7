//! Tests of what a guest may write to let a request go on.

use std::borrow::Cow;

use super::super::{parse_response, write_request};
use super::response::refused;
use crate::contract::{Fields, HeaderChanges, MAX_HEADERS, Next, Request};

fn goes_on(output: &str) -> Next<'_> {
    match parse_response(output.as_bytes()) {
        Ok(response) => {
            assert_eq!((response.status, response.names_status), (200, false));
            assert!(response.headers.is_empty() && response.body.is_empty());
            *response
                .next
                .unwrap_or_else(|| panic!("{output}: an answer"))
        }
        Err(error) => panic!("{output}: {error}"),
    }
}

#[track_caller]
fn refused_because(output: &str, reason: &str) {
    let message = refused(output.as_bytes());
    assert!(message.contains(reason), "{output}: {message}");
}

type Pairs<'a> = &'a [(&'a str, &'a str)];

#[track_caller]
fn changes(found: &HeaderChanges<'_>, set: Pairs<'_>, delete: &[&str]) {
    let found_set: Vec<_> = found
        .set
        .iter()
        .map(|(name, value)| (&**name, std::str::from_utf8(value).expect("UTF-8")))
        .collect();
    assert_eq!(found_set, set);
    assert_eq!(found.delete, delete);
}

#[test]
fn a_request_goes_on_as_it_is() {
    for output in [
        r#"{"next":true}"#,
        r#" {"NEXT" : true , "unknown": [1]} "#,
        r#"{"n\u0065xt":true,"status":0,"body":"","body_base64":null,"headers":null}"#,
        r#"{"method":null,"uri":null,"vars":null,"response_headers":null,"next":true}"#,
        r#"{"method":"","uri":"","vars":{},"response_headers":{},"headers":{},"next":true}"#,
    ] {
        assert_eq!(goes_on(output), Next::default(), "{output}");
    }
}

#[test]
fn all_changes_are_read_wherever_next_is() {
    let changed = r#""method":"PUT","uri":"/b%2Fc?d=%zz","headers":{"x-user":"alice","Accept":["a","b"],"cookie":null},
        "vars":{"user":"al\u00efce","n":-1.5e3,"ok":true,"no":false,"gone":null},
        "response_headers":{"x-frame-options":"DENY","set-cookie":["a=1","b=2"],"SERVER":null,"X-Powered-By":[]}"#;
    for output in [
        format!(r#"{{"next":true,{changed}}}"#),
        format!(r#"{{{changed},"next":true}}"#),
        format!(
            r#"{{{},"next":true}}"#,
            changed.replace("\"uri\"", "\"URI\"")
        ),
    ] {
        let next = goes_on(&output);
        assert_eq!(next.method.as_deref(), Some("PUT"));
        assert_eq!(next.uri.as_deref(), Some("/b%2Fc?d=%zz"));
        changes(
            &next.headers,
            &[("X-User", "alice"), ("Accept", "a"), ("Accept", "b")],
            &["Cookie"],
        );
        changes(
            &next.response_headers,
            &[
                ("X-Frame-Options", "DENY"),
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
            ],
            &["Server", "X-Powered-By"],
        );
        let vars = [
            ("user", "al\u{ef}ce"),
            ("n", "-1.5e3"),
            ("ok", "true"),
            ("no", "false"),
        ];
        assert_eq!(
            next.vars,
            vars.map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)))
        );
    }
}

#[test]
fn without_next_the_other_keys_are_unknown_ones() {
    for next in ["", r#""next":false,"#, r#""next":null,"#] {
        let output = format!(
            r#"{{{next}"status":201,"method":1,"uri":["x"],"vars":"\ud800","response_headers":[],"headers":{{"A":null}}}}"#
        );
        let response = parse_response(output.as_bytes()).expect("an answer");
        assert_eq!((response.status, response.next), (201, None), "{output}");
    }
}

#[test]
fn next_is_a_boolean_and_comes_once() {
    for value in ["1", "\"true\"", "[]", "{}", "0"] {
        refused_because(
            &format!(r#"{{"next":{value}}}"#),
            "next must be true or false",
        );
    }
    for value in ["True", "truex", "tru", "yes"] {
        refused_because(&format!(r#"{{"next":{value}}}"#), "byte ");
    }
    for output in [
        r#"{"next":true,"next":true}"#,
        r#"{"next":null,"Next":true}"#,
        r#"{"next":true,"uri":"/a","URI":"/b"}"#,
        r#"{"next":true,"vars":{},"Vars":{}}"#,
        r#"{"method":"A","next":true,"method":"B"}"#,
        r#"{"response_headers":{},"next":true,"Response_Headers":{}}"#,
        r#"{"uri":"/a","URI":"/b"}"#,
        r#"{"next":true,"headers":{"A":"1","a":null}}"#,
        r#"{"next":true,"response_headers":{"A":"1","a":"2"}}"#,
        r#"{"next":true,"vars":{"a":"1","A":"2"}}"#,
        r#"{"next":true,"vars":{"a":null,"a":"2"}}"#,
    ] {
        refused_because(output, "occurs a second time");
    }
}

#[test]
fn an_answer_beside_next_is_refused() {
    for answer in [
        r#""status":200"#,
        r#""status":404,"body":"x""#,
        r#""body":"x""#,
        r#""body_base64":"YQ==""#,
        r#""body_base64":"!""#,
    ] {
        for output in [
            format!(r#"{{"next":true,{answer}}}"#),
            format!(r#"{{{answer},"next":true}}"#),
        ] {
            refused_because(&output, "has \"next\" and a status or a body");
        }
    }
    refused_because(r#"{"next":true,"status":99}"#, "from 200 to 599");
    refused_because(r#"{"next":true,"statusCode":200}"#, "statusCode");
}

#[test]
fn response_headers_in_another_spelling_are_refused() {
    for key in [
        "responseHeaders",
        "ResponseHeaders",
        "response-headers",
        "responseheaders",
    ] {
        refused_because(
            &format!(r#"{{"{key}":{{}},"next":true}}"#),
            "write \"response_headers\"",
        );
        let output = format!(r#"{{"{key}":{{}},"status":201}}"#);
        assert!(parse_response(output.as_bytes()).is_ok(), "{output}");
    }
}

#[test]
fn a_method_is_a_token() {
    for method in ["GET", "get", "M-SEARCH", "CONNECT", "x", "!#$%&'*+-.^_`|~"] {
        let output = format!(r#"{{"next":true,"method":"{method}"}}"#);
        assert_eq!(goes_on(&output).method.as_deref(), Some(method));
    }
    for method in [
        " ",
        "GET ",
        "GET /x HTTP/1.1\\r\\nA: b\\r\\n",
        "G\\u0000T",
        "G\u{c9}T",
        "GET,",
        "(GET)",
        "GET/",
    ] {
        refused_because(
            &format!(r#"{{"next":true,"method":"{method}"}}"#),
            "is not a valid method",
        );
    }
    for value in ["1", "true", "[\"GET\"]", "{}"] {
        refused_because(
            &format!(r#"{{"next":true,"method":{value}}}"#),
            "method must be a string",
        );
    }
}

#[test]
fn a_uri_is_in_origin_form() {
    for uri in [
        "/",
        "//",
        "//example.org/",
        "/a//b/../c",
        "/a%2fb%00",
        "/?",
        "/a?b?c=%zz&%",
        "/a{b}|^`<>'\\\"\\\\",
        "/a:b@c",
    ] {
        let output = format!(r#"{{"next":true,"uri":"{uri}"}}"#);
        let expected: String = serde_json::from_str(&format!("\"{uri}\"")).expect("JSON");
        assert_eq!(goes_on(&output).uri.as_deref(), Some(expected.as_str()));
    }
    for (uri, reason) in [
        ("a", "does not begin with a slash"),
        ("*", "does not begin with a slash"),
        ("?a", "does not begin with a slash"),
        (" /", "does not begin with a slash"),
        ("http://example.org/", "does not begin with a slash"),
        ("example.org:443", "does not begin with a slash"),
        ("\\\\a", "does not begin with a slash"),
        ("/a b", "contains a space, a control character"),
        ("/a\\r\\nHost: b", "contains a space, a control character"),
        ("/a HTTP/1.1", "contains a space, a control character"),
        ("/a\\u0000", "contains a space, a control character"),
        ("/a\\u007f", "contains a space, a control character"),
        ("/caf\u{e9}", "contains a space, a control character"),
        ("/a#b", "contains a fragment"),
        ("/a?b#c", "contains a fragment"),
        ("/a%", "contains a % without two hex digits"),
        ("/a%2", "contains a % without two hex digits"),
        ("/%%20", "contains a % without two hex digits"),
        ("/a%2?20", "contains a % without two hex digits"),
        ("/a%gg", "contains a % without two hex digits"),
    ] {
        refused_because(&format!(r#"{{"next":true,"uri":"{uri}"}}"#), reason);
    }
    for value in ["1", "true", "[\"/\"]", "{}"] {
        refused_because(
            &format!(r#"{{"next":true,"uri":{value}}}"#),
            "uri must be a string",
        );
    }
}

#[test]
fn headers_keep_the_grammar_of_fields() {
    for key in ["headers", "response_headers"] {
        for (fields, reason) in [
            (r#"{"a b":"c"}"#, "is not a valid header name"),
            (r#"{"":"c"}"#, "is not a valid header name"),
            (r#"{"a\r\nb":null}"#, "is not a valid header name"),
            (
                r#"{"A":"b\r\nC: d"}"#,
                "one line without control characters",
            ),
            (
                r#"{"A":["b","\u0000"]}"#,
                "one line without control characters",
            ),
            (
                r#"{"Connection":"\n"}"#,
                "one line without control characters",
            ),
            (r#"{"A":1}"#, "must be a string or an array of strings"),
            (r#"{"A":[null]}"#, "must be a string or an array of strings"),
            (r#"{"A":{}}"#, "must be a string or an array of strings"),
            (r#"[]"#, "must be an object of strings"),
            (r#""A: b""#, "must be an object of strings"),
        ] {
            refused_because(&format!(r#"{{"next":true,"{key}":{fields}}}"#), reason);
            refused_because(&format!(r#"{{"{key}":{fields},"next":true}}"#), reason);
        }
        let many = |value: &str| {
            let fields: Vec<_> = (0..=MAX_HEADERS)
                .map(|n| format!("\"X-{n}\":{value}"))
                .collect();
            format!(r#"{{"next":true,"{key}":{{{}}}}}"#, fields.join(","))
        };
        for value in ["\"\"", "null", "[]"] {
            refused_because(&many(value), "more than 256");
        }
        let long = "v".repeat(64 << 10);
        refused_because(
            &format!(r#"{{"next":true,"{key}":{{"A":"{long}"}}}}"#),
            "more than 64 KiB",
        );
    }
}

#[test]
fn framing_and_hop_by_hop_headers_are_untouchable() {
    let fields = r#"{
        "Content-Length":"5","transfer-encoding":["chunked"],"TE":"x","Upgrade":"h2c","Keep-Alive":null,"Trailer":[],
        "Proxy-Connection":null,"connection":"close, X-One","X-One":"1","X-Two":"2","Proxy-Authorization":null,"X-Gone":null}"#;
    let output = format!(r#"{{"next":true,"headers":{fields},"response_headers":{fields}}}"#);
    let next = goes_on(&output);
    changes(&next.headers, &[("X-Two", "2")], &["X-Gone"]);
    changes(&next.response_headers, &[("X-Two", "2")], &["X-Gone"]);
    let output = r#"{"next":true,"headers":{"content-length":null,"CONNECTION":null}}"#;
    assert_eq!(goes_on(output), Next::default());
}

#[test]
fn a_request_has_one_host() {
    for host in [
        "example.org",
        "example.org:8443",
        "[::1]:80",
        "a_b",
        "EXAMPLE",
    ] {
        let output = format!(r#"{{"next":true,"headers":{{"host":"{host}"}}}}"#);
        changes(&goes_on(&output).headers, &[("Host", host)], &[]);
    }
    let output = r#"{"next":true,"headers":{"Host":["example.org"]}}"#;
    changes(&goes_on(output).headers, &[("Host", "example.org")], &[]);
    for (value, reason) in [
        ("null", "null or empty"),
        ("[]", "null or empty"),
        ("[\"a\",\"b\"]", "several values"),
        ("\"\"", "it must be a host"),
        ("\" \"", "it must be a host"),
        ("\"a b\"", "it must be a host"),
        ("\"a/b\"", "it must be a host"),
        ("\"user@a\"", "it must be a host"),
        ("\"caf\u{e9}\"", "it must be a host"),
        ("\"caf\u{10ffe9}\"", "it must be a host"),
    ] {
        refused_because(
            &format!(r#"{{"next":true,"headers":{{"Host":{value}}}}}"#),
            reason,
        );
    }
}

#[test]
fn values_hold_any_bytes() {
    let output = "{\"next\":true,\"headers\":{\"A\":\" caf\u{10ffe9} \"}}";
    assert_eq!(
        goes_on(output).headers.set,
        [(Cow::Borrowed("A"), Cow::Borrowed(&b"caf\xe9"[..]))]
    );
}

#[test]
fn vars_have_plain_names_and_scalar_values() {
    let longest = "n".repeat(64);
    let output = format!(r#"{{"next":true,"vars":{{"{longest}":"","a-b_C9":"x\ny"}}}}"#);
    assert_eq!(goes_on(&output).vars.len(), 2);
    let too_long = "n".repeat(65);
    for name in [
        "",
        "a.b",
        "a b",
        "a}",
        "{a",
        "caf\u{e9}",
        "a\\u0000",
        &too_long,
    ] {
        refused_because(
            &format!(r#"{{"next":true,"vars":{{"{name}":"1"}}}}"#),
            "is not the name of a variable",
        );
    }
    for value in ["[]", "{}", "[\"a\"]"] {
        refused_because(
            &format!(r#"{{"next":true,"vars":{{"a":{value}}}}}"#),
            "must be a string, a number, true or false",
        );
    }
    for value in ["[]", "\"a=b\"", "1", "true"] {
        refused_because(
            &format!(r#"{{"next":true,"vars":{value}}}"#),
            "vars must be an object",
        );
    }
    let many: Vec<_> = (0..257).map(|n| format!("\"v{n}\":null")).collect();
    refused_because(
        &format!(r#"{{"next":true,"vars":{{{}}}}}"#, many.join(",")),
        "more than 256",
    );
    let long = "v".repeat(64 << 10);
    refused_because(
        &format!(r#"{{"next":true,"vars":{{"a":"{long}"}}}}"#),
        "more than 64 KiB",
    );
}

/// What a guest was told, it may say: the uri and the headers of any request can be sent on.
#[test]
fn what_a_request_contains_may_be_sent_on() {
    let headers: &[(&[u8], &[u8])] = &[
        (b"X-Bytes", b"\xff caf\xe9 \xc3\xa9"),
        (b"Cookie", b"a=\"b\\c\""),
        (b"X-Empty", b""),
    ];
    let mut text = Vec::new();
    write_request(
        &mut text,
        &Request {
            method: b"PATCH",
            uri: b"/caf\xe9?a=\"b\"&c d",
            headers,
            host: b"example.org:80",
            ..Request::default()
        },
        Fields::all(),
    );
    let read: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let output = serde_json::json!({
        "next": true, "method": read["method"], "uri": read["uri"], "headers": read["headers"],
    });
    let output = output.to_string();
    let next = goes_on(&output);
    assert_eq!(next.uri.as_deref(), Some("/caf%E9?a=\"b\"&c%20d"));
    for (name, value) in headers {
        let found = next
            .headers
            .set
            .iter()
            .find(|(found, _)| found.as_bytes() == *name);
        assert_eq!(found.map(|(_, value)| &**value), Some(*value));
    }
}
