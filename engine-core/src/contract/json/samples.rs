//! Sample requests of the contract `json`.

use crate::contract::Request;

/// Sample requests, each as it is on stdin after `write` wrote it: a POST with JSON as a program sends it, a GET as a
/// browser does, and an empty stdin. The first two have the headers that nearly all requests have, so that a program
/// which was warmed up with them has room for those.
pub(in crate::contract) fn all(write: impl Fn(&mut Vec<u8>, &Request<'_>)) -> Vec<Vec<u8>> {
    let body = br#"{"id":1,"name":"sample","active":true,"price":9.5,"tags":["a","b"],"owner":{"name":"sample"}}"#;
    let length = body.len().to_string();
    let post = Request {
        method: b"POST",
        uri: b"/sample?a=1",
        headers: &[
            (b"Accept", b"*/*"),
            (b"Accept-Encoding", b"gzip"),
            (b"Content-Length", length.as_bytes()),
            (b"Content-Type", b"application/json"),
            (b"User-Agent", b"Go-http-client/1.1"),
        ],
        body,
        ..base()
    };
    let get = Request {
        method: b"GET",
        uri: b"/",
        headers: &[
            (
                b"Accept",
                b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            ),
            (b"Accept-Encoding", b"gzip, deflate, br"),
            (b"Accept-Language", b"en-US,en;q=0.5"),
            (
                b"User-Agent",
                b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
        ],
        ..base()
    };
    let mut samples: Vec<Vec<u8>> = [post, get]
        .into_iter()
        .map(|request| {
            let mut stdin = Vec::new();
            let original_uri = request.uri;
            let request = Request {
                original_uri,
                ..request
            };
            write(&mut stdin, &request);
            stdin
        })
        .collect();
    samples.push(Vec::new());
    samples
}

/// What the samples share.
fn base() -> Request<'static> {
    Request {
        trace_id: b"00000000000000000000000000000000",
        remote_addr: b"192.0.2.1:1024",
        client_ip: b"192.0.2.1",
        scheme: b"http",
        host: b"example.com",
        proto: b"HTTP/1.1",
        ..Request::default()
    }
}
