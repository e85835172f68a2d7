//! Finds the next byte of a text that needs an escape in a JSON string, eight bytes at a time.

/// The number of bytes at the start of `text` that are neither `"`, `\` nor a control character.
pub(super) fn plain(text: &[u8]) -> usize {
    find::<false>(text)
}

/// The number of bytes at the start of `text` that are ASCII, and neither `"`, `\` nor a control character.
pub(super) fn plain_ascii(text: &[u8]) -> usize {
    find::<true>(text)
}

#[inline]
fn find<const ASCII: bool>(text: &[u8]) -> usize {
    let (words, tail) = text.as_chunks::<8>();
    let mut length = 0;
    for word in words {
        let marks = marks::<ASCII>(u64::from_le_bytes(*word));
        if marks != 0 {
            return length + (marks.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    let stops =
        |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\' || (ASCII && !byte.is_ascii());
    length + tail.iter().position(stops).unwrap_or(tail.len())
}

/// A word in which the high bit of each byte that stops the search is set. Only the lowest mark is reliable: bytes
/// above it may be marked wrongly, because a subtraction borrows from them.
#[inline]
fn marks<const ASCII: bool>(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES << 7;
    let below = |word: u64, bound: u64| word.wrapping_sub(ONES * bound) & !word;
    let control = below(word, 0x20);
    let quote = below(word ^ (ONES * b'"' as u64), 1);
    let backslash = below(word ^ (ONES * b'\\' as u64), 1);
    let high = if ASCII { word } else { 0 };
    (control | quote | backslash | high) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_found_at_every_offset() {
        for byte in 0..=255_u8 {
            for filler in [b'a', 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f] {
                for before in 0..20 {
                    let mut text = vec![filler; before];
                    text.push(byte);
                    text.extend([filler; 9]);
                    let stops = byte < 0x20 || byte == b'"' || byte == b'\\';
                    let expected = |stops| if stops { before } else { text.len() };
                    assert_eq!(plain(&text), expected(stops), "{byte:#x} after {before}");
                    assert_eq!(plain_ascii(&text), expected(stops || byte >= 0x80));
                }
            }
        }
    }

    #[test]
    fn the_first_of_several_counts() {
        let text = b"\xff\xfe..\x01\"\\\x80................";
        for start in 0..8 {
            let naive = |ascii: bool| {
                text[start..]
                    .iter()
                    .position(|&byte| {
                        byte < 0x20 || byte == b'"' || byte == b'\\' || (ascii && byte >= 0x80)
                    })
                    .unwrap_or(text.len() - start)
            };
            assert_eq!(plain(&text[start..]), naive(false));
            assert_eq!(plain_ascii(&text[start..]), naive(true));
        }
        assert_eq!(plain(b""), 0);
    }
}
