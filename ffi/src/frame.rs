//! Parses the packed head of a request, and writes the packed frame of an answer. `docs/abi.md` describes the layouts.

use std::borrow::Cow;
use std::time::Instant;

use engine_core::contract::{HeaderChanges, Next, Request};
use engine_core::{Answer, Event, Waiting};

use crate::handles::gojinn_rest;

/// The numbers of an answer, and the lengths of the five parts of its frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_answer {
    /// 0 ok, 1 timeout, 2 trap, 3 oom, 4 bad_output, 5 rejected, 6 cancelled, 7 error.
    pub outcome: u32,
    /// The HTTP status for the client.
    pub status: u32,
    /// The number of headers in the frame.
    pub headers: u32,
    /// 1 if the function named the status. 0 if it did not, so that `status` is 200; or if outcome is not 0.
    pub names_status: u32,
    /// 1 if the head of the response, and a part of its body, came with an event: the body here is the rest of it, and `status` and
    /// `headers` are none of the response.
    pub is_rest: u32,
    /// 0.
    pub reserved: u32,
    /// Nanoseconds from the beginning of the call to the guest's end.
    pub duration_ns: u64,
    /// The most linear memory the guest had, in bytes.
    pub memory_peak: u64,
    /// Bytes of the engine's memory that stay taken for this answer until `gojinn_memory_give`. 0 unless the engine's
    /// `hold_answers` is set.
    pub held: u64,
    /// Bytes of log lines that were dropped because of `max_logs`.
    pub logs_dropped: u64,
    /// Whole log lines that were dropped because of `max_logs`.
    pub log_lines_dropped: u64,
    /// Bytes of the first part.
    pub headers_len: u64,
    /// Bytes of the second part.
    pub reason_len: u64,
    /// Bytes of the third part.
    pub logs_len: u64,
    /// Bytes of the fourth part.
    pub body_len: u64,
    /// Bytes of the last part. 0 unless the request goes on to the next handler instead of being answered.
    pub next_len: u64,
}

/// What a suspended call waits for, and the lengths of the parts of its frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_event {
    /// 1 a time, 2 the reply to a host call, 3 the response of the next handler, 4 that the output is taken, 5 more of the
    /// request's body.
    pub kind: u32,
    /// The HTTP status of a stream, if its head comes with this event; else 0.
    pub status: u32,
    /// As that of an answer, for the head of a stream.
    pub names_status: u32,
    /// The number of headers of a stream in the frame.
    pub headers: u32,
    /// Nanoseconds from now until the guest wants to be resumed without a reply. `UINT64_MAX`: never.
    pub until_ns: u64,
    /// Nanoseconds from now until the call must have ended. A call that is resumed later ends as a timeout.
    pub deadline_ns: u64,
    /// Bytes of the first part: the headers of a stream, as in an answer.
    pub headers_len: u64,
    /// Bytes of the second part: what the guest has written to the body of its stream since the last event.
    pub output_len: u64,
    /// Bytes of the third part: the name of a host call's operation, or how the request goes on.
    pub operation_len: u64,
    /// Bytes of the last part: the request of a host call, or the body of the request that goes on.
    pub request_len: u64,
}

/// The parsed head of a request.
pub(crate) struct Head<'a> {
    fields: [&'a [u8]; 9],
    headers: Vec<(&'a [u8], &'a [u8])>,
    pub(crate) per_request: Vec<&'a [u8]>,
}

impl<'a> Head<'a> {
    /// Parses a head. `None` if anything is missing, out of bounds or left over.
    pub(crate) fn parse(head: &'a [u8]) -> Option<Self> {
        let mut rest = Reader(head);
        let mut fields = [&[][..]; 9];
        for field in &mut fields {
            *field = rest.string()?;
        }
        let count = rest.count(8)?;
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            headers.push((rest.string()?, rest.string()?));
        }
        let count = rest.count(4)?;
        let mut per_request = Vec::with_capacity(count);
        for _ in 0..count {
            per_request.push(rest.string()?);
        }
        rest.0.is_empty().then_some(Self {
            fields,
            headers,
            per_request,
        })
    }

    /// The request with this head and `body`.
    pub(crate) fn request<'b>(&'b self, body: &'b [u8]) -> Request<'b> {
        let [
            method,
            uri,
            trace_id,
            remote_addr,
            client_ip,
            scheme,
            host,
            proto,
            original_uri,
        ] = self.fields;
        Request {
            method,
            uri,
            headers: &self.headers,
            body,
            trace_id,
            remote_addr,
            client_ip,
            scheme,
            host,
            proto,
            original_uri,
        }
    }
}

