//! Tests with hostile output: it is refused in bounded time and memory, or is harmless.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::super::parse_response;
use super::response::refused;
use crate::contract::{MAX_HEADER_BYTES, MAX_HEADERS};

const MEGABYTES_10: usize = 10 << 20;

#[test]
fn deep_nesting_is_bounded() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| {
            let value = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            format!(r#"{{"x":{value}}}"#)
        };
        assert!(parse_response(nested(126).as_bytes()).is_ok());
        // The same bound as serde_json's.
        assert!(serde_json::from_str::<Value>(&nested(126)).is_ok());
        assert!(serde_json::from_str::<Value>(&nested(127)).is_err());
        let message = refused(nested(127).as_bytes());
        assert!(message.contains("inside of each other"), "{message}");
        let message =
            refused(format!("{{\"x\":{}", open.repeat(MEGABYTES_10 / open.len())).as_bytes());
        assert!(message.contains("inside of each other"), "{message}");
    }
    refused("[".repeat(MEGABYTES_10).as_bytes());
    refused(format!("{{\"headers\":{}", "[".repeat(1000)).as_bytes());
    refused(format!("{{\"headers\":{{\"X\":{}", "[".repeat(1000)).as_bytes());
    refused(format!("{{\"status\":{}", "[".repeat(1000)).as_bytes());
    refused(format!("{{\"body\":{}", "[".repeat(1000)).as_bytes());
}

#[test]
fn deep_nesting_fits_a_small_stack() {
    let output = format!("{{\"x\":{}", "[{\"a\":".repeat(1000));
    let thread = std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(move || parse_response(output.as_bytes()).is_err());
    assert!(thread.expect("a thread").join().expect("no overflow"));
}

#[test]
fn huge_tokens_are_harmless() {
    let digits = "9".repeat(1 << 20);
    for status in [
        digits.clone(),
        format!("-{digits}"),
        format!("1e{digits}"),
        format!("1.{digits}"),
    ] {
        let message = refused(format!("{{\"status\":{status}}}").as_bytes());
        assert!(message.contains("it must be an integer"), "{message}");
        assert!(parse_response(format!("{{\"x\":{status}}}").as_bytes()).is_ok());
    }
    let long = "x".repeat(1 << 20);
    refused(long.as_bytes());
    refused(format!("{{\"{long}\":1,\"{long}\":2}}").as_bytes());
    refused(format!("{{\"headers\":{{\"{long}\":\"\"}}}}").as_bytes());
    refused(format!("{{\"headers\":{{\"{long} \":\"\"}}}}").as_bytes());
    refused(format!("{{\"headers\":{{\"x\":\"{long}\"}}}}").as_bytes());
    let controls = "\\u001b".repeat(1 << 16);
    refused(format!("{{\"headers\":{{\"{controls}\":\"\"}}}}").as_bytes());
    refused("\u{202e}\u{1f600}\u{7f}\u{1b}".repeat(1000).as_bytes());
    refused(format!("{{\"body\":\"{}", "\\n".repeat(MEGABYTES_10 / 2)).as_bytes());
}

#[test]
fn invalid_utf8_is_refused_wherever_it_is() {
    for bytes in [
        b"\xff".as_slice(),
        b"\xc3",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
    ] {
        for (before, after) in [
            ("", ""),
            ("{\"body\":\"", "\"}"),
            ("{\"x\":\"", "\"}"),
            ("{\"", "\":1}"),
            ("{\"headers\":{\"X\":\"", "\"}}"),
            ("{}", ""),
        ] {
            let output = [before.as_bytes(), bytes, after.as_bytes()].concat();
            let expected = format!("byte {}: the output is not UTF-8", before.len());
            let message = refused(&output);
            assert!(message.starts_with(&expected), "{message}");
        }
    }
}

