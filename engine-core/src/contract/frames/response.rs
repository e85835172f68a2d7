//! Parses a guest's output as a frame with a response, and refuses output that breaks a rule.

use std::borrow::Cow;

use super::super::bad_output::Excerpt;
use super::super::headers::{self, Headers, MAX_HEADERS, Size, compare_ignoring_case};
use super::super::next::{check_host, check_var_name, var_occurs_twice};
use super::super::stream::LONGEST_HEAD;
use super::super::{BadOutput, Begins, HeaderChanges, Next, Response, target};
use super::{MAGIC, NEXT, REMOVED, RESPONSE_HEAD, STREAM};

/// See [`parse_response`](super::parse_response).
pub(super) fn parse(output: &[u8]) -> Result<Response<'_>, BadOutput> {
    let head = Head::read(output)?;
    let end = head.end(output)?;
    head.check_end(output, end)?;
    // The frame is complete: each part that is taken below is there.
    let end = end as usize;
    let mut parts = Parts {
        output,
        entry: RESPONSE_HEAD,
        at: head.table_end(),
    };
    let method = parts.take(head.method);
    let uri = parts.take(head.uri);
    let changed = parts.headers(head.headers, "headers")?;
    if head.goes_on {
        let mut next = Next {
            headers: changed,
            ..Next::default()
        };
        check_host(&next.headers)?;
        next.method = text(method, target::check_method)?;
        next.uri = text(uri, target::check_uri)?;
        next.vars = parts.vars(head.vars)?;
        next.response_headers = parts.headers(head.response_headers, "response headers")?;
        return Ok(Response {
            status: 200,
            names_status: false,
            headers: Vec::new(),
            body: Cow::Borrowed(&[]),
            streams: false,
            next: Some(Box::new(next)),
        });
    }
    let names_status = head.status != 0;
    let status = if names_status { head.status } else { 200 };
    let bodiless = matches!(status, 204 | 205 | 304);
    Ok(Response {
        status,
        names_status,
        headers: changed.set,
        body: Cow::Borrowed(if bodiless { &[] } else { &output[end..] }),
        streams: head.streams,
        next: None,
    })
}

/// What the output begins with, see [`Contract::stream_head`](super::super::Contract::stream_head).
pub(super) fn stream_head(output: &[u8]) -> Begins {
    if output.len() < RESPONSE_HEAD {
        return if begins_as_frame(output) {
            Begins::Open
        } else {
            Begins::Else
        };
    }
    let head = match Head::read(output) {
        Ok(head) if head.streams => head,
        _ => return Begins::Else,
    };
    if output.len() < head.table_end() {
        return Begins::Open;
    }
    let end = match head.end(output) {
        Ok(end) if end <= LONGEST_HEAD as u64 => end as usize,
        _ => return Begins::Else,
    };
    if output.len() < end {
        return Begins::Open;
    }
    match parse(&output[..end]) {
        Ok(_) => Begins::Head(end),
        Err(_) => Begins::Else,
    }
}

/// The numbers in front of the table. They satisfy the rules that concern them alone.
struct Head {
    goes_on: bool,
    streams: bool,
    status: u16,
    method: usize,
    uri: usize,
    headers: usize,
    vars: usize,
    response_headers: usize,
    body: usize,
}