/// Writes an answer's frame to `out`, or to a rest if it does not fit.
pub(crate) fn write(answer: &Answer<'_>, out: &mut [u8]) -> (gojinn_answer, Option<gojinn_rest>) {
    let (headers, body) = match answer.response {
        Some(response) => (response.headers.as_slice(), &*response.body),
        None => (&[][..], &[][..]),
    };
    let next = answer
        .response
        .and_then(|response| response.next.as_deref())
        .map_or_else(Vec::new, encode_next);
    let headers_len = headers_len(headers);
    let filled = gojinn_answer {
        outcome: answer.outcome as u32,
        status: u32::from(answer.status),
        headers: headers.len() as u32,
        names_status: u32::from(
            answer
                .response
                .is_some_and(|response| response.names_status),
        ),
        is_rest: u32::from(answer.is_rest),
        reserved: 0,
        duration_ns: u64::try_from(answer.duration.as_nanos()).unwrap_or(u64::MAX),
        memory_peak: answer.memory_peak,
        held: answer.held,
        logs_dropped: answer.logs_dropped.bytes,
        log_lines_dropped: answer.logs_dropped.lines,
        headers_len: headers_len as u64,
        reason_len: answer.reason.len() as u64,
        logs_len: answer.logs.len() as u64,
        body_len: body.len() as u64,
        next_len: next.len() as u64,
    };
    let whole = headers_len + answer.reason.len() + answer.logs.len() + body.len() + next.len();
    let parts = |mut writer: Writer<'_>| {
        writer.headers(headers);
        writer.bytes(answer.reason.as_bytes());
        writer.bytes(answer.logs);
        writer.bytes(body);
        writer.bytes(&next);
    };
    let rest = fill(out, whole, parts);
    (filled, rest)
}

/// Writes the frame of an event to `out`, or to a rest if it does not fit.
pub(crate) fn write_event(
    waiting: &Waiting<'_>,
    out: &mut [u8],
) -> (gojinn_event, Option<gojinn_rest>) {
    let now = Instant::now();
    let nanos = |at: Instant| {
        let left = at.saturating_duration_since(now).as_nanos();
        u64::try_from(left).unwrap_or(u64::MAX)
    };
    let changes;
    let (kind, until, operation, request) = match waiting.event {
        Event::Sleep(until) => (1, *until, &[][..], &[][..]),
        Event::Output => (4, Some(now), &[][..], &[][..]),
        Event::Body(until) => (5, *until, &[][..], &[][..]),
        Event::Call { operation, request } => (2, None, &**operation, &**request),
        Event::Next { next, body } => {
            changes = encode_next(next);
            (3, None, &*changes, &**body)
        }
    };
    let headers = waiting.head.map_or(&[][..], |head| &head.headers);
    let headers_len = headers_len(headers);
    let filled = gojinn_event {
        kind,
        status: waiting.head.map_or(0, |head| u32::from(head.status)),
        names_status: u32::from(waiting.head.is_some_and(|head| head.names_status)),
        headers: headers.len() as u32,
        headers_len: headers_len as u64,
        output_len: waiting.output.len() as u64,
        until_ns: until.map_or(u64::MAX, nanos),
        deadline_ns: nanos(waiting.deadline),
        operation_len: operation.len() as u64,
        request_len: request.len() as u64,
    };
    let whole = headers_len + waiting.output.len() + operation.len() + request.len();
    let rest = fill(out, whole, |mut writer| {
        writer.headers(headers);
        writer.bytes(waiting.output);
        writer.bytes(operation);
        writer.bytes(request);
    });
    (filled, rest)
}

/// The headers of a response.
type Headers<'a> = [(Cow<'a, str>, Cow<'a, [u8]>)];

fn headers_len(headers: &Headers<'_>) -> usize {
    headers
        .iter()
        .map(|(name, value)| 8 + name.len() + value.len())
        .sum()
}

