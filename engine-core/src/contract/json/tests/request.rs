//! Tests of what a guest reads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::super::{parse_response, write_request};
use crate::contract::{Field, Fields, Request};

type Pairs<'a> = &'a [(&'a [u8], &'a [u8])];

fn written(request: &Request<'_>) -> String {
    written_with(request, Fields::all())
}

fn written_with(request: &Request<'_>, include: Fields) -> String {
    let mut out = b"before".to_vec();
    write_request(&mut out, request, include);
    let text = String::from_utf8(out).expect("a request is UTF-8");
    let text = text.strip_prefix("before").expect("it is appended");
    serde_json::from_str::<Value>(text).expect("a request is JSON");
    assert!(text.ends_with("}\n") && text.matches('\n').count() == 1);
    text.to_owned()
}

/// The text of the object `headers`.
fn headers(host: &str, headers: Pairs<'_>) -> String {
    let text = written(&Request {
        headers,
        host: host.as_bytes(),
        ..Request::default()
    });
    let (_, rest) = text.split_once(r#""headers":"#).expect("headers");
    let (headers, _) = rest.split_once(r#","body":"#).expect("body");
    headers.to_owned()
}

fn value(request: &Request<'_>) -> Value {
    serde_json::from_str(&written(request)).expect("a request is JSON")
}

#[test]
fn a_whole_request_has_its_keys_in_order() {
    let request = Request {
        method: b"POST",
        uri: b"/api/x?q=1",
        headers: &[
            (b"Content-Type", b"application/json"),
            (b"Accept", b"text/html"),
            (b"Accept", b"*/*"),
        ],
        body: b"{\"a\": 1}\n",
        trace_id: b"4bf92f3577b34da6a3ce929d0e0e4736",
        remote_addr: b"192.0.2.1:1234",
        client_ip: b"203.0.113.7",
        scheme: b"https",
        host: b"example.org:8443",
        proto: b"HTTP/2.0",
        original_uri: b"/old?q=1",
    };
    assert_eq!(
        written(&request),
        concat!(
            r#"{"method":"POST","uri":"/api/x?q=1","headers":{"Accept":["text/html","*/*"],"#,
            r#""Content-Type":["application/json"],"Host":["example.org:8443"]},"#,
            r#""body":"{\"a\": 1}\n","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","#,
            r#""remote_addr":"192.0.2.1:1234","client_ip":"203.0.113.7","scheme":"https","#,
            r#""host":"example.org:8443","proto":"HTTP/2.0","original_uri":"/old?q=1"}"#,
            "\n"
        )
    );
}

#[test]
fn a_request_has_the_fields_that_are_included() {
    let request = Request {
        trace_id: b"t",
        remote_addr: b"192.0.2.1:1234",
        client_ip: b"203.0.113.7",
        scheme: b"https",
        host: b"example.org",
        proto: b"HTTP/2.0",
        uri: b"/old",
        original_uri: b"/old",
        ..Request::default()
    };
    let five =
        r#"{"method":"","uri":"/old","headers":{"Host":["example.org"]},"body":"","trace_id":"t""#;
    let expected = |more: &str| format!("{five}{more}}}\n");
    assert_eq!(written_with(&request, Fields::default()), expected(""));
    for (field, more) in [
        (Field::RemoteAddr, r#","remote_addr":"192.0.2.1:1234""#),
        (Field::ClientIp, r#","client_ip":"203.0.113.7""#),
        (Field::Scheme, r#","scheme":"https""#),
        (Field::Host, r#","host":"example.org""#),
        (Field::Proto, r#","proto":"HTTP/2.0""#),
        (Field::OriginalUri, r#","original_uri":"/old""#),
    ] {
        let include = Fields::from_iter([field]);
        assert_eq!(written_with(&request, include), expected(more));
    }
    let two = Fields::from_iter([Field::Proto, Field::ClientIp]);
    let more = r#","client_ip":"203.0.113.7","proto":"HTTP/2.0""#;
    assert_eq!(written_with(&request, two), expected(more));

    // The URI before a rewrite is there without being included.
    let rewritten = Request {
        original_uri: b"/older",
        ..request.clone()
    };
    let more = r#","original_uri":"/older""#;
    assert_eq!(written_with(&rewritten, Fields::default()), expected(more));
    let unknown = Request {
        original_uri: b"",
        ..request
    };
    assert_eq!(written_with(&unknown, Fields::default()), expected(""));
}

#[test]
fn an_empty_request_keeps_the_five_keys_and_no_additions() {
    assert_eq!(
        written(&Request::default()),
        "{\"method\":\"\",\"uri\":\"\",\"headers\":{},\"body\":\"\",\"trace_id\":\"\"}\n"
    );
}

#[test]
fn a_uri_is_ascii_without_white_space_or_control_characters() {
    for (uri, expected) in [
        ("/a?b=c%20d#", "/a?b=c%20d#"),
        ("/caf\u{e9}/\u{20ac}", "/caf%C3%A9/%E2%82%AC"),
        ("/a b\tc\r\nd\0e\u{7f}", "/a%20b%09c%0D%0Ad%00e%7F"),
        ("/%zz<>{}|^`'", "/%zz<>{}|^`'"),
        ("/\"\\", "/\"\\"),
    ] {
        let request = Request {
            uri: uri.as_bytes(),
            original_uri: uri.as_bytes(),
            ..Request::default()
        };
        let value = value(&request);
        assert_eq!(value["uri"], expected);
        assert_eq!(value["original_uri"], expected);
    }
    let request = Request {
        uri: b"/\xff\xe2\x82",
        ..Request::default()
    };
    assert_eq!(value(&request)["uri"], "/%FF%E2%82");
}

#[test]
fn header_names_are_canonical_and_equal_names_are_merged() {
    assert_eq!(
        headers(
            "",
            &[
                (b"x-b", b"1"),
                (b"ETAG", b"2"),
                (b"X-B", b"3"),
                (b"X-b", b"4"),
                (b"a", b"5"),
                (b"x_y", b"6"),
            ]
        ),
        r#"{"A":["5"],"Etag":["2"],"X-B":["1","3","4"],"X_y":["6"]}"#
    );
}

#[test]
fn headers_are_sorted_whatever_their_order_and_number() {
    let names: Vec<String> = (0..300)
        .map(|number| format!("X-Long-Common-Prefix-{number:03}"))
        .chain(["X", "X-", "X-L", "X-Long-C", "X-Long-Co"].map(String::from))
        .collect();
    let mut pairs: Vec<(&[u8], &[u8])> = names
        .iter()
        .flat_map(|name| {
            [
                (name.as_bytes(), b"1".as_slice()),
                (name.as_bytes(), b"2"),
                (name.as_bytes(), b"3"),
            ]
        })
        .collect();
    let mut sorted = names.clone();
    sorted.sort();
    let expected = sorted
        .iter()
        .map(|name| format!(r#""{name}":["1","2","3"]"#))
        .collect::<Vec<_>>()
        .join(",");
    // Moves each pair by a stride of groups of three, so that the values of one name keep their order.
    for stride in [1, 7, 101] {
        let groups: Vec<_> = pairs.chunks(3).map(<[_]>::to_vec).collect();
        pairs = (0..groups.len())
            .flat_map(|index| groups[index * stride % groups.len()].clone())
            .collect();
        assert_eq!(headers("", &pairs), format!("{{{expected}}}"));
    }
}

#[test]
fn host_is_the_requests_host_alone() {
    assert_eq!(
        headers("example.org", &[(b"Host", b"evil"), (b"host", b"evil2")]),
        r#"{"Host":["example.org"]}"#
    );
    assert_eq!(headers("", &[(b"Host", b"evil")]), "{}");
}

#[test]
fn proxy_and_hop_by_hop_headers_and_names_that_are_no_tokens_are_dropped() {
    for name in [
        "Proxy",
        "proxy",
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Te",
        "Trailer",
        "Transfer-Encoding",
        "transfer-encoding",
        "Upgrade",
        "",
        "a b",
        "a:b",
        "a\r\nb: c",
        "a\0",
        "\u{e9}",
        "\"",
    ] {
        assert_eq!(
            headers("", &[(name.as_bytes(), b"x"), (b"Z", b"kept")]),
            r#"{"Z":["kept"]}"#,
            "{name:?}"
        );
    }
}

#[test]
fn headers_that_connection_names_are_dropped_but_the_servers_own_are_not() {
    assert_eq!(
        headers(
            "example.org",
            &[
                (b"Connection", b"keep-alive, x-one"),
                (
                    b"connection",
                    b"X-TWO,,host , X-Forwarded-For,x-forwarded-proto"
                ),
                (b"X-One", b"1"),
                (b"x-two", b"2"),
                (b"X-Three", b"3"),
                (b"X-Forwarded-For", b"192.0.2.1"),
                (b"X-Forwarded-Proto", b"https"),
            ]
        ),
        concat!(
            r#"{"Host":["example.org"],"X-Forwarded-For":["192.0.2.1"],"#,
            r#""X-Forwarded-Proto":["https"],"X-Three":["3"]}"#
        )
    );
}

/// UTF-8 is passed as it is; bytes that are not UTF-8 become the last characters of Unicode.
#[test]
fn utf8_in_a_header_value_is_itself_and_other_bytes_have_characters_in_their_place() {
    for (sent, expected) in [
        (
            b"Zo\xc3\xab \xf0\x9f\x98\x80".as_slice(),
            "Zo\u{eb} \u{1f600}",
        ),
        (b"Zo\xeb", "Zo\u{10ffeb}"),
        (b"\xeb\xc3\xab\xff", "\u{10ffeb}\u{eb}\u{10ffff}"),
        (b"\xe2\x82!\xe2\x82\xac", "\u{10ffe2}\u{10ff82}!\u{20ac}"),
        (b"\x80\"\x80\n", "\u{10ff80}\"\u{10ff80}\n"),
        // Surrogates and numbers beyond Unicode are not UTF-8.
        (b"\xed\xa0\x80", "\u{10ffed}\u{10ffa0}\u{10ff80}"),
        (
            b"\xf4\x90\x80\x80",
            "\u{10fff4}\u{10ff90}\u{10ff80}\u{10ff80}",
        ),
        // The last character that is passed as it is, and the first that represents a byte.
        (b"\xf4\x8f\xbd\xbf", "\u{10ff7f}"),
        (
            b"a\xf4\x8f\xbe\x80b",
            "a\u{10fff4}\u{10ff8f}\u{10ffbe}\u{10ff80}b",
        ),
    ] {
        let value = value(&Request {
            headers: &[(b"X", sent)],
            host: sent,
            trace_id: sent,
            ..Request::default()
        });
        for text in [
            &value["headers"]["X"][0],
            &value["host"],
            &value["trace_id"],
        ] {
            assert_eq!(*text, *expected, "{}", sent.escape_ascii());
        }
    }
}

/// A value that a guest returns is sent with the bytes that came in, whatever is around them.
#[test]
fn every_header_value_leaves_as_it_came() {
    let mut values: Vec<Vec<u8>> = (0x80..=0xff).map(|byte| vec![b'a', byte, b'z']).collect();
    values.push((0x80..=0xff).collect());
    values.push("Zo\u{eb} \u{10ff7f}\u{10ff80}\u{10ffff}\u{ffff}".into());
    for first in [0xc3, 0xe2, 0xf0, 0xf4, 0xff] {
        for second in 0x80..=0xff {
            values.push(vec![first, second, 0x8f, 0xbe, 0x80, first]);
        }
    }
    for sent in values {
        let value = value(&Request {
            headers: &[(b"X", &sent)],
            ..Request::default()
        });
        let output = serde_json::json!({"headers": {"X": value["headers"]["X"][0]}}).to_string();
        let response = parse_response(output.as_bytes()).expect("a value that came in may go out");
        assert_eq!(&*response.headers[0].1, sent.as_slice());
    }
}

#[test]
fn every_byte_of_a_header_value_reaches_the_guest() {
    let bytes: Vec<u8> = (0..=255).collect();
    let expected: String = bytes
        .iter()
        .map(|&byte| match byte {
            0x80.. => {
                char::from_u32(0x10_ff00 + u32::from(byte)).expect("below the end of Unicode")
            }
            _ => char::from(byte),
        })
        .collect();
    for start in 0..9 {
        let request = Request {
            method: &bytes[start..],
            headers: &[(b"X", &bytes[start..])],
            trace_id: &bytes[start..],
            host: &bytes[start..],
            ..Request::default()
        };
        let value = value(&request);
        let expected = expected.chars().skip(start).collect::<String>();
        for key in ["method", "trace_id", "host"] {
            assert_eq!(value[key], expected, "{key}");
        }
        assert_eq!(value["headers"]["X"][0], expected);
        assert_eq!(value["headers"]["Host"][0], expected);
    }
}

#[test]
fn escapes_are_the_shortest_common_ones() {
    assert_eq!(
        headers("", &[(b"X", b"\"\\/\x08\x0c\n\r\t\0\x1f\x7f<\xe9\xff")]),
        "{\"X\":[\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f<\u{10ffe9}\u{10ffff}\"]}"
    );
}

#[test]
fn a_utf8_body_is_sent_as_text() {
    for body in [
        "",
        "plain",
        "caf\u{e9} \u{20ac} \u{1f600} \u{2028}\u{2029} \u{feff}",
        "\0\u{1}\u{1f} \"quoted\" \\ \r\n\t\u{8}\u{c}\u{7f}\u{80}",
    ] {
        let request = Request {
            body: body.as_bytes(),
            ..Request::default()
        };
        let value = value(&request);
        assert_eq!(value["body"], body);
        assert_eq!(value.get("body_base64"), None);
    }
}

/// A text body stays text, and its JSON is at most a little more than twice as long.
#[test]
fn a_body_with_many_long_escapes_is_sent_as_base64() {
    let few = |count: usize, length: usize| [vec![0; count], vec![b'a'; length - count]].concat();
    for (body, is_text) in [
        (few(1, 1), true),
        (few(64, 64), true),
        (few(65, 65), false),
        (few(100, 1600), true),
        (few(101, 1600), false),
        (vec![0x1f; 100_000], false),
        // Characters with short escapes do not make it base64, and neither does DEL, which needs no escape.
        (b"\"\\\n\r\t\x08\x0c".repeat(1000), true),
        (vec![0x7f; 10_000], true),
        (
            format!("{}\n", r#"{"a":"b"}"#.repeat(50)).into_bytes(),
            true,
        ),
        (
            "\u{1b}[31mred\u{1b}[0m and a line of text\n"
                .repeat(500)
                .into(),
            true,
        ),
    ] {
        let request = Request {
            body: &body,
            ..Request::default()
        };
        let text = written(&request);
        let value = value(&request);
        if is_text {
            assert_eq!(value["body"].as_str().map(str::as_bytes), Some(&*body));
            assert_eq!(value.get("body_base64"), None);
        } else {
            assert_eq!(value["body"], "");
            let encoded = value["body_base64"].as_str().expect("a string");
            assert_eq!(STANDARD.decode(encoded).as_ref(), Ok(&body));
        }
        assert!(text.len() <= 600 + body.len() * 9 / 4, "{}", text.len());
    }
}

#[test]
fn any_other_body_is_sent_as_base64_and_no_byte_is_lost() {
    let all: Vec<u8> = (0..=255).collect();
    for length in 1..40 {
        for body in [
            &all[256 - length..],
            &[b"a".repeat(length), vec![0xc3]].concat(),
        ] {
            let text = written(&Request {
                body,
                ..Request::default()
            });
            let expected = format!(
                r#","body":"","body_base64":"{}","trace_id""#,
                STANDARD.encode(body)
            );
            assert!(text.contains(&expected), "{text}");
        }
    }
    for body in [
        b"\xed\xa0\x80".as_slice(),
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        &all,
    ] {
        let value = value(&Request {
            body,
            ..Request::default()
        });
        assert_eq!(value["body"], "");
        let encoded = value["body_base64"].as_str().expect("a string");
        assert_eq!(STANDARD.decode(encoded).as_deref(), Ok(body));
    }
}

#[test]
fn a_client_cannot_make_connection_expensive() {
    let connection = "a,".repeat(100_000);
    let names: Vec<String> = (0..50_000).map(|number| format!("B{number}")).collect();
    let mut pairs: Vec<(&[u8], &[u8])> = vec![(b"Connection", connection.as_bytes()), (b"A", b"")];
    pairs.extend(names.iter().map(|name| (name.as_bytes(), b"".as_slice())));
    let text = headers("", &pairs);
    assert!(!text.contains(r#""A":"#));
    assert_eq!(text.matches(r#"":[""]"#).count(), names.len());
}
