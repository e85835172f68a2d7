//! What a guest says instead of an answer: the request goes on to the web server's next handler.

use std::borrow::Cow;

use super::bad_output::{BadOutput, Excerpt};
use super::target;

/// The longest name of a variable.
const MAX_VAR_NAME: usize = 64;

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

/// The request's host is a header here, as it is for the guest that reads a request.
pub(super) fn check_host(headers: &HeaderChanges<'_>) -> Result<(), BadOutput> {
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

/// Checks the name of a variable. The error says what is wrong with it.
pub(super) fn check_var_name(name: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !name.is_empty() && name.len() <= MAX_VAR_NAME && name.bytes().all(legal) {
        return Ok(());
    }
    Err(format!(
        "{} is not the name of a variable; it may have 1 to {MAX_VAR_NAME} letters, digits, _ and -",
        Excerpt(name)
    ))
}

/// What a response is refused for that sets this variable again.
pub(super) fn var_occurs_twice(name: &str) -> String {
    format!(
        "the variable {} occurs a second time (case does not matter); write each one once",
        Excerpt(name)
    )
}