#[test]
fn headers_are_bounded_in_number() {
    let single = |count: usize| {
        let headers: Vec<_> = (0..count).map(|n| format!("\"X-{n}\":\"\"")).collect();
        format!("{{\"headers\":{{{}}}}}", headers.join(","))
    };
    let array = |count: usize| {
        format!(
            "{{\"headers\":{{\"X\":[{}]}}}}",
            ["\"\""].repeat(count).join(",")
        )
    };
    for output in [single(MAX_HEADERS), array(MAX_HEADERS)] {
        let response = parse_response(output.as_bytes()).expect("just in bounds");
        assert_eq!(response.headers.len(), MAX_HEADERS);
    }
    let nulls = single(MAX_HEADERS + 1).replace("\"\"", "null");
    let empties = single(MAX_HEADERS + 1).replace("\"\"", "[]");
    let removed = array(MAX_HEADERS + 1).replace('X', "Connection");
    for output in [
        single(MAX_HEADERS + 1),
        array(MAX_HEADERS + 1),
        nulls,
        empties,
        removed,
        single(200_000),
        array(2_000_000),
    ] {
        let message = refused(output.as_bytes());
        assert!(
            message.contains("more than 256 headers, or more than 64 KiB of them"),
            "{message}"
        );
    }
}

#[test]
fn headers_are_bounded_in_size() {
    let output = |name: usize, value: usize, count: usize| {
        let values = vec![format!("\"{}\"", "v".repeat(value)); count].join(",");
        format!("{{\"headers\":{{\"{}\":[{values}]}}}}", "N".repeat(name))
    };
    let half = MAX_HEADER_BYTES / 2;
    for (name, value, count) in [
        (1, MAX_HEADER_BYTES - 1, 1),
        (half, half, 1),
        (1, half - 1, 2),
        (half, 0, 2),
    ] {
        let response = output(name, value, count);
        assert!(
            parse_response(response.as_bytes()).is_ok(),
            "{name} {value} {count}"
        );
        let response = output(name + 1, value, count);
        let message = refused(response.as_bytes());
        assert!(
            message.contains("more than 256 headers, or more than 64 KiB of them"),
            "{message}"
        );
    }
    // A name counts too if it has no values.
    refused(output(MAX_HEADER_BYTES + 1, 0, 0).as_bytes());
}

#[test]
fn unknown_keys_are_bounded_in_number() {
    let keys = |count: usize| {
        let keys: Vec<_> = (0..count).map(|n| format!("\"k{n}\":0")).collect();
        format!(
            "{{\"status\":404,\"headers\":{{}},\"body\":\"\",{}}}",
            keys.join(",")
        )
    };
    assert!(parse_response(keys(256).as_bytes()).is_ok());
    for count in [257, 1_000_000] {
        let message = refused(keys(count).as_bytes());
        assert!(message.contains("more than 256 unknown keys"), "{message}");
    }
}

/// For every prefix of a response, and every change of one of its bytes, the reader agrees with `serde_json` on what is
/// valid JSON.
#[test]
fn the_reader_agrees_with_serde_json() {
    let seed = r#"{"a":[1,-0.5e+3,true,null,{"b":"\u00e9\n\ud83d\ude00é"}],"status":200,"headers":{"X":["1"]},"body":"\"x"}"#;
    let mut judged = 0;
    let mut agree = |output: &[u8]| {
        let ours = parse_response(output);
        // `serde_json` skips values that are not kept, and then does not notice invalid UTF-8 in them.
        let grammatical = std::str::from_utf8(output)
            .is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        if ours.is_ok() {
            assert!(grammatical, "{}", String::from_utf8_lossy(output));
            judged += 1;
        }
        if let (Err(error), true) = (ours, grammatical) {
            let message = error.to_string();
            let rules = [
                "must be",
                "not a valid header name",
                "second time",
                "surrogate",
                "control characters",
                "expected `{`",
            ];
            assert!(
                rules.iter().any(|rule| message.contains(rule)),
                "{}: {message}",
                String::from_utf8_lossy(output)
            );
        }
    };
    for end in 0..=seed.len() {
        agree(&seed.as_bytes()[..end]);
    }
    let replacements: Vec<u8> = (0..=255).collect();
    for place in 0..seed.len() {
        let (before, after) = seed.as_bytes().split_at(place);
        agree(&[before, &after[1..]].concat());
        for &byte in &replacements {
            agree(&[before, &[byte], &after[1..]].concat());
            agree(&[before, &[byte], after].concat());
        }
    }
    assert!(judged > 1000, "{judged}");
}
