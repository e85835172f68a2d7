//! Parses what a guest says instead of an answer: the request goes on, and how it changes.

use std::borrow::Cow;

use super::super::bad_output::Excerpt;
use super::super::headers::compare_ignoring_case;
use super::super::{BadOutput, HeaderChanges, Next, Response, target};
use super::fields::{self, Size};
use super::parse::read_text;
use super::reader::Reader;

/// The longest name of a variable.
const MAX_VAR_NAME: usize = 64;

/// (name, value) of variables.
type Vars<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Where the values of the keys begin that mean something beside `next` only. 0 is a key that is missing.
#[derive(Default)]
pub(super) struct Positions {
    pub(super) method: usize,
    pub(super) uri: usize,
    pub(super) vars: usize,
    pub(super) response_headers: usize,
}

/// Takes any value, and returns where it begins.
pub(super) fn note(reader: &mut Reader<'_>) -> Result<usize, BadOutput> {
    reader.peek();
    let at = reader.at();
    reader.skip(1)?;
    Ok(at)
}

/// The response of a guest that has said `next`. `answers` is whether it has a status or a body as well.
pub(super) fn response<'a>(
    reader: &mut Reader<'a>,
    answers: bool,
    unknown: &[Cow<'a, str>],
    headers: HeaderChanges<'a>,
    positions: &Positions,
) -> Result<Response<'a>, BadOutput> {
    if answers {
        return Err(BadOutput::new(
            "the response has \"next\" and a status or a body; leave \"next\" out to answer the request, or leave out \
             status, body and body_base64 to let it go on",
        ));
    }
    check_keys(unknown)?;
    check_host(&headers)?;
    let mut next = Next {
        headers,
        ..Next::default()
    };
    if positions.method != 0 {
        reader.go_back(positions.method);
        next.method = read_method(reader)?;
    }
    if positions.uri != 0 {
        reader.go_back(positions.uri);
        next.uri = read_uri(reader)?;
    }
    if positions.vars != 0 {
        reader.go_back(positions.vars);
        next.vars = read_vars(reader)?;
    }
    if positions.response_headers != 0 {
        reader.go_back(positions.response_headers);
        next.response_headers = fields::read(reader, "response_headers")?;
    }
    Ok(Response {
        streams: false,
        status: 200,
        names_status: false,
        headers: Vec::new(),
        body: Cow::Borrowed(&[]),
        next: Some(Box::new(next)),
    })
}

/// Refuses `response_headers` in another spelling. If it were ignored as other unknown keys are, a header that protects a
/// site would be missing.
fn check_keys(unknown: &[Cow<'_, str>]) -> Result<(), BadOutput> {
    let is_response_headers = |key: &&Cow<'_, str>| {
        let letters = key.bytes().filter(|byte| !matches!(byte, b'_' | b'-'));
        key.len() <= 32
            && letters
                .map(|byte| byte.to_ascii_lowercase())
                .eq(*b"responseheaders")
    };
    match unknown.iter().find(is_response_headers) {
        Some(key) => Err(BadOutput::new(format!(
            "a response has no key {}; write \"response_headers\"",
            Excerpt(key)
        ))),
        None => Ok(()),
    }
}

/// The request's host is a header here, as it is for the guest that reads a request.
fn check_host(headers: &HeaderChanges<'_>) -> Result<(), BadOutput> {
    if headers.delete.iter().any(|name| name == "Host") {
        return Err(BadOutput::new(
            "the header Host of the request is null or empty; a request has one host, so give one or leave it out",
        ));
    }
    let mut hosts = headers.set.iter().filter(|(name, _)| name == "Host");
    let Some((_, host)) = hosts.next() else {
        return Ok(());
    };
    if hosts.next().is_some() {
        return Err(BadOutput::new(
            "the header Host of the request has several values; a request has one host",
        ));
    }
    if !target::is_host(host) {
        return Err(BadOutput::new(format!(
            "the header Host of the request is {}; it must be a host, with a port if needed",
            Excerpt(&String::from_utf8_lossy(host))
        )));
    }
    Ok(())
}

/// Takes a method. An empty one means the same as none.
fn read_method<'a>(reader: &mut Reader<'a>) -> Result<Option<Cow<'a, str>>, BadOutput> {
    let at = reader.at();
    let method = read_text(reader, "method")?;
    if method.is_empty() {
        return Ok(None);
    }
    if !target::is_method(method.as_bytes()) {
        return Err(BadOutput::at(
            at,
            format!(
                "{} is not a valid method; it may contain letters, digits and !#$%&'*+-.^_`|~ only",
                Excerpt(&method)
            ),
        ));
    }
    Ok(Some(method))
}

/// Takes a URI in origin form. An empty one means the same as none.
fn read_uri<'a>(reader: &mut Reader<'a>) -> Result<Option<Cow<'a, str>>, BadOutput> {
    let at = reader.at();
    let uri = read_text(reader, "uri")?;
    if uri.is_empty() {
        return Ok(None);
    }
    match target::wrong_in_uri(uri.as_bytes()) {
        Some(what) => Err(BadOutput::at(
            at,
            format!(
                "the uri {} {what}; it must be a path, and a query if needed, as in \"/shop?page=2\"",
                Excerpt(&uri)
            ),
        )),
        None => Ok(Some(uri)),
    }
}

/// Takes the variables for later handlers. One with `null` is not set.
fn read_vars<'a>(reader: &mut Reader<'a>) -> Result<Vars<'a>, BadOutput> {
    if reader.peek() != Some(b'{') {
        let at = reader.at();
        return Err(BadOutput::at(
            at,
            "vars must be an object of strings, numbers, true or false",
        ));
    }
    let mut vars = Vars::new();
    let mut unset: Vec<Cow<'a, str>> = Vec::new();
    let mut size = Size::of("variables");
    reader.object(|reader, name| {
        let at = reader.at();
        let name = name.decode()?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if name.is_empty() || name.len() > MAX_VAR_NAME || !name.bytes().all(legal) {
            return Err(BadOutput::at(
                at,
                format!(
                    "{} is not the name of a variable; it may have 1 to {MAX_VAR_NAME} letters, digits, _ and -",
                    Excerpt(&name)
                ),
            ));
        }
        let seen = |other: &Cow<'_, str>| {
            compare_ignoring_case(other.as_bytes(), name.as_bytes()).is_eq()
        };
        if vars.iter().any(|(other, _)| seen(other)) || unset.iter().any(seen) {
            return Err(BadOutput::at(
                at,
                format!(
                    "the variable {} occurs a second time (case does not matter); write each one once",
                    Excerpt(&name)
                ),
            ));
        }
        let value = match reader.peek() {
            Some(b'"') => reader.string()?.decode()?,
            Some(b'-' | b'0'..=b'9') => Cow::Borrowed(reader.number()?),
            Some(b'n') if reader.take_null() => {
                size.add(reader, name.len())?;
                unset.push(name);
                return Ok(());
            }
            _ => match reader.take_bool() {
                Some(true) => Cow::Borrowed("true"),
                Some(false) => Cow::Borrowed("false"),
                None => {
                    let at = reader.at();
                    return Err(BadOutput::at(
                        at,
                        format!(
                            "the variable {} must be a string, a number, true or false",
                            Excerpt(&name)
                        ),
                    ));
                }
            },
        };
        size.add(reader, name.len() + value.len())?;
        vars.push((name, value));
        Ok(())
    })?;
    Ok(vars)
}
