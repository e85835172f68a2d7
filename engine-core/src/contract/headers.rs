//! Header names and values: their grammar, Go's canonical form, and the headers that are not passed on to or from a
//! guest.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::bad_output::{BadOutput, Excerpt};

/// The maximum number of headers of one response, counted as they are sent: each value of a name counts.
pub const MAX_HEADERS: usize = 256;

/// The maximum size of a response's headers, counted as they are sent: each value, and its name with it.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// How a header name is spelled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Spelling {
    /// As Go spells it: `Content-Type`, `Etag`, `X-Request-Id`.
    Canonical,
    /// A valid name, but not as Go spells it.
    Other,
    /// Empty, or with a byte that a header name may not contain.
    NotAToken,
}

/// How `name` is spelled.
pub(super) fn spelling(name: &[u8]) -> Spelling {
    if name.is_empty() {
        return Spelling::NotAToken;
    }
    let mut canonical = true;
    let mut begins_word = true;
    for &byte in name {
        let class = CLASSES[byte as usize];
        if class == Class::Illegal {
            return Spelling::NotAToken;
        }
        canonical &= class
            != if begins_word {
                Class::Lower
            } else {
                Class::Upper
            };
        begins_word = byte == b'-';
    }
    if canonical {
        Spelling::Canonical
    } else {
        Spelling::Other
    }
}

/// Spells a token as Go does: upper case at the start and after each hyphen, lower case elsewhere.
pub(super) fn canonicalize(name: &mut [u8]) {
    let mut begins_word = true;
    for byte in name {
        if begins_word {
            byte.make_ascii_uppercase();
        } else {
            byte.make_ascii_lowercase();
        }
        begins_word = *byte == b'-';
    }
}

/// `name` in its canonical form. `Err` returns it unchanged if it is not a valid name.
pub(super) fn canonical(name: Cow<'_, str>) -> Result<Cow<'_, str>, Cow<'_, str>> {
    match spelling(name.as_bytes()) {
        Spelling::Canonical => Ok(name),
        Spelling::NotAToken => Err(name),
        Spelling::Other => {
            let mut begins_word = true;
            let respelled = name.chars().map(|character| {
                let respelled = if begins_word {
                    character.to_ascii_uppercase()
                } else {
                    character.to_ascii_lowercase()
                };
                begins_word = character == '-';
                respelled
            });
            Ok(Cow::Owned(respelled.collect()))
        }
    }
}

/// Whether the header with this canonical name describes one connection and not the message: the list of Go's
/// `ReverseProxy`.
pub(super) fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"Connection"
            | b"Keep-Alive"
            | b"Proxy-Authenticate"
            | b"Proxy-Authorization"
            | b"Proxy-Connection"
            | b"Te"
            | b"Trailer"
            | b"Transfer-Encoding"
            | b"Upgrade"
    )
}

/// Whether only the server can set the header with this canonical name.
pub(super) fn is_framing(name: &[u8]) -> bool {
    name == b"Content-Length" || is_hop_by_hop(name)
}

/// The headers of a response: (canonical name, value).
pub(super) type Headers<'a> = Vec<(Cow<'a, str>, Cow<'a, [u8]>)>;

/// Removes the headers that only the server can set, by `is_the_servers`, and those that `Connection` names. All hop-by-hop headers
/// must be the server's.
pub(super) fn remove_servers(headers: &mut Headers<'_>, is_the_servers: fn(&[u8]) -> bool) {
    if !headers
        .iter()
        .any(|(name, _)| is_the_servers(name.as_bytes()))
    {
        return;
    }
    let connection: Vec<_> = headers
        .iter()
        .filter(|(name, _)| name == "Connection")
        .map(|(_, value)| value.clone())
        .collect();
    let named = NamedByConnection::new(connection.iter().map(|value| &**value));
    headers
        .retain(|(name, _)| !is_the_servers(name.as_bytes()) && !named.contains(name.as_bytes()));
}

/// Checks the value of the header `name`. The error says what is wrong with it.
pub(super) fn check_value(name: &str, value: &[u8]) -> Result<(), String> {
    match illegal_in_value(value) {
        None => Ok(()),
        Some(byte) => Err(format!(
            "the value of header {} contains the byte {byte:#04x}; a header is one line without control characters",
            Excerpt(name)
        )),
    }
}

/// What a response is refused for that has more headers than it may have, or larger ones.
pub(super) fn too_many(what: &str) -> String {
    format!(
        "the response has more than {MAX_HEADERS} {what}, or more than {} KiB of them; send fewer",
        MAX_HEADER_BYTES / 1024
    )
}

/// What a response is refused for that has a header with this name.
pub(super) fn not_a_name(name: &str) -> String {
    format!(
        "{} is not a valid header name; a name may contain letters, digits, hyphens and !#$%&'*+.^_`|~ only",
        Excerpt(name)
    )
}

/// How many fields or variables there are so far, and their size.
pub(super) struct Size {
    /// How errors call them.
    what: &'static str,
    count: usize,
    bytes: usize,
}

impl Size {
    pub(super) fn of(what: &'static str) -> Self {
        Self {
            what,
            count: 0,
            bytes: 0,
        }
    }

    /// Counts one more, with the size of its name and value. `at`: where in the output it is.
    pub(super) fn add(&mut self, at: usize, bytes: usize) -> Result<(), BadOutput> {
        self.count += 1;
        self.bytes += bytes;
        if self.count <= MAX_HEADERS && self.bytes <= MAX_HEADER_BYTES {
            return Ok(());
        }
        Err(BadOutput::at(at, too_many(self.what)))
    }
}

