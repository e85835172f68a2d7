//! A second implementation of the rules for a response, based on `serde_json`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use engine_core::contract::{BadOutput, HeaderChanges, Response};

use crate::report::{Disagreement, same};

/// A response that satisfies every rule.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Model {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) next: Option<Onward>,
}

/// How a request goes on.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Onward {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: Changes,
    pub(crate) response_headers: Changes,
    pub(crate) vars: Vec<(String, String)>,
}

/// Headers that are set, and names of those that are removed.
pub(crate) type Changes = (Vec<(String, Vec<u8>)>, Vec<String>);

/// Headers about one connection, or about the framing, which the server does.
const FRAMING: [&str; 10] = [
    "Connection",
    "Content-Length",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Te",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

/// Options of `Connection` that name no header.
const OPTIONS: [&str; 4] = ["close", "keep-alive", "te", "upgrade"];

/// The keys that other systems use for the parts of a response, in lower case and without hyphens and underscores.
const OTHERS: [&str; 5] = [
    "statuscode",
    "isbase64encoded",
    "bodybase64",
    "multivalueheaders",
    "cookies",
];

/// The maximum length of a refusal. Excerpts in it have at most 40 characters, with at most ten bytes for each.
const LONGEST_REFUSAL: usize = 700;

/// Checks that the contract and a model parse a guest's output alike, and that a refusal fits into a log line.
pub(crate) fn agrees(
    (contract, read): (&'static str, Result<Response<'_>, BadOutput>),
    (other, expected): (&'static str, Option<Model>),
) -> Result<(), Disagreement> {
    let refusal = read.as_ref().err().map(ToString::to_string);
    let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if let Some(refusal) = &refusal
        && (refusal.is_empty()
            || refusal.len() > LONGEST_REFUSAL
            || !refusal.bytes().all(printable))
    {
        return Err(Disagreement::new(
            "the message of a refusal",
            (contract, format!("{refusal:?}")),
            (
                "expected",
                format!("1 to {LONGEST_REFUSAL} printable characters"),
            ),
        ));
    }
    let read = read.ok().map(|read| Model {
        status: read.status,
        headers: owned(read.headers),
        body: read.body.into_owned(),
        next: read.next.map(|next| Onward {
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
    same("a response", (contract, &read), (other, &expected))
        .map_err(|found| found.with("contract's refusal", format!("{refusal:?}")))
}

fn changes(changes: HeaderChanges<'_>) -> Changes {
    let delete = changes.delete.into_iter().map(Cow::into_owned);
    (owned(changes.set), delete.collect())
}

fn owned(headers: Vec<(Cow<'_, str>, Cow<'_, [u8]>)>) -> Vec<(String, Vec<u8>)> {
    headers
        .into_iter()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// The response in `output`; `None` if it breaks a rule.
pub(crate) fn read(output: &[u8]) -> Option<Model> {
    let text = std::str::from_utf8(output).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let raw: Raw = serde_json::from_str(text).ok()?;
    if depth(text) > 127 {
        return None;
    }

    let status = match raw.status {
        Value::Null => 200,
        // serde_json parses numbers with a point, an exponent or a minus as floats or negative numbers.
        Value::Number(number) => match number.as_u64()? {
            0 => 200,
            status @ 200..=599 => status as u16,
            _ => return None,
        },
        _ => return None,
    };
    let (text, encoded) = (string(raw.body)?, string(raw.body_base64)?);
    if !text.is_empty() && !encoded.is_empty() {
        return None;
    }
    let text_is_empty = text.is_empty();
    let body = if encoded.is_empty() || raw.next == Value::Bool(true) {
        text.into_bytes()
    } else {
        let letters = encoded.trim_start_matches('\u{feff}');
        let letters: String = letters.split(|c: char| " \t\n\x0c\r".contains(c)).collect();
        STANDARD.decode(letters).ok()?
    };
    let (set, delete) = headers(raw.headers)?;
    let goes_on = match raw.next {
        Value::Null => false,
        Value::Bool(goes_on) => goes_on,
        _ => return None,
    };
    if goes_on {
        if raw.names_status || !text_is_empty || !encoded.is_empty() || raw.misspelled {
            return None;
        }
        return Some(Model {
            status: 200,
            headers: Vec::new(),
            body: Vec::new(),
            next: Some(onward(raw.onward, (set, delete))?),
        });
    }
    Some(Model {
        status,
        headers: set,
        body: if [204, 205, 304].contains(&status) {
            Vec::new()
        } else {
            body
        },
        next: None,
    })
}

/// How the request goes on, if these members of the response and the changes of the request's headers keep the rules.
fn onward(members: Vec<(String, Box<RawValue>)>, headers: Changes) -> Option<Onward> {
    let hosts: Vec<_> = headers
        .0
        .iter()
        .filter(|(name, _)| name == "Host")
        .collect();
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(byte);
    if headers.1.iter().any(|name| name == "Host")
        || hosts.len() > 1
        || hosts
            .iter()
            .any(|(_, value)| value.is_empty() || !value.iter().all(is_host))
    {
        return None;
    }
    let mut onward = Onward {
        headers,
        ..Onward::default()
    };
    for (key, value) in members {
        if value.get() == "null" {
            continue;
        }
        match key.as_str() {
            "method" => {
                onward.method = serde_json::from_str(value.get()).ok()?;
                if !onward.method.is_empty() {
                    canonical(&onward.method)?;
                }
            }
            "uri" => {
                onward.uri = serde_json::from_str(value.get()).ok()?;
                if !onward.uri.is_empty() && !is_origin_form(&onward.uri) {
                    return None;
                }
            }
            "response_headers" => {
                let pairs: Pairs = serde_json::from_str(value.get()).ok()?;
                onward.response_headers = self::headers(Some(pairs.0))?;
            }
            _ => onward.vars = vars(serde_json::from_str(value.get()).ok()?)?,
        }
    }
    Some(onward)
}

fn is_origin_form(uri: &str) -> bool {
    let path = uri.split('?').next().unwrap_or_default();
    let escapes = path.split('%').skip(1);
    uri.starts_with('/')
        && uri
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        && escapes
            .map(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count())
            .all(|digits| digits == 2)
}

fn vars(members: RawPairs) -> Option<Vec<(String, String)>> {
    let mut vars = Vec::new();
    let mut names = HashSet::new();
    let (mut count, mut bytes) = (0, 0);
    for (name, value) in members.0 {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return None;
        }
        if !names.insert(name.to_ascii_lowercase()) {
            return None;
        }
        let text = value.get();
        count += 1;
        bytes += name.len();
        let value = match text.as_bytes()[0] {
            b'n' => continue,
            b'"' => serde_json::from_str(text).ok()?,
            b'{' | b'[' => return None,
            _ => text.to_owned(),
        };
        bytes += value.len();
        vars.push((name, value));
    }
    (count <= 256 && bytes <= 64 * 1024).then_some(vars)
}

/// The name as Go spells it, if it is a valid header name.
pub(crate) fn canonical(name: &str) -> Option<String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return None;
    }
    let words = name.split('-').map(|word| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_ascii_uppercase() + &rest.to_ascii_lowercase(),
        None => String::new(),
    });
    Some(words.collect::<Vec<_>>().join("-"))
}

/// The names that these values of `Connection` list, in lower case.
pub(crate) fn named<'a>(values: impl Iterator<Item = &'a str>) -> HashSet<String> {
    values
        .flat_map(|value| value.split(','))
        .map(|name| {
            name.trim_matches(|c: char| c.is_ascii_whitespace())
                .to_ascii_lowercase()
        })
        .filter(|name| !OPTIONS.contains(&name.as_str()))
        .collect()
}

/// Whether a header with this canonical name is about one connection or about the framing.
pub(crate) fn is_framing(name: &str) -> bool {
    FRAMING.contains(&name)
}

fn headers(raw: Option<Vec<(String, Value)>>) -> Option<Changes> {
    let mut headers = Vec::new();
    let mut valueless = Vec::new();
    let mut names = HashSet::new();
    let (mut count, mut bytes) = (0, 0);
    for (name, value) in raw.unwrap_or_default() {
        let name = canonical(&name)?;
        if !names.insert(name.clone()) {
            return None;
        }
        let values = match value {
            Value::Null => Vec::new(),
            Value::Array(values) => values,
            other => vec![other],
        };
        if values.is_empty() {
            count += 1;
            bytes += name.len();
            valueless.push(name.clone());
        }
        for value in values {
            let Value::String(value) = value else {
                return None;
            };
            if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
                return None;
            }
            let value = value.trim_matches([' ', '\t']);
            count += 1;
            bytes += name.len() + value.len();
            headers.push((name.clone(), value.to_owned()));
        }
    }
    if count > 256 || bytes > 64 * 1024 {
        return None;
    }
    let connection = headers.iter().filter(|(name, _)| name == "Connection");
    let named = named(connection.map(|(_, value)| value.as_str()));
    headers.retain(|(name, _)| !is_framing(name) && !named.contains(&name.to_ascii_lowercase()));
    let headers = headers
        .into_iter()
        .map(|(name, value)| (name, sent(&value)));
    valueless.retain(|name| !is_framing(name));
    Some((headers.collect(), valueless))
}

/// The bytes of a value, in which the last 128 characters of Unicode represent bytes that are not UTF-8.
fn sent(value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for character in value.chars() {
        match u32::from(character).checked_sub(0x10_ff00) {
            Some(byte @ 0x80..) => bytes.push(byte as u8),
            _ => bytes.extend(character.to_string().bytes()),
        }
    }
    bytes
}

fn string(value: Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// How deep arrays and objects are nested in a JSON text.
fn depth(text: &str) -> usize {
    let (mut deepest, mut now, mut in_string, mut escaped) = (0, 0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => now += 1,
            b'}' | b']' if !in_string => now -= 1,
            _ => {}
        }
        deepest = deepest.max(now);
    }
    deepest
}

/// The members of the outer object. No key occurs twice, in upper or lower case.
#[derive(Default)]
struct Raw {
    status: Value,
    headers: Option<Vec<(String, Value)>>,
    body: Value,
    body_base64: Value,
    next: Value,
    /// Whether there is a status other than 0.
    names_status: bool,
    /// Whether a key is `response_headers` in a spelling that only a request that goes on may not have.
    misspelled: bool,
    /// The other members of a response that lets a request go on.
    onward: Vec<(String, Box<RawValue>)>,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut raw = Raw::default();
                let mut seen = HashSet::new();
                let mut unknown = 0;
                while let Some(key) = map.next_key::<String>()? {
                    let key = key.to_ascii_lowercase();
                    if OTHERS.contains(&key.replace(['-', '_'], "").as_str())
                        && key != "body_base64"
                    {
                        return Err(A::Error::custom("a key of another system"));
                    }
                    match key.as_str() {
                        "status" => {
                            raw.status = map.next_value()?;
                            raw.names_status = raw.status.as_u64().unwrap_or(0) != 0;
                        }
                        "next" => raw.next = map.next_value()?,
                        "method" | "uri" | "vars" | "response_headers" => {
                            raw.onward.push((key.clone(), map.next_value()?));
                        }
                        "headers" => {
                            raw.headers = map.next_value::<Option<Pairs>>()?.map(|pairs| pairs.0);
                        }
                        "body" => raw.body = map.next_value()?,
                        "body_base64" => raw.body_base64 = map.next_value()?,
                        _ => {
                            unknown += 1;
                            let letters = key.replace(['-', '_'], "");
                            raw.misspelled |= key.len() <= 32 && letters == "responseheaders";
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                    if unknown > 256 || !seen.insert(key) {
                        return Err(A::Error::custom("too many keys, or one twice"));
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The members of an object in their order, including those that occur twice.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The members of an object in their order, with their values as they are written.
struct RawPairs(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for RawPairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawPairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawPairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(RawPairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_keeps_the_rules_of_the_contract() {
        let read = |text: &str| read(text.as_bytes());
        let full = read(
            r#"{"Status":404,"headers":{"x-b":[" 1 ","2"],"connection":"close, X-Gone","x-gone":"y","c":null},"body":"é"}"#,
        );
        assert_eq!(
            full,
            Some(Model {
                status: 404,
                headers: vec![("X-B".into(), b"1".into()), ("X-B".into(), b"2".into())],
                body: "é".as_bytes().to_vec(),
                next: None,
            })
        );
        for (text, body) in [
            ("{}", &b""[..]),
            (r#"{"body_base64":"/w=="}"#, b"\xff"),
            (r#"{"body":"","body_base64":"YQ=="}"#, b"a"),
            (r#"{"status":204,"body":"x"}"#, b""),
            (r#"{"status":205,"body":"x"}"#, b""),
            ("\u{feff}{\"body_base64\":\"Y\\nQ==\"}", b"a"),
            (r#"{"status":0,"y":[1e999,"\ud800"]}"#, b""),
        ] {
            assert_eq!(
                read(text).map(|model| model.body),
                Some(body.to_vec()),
                "{text}"
            );
        }
        let next = read(
            r#"{"next":true,"uri":"/a?%","headers":{"x":"1","y":null},"vars":{"n":-1.50,"t":true,"u":null}}"#,
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            next.and_then(|model| model.next),
            Some(Onward {
                uri: "/a?%".into(),
                headers: (vec![("X".into(), b"1".into())], vec!["Y".into()]),
                vars: vec![pair("n", "-1.50"), pair("t", "true")],
                ..Onward::default()
            })
        );
        for refused in [
            r#"{"next":true,"status":200}"#,
            r#"{"next":true,"body":"x"}"#,
            r#"{"next":1}"#,
            r#"{"next":true,"uri":"a"}"#,
            r#"{"next":true,"uri":"/%2"}"#,
            r#"{"next":true,"method":" "}"#,
            r#"{"next":true,"vars":{"a":1,"A":2}}"#,
            r#"{"next":true,"headers":{"Host":null}}"#,
            r#"{"next":true,"responseHeaders":{}}"#,
            "",
            "[]",
            "{}{}",
            r#"{"body":"a","BODY":null}"#,
            r#"{"x":1,"X":1}"#,
            r#"{"status":99}"#,
            r#"{"status":2e2}"#,
            r#"{"status":-0}"#,
            r#"{"body":"a","body_base64":"YQ=="}"#,
            r#"{"body_base64":"YQ"}"#,
            r#"{"headers":{"a":"\n"}}"#,
            r#"{"headers":{"a b":"c"}}"#,
            r#"{"headers":{"a":"b","A":null}}"#,
            r#"{"headers":[]}"#,
            r#"{"statusCode":404}"#,
            r#"{"Body-Base64":null}"#,
            r#"{"body":"\ud800"}"#,
        ] {
            assert_eq!(read(refused), None, "{refused}");
        }
    }
}
