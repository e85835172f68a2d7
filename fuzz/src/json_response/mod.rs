//! Compares the responses of the contract `json` with a second implementation of their rules.
//!
//! The input is a guest's whole stdout. The model is based on `serde_json` and shares no code with the contract.

pub(crate) mod response;

use engine_core::contract::json;

use crate::Target;
use crate::report::Disagreement;

/// The target, as the module documentation describes it.
pub const TARGET: Target = Target {
    name: "json_response",
    check: response_agrees,
    dictionary: DICTIONARY,
    max_len: 4096,
};

/// Checks that the contract and the model parse `output` alike, and that a refusal fits into a log line.
fn response_agrees(output: &[u8]) -> Result<(), Disagreement> {
    response::agrees(
        ("contract", json::parse_response(output)),
        ("model", response::read(output)),
    )
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
