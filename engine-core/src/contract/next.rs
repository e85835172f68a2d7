//! What a guest says instead of an answer: the request goes on to the web server's next handler.

use std::borrow::Cow;

/// How the request and the later response change when the request goes on. It satisfies every rule of the contract.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Next<'a> {
    /// The request's new method; `None` if it stays.
    pub method: Option<Cow<'a, str>>,
    /// The request's new URI in origin form; `None` if it stays.
    pub uri: Option<Cow<'a, str>>,
    /// Changes of the request's headers.
    pub headers: HeaderChanges<'a>,
    /// Changes of the headers of the response that a later handler writes.
    pub response_headers: HeaderChanges<'a>,
    /// (name, value) of variables for later handlers. Names are unique: letters, digits, `_` and `-`.
    pub vars: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// With the contract `http-wasm`: changes of the trailers of the request, or of the response that is answered.
    pub trailers: HeaderChanges<'a>,
    /// With `http-wasm`: whether there is another body than the client or the next handler has sent.
    pub replaces_body: bool,
    /// With `http-wasm`: whether the guest is to be given the whole response, which is not sent before that.
    pub buffers_response: bool,
    /// With `http-wasm`: status and body that the guest has written before, and to which the next handler adds.
    pub early: Option<(u16, Cow<'a, [u8]>)>,
}

/// Changes of headers. No name is in both lists, and neither contains hop-by-hop headers or the body's framing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderChanges<'a> {
    /// (canonical name, trimmed value) of headers that replace all others of their name. The values of one name are next
    /// to each other.
    pub set: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    /// The canonical names of headers that are removed.
    pub delete: Vec<Cow<'a, str>>,
}
