//! Checks a sample request that a user wrote, and brings it to the form in which a guest reads requests.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::bad_output::Excerpt;
use super::super::{BadOutput, BadSample, Request, stand_in};
use super::reader::{Reader, SAMPLE};

/// The keys that each request has, and those that it may have. All their values but the headers are strings.
const REQUIRED: [&str; 5] = ["method", "uri", "headers", "body", "trace_id"];
const OPTIONAL: [&str; 7] = [
    "body_base64",
    "remote_addr",
    "client_ip",
    "scheme",
    "host",
    "proto",
    "original_uri",
];

/// A request for the texts of errors.
const EXAMPLE: &str = r#"{"method":"GET","uri":"/","headers":{},"body":"","trace_id":"sample"}"#;

/// The request in `text` on one line, if it is one and its body has at most `max_body` bytes.
pub(super) fn check(text: &[u8], max_body: usize) -> Result<Vec<u8>, BadSample> {
    read(text, max_body)?;
    Ok(one_line(text))
}

/// The request in `text`, if it is one and its body has at most `max_body` bytes.
pub(in crate::contract) fn read(text: &[u8], max_body: usize) -> Result<Sample<'_>, BadSample> {
    parse(text, max_body).map_err(|wrong| {
        let (offset, message) = wrong.into_parts();
        BadSample::at(text, offset.unwrap_or(0), message)
    })
}

/// A sample request.
pub(in crate::contract) struct Sample<'a> {
    members: Vec<Member<'a>>,
    /// (name, value) in their order.
    headers: SampleHeaders<'a>,
    body: Vec<u8>,
}

type SampleHeaders<'a> = Vec<(Cow<'a, str>, Cow<'a, [u8]>)>;

impl Sample<'_> {
    /// The value of a key other than those of headers and body; empty if it is missing.
    fn value(&self, key: &str) -> &str {
        let found = self.members.iter().find(|member| member.key == key);
        found.map_or("", |member| &*member.value)
    }

    /// Gives `write` the request. Its host is that of the header, if the sample has no other.
    pub(in crate::contract) fn as_request(&self, write: impl FnOnce(&Request<'_>)) {
        let is_host = |(name, _): &&(Cow<'_, str>, _)| name.eq_ignore_ascii_case("host");
        let host = match self.value("host") {
            "" => self.headers.iter().find(is_host).map(|(_, value)| &**value),
            host => Some(host.as_bytes()),
        };
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), &**value))
            .collect();
        let field = |key| self.value(key).as_bytes();
        write(&Request {
            method: field("method"),
            uri: field("uri"),
            headers: &headers,
            body: &self.body,
            trace_id: field("trace_id"),
            remote_addr: field("remote_addr"),
            client_ip: field("client_ip"),
            scheme: field("scheme"),
            host: host.unwrap_or_default(),
            proto: field("proto"),
            original_uri: field("original_uri"),
        });
    }
}

/// A key of the request that was read.
struct Member<'a> {
    key: Cow<'a, str>,
    /// The offset of the key.
    at: usize,
    /// The value, unless it is the headers.
    value: Cow<'a, str>,
}

