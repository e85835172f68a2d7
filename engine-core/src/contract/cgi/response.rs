//! Parses the response of a program, section 6 of RFC 3875.

use std::borrow::Cow;

use crate::contract::bad_output::Excerpt;
use crate::contract::headers::{self, Headers, MAX_HEADER_BYTES, MAX_HEADERS};
use crate::contract::{BadOutput, Response};

/// The status of a response that has `Location` and no status.
const FOUND: u16 = 302;

/// Reads a whole output: a block of header fields, an empty line, and the body. Lines end with LF or CRLF.
pub(super) fn parse(stdout: &[u8]) -> Result<Response<'_>, BadOutput> {
    let mut status = None;
    let mut fields = Fields::default();
    let mut at = 0;
    loop {
        let Some(end) = stdout[at..].iter().position(|byte| *byte == b'\n') else {
            return Err(BadOutput::at(
                at,
                if stdout.is_empty() {
                    "no output; print header fields such as `Content-Type: text/plain`, an empty line, and the body"
                } else {
                    "the header fields have no end; print an empty line after them"
                },
            ));
        };
        let line = &stdout[at..at + end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line_at = at;
        at += end + 1;
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line, line_at)?;
        if name == "Status" {
            if status.is_some() {
                return Err(BadOutput::at(line_at, "Status occurs a second time"));
            }
            status = Some(parse_status(value, line_at)?);
        } else {
            fields.add(name, value, line_at)?;
        }
    }
    if status.is_none() && fields.list.is_empty() {
        return Err(BadOutput::at(
            0,
            "the output begins with an empty line; print header fields first, such as `Content-Type: text/plain`",
        ));
    }
    let redirects = fields.list.iter().any(|(name, _)| name == "Location");
    let status = status.or(redirects.then_some(FOUND));
    let names_status = status.is_some();
    let status = status.unwrap_or(200);
    let body: &[u8] = if matches!(status, 204 | 205 | 304) {
        b""
    } else {
        &stdout[at..]
    };
    // The length of the body is the program's.
    headers::remove_servers(&mut fields.list, headers::is_hop_by_hop);
    Ok(Response {
        status,
        names_status,
        headers: fields.list,
        body: Cow::Borrowed(body),
        streams: true,
        next: None,
    })
}

/// The canonical name and the value of a line.
fn field(line: &[u8], at: usize) -> Result<(Cow<'_, str>, &[u8]), BadOutput> {
    if line.starts_with(b"HTTP/") {
        return Err(BadOutput::at(
            at,
            "a status line of HTTP; print a field instead, such as `Status: 404 Not Found`",
        ));
    }
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(BadOutput::at(
            at,
            "a line of the header fields begins with white space; write each field in one line",
        ));
    }
    let text = String::from_utf8_lossy(line);
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Err(BadOutput::at(
            at,
            format!(
                "{} is not a header field; print `Name: value` lines and an empty line before the body",
                Excerpt(&text)
            ),
        ));
    };
    let name = std::str::from_utf8(&line[..colon]).unwrap_or_default();
    let name = headers::canonical(Cow::Borrowed(name)).map_err(|name| {
        BadOutput::at(at, format!("{} is not a valid header name", Excerpt(&name)))
    })?;
    let value = line[colon + 1..].trim_ascii();
    headers::check_value(&name, value).map_err(|why| BadOutput::at(at, why))?;
    Ok((name, value))
}

/// `404`, or `404 Not Found`.
fn parse_status(value: &[u8], at: usize) -> Result<u16, BadOutput> {
    let digits = value
        .split(u8::is_ascii_whitespace)
        .next()
        .unwrap_or_default();
    let number = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.len() == 3);
    match number.and_then(|digits| digits.parse().ok()) {
        Some(status @ 200..=599) => Ok(status),
        _ => Err(BadOutput::at(
            at,
            format!(
                "the status is {}; it must be a number from 200 to 599, and may be followed by a text",
                Excerpt(&String::from_utf8_lossy(value))
            ),
        )),
    }
}

/// The fields so far. Those of one name are next to each other.
#[derive(Default)]
struct Fields<'a> {
    list: Headers<'a>,
    bytes: usize,
}

impl<'a> Fields<'a> {
    fn add(&mut self, name: Cow<'a, str>, value: &'a [u8], at: usize) -> Result<(), BadOutput> {
        self.bytes += name.len() + value.len();
        if self.list.len() == MAX_HEADERS || self.bytes > MAX_HEADER_BYTES {
            return Err(BadOutput::at(at, headers::too_many("headers")));
        }
        if name == "Content-Length" {
            let length = std::str::from_utf8(value).ok();
            let is_number = length.is_some_and(|length| {
                length.bytes().all(|byte| byte.is_ascii_digit()) && length.parse::<i64>().is_ok()
            });
            let is_first = !self.list.iter().any(|(seen, _)| *seen == name);
            if !is_number || !is_first {
                return Err(BadOutput::at(
                    at,
                    format!(
                        "the Content-Length is {}; it must occur once, and be a number of bytes",
                        Excerpt(&String::from_utf8_lossy(value))
                    ),
                ));
            }
        }
        let last = self.list.iter().rposition(|(seen, _)| *seen == name);
        let place = last.map_or(self.list.len(), |last| last + 1);
        self.list.insert(place, (name, Cow::Borrowed(value)));
        Ok(())
    }
}
