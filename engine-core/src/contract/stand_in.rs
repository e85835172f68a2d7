//! Bytes of header values that are no UTF-8, as characters of JSON and back.
//!
//! JSON is text, and a header value may have any byte from 0x80. Those that belong to no UTF-8 text are written as the last
//! 128 characters of Unicode, U+10FF80 to U+10FFFF: private characters and noncharacters that no text has. On the way out
//! each of them is its byte again, so a value that a guest passes on leaves as it came. If a value contains such a character
//! as UTF-8, each of its four bytes is written in this way, so that nothing is ambiguous.

use std::borrow::Cow;

/// The character in place of the byte 0x80. None is behind that of 0xFF.
const FIRST: char = '\u{10ff80}';

/// Whether a character is in place of a byte.
pub(super) fn is_stand_in(character: char) -> bool {
    character >= FIRST
}

/// The character in place of a byte from 0x80.
pub(super) fn of(byte: u8) -> char {
    debug_assert!(byte >= 0x80, "ASCII is text");
    char::from_u32(0x10_ff00 | u32::from(byte)).expect("it is below 0x110000 and no surrogate")
}

/// The first byte of each of them in UTF-8.
const LEAD: u8 = 0xf4;

/// The bytes of a value in which characters may be in place of some.
pub(super) fn to_bytes(value: Cow<'_, str>) -> Cow<'_, [u8]> {
    if value.as_bytes().contains(&LEAD) {
        let mut bytes = Vec::with_capacity(value.len());
        for character in value.chars() {
            if is_stand_in(character) {
                bytes.push(character as u8);
            } else {
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        return Cow::Owned(bytes);
    }
    match value {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}