impl Head {
    fn read(output: &[u8]) -> Result<Self, BadOutput> {
        if output.is_empty() {
            return Err(BadOutput::new(
                "no output; write one frame with the response to stdout",
            ));
        }
        if !begins_as_frame(output) {
            let begin = String::from_utf8_lossy(&output[..output.len().min(64)]);
            return Err(BadOutput::at(
                0,
                format!(
                    "the output is no frame: it begins with {}, and not with the bytes f1 47 4a 01; a program that takes \
                     frames (gojinn.Serve does) answers with one, and writes nothing else to stdout",
                    Excerpt(&begin)
                ),
            ));
        }
        if output.len() < RESPONSE_HEAD {
            return Err(BadOutput::at(
                output.len(),
                format!("the frame ends in its head, which has {RESPONSE_HEAD} bytes"),
            ));
        }
        let number = |at: usize| number(output, at);
        let flags = number(4);
        if flags & !(NEXT | STREAM) != 0 {
            return Err(BadOutput::at(
                4,
                format!("the flags are {flags:#x}; they are {NEXT} (next), {STREAM} (stream) or 0"),
            ));
        }
        let status = match u16::try_from(number(8)) {
            Ok(status @ (0 | 200..=599)) => status,
            _ => {
                return Err(BadOutput::at(
                    8,
                    format!(
                        "the status is {}; it must be an integer from 200 to 599",
                        number(8)
                    ),
                ));
            }
        };
        let head = Self {
            goes_on: flags & NEXT != 0,
            streams: flags & STREAM != 0,
            status,
            method: number(12) as usize,
            uri: number(16) as usize,
            headers: number(20) as usize,
            vars: number(24) as usize,
            response_headers: number(28) as usize,
            body: number(32) as usize,
        };
        if head.streams && (head.goes_on || head.body > 0) {
            return Err(BadOutput::at(
                4,
                "the frame has the flag stream, and the flag next or a body; the body of a stream follows the frame",
            ));
        }
        if head.goes_on && (head.status != 0 || head.body > 0) {
            return Err(BadOutput::at(
                4,
                "the frame has the flag next, and a status or a body; leave out the flag to answer the request, or leave out \
                 status and body to let it go on",
            ));
        }
        for (at, found, what) in [
            (12, head.method, "a method"),
            (16, head.uri, "a URI"),
            (24, head.vars, "variables"),
            (28, head.response_headers, "response headers"),
        ] {
            if found > 0 && !head.goes_on {
                return Err(BadOutput::at(
                    at,
                    format!("the frame has {what}, and not the flag next, which they belong to"),
                ));
            }
        }
        for (at, count, what) in [
            (20, head.headers, "headers"),
            (24, head.vars, "variables"),
            (28, head.response_headers, "response headers"),
        ] {
            if count > MAX_HEADERS {
                return Err(BadOutput::at(at, headers::too_many(what)));
            }
        }
        Ok(head)
    }

    /// Where the table ends.
    fn table_end(&self) -> usize {
        RESPONSE_HEAD + 8 * (self.headers + self.vars + self.response_headers)
    }

    /// Where the frame ends by its lengths, without the body.
    fn end(&self, output: &[u8]) -> Result<u64, BadOutput> {
        let table_end = self.table_end();
        if output.len() < table_end {
            return Err(BadOutput::at(
                output.len(),
                format!(
                    "the frame ends before byte {table_end}, where the lengths of its headers end"
                ),
            ));
        }
        let mut end = (table_end + self.method + self.uri) as u64;
        let mut entry = RESPONSE_HEAD;
        for (count, what) in [
            (self.headers, "headers"),
            (self.vars, "variables"),
            (self.response_headers, "response headers"),
        ] {
            let mut size = Size::of(what);
            for _ in 0..count {
                let (name, value) = (number(output, entry), number(output, entry + 4));
                let value = if value == REMOVED { 0 } else { value };
                size.add(entry, name as usize + value as usize)?;
                end += u64::from(name) + u64::from(value);
                entry += 8;
            }
        }
        Ok(end)
    }

    /// Checks that the frame, whose body begins at `end`, ends where the output does.
    fn check_end(&self, output: &[u8], end: u64) -> Result<(), BadOutput> {
        let (has, whole) = (output.len() as u64, end + self.body as u64);
        if has < whole {
            return Err(BadOutput::at(
                output.len(),
                format!("the frame ends after {has} bytes; by its lengths it has {whole}"),
            ));
        }
        if has > whole && !self.streams {
            return Err(BadOutput::at(
                whole as usize,
                format!(
                    "{} bytes follow the frame; a program that takes frames writes one, and nothing else to stdout",
                    has - whole
                ),
            ));
        }
        Ok(())
    }
}

/// A part of a frame, and where it is.
type Part<'a> = (usize, &'a [u8]);

/// (name, value) of variables.
type Vars<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Takes the parts of a frame that is complete, one after the other.
struct Parts<'a> {
    output: &'a [u8],
    /// Where the next lengths of the table are.
    entry: usize,
    /// Where the next bytes are.
    at: usize,
}