fn parse(text: &[u8], max_body: usize) -> Result<Sample<'_>, BadOutput> {
    // Errors of the syntax come first: what is wrong with the meaning may be a consequence of them.
    let mut syntax = Reader::new(text, &SAMPLE)?;
    if syntax.peek().is_none() {
        return Err(BadOutput::at(
            0,
            format!("the sample is empty; write a request, such as {EXAMPLE}"),
        ));
    }
    syntax.skip(0)?;
    syntax.end()?;

    let mut reader = Reader::new(text, &SAMPLE)?;
    if reader.at() > 0 {
        return Err(BadOutput::at(
            0,
            "the sample begins with a byte order mark; save it as UTF-8 without one",
        ));
    }
    let next = reader.peek();
    let begin = reader.at();
    if next != Some(b'{') {
        return Err(BadOutput::at(
            begin,
            format!("a request is an object, such as {EXAMPLE}"),
        ));
    }
    let mut members: Vec<Member<'_>> = Vec::new();
    let mut fields = SampleHeaders::new();
    reader.object(|reader, raw| {
        let at = raw.begin();
        let key = raw.decode()?;
        if members.iter().any(|member| member.key == key) {
            return Err(BadOutput::at(
                at,
                format!("{} is given twice; remove one", Excerpt(&key)),
            ));
        }
        if !REQUIRED.contains(&&*key) && !OPTIONAL.contains(&&*key) {
            return Err(BadOutput::at(
                at,
                format!(
                    "no request has the key {}; the keys are {}, {}",
                    Excerpt(&key),
                    REQUIRED.join(", "),
                    OPTIONAL.join(", ")
                ),
            ));
        }
        let value = if key == "headers" {
            fields = headers(reader)?;
            Cow::Borrowed("")
        } else {
            string(reader, || format!("\"{key}\""))?
        };
        members.push(Member { key, at, value });
        Ok(())
    })?;

    let find = |key: &str| members.iter().find(|member| member.key == key);
    if let Some(missing) = REQUIRED.iter().find(|key| find(key).is_none()) {
        return Err(BadOutput::at(
            begin,
            format!(
                "the request lacks \"{missing}\", which every request has; write for example {EXAMPLE}"
            ),
        ));
    }
    let value = |key: &str| find(key).map_or("", |member| &*member.value);
    let wrong = |key: &str, message: String| {
        Err(BadOutput::at(
            find(key).map_or(begin, |member| member.at),
            message,
        ))
    };
    let uri = value("uri");
    if value("method").is_empty() {
        let message = r#""method" is empty; write for example "GET""#;
        return wrong("method", message.to_owned());
    }
    if !uri.starts_with('/') && uri != "*" {
        let found = Excerpt(uri);
        return wrong(
            "uri",
            format!(
                r#""uri" is {found}, but must be a path with an optional query, such as "/api/x?q=1""#
            ),
        );
    }
    if value("trace_id").is_empty() {
        let message = r#""trace_id" is empty; write any text, such as "sample""#;
        return wrong("trace_id", message.to_owned());
    }

    let (text, encoded) = (value("body"), value("body_base64"));
    let (key, body) = match (text, encoded) {
        (_, "") => ("body", text.as_bytes().to_vec()),
        ("", _) => match STANDARD.decode(encoded) {
            Ok(decoded) => ("body_base64", decoded),
            Err(error) => {
                return wrong(
                    "body_base64",
                    format!("\"body_base64\" is not base64 with padding: {error}"),
                );
            }
        },
        _ => {
            let message = r#""body_base64" and "body" both have content; empty one of them"#;
            return wrong("body_base64", message.to_owned());
        }
    };
    if body.len() > max_body {
        return wrong(
            key,
            format!(
                "the body has {} bytes, more than the {max_body} of max_body; shorten it, or raise max_body",
                body.len()
            ),
        );
    }
    Ok(Sample {
        members,
        headers: fields,
        body,
    })
}

/// Reads an object of arrays of strings.
fn headers<'a>(reader: &mut Reader<'a>) -> Result<SampleHeaders<'a>, BadOutput> {
    if reader.peek() != Some(b'{') {
        return Err(BadOutput::at(
            reader.at(),
            r#""headers" must be an object of lists, such as {"Accept":["*/*"]}"#,
        ));
    }
    let mut seen = HashSet::new();
    let mut headers = SampleHeaders::new();
    reader.object(|reader, raw| {
        let at = raw.begin();
        let name = raw.decode()?;
        if seen.contains(&name) {
            return Err(BadOutput::at(
                at,
                format!(
                    "the header {} is given twice; put both values into one list",
                    Excerpt(&name)
                ),
            ));
        }
        if reader.peek() != Some(b'[') {
            return Err(BadOutput::at(
                reader.at(),
                format!(
                    "the value of the header {} must be a list, such as [\"a\"]",
                    Excerpt(&name)
                ),
            ));
        }
        reader.array(|reader| {
            let value = string(reader, || {
                format!("a value of the header {}", Excerpt(&name))
            })?;
            headers.push((Cow::clone(&name), stand_in::to_bytes(value)));
            Ok(())
        })?;
        seen.insert(name);
        Ok(())
    })?;
    Ok(headers)
}

/// Reads a value that must be a string. `what` names it.
fn string<'a>(
    reader: &mut Reader<'a>,
    what: impl FnOnce() -> String,
) -> Result<Cow<'a, str>, BadOutput> {
    if reader.peek() != Some(b'"') {
        return Err(BadOutput::at(
            reader.at(),
            format!("{} must be a string", what()),
        ));
    }
    reader.string()?.decode()
}

/// JSON text without the white space between its tokens, and a newline.
fn one_line(text: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(text.len() + 1);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in text {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            in_string = byte == b'"';
        }
        line.push(byte);
    }
    line.push(b'\n');
    line
}