/// Lets `write` fill the beginning of `out`, or a rest if it does not fit.
fn fill(out: &mut [u8], whole: usize, write: impl FnOnce(Writer<'_>)) -> Option<gojinn_rest> {
    if let Some(out) = out.get_mut(..whole) {
        write(Writer(out));
        return None;
    }
    let mut rest = vec![0; whole];
    write(Writer(&mut rest));
    Some(gojinn_rest(rest))
}

/// The last part of the frame: how the request goes on.
fn encode_next(next: &Next<'_>) -> Vec<u8> {
    fn string(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
    }
    fn count(out: &mut Vec<u8>, count: usize) {
        out.extend((count as u32).to_le_bytes());
    }
    let mut out = Vec::new();
    string(&mut out, next.method.as_deref().unwrap_or("").as_bytes());
    string(&mut out, next.uri.as_deref().unwrap_or("").as_bytes());
    let changes = |out: &mut Vec<u8>, HeaderChanges { set, delete }: &HeaderChanges<'_>| {
        count(out, set.len());
        for (name, value) in set {
            string(out, name.as_bytes());
            string(out, value);
        }
        count(out, delete.len());
        for name in delete {
            string(out, name.as_bytes());
        }
    };
    changes(&mut out, &next.headers);
    changes(&mut out, &next.response_headers);
    count(&mut out, next.vars.len());
    for (name, value) in &next.vars {
        string(&mut out, name.as_bytes());
        string(&mut out, value.as_bytes());
    }
    changes(&mut out, &next.trailers);
    count(&mut out, usize::from(next.replaces_body));
    count(&mut out, usize::from(next.buffers_response));
    let (status, early) = match &next.early {
        Some((status, early)) => (*status, &**early),
        None => (0, &[][..]),
    };
    count(&mut out, usize::from(status));
    string(&mut out, early);
    out
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<usize> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number) as usize)
    }

    /// Takes a number of items of at least `least` bytes each. It is refused if so many cannot follow: a head cannot
    /// make us allocate much more than its own size.
    fn count(&mut self, least: usize) -> Option<usize> {
        self.number()
            .filter(|count| count.saturating_mul(least) <= self.0.len())
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        let (string, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(string)
    }
}

/// Fills a buffer that has exactly the right length.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn headers(&mut self, headers: &Headers<'_>) {
        for (name, value) in headers {
            self.string(name.as_bytes());
            self.string(value);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (part, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        part.copy_from_slice(bytes);
        self.0 = rest;
    }

    fn string(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u32).to_le_bytes());
        self.bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    }

    fn head() -> Vec<u8> {
        let mut head = Vec::new();
        for field in ["GET", "/x", "t", "", "", "", "", "", "/y"] {
            string(&mut head, field);
        }
        head.extend(1u32.to_le_bytes());
        string(&mut head, "Accept");
        string(&mut head, "*/*");
        head.extend(1u32.to_le_bytes());
        string(&mut head, "value");
        head
    }

    #[test]
    fn a_head_is_parsed() {
        let bytes = head();
        let head = Head::parse(&bytes).unwrap();
        let request = head.request(b"body");
        assert_eq!(
            (request.method, request.uri, request.original_uri),
            (&b"GET"[..], &b"/x"[..], &b"/y"[..])
        );
        assert_eq!(request.headers, [(&b"Accept"[..], &b"*/*"[..])]);
        assert_eq!(head.per_request, [b"value"]);
    }

    #[test]
    fn every_truncation_and_every_addition_is_refused() {
        let bytes = head();
        for len in 0..bytes.len() {
            assert!(Head::parse(&bytes[..len]).is_none(), "{len}");
        }
        let mut more = bytes.clone();
        more.push(0);
        assert!(Head::parse(&more).is_none());
    }

    #[test]
    fn how_a_request_goes_on_is_the_last_part() {
        use std::borrow::Cow::Borrowed;
        let next = Next {
            method: Some(Borrowed("PUT")),
            uri: None,
            headers: HeaderChanges {
                set: vec![(Borrowed("A"), Borrowed(b"\xff"))],
                delete: vec![Borrowed("B")],
            },
            response_headers: HeaderChanges::default(),
            vars: vec![(Borrowed("v"), Borrowed("1"))],
            replaces_body: true,
            early: Some((201, Borrowed(b"x"))),
            ..Next::default()
        };
        let mut expected = Vec::new();
        string(&mut expected, "PUT");
        string(&mut expected, "");
        expected.extend(1u32.to_le_bytes());
        string(&mut expected, "A");
        expected.extend([1, 0, 0, 0, 0xff]);
        expected.extend(1u32.to_le_bytes());
        string(&mut expected, "B");
        expected.extend([0; 8]);
        expected.extend(1u32.to_le_bytes());
        string(&mut expected, "v");
        string(&mut expected, "1");
        expected.extend([0; 8]);
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 201, 0, 0, 0]);
        string(&mut expected, "x");
        assert_eq!(encode_next(&next), expected);
        assert_eq!(encode_next(&Next::default()), [0; 52]);
    }

    #[test]
    fn a_huge_count_allocates_nothing() {
        let mut bytes = Vec::new();
        for _ in 0..9 {
            string(&mut bytes, "");
        }
        bytes.extend(u32::MAX.to_le_bytes());
        assert!(Head::parse(&bytes).is_none());
    }
}
