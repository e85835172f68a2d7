//! An HTTP request as the web server hands it over.

/// An HTTP request as the web server hands it over: flat, borrowed, unchecked bytes.
///
/// [`json::write_request`](super::json::write_request) cleans it on the way to the guest.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// `GET`, `POST`, ...
    pub method: &'a [u8],
    /// Path and query, after the server's rewrites.
    pub uri: &'a [u8],
    /// (name, value) in any order; several entries may share a name.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The whole body, decoded from its transfer encoding.
    pub body: &'a [u8],
    /// The trace id, chosen by the server.
    pub trace_id: &'a [u8],
    /// Address and port of the connection's other end.
    pub remote_addr: &'a [u8],
    /// The client's address, by the server's rules about trusted proxies.
    pub client_ip: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a [u8],
    /// The host that was asked for, with its port if one was given. Replaces a header of that name.
    pub host: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`, ...
    pub proto: &'a [u8],
    /// Path and query as the client sent them, before rewrites.
    pub original_uri: &'a [u8],
}
