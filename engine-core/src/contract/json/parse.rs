//! Parses a guest's output as a response, and refuses output that breaks a rule.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::bad_output::Excerpt;
use super::super::headers::compare_ignoring_case;
use super::super::{BadOutput, HeaderChanges, Response, after_line_break};
use super::fields;
use super::next::{self, Positions};
use super::reader::{BYTE_ORDER_MARK, OUTPUT, Reader};

/// The maximum number of keys beside the known ones. Each is remembered, so that it is refused if it occurs again.
const MAX_UNKNOWN_KEYS: usize = 256;

/// See [`parse_response`](super::parse_response).
pub(super) fn response(stdout: &[u8]) -> Result<Response<'_>, BadOutput> {
    match Reader::new(stdout, &OUTPUT) {
        Ok(reader) => read(reader, stdout),
        // The body of a stream may be any bytes.
        Err(error) => match read(Reader::of_valid_part(stdout, &OUTPUT), stdout) {
            Ok(response) if response.streams => Ok(response),
            _ => Err(error),
        },
    }
}

fn read<'a>(mut reader: Reader<'a>, stdout: &'a [u8]) -> Result<Response<'a>, BadOutput> {
    if reader.peek().is_none() {
        return Err(BadOutput::new(
            "no output; print one JSON object with the response to stdout",
        ));
    }

    let mut keys = Keys::default();
    let mut status = 0;
    let mut headers = HeaderChanges::default();
    let mut body = Cow::Borrowed("");
    let mut encoded = Cow::Borrowed("");
    let mut encoded_at = 0;
    let mut goes_on = false;
    let mut streams = false;
    let mut positions = Positions::default();
    reader.object(|reader, key| {
        let key = key.decode()?;
        let known = keys.add(reader, key)?;
        match known {
            None => return reader.skip(1),
            // `null` means the same as a missing key.
            Some(_) if reader.take_null() => {}
            Some(Known::Status) => status = read_status(reader)?,
            Some(Known::Headers) => headers = fields::read(reader, "headers")?,
            Some(Known::Body) => body = read_text(reader, "body")?,
            Some(Known::BodyBase64) => {
                encoded_at = reader.at();
                encoded = read_text(reader, "body_base64")?;
            }
            Some(Known::Next) => goes_on = read_flag(reader, "next")?,
            Some(Known::Stream) => streams = read_flag(reader, "stream")?,
            // Without `next`, which may follow, these are unknown keys.
            Some(Known::Method) => positions.method = next::note(reader)?,
            Some(Known::Uri) => positions.uri = next::note(reader)?,
            Some(Known::Vars) => positions.vars = next::note(reader)?,
            Some(Known::ResponseHeaders) => positions.response_headers = next::note(reader)?,
        }
        Ok(())
    })?;
    let end = reader.at();
    if !streams {
        reader.end()?;
    } else if goes_on || !body.is_empty() || !encoded.is_empty() {
        return Err(BadOutput::new(
            "the response has stream beside next, body or body_base64; the body of a stream follows the JSON object",
        ));
    }
    if goes_on {
        let answers = status != 0 || !body.is_empty() || !encoded.is_empty();
        return next::response(&mut reader, answers, &keys.unknown, headers, &positions);
    }

    let body = match (body.is_empty(), encoded.is_empty()) {
        _ if streams => Cow::Borrowed(after_line_break(&stdout[end..])),
        (_, true) => match body {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
        (true, false) => Cow::Owned(decode(&encoded, encoded_at)?),
        (false, false) => {
            return Err(BadOutput::new(
                "the response has a body and a body_base64; send one of them",
            ));
        }
    };
    let names_status = status != 0;
    let status = if names_status { status } else { 200 };
    let bodiless = matches!(status, 204 | 205 | 304);
    Ok(Response {
        status,
        names_status,
        headers: headers.set,
        body: if bodiless { Cow::Borrowed(&[]) } else { body },
        streams,
        next: None,
    })
}

#[derive(Clone, Copy)]
enum Known {
    Status,
    Headers,
    Body,
    BodyBase64,
    Next,
    Stream,
    Method,
    Uri,
    Vars,
    ResponseHeaders,
}

impl Known {
    /// The number of known keys.
    const COUNT: usize = Self::ResponseHeaders as usize + 1;

    fn of(key: &str) -> Option<Self> {
        let candidates: &[(&str, Self)] = match key.len() {
            3 => &[("uri", Self::Uri)],
            4 => &[
                ("body", Self::Body),
                ("next", Self::Next),
                ("vars", Self::Vars),
            ],
            6 => &[
                ("status", Self::Status),
                ("method", Self::Method),
                ("stream", Self::Stream),
            ],
            7 => &[("headers", Self::Headers)],
            11 => &[("body_base64", Self::BodyBase64)],
            16 => &[("response_headers", Self::ResponseHeaders)],
            _ => return None,
        };
        let found = candidates
            .iter()
            .find(|(name, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, known)| *known)
    }
}

/// The keys seen so far.
#[derive(Default)]
struct Keys<'a> {
    known: [bool; Known::COUNT],
    /// Sorted without regard to their case.
    unknown: Vec<Cow<'a, str>>,
}

