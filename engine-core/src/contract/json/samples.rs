//! Sample requests of the contract `json`.

use crate::contract::{Fields, Request};

use super::write_request;

/// Sample requests, as they are on stdin: a GET, a POST with JSON, and an empty stdin.
pub(super) fn all(include: Fields) -> Vec<Vec<u8>> {
    let sample = |method, uri, headers, body| sample(method, uri, headers, body, include);
    let json: &[(&[u8], &[u8])] = &[(b"Content-Type", b"application/json")];
    vec![
        sample(b"GET", b"/", &[(b"Accept", b"*/*")], b""),
        sample(
            b"POST",
            b"/sample?a=1",
            json,
            b"{\"name\":\"sample\",\"n\":1}",
        ),
        Vec::new(),
    ]
}

fn sample(
    method: &[u8],
    uri: &[u8],
    headers: &[(&[u8], &[u8])],
    body: &[u8],
    include: Fields,
) -> Vec<u8> {
    let mut stdin = Vec::new();
    let request = Request {
        method,
        uri,
        headers,
        body,
        trace_id: b"00000000000000000000000000000000",
        remote_addr: b"192.0.2.1:1024",
        client_ip: b"192.0.2.1",
        scheme: b"http",
        host: b"example.com",
        proto: b"HTTP/1.1",
        original_uri: uri,
    };
    write_request(&mut stdin, &request, include);
    stdin
}
