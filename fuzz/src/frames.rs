//! Compares the contract `json` in frames with a second implementation of its rules.
//!
//! The input is used three times: as a guest's whole stdout; cut into pieces, as the parts of a response whose lengths are
//! right; and, cut into pieces, as a request. The models take frames apart and translate them to JSON, whose models say what
//! they mean. They share no code with the contract.

use engine_core::contract::{Fields, frames};
use serde_json::{Map, Value};

use crate::Target;
use crate::cursor::Cursor;
use crate::json_request as request;
use crate::json_response::response;
use crate::report::{Disagreement, same};

/// The target, as the module documentation describes it.
pub const TARGET: Target = Target {
    name: "frames",
    check,
    dictionary: DICTIONARY,
    max_len: 4096,
};

/// The first bytes of each frame.
const MAGIC: &[u8] = b"\xf1GJ\x01";

const NEXT: u32 = 1;
const STREAM: u32 = 2;

/// The length of a value that is removed.
const REMOVED: u32 = u32::MAX;

fn check(input: &[u8]) -> Result<(), Disagreement> {
    response_agrees(input)?;
    response_agrees(&built(input))?;
    request_agrees(input)
}

/// Checks that the contract and the model read `output` alike, and that a refusal fits into a log line.
fn response_agrees(output: &[u8]) -> Result<(), Disagreement> {
    response::agrees(
        ("contract", frames::parse_response(output)),
        ("model", model(output)),
    )
}

/// A frame whose lengths are those of its parts: pieces of `input`.
fn built(input: &[u8]) -> Vec<u8> {
    let mut cursor = Cursor::new(input);
    let flags = u32::from(cursor.byte() % 4);
    let status = u32::from(u16::from_le_bytes(cursor.array()) % 700);
    let mut texts = vec![cursor.field(), cursor.field()];
    let mut numbers = vec![flags, status, texts[0].len() as u32, texts[1].len() as u32];
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let count = cursor.byte() % 6;
        for _ in 0..count {
            let (name, value) = (cursor.field(), cursor.field());
            lengths.push(name.len() as u32);
            texts.push(name);
            // A value that is this byte is removed.
            if value == b"-" {
                lengths.push(REMOVED);
            } else {
                lengths.push(value.len() as u32);
                texts.push(value);
            }
        }
        numbers.push(u32::from(count));
    }
    let body = cursor.rest();
    numbers.push(if flags & STREAM == 0 {
        body.len() as u32
    } else {
        0
    });
    let mut frame = MAGIC.to_vec();
    frame.extend(
        numbers
            .into_iter()
            .chain(lengths)
            .flat_map(u32::to_le_bytes),
    );
    frame.extend(texts.concat());
    frame.extend(body);
    frame
}

/// A name and its value; `None`: it is removed.
type Pair<'a> = (&'a [u8], Option<&'a [u8]>);

/// The parts of a frame, one after the other. `None`: it has no more.
struct Parts<'a> {
    numbers: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Parts<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.numbers.split_first_chunk()?;
        self.numbers = rest;
        Some(u32::from_le_bytes(*number))
    }

    fn bytes(&mut self, length: u32) -> Option<&'a [u8]> {
        let (bytes, rest) = self.bytes.split_at_checked(usize::try_from(length).ok()?)?;
        self.bytes = rest;
        Some(bytes)
    }

    /// Names and values, which may be removed.
    fn pairs(&mut self, count: u32) -> Option<Vec<Pair<'a>>> {
        let pair = |_| {
            let (name, value) = (self.number()?, self.number()?);
            let name = self.bytes(name)?;
            match value {
                REMOVED => Some((name, None)),
                value => Some((name, Some(self.bytes(value)?))),
            }
        };
        (0..count).map(pair).collect()
    }
}