impl<'a> Keys<'a> {
    /// Remembers `key`, and returns which of the known ones it is. An error if it has occurred before.
    fn add(&mut self, reader: &Reader<'a>, key: Cow<'a, str>) -> Result<Option<Known>, BadOutput> {
        let twice = |key: &str| {
            BadOutput::at(
                reader.at(),
                format!(
                    "the key {} occurs a second time (case does not matter); write each key once",
                    Excerpt(key)
                ),
            )
        };
        if let Some(known) = Known::of(&key) {
            if std::mem::replace(&mut self.known[known as usize], true) {
                return Err(twice(&key));
            }
            return Ok(Some(known));
        }
        if let Some(advice) = advice(&key) {
            return Err(BadOutput::at(
                reader.at(),
                format!("a response has no key {}; {advice}", Excerpt(&key)),
            ));
        }
        let order = |seen: &Cow<'_, str>| compare_ignoring_case(seen.as_bytes(), key.as_bytes());
        match self.unknown.binary_search_by(order) {
            Ok(_) => return Err(twice(&key)),
            Err(_) if self.unknown.len() == MAX_UNKNOWN_KEYS => {
                return Err(BadOutput::at(
                    reader.at(),
                    format!(
                        "more than {MAX_UNKNOWN_KEYS} unknown keys; a response has the keys status, headers, body and body_base64"
                    ),
                ));
            }
            Err(index) => self.unknown.insert(index, key),
        }
        Ok(None)
    }
}

/// What to write instead of a key in which other systems have a part of the response. If such a key were ignored as other
/// unknown keys are, the client would get another response than the guest means.
fn advice(key: &str) -> Option<&'static str> {
    const LONGEST: usize = "multi_value_headers".len();
    if key.len() > LONGEST {
        return None;
    }
    let letters: Vec<u8> = key
        .bytes()
        .filter(|byte| !matches!(byte, b'_' | b'-'))
        .map(|byte| byte.to_ascii_lowercase())
        .collect();
    Some(match letters.as_slice() {
        b"statuscode" => "write the status as \"status\"",
        b"isbase64encoded" => "write base64 as \"body_base64\", and no \"body\"",
        b"bodybase64" => "write base64 as \"body_base64\"",
        b"multivalueheaders" => "write several values of a header as an array in \"headers\"",
        b"cookies" => "write cookies as the header \"Set-Cookie\" in \"headers\"",
        _ => return None,
    })
}

/// Takes a status. 0 means the same as none.
fn read_status(reader: &mut Reader<'_>) -> Result<u16, BadOutput> {
    let wrong = |at, found: &str| {
        BadOutput::at(
            at,
            format!("the status is {found}; it must be an integer from 200 to 599"),
        )
    };
    if !matches!(reader.peek(), Some(b'-' | b'0'..=b'9')) {
        let at = reader.at();
        // If the value is not even JSON, `skip` returns the more precise error.
        reader.skip(1)?;
        return Err(wrong(at, "not a number"));
    }
    let at = reader.at();
    let number = reader.number()?;
    // The standard library's integers accept neither a point nor an exponent.
    match number.parse() {
        Ok(status @ (0 | 200..=599)) => Ok(status),
        _ => Err(wrong(at, &Excerpt(number).to_string())),
    }
}

/// Takes `true` or `false`.
fn read_flag(reader: &mut Reader<'_>, key: &str) -> Result<bool, BadOutput> {
    if let Some(flag) = reader.take_bool() {
        return Ok(flag);
    }
    let at = reader.at();
    reader.skip(1)?;
    Err(BadOutput::at(at, format!("{key} must be true or false")))
}

pub(super) fn read_text<'a>(reader: &mut Reader<'a>, key: &str) -> Result<Cow<'a, str>, BadOutput> {
    if reader.peek() == Some(b'"') {
        return reader.string()?.decode();
    }
    let at = reader.at();
    reader.skip(1)?;
    Err(BadOutput::at(at, format!("{key} must be a string")))
}

/// Standard base64 with its padding. Line breaks and other white space, and a byte order mark in front, are left out.
fn decode(encoded: &str, at: usize) -> Result<Vec<u8>, BadOutput> {
    STANDARD
        .decode(encoded)
        .or_else(|_| {
            let mut letters = encoded.trim_start_matches(BYTE_ORDER_MARK).to_owned();
            letters.retain(|character| !character.is_ascii_whitespace());
            STANDARD.decode(letters)
        })
        .map_err(|error| {
            BadOutput::at(
                at,
                format!("body_base64 is not standard base64 with padding: {error}"),
            )
        })
}
