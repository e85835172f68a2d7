//! Samples that a user wrote, and every mistake in one.

use crate::contract::{Contract, Fields, json::Json};

const EXAMPLE: &str = r#"{"method":"GET","uri":"/","headers":{},"body":"","trace_id":"sample"}"#;

fn with(old: &str, new: &str) -> Vec<u8> {
    assert!(EXAMPLE.contains(old), "{old}");
    EXAMPLE.replacen(old, new, 1).into_bytes()
}

#[test]
fn a_sample_is_put_on_one_line() {
    let text = r#"
{
	"method":  "POST",
	"uri":     "/api/x?q=1",
	"headers": {
		"Accept": ["*/*", "<b>"],
		"X-None": []
	},
	"body":        "",
	"body_base64": "/w==",
	"trace_id":    "\u00e9 \" a  \\",
	"proto":       "HTTP/1.1"
}
"#;
    let line = r#"{"method":"POST","uri":"/api/x?q=1","headers":{"Accept":["*/*","<b>"],"X-None":[]},"body":"","body_base64":"/w==","trace_id":"\u00e9 \" a  \\","proto":"HTTP/1.1"}"#;
    let checked = Json.check_sample(text.as_bytes(), 1).unwrap();
    assert_eq!(String::from_utf8(checked).unwrap(), format!("{line}\n"));
    // The line is a sample too, and stays as it is.
    let again = Json.check_sample(line.as_bytes(), 1).unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), format!("{line}\n"));
    assert!(Json.check_sample(EXAMPLE.as_bytes(), 0).is_ok());
}

#[test]
fn what_a_guest_reads_is_a_sample() {
    // Without the empty stdin, which is a sample of the contract but no request.
    for include in [Fields::default(), Fields::all()] {
        let samples = Json.samples(include);
        for sample in samples.into_iter().filter(|text| !text.is_empty()) {
            assert_eq!(Json.check_sample(&sample, 100).unwrap(), sample);
        }
    }
}

#[test]
fn each_mistake_is_named_with_its_position() {
    let twice = [EXAMPLE, EXAMPLE].join("\n").into_bytes();
    let cases: &[(&[u8], &str)] = &[
        (b"", "1:1: the sample is empty; write a request, such as {"),
        (b" \n\n", "1:1: the sample is empty"),
        (
            b"hello",
            "1:1: expected a value, found \"hello\"; a sample is exactly one JSON object",
        ),
        (
            b"\xef\xbb\xbf{}",
            "1:1: the sample begins with a byte order mark",
        ),
        (
            b"{\n \"method\": \"GET\",\n",
            "3:1: the sample ends where a key in double quotes was expected",
        ),
        (
            b"{\n \"a\": \"b\",\n}",
            "3:1: expected a key in double quotes, found \"}\"",
        ),
        (&twice, "2:1: more text after the request: \"{"),
        (
            b"{\n\"method\":\"\xc3\xa9\xff\"}",
            "2:12: the sample is not UTF-8; write a body that is not text into \"body_base64\"",
        ),
        (b" []", "1:2: a request is an object, such as {"),
        (b"\"GET\"", "1:1: a request is an object"),
        (b"{}", "1:1: the request lacks \"method\""),
        (
            br#" {"method":"GET","uri":"/","body":"","trace_id":"t"}"#,
            "1:2: the request lacks \"headers\", which every request has",
        ),
        (
            &with("\"uri\"", "\"url\""),
            "1:17: no request has the key \"url\"; the keys are method, uri, ",
        ),
        (
            &with("\"uri\"", "\"URI\""),
            "1:17: no request has the key \"URI\"",
        ),
        (
            &with(
                "\"body\":\"\"",
                "\n\t\"body\": \"\",\n\t\"b\\u006fdy\": \"\"",
            ),
            "3:2: \"body\" is given twice",
        ),
        (&with("\"GET\"", "1"), "1:11: \"method\" must be a string"),
        (
            &with("\"body\":\"\"", "\n\"body\" : null"),
            "2:10: \"body\" must be a string",
        ),
        (
            &with("\"body\":\"\"", "\"body\":{\"a\":1}"),
            "1:47: \"body\" must be a string",
        ),
        (
            &with("GET", ""),
            "1:2: \"method\" is empty; write for example \"GET\"",
        ),
        (
            &with("\"sample\"", "\"\""),
            "1:50: \"trace_id\" is empty; write any text, such as \"sample\"",
        ),
        (
            &with("\"/\"", "\"http://x/\""),
            "1:17: \"uri\" is \"http://x/\", but must be a path with an optional query",
        ),
        (
            &with("{}", "[]"),
            "1:37: \"headers\" must be an object of lists, such as {\"Accept\":[\"*/*\"]}",
        ),
        (
            &with("{}", "{\"A\":\"b\"}"),
            "1:42: the value of the header \"A\" must be a list, such as [\"a\"]",
        ),
        (
            &with("{}", "{\"A\":[\"b\", 1]}"),
            "1:48: a value of the header \"A\" must be a string",
        ),
        (
            &with("{}", "{\"A\":[],\"A\":[]}"),
            "1:45: the header \"A\" is given twice; put both values into one list",
        ),
        (
            &with("\"body\":\"\"", "\"body\":\"1234567\""),
            "1:40: the body has 7 bytes, more than the 6 of max_body",
        ),
        (
            &with(
                "\"body\":\"\"",
                "\"body\":\"\",\"body_base64\":\"MTIzNDU2Nw==\"",
            ),
            "1:50: the body has 7 bytes",
        ),
        (
            &with("\"body\":\"\"", "\"body\":\"a\",\"body_base64\":\"YQ==\""),
            "1:51: \"body_base64\" and \"body\" both have content",
        ),
        (
            &with("\"body\":\"\"", "\"body\":\"\",\"body_base64\":\"YQ\""),
            "1:50: \"body_base64\" is not base64 with padding",
        ),
        (
            &with("\"sample\"", "\"\\ud800\""),
            "1:62: half a surrogate pair",
        ),
    ];
    for (text, expected) in cases {
        let text_for_humans = String::from_utf8_lossy(text);
        let error = Json.check_sample(text, 6).expect_err(&text_for_humans);
        let error = error.to_string();
        assert!(
            error.starts_with(expected),
            "{text_for_humans}: got {error}\nexpected {expected}"
        );
    }
}

#[test]
fn a_deep_or_cut_text_is_refused_at_every_byte() {
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let error = Json.check_sample(&deep, 6).unwrap_err().to_string();
    assert!(error.starts_with("1:128: more than 127 arrays"), "{error}");
    for end in 0..EXAMPLE.len() {
        let cut = &EXAMPLE.as_bytes()[..end];
        assert!(Json.check_sample(cut, 6).is_err(), "{end}");
    }
}

#[test]
fn any_change_of_a_byte_is_refused_or_keeps_the_request() {
    let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text);
    for at in 0..EXAMPLE.len() {
        for byte in 0..=255 {
            let mut text = EXAMPLE.as_bytes().to_vec();
            text[at] = byte;
            if let Ok(line) = Json.check_sample(&text, 6) {
                let (before, after) = (value(&text).expect("JSON"), value(&line).expect("JSON"));
                assert_eq!(before, after, "{}", String::from_utf8_lossy(&text));
            }
        }
    }
}
