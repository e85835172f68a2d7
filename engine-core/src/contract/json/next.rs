//! Parses what a guest says instead of an answer: the request goes on, and how it changes.

use std::borrow::Cow;

use super::super::bad_output::Excerpt;
use super::super::headers::Size;
use super::super::headers::compare_ignoring_case;
use super::super::next::{check_host, check_var_name, var_occurs_twice};
use super::super::{BadOutput, HeaderChanges, Next, Response, target};
use super::fields;
use super::parse::read_text;
use super::reader::Reader;

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

/// Takes a method. An empty one means the same as none.
fn read_method<'a>(reader: &mut Reader<'a>) -> Result<Option<Cow<'a, str>>, BadOutput> {
    let at = reader.at();
    let method = read_text(reader, "method")?;
    if method.is_empty() {
        return Ok(None);
    }
    target::check_method(method.as_bytes()).map_err(|why| BadOutput::at(at, why))?;
    Ok(Some(method))
}

/// Takes a URI in origin form. An empty one means the same as none.
fn read_uri<'a>(reader: &mut Reader<'a>) -> Result<Option<Cow<'a, str>>, BadOutput> {
    let at = reader.at();
    let uri = read_text(reader, "uri")?;
    if uri.is_empty() {
        return Ok(None);
    }
    target::check_uri(uri.as_bytes()).map_err(|why| BadOutput::at(at, why))?;
    Ok(Some(uri))
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
        check_var_name(&name).map_err(|why| BadOutput::at(at, why))?;
        let seen =
            |other: &Cow<'_, str>| compare_ignoring_case(other.as_bytes(), name.as_bytes()).is_eq();
        if vars.iter().any(|(other, _)| seen(other)) || unset.iter().any(seen) {
            return Err(BadOutput::at(at, var_occurs_twice(&name)));
        }
        let value = match reader.peek() {
            Some(b'"') => reader.string()?.decode()?,
            Some(b'-' | b'0'..=b'9') => Cow::Borrowed(reader.number()?),
            Some(b'n') if reader.take_null() => {
                size.add(reader.at(), name.len())?;
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
        size.add(reader.at(), name.len() + value.len())?;
        vars.push((name, value));
        Ok(())
    })?;
    Ok(vars)
}
