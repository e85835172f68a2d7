//! Converts bytes of header values that are not UTF-8 to characters in JSON, and back.
//!
//! JSON is text, but a header value may have any byte from 0x80. Bytes that are not part of UTF-8 text are written as
//! the last 128 characters of Unicode, U+10FF80 to U+10FFFF: private characters and noncharacters, which texts do not
//! use. In a response each of these characters becomes its byte again, so a value that a guest returns is sent as it
//! came. If a value contains such a character as UTF-8, each of its four bytes is converted in this way, so that the
//! result is not ambiguous.

use std::borrow::Cow;

/// The character for the byte 0x80. The one for 0xFF is the last character of Unicode.
const FIRST: char = '\u{10ff80}';

/// Whether a character represents a byte.
pub(super) fn is_stand_in(character: char) -> bool {
    character >= FIRST
}

/// The character that represents a byte from 0x80.
pub(super) fn of(byte: u8) -> char {
    debug_assert!(byte >= 0x80, "ASCII is text");
    char::from_u32(0x10_ff00 | u32::from(byte)).expect("it is below 0x110000 and no surrogate")
}

/// The first byte of each of these characters in UTF-8.
const LEAD: u8 = 0xf4;

/// The bytes of a value in which some characters may represent bytes.
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
