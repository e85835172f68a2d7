//! The headers of a request that reach a guest.

use super::Request;
use super::headers::{self, NamedByConnection, Spelling};

/// One header on its way to the guest.
pub(super) struct Header<'a> {
    /// The first bytes of the name, as a number that sorts as the names do. It decides nearly all comparisons.
    prefix: u64,
    /// In its canonical form.
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    canonical: bool,
}

/// The headers that reach the guest, sorted by name, and the values of one name in their order: with canonical names, and
/// `Host` from the request. `respelled` is empty; it holds the names that the request has in another form.
pub(super) fn headers<'a>(request: &Request<'a>, respelled: &'a mut Vec<u8>) -> Vec<Header<'a>> {
    let mut headers = Vec::with_capacity(request.headers.len() + 1);
    for &(name, value) in request.headers {
        let canonical = match headers::spelling(name) {
            Spelling::Canonical => true,
            Spelling::Other => false,
            Spelling::NotAToken => continue,
        };
        headers.push(Header {
            prefix: 0,
            name,
            value,
            canonical,
        });
    }

    // The names in Go's header maps are canonical already. Those of other hosts of the engine may not be.
    for header in headers.iter().filter(|header| !header.canonical) {
        let start = respelled.len();
        respelled.extend_from_slice(header.name);
        headers::canonicalize(&mut respelled[start..]);
    }
    let mut rest = respelled.as_slice();
    for header in headers.iter_mut().filter(|header| !header.canonical) {
        (header.name, rest) = rest.split_at(header.name.len());
    }

    let named = NamedByConnection::new(
        headers
            .iter()
            .filter(|header| header.name == b"Connection")
            .map(|header| header.value),
    );
    headers.retain(|header| passes(header.name, &named));
    if !request.host.is_empty() {
        headers.push(Header {
            prefix: 0,
            name: b"Host",
            value: request.host,
            canonical: true,
        });
    }

    for header in &mut headers {
        header.prefix = prefix(header.name);
    }
    headers.sort_by(|a, b| a.prefix.cmp(&b.prefix).then_with(|| a.name.cmp(b.name)));
    headers
}

/// Whether the guest gets this header.
fn passes(name: &[u8], named: &NamedByConnection<'_>) -> bool {
    // CGI programs and their libraries would read this header as the variable HTTP_PROXY: https://httpoxy.org.
    if name == b"Proxy" || name == b"Host" || headers::is_hop_by_hop(name) {
        return false;
    }
    // A client must not be able to remove what a proxy has set.
    name.starts_with(b"X-Forwarded-") || !named.contains(name)
}

/// The first eight bytes of a name, as a number that sorts as names do (no name contains a zero byte).
fn prefix(name: &[u8]) -> u64 {
    if let Some(first) = name.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    name.iter().enumerate().fold(0, |word, (index, &byte)| {
        word | u64::from(byte) << (56 - 8 * index)
    })
}