/// The response in `output`; `None` if it breaks a rule.
fn model(output: &[u8]) -> Option<response::Model> {
    let head = output.strip_prefix(MAGIC)?.first_chunk::<32>()?;
    let mut head = Parts {
        numbers: head,
        bytes: &[],
    };
    let [
        flags,
        status,
        method,
        uri,
        headers,
        vars,
        response_headers,
        body,
    ] = [(); 8].map(|()| head.number().unwrap_or_default());
    if [headers, vars, response_headers]
        .iter()
        .any(|count| *count > 256)
        || flags > 3
    {
        return None;
    }
    let table = 8 * (headers + vars + response_headers) as usize;
    let (numbers, bytes) = output[36..].split_at_checked(table)?;
    let mut parts = Parts { numbers, bytes };
    let method = parts.bytes(method)?;
    let uri = parts.bytes(uri)?;
    let headers = parts.pairs(headers)?;
    let vars = parts.pairs(vars)?;
    let response_headers = parts.pairs(response_headers)?;
    let (goes_on, streams) = (flags & NEXT != 0, flags & STREAM != 0);
    let belongs_to_next =
        !(method.is_empty() && uri.is_empty() && vars.is_empty() && response_headers.is_empty());
    if goes_on && streams
        || belongs_to_next && !goes_on
        || streams && body > 0
        || !streams && body as usize != parts.bytes.len()
    {
        return None;
    }

    let mut json = vec![
        format!("\"status\":{status}"),
        format!("\"next\":{goes_on}"),
        format!("\"headers\":{}", object(&headers)?),
    ];
    if goes_on {
        let text = |bytes: &[u8]| Some(Value::from(std::str::from_utf8(bytes).ok()?));
        let values: Option<Vec<String>> = vars
            .iter()
            .map(|(name, value)| Some(format!("{}:{}", text(name)?, text((*value)?)?)))
            .collect();
        json.push(format!("\"method\":{}", text(method)?));
        json.push(format!("\"uri\":{}", text(uri)?));
        json.push(format!("\"vars\":{{{}}}", values?.join(",")));
        let response_headers = object(&response_headers)?;
        json.push(format!("\"response_headers\":{response_headers}"));
    }
    let mut model = response::read(format!("{{{}}}", json.join(",")).as_bytes())?;
    if goes_on && body > 0 {
        return None;
    }
    if ![204, 205, 304].contains(&model.status) {
        model.body = parts.bytes.to_vec();
    }
    Some(model)
}