impl<'a> Parts<'a> {
    /// The next bytes.
    fn take(&mut self, length: usize) -> Part<'a> {
        let at = self.at;
        self.at += length;
        (at, &self.output[at..self.at])
    }

    /// The next name and its value; `None` if the value is not there.
    fn pair(&mut self) -> (Part<'a>, Option<Part<'a>>) {
        let name = number(self.output, self.entry);
        let value = number(self.output, self.entry + 4);
        self.entry += 8;
        let name = self.take(name as usize);
        let value = (value != REMOVED).then(|| self.take(value as usize));
        (name, value)
    }

    /// Takes header fields. Names without a value are in `delete`. An answer does not send them, but they may not occur
    /// twice in it either.
    fn headers(&mut self, count: usize, what: &str) -> Result<HeaderChanges<'a>, BadOutput> {
        let mut headers = Headers::with_capacity(count);
        let mut valueless: Vec<Cow<'a, str>> = Vec::new();
        // The last name as it was written. If the next one is the same, it brings a further value.
        let mut last: Option<&[u8]> = None;
        for _ in 0..count {
            let ((at, written), value) = self.pair();
            let name = match (last == Some(written), headers.last()) {
                (true, Some((name, _))) if value.is_some() => Cow::clone(name),
                _ => {
                    let text = String::from_utf8_lossy(written);
                    let name = headers::canonical(text)
                        .map_err(|name| BadOutput::at(at, headers::not_a_name(&name)))?;
                    if headers.iter().any(|(seen, _)| *seen == name) || valueless.contains(&name) {
                        return Err(BadOutput::at(
                            at,
                            format!(
                                "the header {} occurs a second time in {what} (case does not matter); write its values one \
                                 after the other, and its name in the same way",
                                Excerpt(&name)
                            ),
                        ));
                    }
                    name
                }
            };
            let Some((at, value)) = value else {
                last = None;
                valueless.push(name);
                continue;
            };
            headers::check_value(&name, value).map_err(|why| BadOutput::at(at, why))?;
            last = Some(written);
            headers.push((name, Cow::Borrowed(headers::trimmed_bytes(value))));
        }
        headers::remove_servers(&mut headers, headers::is_framing);
        valueless.retain(|name| !headers::is_framing(name.as_bytes()));
        Ok(HeaderChanges {
            set: headers,
            delete: valueless,
        })
    }

    /// Takes variables for later handlers.
    fn vars(&mut self, count: usize) -> Result<Vars<'a>, BadOutput> {
        let mut vars = Vars::with_capacity(count);
        for _ in 0..count {
            let ((at, name), value) = self.pair();
            let name = String::from_utf8_lossy(name);
            check_var_name(&name).map_err(|why| BadOutput::at(at, why))?;
            let is_it = |other: &(Cow<'_, str>, _)| {
                compare_ignoring_case(other.0.as_bytes(), name.as_bytes()).is_eq()
            };
            if vars.iter().any(is_it) {
                return Err(BadOutput::at(at, var_occurs_twice(&name)));
            }
            let text = value.and_then(|(_, value)| std::str::from_utf8(value).ok());
            let Some(text) = text else {
                let at = value.map_or(at, |(at, _)| at);
                return Err(BadOutput::at(
                    at,
                    format!("the variable {} must be text in UTF-8", Excerpt(&name)),
                ));
            };
            vars.push((name, Cow::Borrowed(text)));
        }
        Ok(vars)
    }
}

/// A method or a URI that `check` allows. An empty one means the same as none.
fn text<'a>(
    (at, bytes): Part<'a>,
    check: fn(&[u8]) -> Result<(), String>,
) -> Result<Option<Cow<'a, str>>, BadOutput> {
    if bytes.is_empty() {
        return Ok(None);
    }
    check(bytes).map_err(|why| BadOutput::at(at, why))?;
    // What is allowed is ASCII.
    Ok(Some(String::from_utf8_lossy(bytes)))
}

/// Whether the output is a frame, as far as it goes.
fn begins_as_frame(output: &[u8]) -> bool {
    let compared = output.len().min(MAGIC.len());
    output[..compared] == MAGIC[..compared]
}

/// The number at `at`, which is within `output`.
fn number(output: &[u8], at: usize) -> u32 {
    output[at..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}
