//! Compares the contract `json` with a second implementation of its rules.
//!
//! The input is used twice: as a guest's whole stdout, and, cut into pieces, as a request. Both models are based on
//! `serde_json` and share no code with the contract.

mod request;
mod response;

use std::borrow::Cow;

use engine_core::contract::{HeaderChanges, json};

use crate::Target;
use crate::report::{Disagreement, same};

/// The target, as the module documentation describes it.
pub const TARGET: Target = Target {
    name: "json_response",
    check,
    dictionary: DICTIONARY,
    max_len: 4096,
};

/// The maximum length of a refusal. Excerpts in it have at most 40 characters, with at most ten bytes for each.
const LONGEST_REFUSAL: usize = 700;

fn check(input: &[u8]) -> Result<(), Disagreement> {
    response_agrees(input)?;
    request::agrees(&request::cut(input))
}

/// Checks that the contract and the model parse `output` alike, and that a refusal fits into a log line.
fn response_agrees(output: &[u8]) -> Result<(), Disagreement> {
    let read = json::parse_response(output);
    let refusal = read.as_ref().err().map(ToString::to_string);
    let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if let Some(refusal) = &refusal
        && (refusal.is_empty()
            || refusal.len() > LONGEST_REFUSAL
            || !refusal.bytes().all(printable))
    {
        return Err(Disagreement::new(
            "the message of a refusal",
            ("contract", format!("{refusal:?}")),
            (
                "expected",
                format!("1 to {LONGEST_REFUSAL} printable characters"),
            ),
        ));
    }
    let read = read.ok().map(|read| response::Model {
        status: read.status,
        headers: owned(read.headers),
        body: read.body.into_owned(),
        next: read.next.map(|next| response::Onward {
            method: next.method.unwrap_or_default().into_owned(),
            uri: next.uri.unwrap_or_default().into_owned(),
            headers: changes(next.headers),
            response_headers: changes(next.response_headers),
            vars: next
                .vars
                .into_iter()
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        }),
    });
    same(
        "a response",
        ("contract", &read),
        ("model", &response::read(output)),
    )
    .map_err(|found| found.with("contract's refusal", format!("{refusal:?}")))
}

fn changes(changes: HeaderChanges<'_>) -> response::Changes {
    let delete = changes.delete.into_iter().map(Cow::into_owned);
    (owned(changes.set), delete.collect())
}

fn owned(headers: Vec<(Cow<'_, str>, Cow<'_, [u8]>)>) -> Vec<(String, Vec<u8>)> {
    headers
        .into_iter()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

const DICTIONARY: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b" ",
    b"\n",
    b"\"",
    b"\\",
    b"null",
    b"true",
    b"\"\"",
    b"{}",
    b"\"status\":",
    b"\"Status\":",
    b"\"headers\":{",
    b"\"body\":",
    b"\"BODY\":",
    b"\"body_base64\":",
    b"\"bodyBase64\":",
    b"\"statusCode\":",
    b"\"isBase64Encoded\":",
    b"\"cookies\":",
    b"\"x\":",
    b"\"next\":true,",
    b"\"next\":",
    b"\"method\":",
    b"\"uri\":\"/",
    b"\"vars\":{",
    b"\"response_headers\":{",
    b"\"responseHeaders\":",
    b"\"Host\":\"a\"",
    b"%2f",
    b"false",
    b"200",
    b"199",
    b"204",
    b"205",
    b"304",
    b"599",
    b"600",
    b"0",
    b"-0",
    b"-1",
    b"2e2",
    b"200.0",
    b"1e999",
    b"18446744073709551816",
    b"\"YQ==\"",
    b"\"YQ\"",
    b"\"X-a\":\"b\"",
    b"\"x-A\":[\"1\",\"2\"]",
    b"\"Connection\":\"x-a, close\"",
    b"\"content-length\":\"3\"",
    b"\"Te\":\"x\"",
    b"\"Close\":\"x\"",
    b"\\ud83d\\ude00",
    b"\\ud800",
    b"\\u0000",
    b"\\n",
    b"\\/",
    b"\\x",
    b"\xc3\xa9",
    b"\xef\xbb\xbf",
    b"\xf4\x8f\xbe\x80",
    b"\\udbff\\udf80",
    b"\xff",
    b"\r\n",
    b"Connection",
    b"\x04Host",
    b"\x05Proxy",
    b"\x0fX-Forwarded-For",
    b"[[[[[[[[",
    b"]]]]]]]]",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_short_text_of_json_agrees() {
        // All texts made of up to three of these.
        let parts: [&[u8]; 15] = [
            b"\"next\":true,",
            b"\"uri\":\"/\"",
            b"\"vars\":{\"a\":1}",
            b"",
            b"{",
            b"}",
            b"\"body\":",
            b"\"a\"",
            b"\"status\":204",
            b",",
            b"null",
            b"[",
            b"]",
            b" ",
            b"\xff",
        ];
        for a in parts {
            for b in parts {
                for c in parts {
                    let input = [b"{", a, b, c].concat();
                    assert_eq!(TARGET.run(&input), Ok(()));
                    assert_eq!(TARGET.run(&[&input[..], b"}"].concat()), Ok(()));
                }
            }
        }
    }

    #[test]
    fn the_limits_are_the_models_too() {
        let object = |count: usize, member: &dyn Fn(usize) -> String| {
            let members: Vec<_> = (0..count).map(member).collect();
            format!("{{{}}}", members.join(","))
        };
        for count in [255, 256, 257] {
            let unknown = object(count, &|index| format!("\"k{index}\":null"));
            let headers = object(count, &|index| format!("\"k{index}\":[]"));
            for (text, fits) in [
                (unknown, count <= 256),
                (format!("{{\"headers\":{headers}}}"), count <= 256),
            ] {
                assert_eq!(response_agrees(text.as_bytes()), Ok(()));
                assert_eq!(response::read(text.as_bytes()).is_some(), fits, "{count}");
            }
        }
        for (depth, fits) in [(126, true), (127, false)] {
            let text = format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(response_agrees(text.as_bytes()), Ok(()));
            assert_eq!(response::read(text.as_bytes()).is_some(), fits, "{depth}");
        }
        for (len, fits) in [(65_535, true), (65_536, false)] {
            let text = format!("{{\"headers\":{{\"a\":\" {} \"}}}}", "v".repeat(len));
            assert_eq!(response_agrees(text.as_bytes()), Ok(()));
            assert_eq!(response::read(text.as_bytes()).is_some(), fits, "{len}");
        }
    }
}
