//! The grammar of methods, URIs and hosts: what a request may be changed to.

use super::headers::{self, Spelling};

/// Whether `method` is a token, as the names of headers are.
pub(super) fn is_method(method: &[u8]) -> bool {
    headers::spelling(method) != Spelling::NotAToken
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