/// The first byte of `value` that a header value may not contain: a control character other than the tab.
pub(super) fn illegal_in_value(value: &[u8]) -> Option<u8> {
    let illegal = |&byte: &u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
    // Without an early return, so that the compiler checks 16 bytes at a time.
    if !value
        .iter()
        .fold(false, |found, byte| found | illegal(byte))
    {
        return None;
    }
    value.iter().copied().find(illegal)
}

/// `value` without the white space around it.
pub(super) fn trimmed(value: Cow<'_, str>) -> Cow<'_, str> {
    match value {
        Cow::Borrowed(value) => Cow::Borrowed(value.trim_matches(WHITE_SPACE)),
        Cow::Owned(value) => {
            let inner = value.trim_matches(WHITE_SPACE);
            if inner.len() == value.len() {
                Cow::Owned(value)
            } else {
                Cow::Owned(inner.to_owned())
            }
        }
    }
}

/// [`trimmed`] for any bytes.
pub(super) fn trimmed_bytes(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

const WHITE_SPACE: [char; 2] = [' ', '\t'];

/// The header names that the `Connection` headers of one message list.
///
/// A lookup is a binary search, because a client may list a hundred thousand names and send as many headers.
#[derive(Debug, Default)]
pub(super) struct NamedByConnection<'a>(Vec<&'a [u8]>);

impl<'a> NamedByConnection<'a> {
    /// The names in all values of `Connection`.
    pub(super) fn new(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut names: Vec<_> = values
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            // These name no header, or one that is dropped anyway. In practice there are no others, so the list stays
            // empty.
            .filter(|name| {
                ![b"".as_slice(), b"close", b"keep-alive", b"upgrade", b"te"]
                    .iter()
                    .any(|known| name.eq_ignore_ascii_case(known))
            })
            .collect();
        names.sort_unstable_by(|a, b| compare_ignoring_case(a, b));
        Self(names)
    }

    /// Whether `name` is in the list, in upper or lower case.
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.0
            .binary_search_by(|named| compare_ignoring_case(named, name))
            .is_ok()
    }
}

/// Compares texts as if all ASCII letters were lower case.
pub(super) fn compare_ignoring_case(a: &[u8], b: &[u8]) -> Ordering {
    let lower = |byte: &u8| byte.to_ascii_lowercase();
    a.iter().map(lower).cmp(b.iter().map(lower))
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Class {
    /// A byte that a header name may not contain.
    Illegal,
    Lower,
    Upper,
    /// A digit, or one of the punctuation marks that a header name may contain.
    Other,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Illegal; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' => Class::Lower,
            b'A'..=b'Z' => Class::Upper,
            b'0'..=b'9' => Class::Other,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
            | b'`' | b'|' | b'~' => Class::Other,
            _ => Class::Illegal,
        };
        byte += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_go_spells_them() {
        for (name, expected) in [
            ("content-type", Some("Content-Type")),
            ("Content-Type", Some("Content-Type")),
            ("CONTENT-TYPE", Some("Content-Type")),
            ("ETag", Some("Etag")),
            ("www-authenticate", Some("Www-Authenticate")),
            ("x-b3-traceid", Some("X-B3-Traceid")),
            ("-a--b-", Some("-A--B-")),
            ("x_y", Some("X_y")),
            ("1st", Some("1st")),
            ("!#$%&'*+-.^_`|~", Some("!#$%&'*+-.^_`|~")),
            ("", None),
            ("a b", None),
            ("a:b", None),
            ("a\r\nb", None),
            ("a\0", None),
            ("a\u{7f}", None),
            ("caf\u{e9}", None),
            ("a\"b", None),
            ("(x)", None),
        ] {
            assert_eq!(
                canonical(Cow::Borrowed(name)).ok().as_deref(),
                expected,
                "{name:?}"
            );
            if let Some(expected) = expected {
                let mut bytes = name.as_bytes().to_vec();
                canonicalize(&mut bytes);
                assert_eq!(bytes, expected.as_bytes());
                assert_eq!(spelling(&bytes), Spelling::Canonical);
                assert_eq!(
                    spelling(name.as_bytes()) == Spelling::Canonical,
                    name == expected
                );
            } else {
                assert_eq!(spelling(name.as_bytes()), Spelling::NotAToken);
            }
        }
    }

    #[test]
    fn a_value_holds_visible_text_white_space_and_bytes_from_0x80() {
        for byte in 0..=255_u8 {
            let legal = byte == b'\t' || (0x20..0x7f).contains(&byte) || byte >= 0x80;
            let value = [b"0123456789abcdef".as_slice(), &[byte], b"x"].concat();
            assert_eq!(
                illegal_in_value(&value),
                (!legal).then_some(byte),
                "{byte:#x}"
            );
        }
    }

    #[test]
    fn values_lose_the_white_space_around_them() {
        for (value, expected) in [
            (" \t a b\t", "a b"),
            ("", ""),
            (" \t", ""),
            ("\u{a0}x\u{a0}", "\u{a0}x\u{a0}"),
        ] {
            assert_eq!(trimmed(Cow::Borrowed(value)), expected);
            assert_eq!(trimmed(Cow::Owned(value.to_owned())), expected);
            assert_eq!(trimmed_bytes(value.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn connection_names_headers_in_any_case() {
        let values: [&[u8]; 3] = [b"Keep-Alive, X-One", b" ,,\tx-two ,", b"close"];
        let named = NamedByConnection::new(values.into_iter());
        for name in ["X-One", "x-one", "X-Two"] {
            assert!(named.contains(name.as_bytes()), "{name}");
        }
        for name in ["X", "X-On", "X-Three", ""] {
            assert!(!named.contains(name.as_bytes()), "{name}");
        }
    }
}
