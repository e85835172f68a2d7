//! The variables of a request, section 4.1 of RFC 3875.

use std::collections::BTreeMap;

use super::VARIABLE;
use crate::contract::Request;
use crate::contract::headers::{self, NamedByConnection};

/// The variables of `request`, sorted by their names. Those that the server sets replace the others.
///
/// A header becomes a variable `HTTP_NAME` if its name has letters, digits and hyphens only: a name with an underscore would be
/// taken for one with a hyphen. `Proxy` does not become one, because programs take the variable `HTTP_PROXY` for a setting:
/// <https://httpoxy.org>.
pub(super) fn variables(request: &Request<'_>) -> Vec<(String, Vec<u8>)> {
    let mut variables = from_headers(request);
    let mut set = |name: &str, value: &[u8]| {
        variables.insert(name.to_owned(), value.to_vec());
    };
    set("GATEWAY_INTERFACE", b"CGI/1.1");
    set("SERVER_SOFTWARE", b"Gojinn");
    set("SERVER_PROTOCOL", or(request.proto, b"HTTP/1.1"));
    set("REQUEST_METHOD", request.method);
    set("REQUEST_URI", or(request.original_uri, request.uri));
    set("REQUEST_SCHEME", or(request.scheme, b"http"));
    set("SCRIPT_NAME", b"");
    let (path, query) = split_at(request.uri, b'?');
    set("PATH_INFO", path);
    set("QUERY_STRING", query);

    let (name, port) = host_and_port(request.host);
    let default_port: &[u8] = if request.scheme == b"https" {
        set("HTTPS", b"on");
        b"443"
    } else {
        b"80"
    };
    set("SERVER_NAME", name);
    set("SERVER_PORT", or(port, default_port));
    if !request.host.is_empty() {
        set("HTTP_HOST", request.host);
    }
    let (address, port) = host_and_port(request.remote_addr);
    let address = address.strip_prefix(b"[").unwrap_or(address);
    let address = address.strip_suffix(b"]").unwrap_or(address);
    set("REMOTE_ADDR", address);
    set("REMOTE_HOST", address);
    if !port.is_empty() {
        set("REMOTE_PORT", port);
    }
    if !request.trace_id.is_empty() {
        set("TRACE_ID", request.trace_id);
    }
    if let Some(length) = content_length(request)
        .or_else(|| (!request.body.is_empty()).then_some(request.body.len() as u64))
    {
        set("CONTENT_LENGTH", length.to_string().as_bytes());
    }
    for (name, value) in request.headers {
        let name = name.strip_prefix(VARIABLE.as_bytes());
        if let Some(Ok(name)) = name.map(std::str::from_utf8) {
            set(name, value);
        }
    }
    // An environment cannot hold a NUL.
    variables.retain(|name, value| !name.contains(['\0', '=']) && !value.contains(&0));
    variables.into_iter().collect()
}

/// The length of the body that the request announces, if it does.
pub(super) fn content_length(request: &Request<'_>) -> Option<u64> {
    let is_it = |name: &[u8]| name.eq_ignore_ascii_case(b"Content-Length");
    let (_, value) = request.headers.iter().find(|(name, _)| is_it(name))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// `CONTENT_TYPE`, and `HTTP_*` for all other headers that a program gets.
fn from_headers(request: &Request<'_>) -> BTreeMap<String, Vec<u8>> {
    let connection = request.headers.iter();
    let connection = connection.filter(|(name, _)| name.eq_ignore_ascii_case(b"Connection"));
    let named = NamedByConnection::new(connection.map(|(_, value)| *value));
    let mut variables = BTreeMap::<String, Vec<u8>>::new();
    for &(name, value) in request.headers {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        if name.is_empty() || !name.iter().all(is_plain) || value.contains(&0) {
            continue;
        }
        let mut canonical = name.to_vec();
        headers::canonicalize(&mut canonical);
        let is_for_us = matches!(&*canonical, b"Proxy" | b"Host" | b"Content-Length");
        let is_the_servers = canonical.starts_with(b"X-Forwarded-");
        if is_for_us
            || headers::is_hop_by_hop(&canonical)
            || (named.contains(name) && !is_the_servers)
        {
            continue;
        }
        let variable = if canonical == b"Content-Type" {
            "CONTENT_TYPE".to_owned()
        } else {
            let upper = name.iter().map(|byte| match byte {
                b'-' => '_',
                byte => byte.to_ascii_uppercase() as char,
            });
            "HTTP_".chars().chain(upper).collect()
        };
        let separator: &[u8] = if canonical == b"Cookie" { b"; " } else { b", " };
        variables
            .entry(variable)
            .and_modify(|values| {
                values.extend_from_slice(separator);
                values.extend_from_slice(value);
            })
            .or_insert_with(|| value.to_vec());
    }
    variables
}

fn or<'a>(value: &'a [u8], otherwise: &'a [u8]) -> &'a [u8] {
    if value.is_empty() { otherwise } else { value }
}

/// What precedes the first `separator`, and what follows it.
fn split_at(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == separator) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b""),
    }
}

/// `host` without its port, and the port. An IPv6 address is in brackets if there is a port.
fn host_and_port(host: &[u8]) -> (&[u8], &[u8]) {
    let after_address = host
        .iter()
        .rposition(|byte| *byte == b']')
        .map_or(0, |at| at + 1);
    match host[after_address..].iter().position(|byte| *byte == b':') {
        Some(at) if after_address > 0 || !host[at + 1..].contains(&b':') => {
            let at = after_address + at;
            (&host[..at], &host[at + 1..])
        }
        _ => (host, b""),
    }
}
