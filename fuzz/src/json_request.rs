//! Compares the requests of the contract `json` with a second implementation of their rules.
//!
//! The input, cut into pieces, is a request. The model is based on `serde_json` and shares no code with the contract.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::contract::{Field, Fields, Request, json};
use serde_json::{Map, Value};

use crate::Target;
use crate::cursor::Cursor;
use crate::json_response::response::{canonical, is_framing, named};
use crate::report::{Disagreement, same};

/// The target, as the module documentation describes it.
pub const TARGET: Target = Target {
    name: "json_request",
    check,
    dictionary: DICTIONARY,
    max_len: 4096,
};

fn check(input: &[u8]) -> Result<(), Disagreement> {
    agrees(&cut(input))
}

/// Names and values, most of them after a byte with their length.
const DICTIONARY: &[&[u8]] = &[
    b"Connection",
    b"\x04Host",
    b"\x05Proxy",
    b"\x0fX-Forwarded-For",
    b"\x0aConnection",
    b"\x0aX-a, close",
    b"\x03X-a",
    b"\x02Te",
    b"/",
    b"%2f",
    b"\"",
    b"\\",
    b"\0",
    b"\r\n",
    b"\t",
    b"\x1f",
    b"\x7f",
    b"\xc3\xa9",
    b"\xef\xbb\xbf",
    b"\xf4\x8f\xbe\x80",
    b"\xff",
];

/// The number of pieces in front of the headers. Each follows a byte with its length.
const PIECES: usize = 9;

/// The parts of a request, owned by the input.
pub(crate) struct Parts<'a> {
    pieces: [&'a [u8]; PIECES],
    pub(crate) headers: Vec<(&'a [u8], &'a [u8])>,
    body: &'a [u8],
}

/// Cuts `input` into a request: [`PIECES`], up to 15 headers, and the rest is the body.
pub(crate) fn cut(input: &[u8]) -> Parts<'_> {
    let mut cursor = Cursor::new(input);
    let pieces = [(); PIECES].map(|()| cursor.field());
    let headers = (0..cursor.byte() % 16)
        .map(|_| (cursor.field(), cursor.field()))
        .collect();
    Parts {
        pieces,
        headers,
        body: cursor.rest(),
    }
}

/// Checks that the contract writes one line of JSON, with the contents of the request.
pub(crate) fn agrees(parts: &Parts<'_>) -> Result<(), Disagreement> {
    let request = parts.request(&parts.headers);
    let include = parts.include();
    let mut written = Vec::new();
    json::write_request(&mut written, &request, include);

    let lines = written.iter().filter(|&&byte| byte == b'\n').count();
    same(
        "the lines of a request",
        ("contract", &lines),
        ("expected", &1),
    )?;
    same(
        "a request's last byte",
        ("contract", &written.last()),
        ("expected", &Some(&b'\n')),
    )?;
    let read: Value = serde_json::from_slice(&written).map_err(|error| {
        Disagreement::new(
            "whether a request is JSON",
            ("contract", written.escape_ascii().to_string()),
            ("serde_json", error.to_string()),
        )
    })?;
    same(
        "a request",
        ("contract", &read),
        ("model", &model(&request, include)),
    )?;

    let sorted = sorted(parts);
    let mut again = Vec::new();
    json::write_request(&mut again, &parts.request(&sorted), include);
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    same(
        "a request with its headers in another order",
        ("as given", &shown(&written)),
        ("sorted", &shown(&again)),
    )
}

/// The headers, sorted by name. The order of different headers does not matter. The order of one name's values does.
pub(crate) fn sorted<'a>(parts: &Parts<'a>) -> Vec<(&'a [u8], &'a [u8])> {
    let mut sorted = parts.headers.clone();
    sorted.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    sorted
}

impl Parts<'_> {
    /// Any set of fields: each bit of the body's length is one.
    fn include(&self) -> Fields {
        let fields = Field::ALL.into_iter().enumerate();
        let included = fields.filter(|(bit, _)| self.body.len() >> bit & 1 == 0);
        included.map(|(_, field)| field).collect()
    }

    pub(crate) fn request<'a>(&'a self, headers: &'a [(&'a [u8], &'a [u8])]) -> Request<'a> {
        let [
            method,
            uri,
            trace_id,
            remote_addr,
            client_ip,
            scheme,
            host,
            proto,
            original_uri,
        ] = self.pieces;
        Request {
            method,
            uri,
            headers,
            body: self.body,
            trace_id,
            remote_addr,
            client_ip,
            scheme,
            host,
            proto,
            original_uri,
        }
    }
}

pub(crate) fn model(request: &Request<'_>, include: Fields) -> Value {
    let mut object = Map::new();
    let mut set = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    set("method", text(request.method).into());
    set("uri", uri(request.uri).into());
    set("headers", headers(request));
    insert_body(&mut object, request.body);
    let mut set = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    set("trace_id", text(request.trace_id).into());
    for (field, key, value) in [
        (Field::RemoteAddr, "remote_addr", text(request.remote_addr)),
        (Field::ClientIp, "client_ip", text(request.client_ip)),
        (Field::Scheme, "scheme", text(request.scheme)),
        (Field::Host, "host", text(request.host)),
        (Field::Proto, "proto", text(request.proto)),
        (
            Field::OriginalUri,
            "original_uri",
            uri(request.original_uri),
        ),
    ] {
        // A function that does not ask for it hears of the original URI, too, where a handler has changed it.
        let changed = field == Field::OriginalUri && request.original_uri != request.uri;
        if (include.contains(field) || changed) && !value.is_empty() {
            set(key, value.into());
        }
    }
    Value::Object(object)
}

