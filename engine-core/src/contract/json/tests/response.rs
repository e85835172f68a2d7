//! Tests of what a guest may write.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::{parse_response, write_request};
use crate::contract::{Fields, Request, Response};

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn accepted(output: &str) -> Response<'_> {
    match parse_response(output.as_bytes()) {
        Ok(response) => response,
        Err(error) => panic!("{output}: {error}"),
    }
}

pub(super) fn refused(output: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&output[..output.len().min(100)]);
    match parse_response(output) {
        Ok(response) => panic!("{shown}: accepted with {}", response.status),
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 700, "{message}");
            assert!(
                message
                    .bytes()
                    .all(|byte| byte == b' ' || byte.is_ascii_graphic()),
                "{message:?}"
            );
            message
        }
    }
}

#[track_caller]
fn refused_because(output: &str, reason: &str) {
    let message = refused(output.as_bytes());
    assert!(message.contains(reason), "{output}: {message}");
}

/// The headers of a response with the JSON `text` as its `headers`.
fn headers(text: &str) -> Vec<(String, String)> {
    accepted(&format!(r#"{{"headers":{text}}}"#))
        .headers
        .into_iter()
        .map(|(name, value)| {
            let value = String::from_utf8(value.into_owned()).expect("UTF-8");
            (name.into_owned(), value)
        })
        .collect()
}

#[track_caller]
fn headers_are(text: &str, expected: Pairs<'_>) {
    let headers = headers(text);
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(headers, expected, "{text}");
}

#[test]
fn a_whole_response_is_borrowed() {
    let output = r#"{"status":201,"headers":{"Content-Type":["text/plain"],"X":"1"},"body":"hi"}"#;
    let response = accepted(output);
    assert_eq!(response.status, 201);
    assert_eq!(
        response.headers,
        [
            (
                Cow::Borrowed("Content-Type"),
                Cow::Borrowed(&b"text/plain"[..])
            ),
            (Cow::Borrowed("X"), Cow::Borrowed(b"1"))
        ]
    );
    assert!(matches!(response.body, Cow::Borrowed(b"hi")));
    for (name, value) in &response.headers {
        assert!(matches!(name, Cow::Borrowed(_)) && matches!(value, Cow::Borrowed(_)));
    }
}

#[test]
fn null_and_missing_mean_zero_and_white_space_is_fine() {
    for output in [
        "{}",
        " \t\r\n{ \n}\r\n\t ",
        r#"{"status":null,"headers":null,"body":null,"body_base64":null}"#,
        r#"{"status":0,"headers":{},"body":"","body_base64":""}"#,
        r#" { "status" : 200 , "headers" : { } , "body" : "" } "#,
    ] {
        let response = accepted(output);
        assert_eq!(response.status, 200, "{output}");
        assert_eq!(response.names_status, output.contains("200"), "{output}");
        assert!(response.headers.is_empty(), "{output}");
        assert!(response.body.is_empty(), "{output}");
    }
}

#[test]
fn keys_match_in_any_case() {
    let response = accepted(r#"{"Status":404,"HEADERS":{"x":"1"},"Body":"b"}"#);
    assert_eq!(response.status, 404);
    assert_eq!(response.headers.len(), 1);
    assert_eq!(&*response.body, b"b");
    assert_eq!(&*accepted(r#"{"BODY_BASE64":"/w=="}"#).body, b"\xff");
    assert_eq!(accepted(r#"{"stat\u0075s":404}"#).status, 404);
    // Unicode has other letters whose lower case is ASCII. Keys with such a letter are other keys.
    assert_eq!(accepted("{\"\u{17f}tatus\":404}").status, 200);
}

#[test]
fn unknown_keys_are_ignored_whatever_their_value() {
    for value in [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1.5e+300",
        "1e400",
        "123456789012345678901234567890",
        "\"text \\u00e9 \\ud83d\\ude00 \\ud800\"",
        "[]",
        "{}",
        "[1,[2,{}],{\"a\":[]}]",
        "{\"status\":1,\"status\":2,\"x\":{\"x\":{}}}",
    ] {
        for output in [
            format!(r#"{{"x":{value},"status":404}}"#),
            format!(r#"{{"status":404 , "x" : {value} }}"#),
        ] {
            assert_eq!(accepted(&output).status, 404, "{output}");
        }
    }
    assert_eq!(
        accepted(r#"{"":1,"stat":1,"bod\ny":2,"status":404}"#).status,
        404
    );
}

#[test]
fn a_status_is_an_integer_from_200_to_599() {
    for (status, expected) in [("0", 200), ("200", 200), ("204", 204), ("599", 599)] {
        let output = format!(r#"{{"status":{status}}}"#);
        assert_eq!(accepted(&output).status, expected);
    }
    for status in [
        "1",
        "99",
        "100",
        "101",
        "199",
        "600",
        "999",
        "1000",
        "65536",
        "65736",
        "-1",
        "-0",
        "-200",
        "2.0",
        "200.0",
        "2e2",
        "0.0",
        "1e400",
        "0e0",
        "18446744073709551816",
        "\"200\"",
        "\"\"",
        "true",
        "false",
        "[]",
        "[200]",
        "{}",
    ] {
        refused_because(
            &format!(r#"{{"status":{status}}}"#),
            "it must be an integer from 200 to 599",
        );
    }
    for status in [
        "0200", "+200", "00", "0x10", "2.", ".5", "2e", "NaN", "-", "Infinity", "200 0",
    ] {
        refused_because(&format!(r#"{{"status":{status}}}"#), "byte ");
    }
}

#[test]
fn a_header_has_one_value_or_several() {
    headers_are(r#"{"X":"1"}"#, &[("X", "1")]);
    headers_are(
        r#"{"B":["2","1"],"A":"3","C":[""]}"#,
        &[("B", "2"), ("B", "1"), ("A", "3"), ("C", "")],
    );
    headers_are(r#"{"X":null,"Y":[],"Z":[ ]}"#, &[]);
    for value in [
        "1",
        "true",
        "{}",
        "[1]",
        "[null]",
        "[[\"x\"]]",
        "[\"x\",{}]",
        "[\"x\",false]",
    ] {
        refused_because(
            &format!(r#"{{"headers":{{"X":{value}}}}}"#),
            "the value of header \"X\" must be a string or an array of strings",
        );
    }
    for value in ["\"x\"", "[]", "1", "true", "[{}]"] {
        refused_because(
            &format!(r#"{{"headers":{value}}}"#),
            "headers must be an object",
        );
    }
}

#[test]
fn header_names_become_canonical() {
    headers_are(
        r#"{"content-type":"a","ETAG":["b","c"],"x\u002dy":"d"}"#,
        &[
            ("Content-Type", "a"),
            ("Etag", "b"),
            ("Etag", "c"),
            ("X-Y", "d"),
        ],
    );
}

#[test]
fn bytes_outside_of_the_field_grammar_are_refused() {
    for name in [
        "",
        " ",
        "a b",
        "a:",
        "a\\r\\nb",
        "a\\n",
        "a\\u0000",
        "a\\u007f",
        "caf\u{e9}",
        "(a)",
        "a,b",
        "\\\"a\\\"",
        " A",
        "A ",
    ] {
        refused_because(
            &format!(r#"{{"headers":{{"{name}":"x"}}}}"#),
            "is not a valid header name",
        );
    }
    for value in [
        "a\\r\\nSet-Cookie: b",
        "\\n",
        "\\r",
        "\\u0000",
        "a\\u0001",
        "\\u001f",
        "\\u007f",
        "\\b",
        "\\n x",
    ] {
        for text in [format!("\"{value}\""), format!("[\"ok\",\"{value}\"]")] {
            refused_because(
                &format!(r#"{{"headers":{{"X":{text}}}}}"#),
                "a header is one line without control characters",
            );
            // Also where the header would be removed.
            refused_because(
                &format!(r#"{{"headers":{{"Connection":{text}}}}}"#),
                "a header is one line without control characters",
            );
        }
    }
}

#[test]
fn header_values_are_trimmed_and_may_hold_any_other_text() {
    headers_are(
        "{\"A\":\" \\t x\\ty \\t\",\"B\":\"  \",\"C\":\"caf\u{e9} \\u20ac\",\"D\":\"\\\"q\\\" \\\\ ~\"}",
        &[
            ("A", "x\ty"),
            ("B", ""),
            ("C", "caf\u{e9} \u{20ac}"),
            ("D", "\"q\" \\ ~"),
        ],
    );
}

#[test]
fn framing_and_hop_by_hop_headers_are_removed() {
    headers_are(
        r#"{
            "Content-Length": "5", "transfer-encoding": ["chunked"], "Keep-Alive": "timeout=5", "TE": "x",
            "Trailer": "x", "Upgrade": "h2c", "Proxy-Authenticate": "x", "Proxy-Authorization": "x",
            "Proxy-Connection": "x", "X-Kept": "1", "x-one": "2", "X-Two": ["3", "4"], "Connection": ["close, X-One", "x-two"]
        }"#,
        &[("X-Kept", "1")],
    );
    headers_are(r#"{"Connection":"close","X":"1"}"#, &[("X", "1")]);
}

#[test]
fn a_key_comes_once() {
    for output in [
        r#"{"status":200,"status":200}"#,
        r#"{"status":200,"Status":null}"#,
        r#"{"body":null,"BODY":"x"}"#,
        r#"{"headers":{},"Headers":{}}"#,
        r#"{"body_base64":"","body_base64":""}"#,
        r#"{"x":1,"y":2,"X":3}"#,
        r#"{"b":1,"a":2,"c":3,"a":4}"#,
        r#"{"body":"","b\u006fdy":""}"#,
        r#"{"headers":{"X":"1","X":"2"}}"#,
        r#"{"headers":{"Set-Cookie":"1","set-cookie":"2"}}"#,
        r#"{"headers":{"X":null,"x":"2"}}"#,
        r#"{"headers":{"X":["1"],"Y":"","x":[]}}"#,
        r#"{"headers":{"Content-Length":"1","content-length":"2"}}"#,
    ] {
        refused_because(output, "occurs a second time (case does not matter)");
    }
}

#[test]
fn body_and_body_base64_exclude_each_other() {
    refused_because(
        r#"{"body":"a","body_base64":"YQ=="}"#,
        "has a body and a body_base64; send one of them",
    );
    refused_because(
        r#"{"body_base64":"!","body":"a"}"#,
        "has a body and a body_base64",
    );
    for output in [
        r#"{"body":"","body_base64":"YQ=="}"#,
        r#"{"body":null,"body_base64":"YQ=="}"#,
        r#"{"body":"a","body_base64":""}"#,
        r#"{"body":"a","body_base64":null}"#,
        r#"{"body_base64":"YQ\u003d\u003D"}"#,
    ] {
        assert_eq!(&*accepted(output).body, b"a");
    }
    for key in ["body", "body_base64"] {
        for value in ["1", "true", "[]", "[\"a\"]", "{\"a\":1}"] {
            refused_because(
                &format!(r#"{{"{key}":{value}}}"#),
                &format!("{key} must be a string"),
            );
        }
    }
}

#[test]
fn base64_is_standard_with_padding() {
    let bytes: Vec<u8> = (0..=255).collect();
    for length in 0..=256 {
        let output = format!(
            r#"{{"body_base64":"{}"}}"#,
            STANDARD.encode(&bytes[..length])
        );
        assert_eq!(&*accepted(&output).body, &bytes[..length]);
    }
    for text in [
        "YQ",
        "YQ=",
        "YQ===",
        "=",
        "====",
        "YR==",
        "Y",
        "YWJj=",
        "YQ==YQ==",
        "-_-_",
        "caf\u{e9}",
        "YW\\u0000j",
        "YW\u{feff}Jj",
        "YW\\nJ",
    ] {
        refused_because(
            &format!(r#"{{"body_base64":"{text}"}}"#),
            "byte 15: body_base64 is not standard base64",
        );
    }
}

#[test]
fn white_space_in_base64_is_left_out() {
    for text in [
        "YW Jj",
        "YWJj\\n",
        "YW\\r\\nJj\\r\\n",
        "\\t Y W J j",
        "\u{feff}YWJj",
        "\\ufeffYWJj\\n",
    ] {
        let output = format!(r#"{{"body_base64":"{text}"}}"#);
        assert_eq!(&*accepted(&output).body, b"abc", "{text}");
    }
    let lines: Vec<_> = STANDARD
        .encode([7; 1000])
        .as_bytes()
        .chunks(76)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    let output = format!(r#"{{"body_base64":"{}"}}"#, lines.join("\\r\\n"));
    assert_eq!(&*accepted(&output).body, [7; 1000]);
}

/// The keys that other systems use are refused: ignored like other unknown keys, they would make the client get a 200.
#[test]
fn the_keys_of_other_systems_are_refused_with_the_right_ones() {
    for (member, advice) in [
        (r#""statusCode":404"#, "write the status as \"status\""),
        (r#""StatusCode":"404""#, "write the status as \"status\""),
        (r#""status_code":404"#, "write the status as \"status\""),
        (r#""status-code":null"#, "write the status as \"status\""),
        (
            r#""isBase64Encoded":true,"body":"YQ==""#,
            "write base64 as \"body_base64\", and no \"body\"",
        ),
        (
            r#""is_base64_encoded":false"#,
            "write base64 as \"body_base64\"",
        ),
        (r#""bodyBase64":"YQ==""#, "write base64 as \"body_base64\""),
        (
            r#""multiValueHeaders":{"A":["b"]}"#,
            "write several values of a header as an array in \"headers\"",
        ),
        (
            r#""cookies":["a=b"]"#,
            "write cookies as the header \"Set-Cookie\"",
        ),
    ] {
        refused_because(&format!("{{{member}}}"), advice);
        refused_because(&format!(r#"{{"status":201,{member},"x":1}}"#), advice);
    }
    // Inside of the value of an unknown key they are allowed.
    let output =
        r#"{"meta":{"statusCode":1,"cookies":[]},"headers":{"StatusCode":"1"},"codeStatus":2}"#;
    assert_eq!(accepted(output).headers.len(), 1);
}

#[test]
fn a_byte_order_mark_may_precede_the_response() {
    assert_eq!(accepted("\u{feff}{\"status\":201}\n").status, 201);
    refused_because("\u{feff}", "no output");
    refused_because("\u{feff}\u{feff}{}", "byte 3: expected `{`");
    refused_because("{}\u{feff}", "more output after the response");
}

#[test]
fn statuses_without_a_body_lose_it() {
    for status in [204, 205, 304] {
        for body in [r#""body":"x""#, r#""body_base64":"/w==""#, r#""body":"\n""#] {
            let output = format!(r#"{{{body},"status":{status},"headers":{{"X":"1"}}}}"#);
            let response = accepted(&output);
            assert_eq!(response.status, status);
            assert_eq!(response.headers.len(), 1);
            assert!(response.body.is_empty());
        }
    }
    assert_eq!(&*accepted(r#"{"status":206,"body":"x"}"#).body, b"x");
}

#[test]
fn output_that_is_not_one_json_object_is_refused() {
    for output in ["", " ", "\n\r\t "] {
        refused_because(output, "no output");
    }
    for (output, reason) in [
        ("hello", "byte 0: expected `{`, found \"hello\""),
        ("null", "expected `{`"),
        ("\"{}\"", "expected `{`"),
        ("[{}]", "expected `{`"),
        ("200", "expected `{`"),
        ("{} {}", "byte 3: more output after the response: \"{}\""),
        ("{}x", "byte 2: more output after the response: \"x\""),
        ("{}\nbye\n", "more output after the response: \"bye\\n\""),
        ("{}\0", "more output"),
        ("{}}", "more output"),
        ("debug: 1\n{}", "expected `{`, found \"debug:\""),
        (
            "{",
            "byte 1: the output ends where a key in double quotes was expected",
        ),
        ("{\"a", "the output ends where the rest of a string"),
        ("{\"a\"", "the output ends where `:`"),
        ("{\"a\":", "the output ends where a value"),
        ("{\"a\":1", "the output ends where `,` or `}`"),
        ("{\"a\":[1", "the output ends where `,` or `]`"),
        ("{\"a\":1,", "the output ends where a key"),
        ("{\"a\":1,}", "expected a key in double quotes, found \"}\""),
        ("{,}", "expected a key"),
        ("{a:1}", "expected a key in double quotes, found \"a:\""),
        ("{'a':1}", "expected a key"),
        ("{\"a\" 1}", "expected `:`"),
        ("{\"a\":1 \"b\":2}", "expected `,` or `}`"),
        ("{\"a\":[1,]}", "expected a value"),
        ("{\"a\":[,]}", "expected a value"),
        ("{\"a\":[1 2]}", "expected `,` or `]`"),
        ("{\"a\":nul}", "expected a value"),
        ("{\"a\":nullx}", "expected `,` or `}`"),
        ("{\"body\":nil}", "expected a value"),
        ("{\"a\":True}", "expected a value"),
        (
            "{\"a\":01}",
            "expected digits without leading zeros, found \"01}\"",
        ),
        ("{\"a\":1.e5}", "expected a digit after the decimal point"),
        ("{\"a\":1e+}", "expected a digit in the exponent"),
        ("{\"a\":- 1}", "byte 6: expected digits"),
        ("{\"a\":\"\\x\"}", "does not begin a JSON escape"),
        ("{\"a\":\"\\u12g4\"}", "does not begin a JSON escape"),
        ("{\"a\":\"\\u12", "does not begin a JSON escape"),
        ("{\"a\":\"\\", "does not begin a JSON escape"),
        (
            "{\"a\":\"\n\"}",
            "the control character 0x0a; write it as \\u000a",
        ),
        ("{\"a\n\":1}", "control character"),
        ("{}//", "more output"),
        ("/**/{}", "expected `{`"),
        ("{\u{a0}}", "expected a key"),
    ] {
        refused_because(output, reason);
    }
}

#[test]
fn escapes_are_resolved_in_every_text() {
    let text = r#"\"\\\/\b\f\n\r\t\u0000\u00E9\u20ac\ud83d\uDE00 caf\u00e9"#;
    let expected = "\"\\/\u{8}\u{c}\n\r\t\0\u{e9}\u{20ac}\u{1f600} caf\u{e9}";
    let output = format!(r#"{{"body":"{text}"}}"#);
    assert_eq!(&*accepted(&output).body, expected.as_bytes());
}

#[test]
fn half_a_surrogate_pair_is_no_text() {
    for text in [
        r"\ud800",
        r"\uDFFF",
        r"x\ud83d",
        r"\ud83dx",
        r"\ud83d\n",
        r"\ud83d\\ude00",
        r"\ud83d\u0041",
        r"\ud83d\ud83d",
        r"\ude00\ud83d",
    ] {
        refused_because(&format!(r#"{{"body":"{text}"}}"#), "half a surrogate pair");
        refused_because(
            &format!(r#"{{"headers":{{"X":"{text}"}}}}"#),
            "half a surrogate pair",
        );
        refused_because(&format!(r#"{{"{text}":1}}"#), "half a surrogate pair");
    }
    refused_because(
        r#"{"body":"ab\ud800"}"#,
        r#"byte 11: half a surrogate pair: "\\ud800""#,
    );
}

#[test]
fn errors_name_the_place() {
    for (output, expected) in [
        (
            r#"{"status": 99}"#,
            "byte 11: the status is \"99\"; it must be an integer from 200 to 599",
        ),
        (
            r#"{"status": "ok"}"#,
            "byte 11: the status is not a number; it must be an integer from 200 to 599",
        ),
        (r#"{"body": {}}"#, "byte 9: body must be a string"),
        (
            "{\"headers\": {\"X\": \"a\\u0000\"}}",
            "byte 18: the value of header \"X\" contains the byte 0x00; a header is one line without control characters",
        ),
    ] {
        assert_eq!(refused(output.as_bytes()), expected);
    }
}

#[test]
fn every_body_survives_the_way_through_an_echoing_guest() {
    let all: Vec<u8> = (0..=255).collect();
    let mut bodies: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    bodies.push(all.repeat(3));
    bodies.push(
        (0..0x11_0000)
            .step_by(37)
            .filter_map(char::from_u32)
            .collect::<String>()
            .into_bytes(),
    );
    for body in bodies {
        let mut output = Vec::new();
        write_request(
            &mut output,
            &Request {
                method: b"POST",
                body: &body,
                ..Request::default()
            },
            Fields::all(),
        );
        // A response may have unknown keys, so a request with its other keys is a valid response too.
        let response = parse_response(&output).expect("an echo is a response");
        assert_eq!(&*response.body, body);
    }
}
