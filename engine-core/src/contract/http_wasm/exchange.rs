//! A request and its response, as one guest of http-wasm reads and changes them.

use std::borrow::Cow;
use std::fmt;

use super::fields::Fields;
use super::reply::Reply;
use super::{RESPONSE, TRAILER};
use crate::contract::{Next, Request, Response, target};
use crate::limits::SandboxLimits;

/// What a guest did that the ABI does not allow, in words. It ends the guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation(String);

impl Violation {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which headers or trailers a hostcall is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Headers of the request.
    Request,
    /// Headers of the response.
    Response,
    /// Trailers of the request.
    RequestTrailers,
    /// Trailers of the response.
    ResponseTrailers,
}

impl Kind {
    /// The kind with that number in the ABI.
    pub fn of(number: i32) -> Result<Self, Violation> {
        match number {
            0 => Ok(Self::Request),
            1 => Ok(Self::Response),
            2 => Ok(Self::RequestTrailers),
            3 => Ok(Self::ResponseTrailers),
            _ => Err(Violation::new(format!(
                "there is no header kind {number}; it must be from 0 to 3"
            ))),
        }
    }

    fn is_of_request(self) -> bool {
        matches!(self, Self::Request | Self::RequestTrailers)
    }
}

/// Which body a hostcall is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Body {
    /// That of the request.
    Request,
    /// That of the response.
    Response,
}

impl Body {
    /// The body with that number in the ABI.
    pub fn of(number: i32) -> Result<Self, Violation> {
        match number {
            0 => Ok(Self::Request),
            1 => Ok(Self::Response),
            _ => Err(Violation::new(format!(
                "there is no body kind {number}; it must be 0 or 1"
            ))),
        }
    }
}

/// `buffer_response`: the guest gets the whole response, which is not sent before.
pub(crate) const BUFFER_RESPONSE: u32 = 2;

/// All features: `buffer_request` (1), `buffer_response` and `trailers` (4).
pub(crate) const FEATURES: u32 = 7;

/// Bytes of room for a body when its first byte is written.
const FIRST_BODY: usize = 4 << 10;

/// One of the two messages.
#[derive(Clone, Debug, Default)]
struct Message {
    headers: Fields,
    trailers: Fields,
    body: Vec<u8>,
    /// How much of `body` was read.
    read: usize,
    /// What the guest has written in place of `body`.
    written: Option<Vec<u8>>,
}

/// A request and its response. It is the state behind the hostcalls of one guest.
#[derive(Clone, Debug)]
pub struct Exchange {
    method: Vec<u8>,
    uri: Vec<u8>,
    protocol: Vec<u8>,
    source: Vec<u8>,
    method_changed: bool,
    uri_changed: bool,
    request: Message,
    response: Message,
    /// 0: the guest has set none, and there is no response of a next handler.
    status: u16,
    status_changed: bool,
    /// Whether the request went on to the next handler.
    went_on: bool,
    /// Whether the guest was given the next handler's whole response.
    buffered: bool,
    max_body: usize,
    max_output: usize,
}

