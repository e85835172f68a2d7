//! The grammar of methods, URIs and hosts: what a request may be changed to.

use super::bad_output::Excerpt;
use super::headers::{self, Spelling};

/// Checks that `method` is a token, as the names of headers are. The error says what is wrong with it.
pub(super) fn check_method(method: &[u8]) -> Result<(), String> {
    if is_method(method) {
        return Ok(());
    }
    Err(format!(
        "{} is not a valid method; it may contain letters, digits and !#$%&'*+-.^_`|~ only",
        Excerpt(&String::from_utf8_lossy(method))
    ))
}

/// Whether `method` is a token.
pub(super) fn is_method(method: &[u8]) -> bool {
    headers::spelling(method) != Spelling::NotAToken
}

/// Checks that `uri`, which is not empty, is in origin form. The error says what is wrong with it.
pub(super) fn check_uri(uri: &[u8]) -> Result<(), String> {
    match wrong_in_uri(uri) {
        None => Ok(()),
        Some(what) => Err(format!(
            "the uri {} {what}; it must be a path, and a query if needed, as in \"/shop?page=2\"",
            Excerpt(&String::from_utf8_lossy(uri))
        )),
    }
}

/// Why `uri`, which is not empty, is not in origin form.
pub(super) fn wrong_in_uri(uri: &[u8]) -> Option<&'static str> {
    if uri.first() != Some(&b'/') {
        return Some("does not begin with a slash");
    }
    if uri.iter().any(|byte| *byte <= b' ' || *byte >= 0x7f) {
        return Some(
            "contains a space, a control character or a character beyond ASCII (percent-encode it)",
        );
    }
    if uri.contains(&b'#') {
        return Some("contains a fragment (write %23 for a #)");
    }
    let path = uri.split(|byte| *byte == b'?').next().unwrap_or(uri);
    let mut escapes = path.split(|byte| *byte == b'%').skip(1);
    let is_whole = |rest: &[u8]| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
    if !escapes.all(is_whole) {
        return Some("contains a % without two hex digits in its path (write %25 for a %)");
    }
    None
}

/// Whether `host` is a host, with or without a port.
pub(super) fn is_host(host: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(byte);
    !host.is_empty() && host.iter().all(legal)
}

/// Whether a URI cannot contain `byte`, which would break a request line. It is percent-encoded then.
pub(super) fn breaks_uri(byte: u8) -> bool {
    byte <= b' ' || byte >= 0x7f
}

/// `byte`, percent-encoded.
pub(super) fn percent_encoded(byte: u8) -> [u8; 3] {
    let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
    [b'%', digit(byte >> 4), digit(byte & 15)]
}
