//! An HTTP request as the web server passes it to the engine.

use super::Field;

/// An HTTP request as the web server passes it to the engine: borrowed bytes that are not checked.
///
/// [`json::write_request`](super::json::write_request) cleans it on the way to the guest.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// `GET`, `POST`, ...
    pub method: &'a [u8],
    /// Path and query, after the server's rewrites.
    pub uri: &'a [u8],
    /// (name, value) in any order. Several entries may have the same name. For the contract `http-wasm`, names that begin with
    /// [`TRAILER`](super::http_wasm::TRAILER) are trailers, and names that begin with
    /// [`RESPONSE`](super::http_wasm::RESPONSE) are headers that the response has already; no header can have such a name.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The whole body, decoded from its transfer encoding.
    pub body: &'a [u8],
    /// The trace id that the server has chosen.
    pub trace_id: &'a [u8],
    /// Address and port of the connection's other end.
    pub remote_addr: &'a [u8],
    /// The client's address, by the server's rules for trusted proxies.
    pub client_ip: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a [u8],
    /// The requested host, with its port if there was one. It replaces a header of that name.
    pub host: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`, ...
    pub proto: &'a [u8],
    /// Path and query as the client sent them, before rewrites.
    pub original_uri: &'a [u8],
}

impl<'a> Request<'a> {
    /// The value of `field`.
    #[must_use]
    pub fn field(&self, field: Field) -> &'a [u8] {
        match field {
            Field::RemoteAddr => self.remote_addr,
            Field::ClientIp => self.client_ip,
            Field::Scheme => self.scheme,
            Field::Host => self.host,
            Field::Proto => self.proto,
            Field::OriginalUri => self.original_uri,
        }
    }
}