impl Exchange {
    /// That of a request that has just arrived.
    #[must_use]
    pub fn new(request: &Request<'_>, limits: &SandboxLimits) -> Self {
        let host = Some((&b"Host"[..], request.host)).filter(|(_, host)| !host.is_empty());
        let headers = request.headers.iter().copied();
        let headers = headers.filter(|(name, _)| !name.eq_ignore_ascii_case(b"host"));
        let prefixed = |prefix: &'static str| {
            let headers = request.headers.iter();
            headers.filter_map(move |(name, value)| {
                Some((name.strip_prefix(prefix.as_bytes())?, *value))
            })
        };
        Self {
            method: request.method.to_vec(),
            uri: request.uri.to_vec(),
            protocol: request.proto.to_vec(),
            source: request.remote_addr.to_vec(),
            method_changed: false,
            uri_changed: false,
            request: Message {
                headers: Fields::of(host.into_iter().chain(headers)),
                trailers: Fields::of(prefixed(TRAILER)),
                body: request.body.to_vec(),
                ..Message::default()
            },
            response: Message {
                headers: Fields::of(prefixed(RESPONSE)),
                ..Message::default()
            },
            status: 0,
            status_changed: false,
            went_on: false,
            buffered: false,
            max_body: limits.body,
            max_output: limits.output,
        }
    }

    /// The request's method.
    #[must_use]
    pub fn method(&self) -> &[u8] {
        &self.method
    }

    /// Changes the request's method.
    pub fn set_method(&mut self, method: &[u8]) -> Result<(), Violation> {
        self.before_next("the method")?;
        if !target::is_method(method) {
            return Err(Violation::new(format!(
                "{:?} is not a valid method",
                String::from_utf8_lossy(&method[..method.len().min(40)])
            )));
        }
        self.method = method.to_vec();
        self.method_changed = true;
        Ok(())
    }

    /// The request's URI in origin form.
    #[must_use]
    pub fn uri(&self) -> &[u8] {
        &self.uri
    }

    /// Changes the request's URI. An empty one is `/`.
    pub fn set_uri(&mut self, uri: &[u8]) -> Result<(), Violation> {
        self.before_next("the URI")?;
        let uri = if uri.is_empty() { b"/" } else { uri };
        if let Some(what) = target::wrong_in_uri(uri) {
            return Err(Violation::new(format!(
                "the URI {:?} {what}",
                String::from_utf8_lossy(&uri[..uri.len().min(40)])
            )));
        }
        self.uri = uri.to_vec();
        self.uri_changed = true;
        Ok(())
    }

    /// `HTTP/1.1`, `HTTP/2.0`, ...
    #[must_use]
    pub fn protocol(&self) -> &[u8] {
        &self.protocol
    }

    /// Address and port of the connection's other end.
    #[must_use]
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The names of one kind: in lower case, sorted, each once.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<Vec<u8>> {
        self.fields(kind).names()
    }

    /// The values of a name, in their order.
    pub fn values<'a>(&'a self, kind: Kind, name: &'a [u8]) -> Result<Vec<&'a [u8]>, Violation> {
        if name.is_empty() {
            return Err(Violation::new("the name of a header is empty".into()));
        }
        Ok(self.fields(kind).values(name).collect())
    }

    /// Replaces all values of a name by one.
    pub fn set(&mut self, kind: Kind, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        self.check_host(kind, name, Some(value))?;
        self.fields_mut(kind)?.set(name, value)
    }

    /// Adds a value to a name.
    pub fn add(&mut self, kind: Kind, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        if kind == Kind::Request && name.eq_ignore_ascii_case(b"host") {
            return Err(Violation::new(
                "a second host is added to the request, which has one".into(),
            ));
        }
        self.fields_mut(kind)?.add(name, value)
    }

    /// Removes all values of a name.
    pub fn remove(&mut self, kind: Kind, name: &[u8]) -> Result<(), Violation> {
        self.check_host(kind, name, None)?;
        self.fields_mut(kind)?.remove(name)
    }

    fn check_host(&self, kind: Kind, name: &[u8], value: Option<&[u8]>) -> Result<(), Violation> {
        if kind != Kind::Request || !name.eq_ignore_ascii_case(b"host") {
            return Ok(());
        }
        match value {
            Some(value) if target::is_host(value) => Ok(()),
            Some(_) => Err(Violation::new(
                "the request's header host is set to something that is not a host".into(),
            )),
            None => Err(Violation::new(
                "the request's header host is removed; a request has one host".into(),
            )),
        }
    }

    /// Copies the next bytes of a body to `out`. Returns how many these are, and whether the body has ended.
    pub fn read_body(&mut self, body: Body, out: &mut [u8]) -> Result<(usize, bool), Violation> {
        if out.is_empty() {
            return Err(Violation::new("a body is read into 0 bytes".into()));
        }
        if body == Body::Response && self.went_on && !self.buffered {
            return Err(not_buffered("read the response's body"));
        }
        let message = self.message(body);
        let rest = &message.body[message.read..];
        let copied = rest.len().min(out.len());
        out[..copied].copy_from_slice(&rest[..copied]);
        message.read += copied;
        Ok((copied, message.read == message.body.len()))
    }

    /// Appends to a body. The first call replaces what the body was.
    pub fn write_body(&mut self, body: Body, bytes: &[u8]) -> Result<(), Violation> {
        let most = match body {
            Body::Request => {
                self.before_next("the request's body")?;
                self.max_body
            }
            Body::Response => {
                self.buffered_or_before_next("write the response's body")?;
                self.max_output
            }
        };
        let grows_by = self.grows_by(body, bytes.len());
        let written = self.message(body).written.get_or_insert_default();
        if bytes.len() > most - written.len() {
            let name = match body {
                Body::Request => "the request's body is larger than max_body",
                Body::Response => "the response's body is larger than max_output",
            };
            return Err(Violation::new(format!("{name} ({most})")));
        }
        if grows_by > 0 {
            written.reserve_exact(written.capacity() + grows_by - written.len());
        }
        written.extend_from_slice(bytes);
        Ok(())
    }

    /// How many more bytes of memory [`write_body`](Self::write_body) will take for `more` bytes.
    pub(crate) fn grows_by(&self, body: Body, more: usize) -> usize {
        let (message, most) = match body {
            Body::Request => (&self.request, self.max_body),
            Body::Response => (&self.response, self.max_output),
        };
        let (len, capacity) = match &message.written {
            Some(written) => (written.len(), written.capacity()),
            None => (0, 0),
        };
        match len.checked_add(more) {
            Some(needed) if needed > capacity && needed <= most => {
                needed.max((2 * capacity).max(FIRST_BODY).min(most)) - capacity
            }
            _ => 0,
        }
    }

    /// How many bytes of the response's body the guest has written.
    pub(crate) fn written_to_response(&self) -> usize {
        self.response.written.as_ref().map_or(0, Vec::len)
    }

    /// The response's status; 200 if there is none yet.
    #[must_use]
    pub fn status(&self) -> u16 {
        if self.status == 0 { 200 } else { self.status }
    }

    /// Changes the response's status.
    pub fn set_status(&mut self, status: i32) -> Result<(), Violation> {
        self.buffered_or_before_next("set the status")?;
        match u16::try_from(status) {
            Ok(status @ 200..=599) => {
                self.status = status;
                self.status_changed = true;
                Ok(())
            }
            _ => Err(Violation::new(format!(
                "the status is {status}; it must be from 200 to 599"
            ))),
        }
    }

    /// The request goes on to the next handler: how it has changed, and its body if that was replaced. `features` are those
    /// that the guest has enabled.
    pub(crate) fn go_on(&mut self, features: u32) -> (Next<'static>, Vec<u8>) {
        self.went_on = true;
        self.buffered = features & BUFFER_RESPONSE != 0;
        let written = self.response.written.take();
        let early = match (self.status_changed, written) {
            (false, None) => None,
            (_, written) => Some((self.status(), Cow::Owned(written.unwrap_or_default()))),
        };
        self.status = 0;
        self.status_changed = false;
        let owned = |bytes: &[u8]| Cow::Owned(String::from_utf8_lossy(bytes).into_owned());
        let body = self.request.written.take();
        let next = Next {
            method: self.method_changed.then(|| owned(&self.method)),
            uri: self.uri_changed.then(|| owned(&self.uri)),
            headers: self.request.headers.changes(),
            response_headers: self.response.headers.changes(),
            vars: Vec::new(),
            trailers: self.request.trailers.changes(),
            replaces_body: body.is_some(),
            buffers_response: self.buffered,
            early,
        };
        (next, body.unwrap_or_default())
    }

    /// The next handler has answered, or failed. `reply` is what the host says of it; `Err` if it cannot be read.
    pub(crate) fn answered(&mut self, reply: &[u8]) -> Result<(), &'static str> {
        let Some(reply) = Reply::read(reply) else {
            return Err("a bug: the host's reply about the next handler is malformed");
        };
        self.status = reply.status;
        self.response = Message {
            headers: Fields::of(reply.headers.into_iter()),
            trailers: Fields::of(reply.trailers.into_iter()),
            body: reply.body.to_vec(),
            ..Message::default()
        };
        Ok(())
    }

    /// What the client gets: an answer of the guest, or changes of the next handler's.
    pub(crate) fn into_response(self) -> Response<'static> {
        let written = self.response.written;
        let bodiless = matches!(self.status, 204 | 205 | 304);
        let next = Next {
            response_headers: self.response.headers.changes(),
            trailers: self.response.trailers.changes(),
            replaces_body: written.is_some(),
            ..Next::default()
        };
        Response {
            streams: false,
            status: if self.status == 0 { 200 } else { self.status },
            names_status: self.status_changed,
            headers: Vec::new(),
            body: match written {
                Some(body) if !bodiless => Cow::Owned(body),
                _ => Cow::Borrowed(&[]),
            },
            next: Some(Box::new(next)),
        }
    }

    fn message(&mut self, body: Body) -> &mut Message {
        match body {
            Body::Request => &mut self.request,
            Body::Response => &mut self.response,
        }
    }

    fn fields(&self, kind: Kind) -> &Fields {
        match kind {
            Kind::Request => &self.request.headers,
            Kind::Response => &self.response.headers,
            Kind::RequestTrailers => &self.request.trailers,
            Kind::ResponseTrailers => &self.response.trailers,
        }
    }

    fn fields_mut(&mut self, kind: Kind) -> Result<&mut Fields, Violation> {
        if kind.is_of_request() {
            self.before_next("the request's headers")?;
        } else {
            self.buffered_or_before_next("change the response's headers")?;
        }
        Ok(match kind {
            Kind::Request => &mut self.request.headers,
            Kind::Response => &mut self.response.headers,
            Kind::RequestTrailers => &mut self.request.trailers,
            Kind::ResponseTrailers => &mut self.response.trailers,
        })
    }

    fn before_next(&self, what: &str) -> Result<(), Violation> {
        if self.went_on {
            return Err(Violation::new(format!(
                "{what} cannot be changed after the request has gone on to the next handler"
            )));
        }
        Ok(())
    }

    fn buffered_or_before_next(&self, what: &str) -> Result<(), Violation> {
        if self.went_on && !self.buffered {
            return Err(not_buffered(what));
        }
        Ok(())
    }
}

fn not_buffered(what: &str) -> Violation {
    Violation::new(format!(
        "the guest cannot {what} after the next handler, because it has not enabled the feature buffer_response"
    ))
}
