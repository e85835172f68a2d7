//! Sample requests: what a snapshot is warmed up and compared with.

use crate::contract::{Request, json};

/// The requests that proofs are made with: the user's, if there is one, plain ones, and none at all.
pub(super) fn all(user: Option<&[u8]>) -> Vec<Vec<u8>> {
    let mut samples = vec![get(), post(), Vec::new()];
    if let Some(user) = user {
        samples.insert(0, user.to_vec());
    }
    samples
}

/// `GET /`, as it stands on stdin.
pub(super) fn get() -> Vec<u8> {
    sample(b"GET", b"/", &[(b"Accept", b"*/*")], b"")
}

fn post() -> Vec<u8> {
    let headers: &[(&[u8], &[u8])] = &[(b"Content-Type", b"application/json")];
    sample(
        b"POST",
        b"/sample?a=1",
        headers,
        b"{\"name\":\"sample\",\"n\":1}",
    )
}

fn sample(method: &[u8], uri: &[u8], headers: &[(&[u8], &[u8])], body: &[u8]) -> Vec<u8> {
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
    json::write_request(&mut stdin, &request);
    stdin
}