/// Header fields as an object of JSON. The values of one name that follow each other are an array.
fn object(pairs: &[Pair<'_>]) -> Option<String> {
    let groups = pairs.chunk_by(|a, b| a.0 == b.0 && a.1.is_some() && b.1.is_some());
    let members: Option<Vec<String>> = groups
        .map(|group| {
            let name = Value::from(std::str::from_utf8(group[0].0).ok()?);
            let values: Vec<Value> = group
                .iter()
                .filter_map(|(_, value)| Some(request::text((*value)?).into()))
                .collect();
            Some(format!("{name}:{}", Value::from(values)))
        })
        .collect();
    Some(format!("{{{}}}", members?.join(",")))
}

/// Checks that the contract writes one frame with the contents of the request, whatever the order of its headers.
fn request_agrees(input: &[u8]) -> Result<(), Disagreement> {
    let parts = request::cut(input);
    let sorted = request::sorted(&parts);
    let request = parts.request(&parts.headers);
    let mut written = Vec::new();
    frames::write_request(&mut written, &request);
    same(
        "a request",
        ("contract", &request_in(&written)),
        ("model", &Some(request::model(&request, Fields::all()))),
    )?;
    let mut again = Vec::new();
    frames::write_request(&mut again, &parts.request(&sorted));
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    same(
        "a request with its headers in another order",
        ("as given", &shown(&written)),
        ("sorted", &shown(&again)),
    )
}

/// The request of a frame as the contract `json` has it; `None` if the frame is wrong.
fn request_in(frame: &[u8]) -> Option<Value> {
    let head = frame.strip_prefix(MAGIC)?.first_chunk::<48>()?;
    let mut head = Parts {
        numbers: head,
        bytes: &[],
    };
    let [length, lengths @ .., headers, body] =
        [(); 12].map(|()| head.number().unwrap_or_default());
    if length as usize != frame.len() {
        return None;
    }
    let (numbers, bytes) = frame[52..].split_at_checked(8 * headers as usize)?;
    let mut parts = Parts { numbers, bytes };
    let mut request = Map::new();
    const FIELDS: [&str; 9] = [
        "method",
        "uri",
        "trace_id",
        "remote_addr",
        "client_ip",
        "scheme",
        "host",
        "proto",
        "original_uri",
    ];
    for (at, (field, length)) in FIELDS.into_iter().zip(lengths).enumerate() {
        let text = request::text(parts.bytes(length)?);
        if at < 3 || !text.is_empty() {
            request.insert(field.to_owned(), text.into());
        }
    }
    let mut fields = Map::new();
    for (name, value) in parts.pairs(headers)? {
        let values = fields
            .entry(std::str::from_utf8(name).ok()?)
            .or_insert_with(|| Value::Array(Vec::new()));
        values.as_array_mut()?.push(request::text(value?).into());
    }
    request.insert("headers".to_owned(), fields.into());
    let body = parts.bytes(body)?;
    request::insert_body(&mut request, body);
    parts.bytes.is_empty().then_some(request.into())
}

const DICTIONARY: &[&[u8]] = &[
    MAGIC,
    b"\0\0\0\0",
    b"\x01\0\0\0",
    b"\x02\0\0\0",
    b"\x03\0\0\0",
    b"\x24\0\0\0",
    b"\x34\0\0\0",
    b"\xc8\0\0\0",
    b"\xcc\0\0\0",
    b"\x30\x01\0\0",
    b"\x57\x02\0\0",
    b"\x58\x02\0\0",
    b"\0\x01\0\0",
    b"\x01\x01\0\0",
    b"\xff\xff\xff\xff",
    b"\xfe\xff\xff\xff",
    b"\0\0\0\x80",
    b"\x01-",
    b"\x03PUT",
    b"\x04/b?c",
    b"\x04Host\x01h",
    b"\x01a\x01b",
    b"\x01A\x01b",
    b"\x0aConnection\x05a, b",
    b"\x0econtent-length\x013",
    b"\x03X-a\x02\xff ",
    b"\x05Proxy",
    b"\x0fX-Forwarded-For",
    b"\x10takes frames",
    b"\r\n",
    b"{\"status\":200}",
    b"\xf4\x8f\xbe\x80",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_reads_what_is_built() {
        let input = b"\x00\x94\x01\x00\x00\x03\x03x-a\x011\x03x-a\x00\x01B\x01-\x00\x00body";
        let frame = built(input);
        let model = model(&frame).expect("a response");
        assert_eq!((model.status, &model.body[..]), (404, &b"body"[..]));
        let name = || "X-A".to_owned();
        assert_eq!(
            model.headers,
            [(name(), b"1".to_vec()), (name(), Vec::new())]
        );
        assert_eq!(TARGET.run(input), Ok(()));
        assert_eq!(TARGET.run(&frame), Ok(()));

        let next = built(b"\x01\0\0\x03PUT\x02/b\0\x01\x01v\x01w\x01\x01A\x01-");
        let model = super::model(&next)
            .expect("a response")
            .next
            .expect("it goes on");
        assert_eq!((&*model.method, &*model.uri), ("PUT", "/b"));
        assert_eq!(model.vars, [("v".to_owned(), "w".to_owned())]);
        assert_eq!(model.response_headers.1, ["A"]);
    }

    #[test]
    fn each_byte_of_a_frame_may_have_any_value() {
        let frames = [
            built(b"\x00\xc8\x00\x00\x00\x02\x01A\x011\x01B\x01-\x00\x00body"),
            built(b"\x01\0\0\x03PUT\x02/b\x01\x01a\x01b\x01\x01v\x01w\x01\x01A\x01-"),
            built(b"\x02\xc8\x00\x00\x00\x01\x01A\x011\x00\x00body"),
        ];
        for frame in frames {
            assert!(model(&frame).is_some());
            for at in 0..frame.len() {
                for byte in 0..=255 {
                    let mut frame = frame.clone();
                    frame[at] = byte;
                    assert_eq!(TARGET.run(&frame), Ok(()), "{}", frame.escape_ascii());
                }
                assert_eq!(TARGET.run(&frame[..at]), Ok(()));
            }
        }
    }
}