/// The body as text, or in base64.
pub(crate) fn insert_body(object: &mut Map<String, Value>, body: &[u8]) {
    let mut set = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
    // Control characters without a short escape in JSON.
    let long = body.iter().filter(|&&byte| byte < 0x20);
    let long = long
        .filter(|byte| !b"\x08\t\n\x0c\r".contains(byte))
        .count();
    match std::str::from_utf8(body) {
        Ok(text) if long <= 64 || long <= body.len() / 16 => set("body", text.into()),
        _ => {
            set("body", "".into());
            set("body_base64", STANDARD.encode(body).into());
        }
    }
}

fn headers(request: &Request<'_>) -> Value {
    let all: Vec<(String, String)> = request
        .headers
        .iter()
        .filter_map(|(name, value)| Some((canonical(&text(name))?, text(value))))
        .collect();
    let connection = all.iter().filter(|(name, _)| name == "Connection");
    let named = named(connection.map(|(_, value)| value.as_str()));
    let mut passing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in all {
        let servers = name.starts_with("X-Forwarded-");
        // The Content-Length of a request is passed on, because the guest gets the whole body.
        let hop_by_hop = is_framing(&name) && name != "Content-Length";
        let is_named = !servers && named.contains(&name.to_ascii_lowercase());
        if !hop_by_hop && !is_named && name != "Proxy" && name != "Host" {
            passing.entry(name).or_default().push(value);
        }
    }
    if !request.host.is_empty() {
        passing.insert("Host".to_owned(), vec![text(request.host)]);
    }
    passing
        .into_iter()
        .map(|(name, values)| (name, Value::from(values)))
        .collect()
}

/// The bytes as text: UTF-8 as it is, and each byte that is not UTF-8 as one of the last 128 characters of Unicode. If
/// the bytes contain such a character, each of its bytes becomes one too.
pub(crate) fn text(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while let Some((&byte, rest)) = bytes.split_first() {
        let character = (1..=bytes.len().min(4))
            .filter_map(|length| std::str::from_utf8(&bytes[..length]).ok())
            .find_map(|text| text.chars().next());
        match character {
            Some(character) if u32::from(character) < 0x10_ff80 => {
                text.push(character);
                bytes = &bytes[character.len_utf8()..];
            }
            _ => {
                text.extend(char::from_u32(0x10_ff00 + u32::from(byte)));
                bytes = rest;
            }
        }
    }
    text
}

fn uri(bytes: &[u8]) -> String {
    let encoded = |&byte: &u8| match byte {
        0x21..=0x7e => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    bytes.iter().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_cut_into_all_parts_of_a_request() {
        let input =
            b"\x03GET\x02/a\x01t\x01r\x01c\x04http\x01h\x02HP\x02/o\x02\x01a\x01b\x01A\x01cbody";
        let parts = cut(input);
        let request = parts.request(&parts.headers);
        assert_eq!(
            (request.method, request.uri, request.body),
            (&b"GET"[..], &b"/a"[..], &b"body"[..])
        );
        assert_eq!(
            (request.host, request.original_uri),
            (&b"h"[..], &b"/o"[..])
        );
        assert_eq!(
            model(&request, Fields::default())["headers"],
            serde_json::json!({"A": ["b", "c"], "Host": ["h"]})
        );
        assert_eq!(agrees(&parts), Ok(()));
    }

    #[test]
    fn every_byte_survives_in_every_part() {
        for byte in 0..=255u8 {
            let piece = [b"\x03x", &[byte][..], b"y"].concat();
            let header = [b"\x01a", &piece[..]].concat();
            let body = [byte, b'b', byte];
            let input = [
                &piece.repeat(PIECES)[..],
                b"\x02",
                &header,
                &piece,
                b"\x01v",
                &body,
            ]
            .concat();
            let parts = cut(&input);
            assert_eq!(agrees(&parts), Ok(()), "{byte:#x}");
            assert_eq!((parts.headers.len(), parts.body), (2, &body[..]));
        }
    }

    #[test]
    fn the_model_drops_what_is_about_the_connection() {
        let headers: Vec<(&[u8], &[u8])> = vec![
            (b"Connection", b"close, X-Gone, host, X-Forwarded-For"),
            (b"x-gone", b"1"),
            (b"x-forwarded-for", b"2"),
            (b"te", b"3"),
            (b"content-length", b"4"),
            (b"proxy", b"5"),
            (b"Close", b"6"),
        ];
        let request = Request {
            headers: &headers,
            host: b"h",
            ..Request::default()
        };
        assert_eq!(
            model(&request, Fields::default())["headers"],
            serde_json::json!({
                "X-Forwarded-For": ["2"], "Content-Length": ["4"], "Close": ["6"], "Host": ["h"],
            })
        );
    }
}
