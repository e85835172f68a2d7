//! Finds out, while a guest writes, whether its answer is a stream: a head, and a body that is sent as it comes.

/// The longest head of a stream, in bytes. An answer whose head is longer is sent when its guest has ended.
pub(super) const LONGEST_HEAD: usize = 64 * 1024;

/// How far the output of a guest has been looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Scan {
    at: usize,
    depth: u32,
    in_string: bool,
    is_escaped: bool,
    /// Where the last line begins.
    line: usize,
}

/// What the output of a guest begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Begins {
    /// Not enough to say.
    Open,
    /// No head, or one that is longer than the head of a stream may be.
    Else,
    /// A head of so many bytes, with what precedes it.
    Head(usize),
}

impl Scan {
    /// Looks for the end of a JSON object in what was written since the last time: `output` is all of it. The object is not
    /// checked.
    pub fn object(&mut self, output: &[u8]) -> Begins {
        while let Some(&byte) = output.get(self.at) {
            self.at += 1;
            if self.at > LONGEST_HEAD {
                return Begins::Else;
            }
            if self.in_string {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' if self.depth > 0 => self.in_string = true,
                b'{' | b'[' if self.depth > 0 || byte == b'{' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Begins::Head(self.at);
                    }
                }
                _ if self.depth > 0 => {}
                // White space, or a byte of a byte order mark.
                b' ' | b'\t' | b'\n' | b'\r' | 0xef | 0xbb | 0xbf => {}
                _ => return Begins::Else,
            }
        }
        Begins::Open
    }

    /// Looks for an empty line, which ends a block of header fields, in what was written since the last time. The fields are not
    /// checked.
    pub fn header_block(&mut self, output: &[u8]) -> Begins {
        while let Some(end) = output[self.at..].iter().position(|byte| *byte == b'\n') {
            let end = self.at + end;
            let is_empty = matches!(&output[self.line..end], b"" | b"\r");
            (self.at, self.line) = (end + 1, end + 1);
            if self.at > LONGEST_HEAD {
                return Begins::Else;
            }
            if is_empty {
                return Begins::Head(self.at);
            }
        }
        self.at = output.len();
        if self.at > LONGEST_HEAD {
            return Begins::Else;
        }
        Begins::Open
    }
}

/// `bytes` without one line break at the beginning: it ends the head of a stream.
pub(crate) fn after_line_break(bytes: &[u8]) -> &[u8] {
    let rest = bytes.strip_prefix(b"\r\n");
    rest.or_else(|| bytes.strip_prefix(b"\n")).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(output: &[u8]) -> Begins {
        Scan::default().object(output)
    }

    /// The result when each byte is written alone.
    fn in_pieces(output: &[u8]) -> Begins {
        let mut scan = Scan::default();
        for len in 1..=output.len() {
            match scan.object(&output[..len]) {
                Begins::Open => {}
                found => return found,
            }
        }
        Begins::Open
    }

    #[test]
    fn the_end_of_an_object_is_found() {
        let table: &[(&[u8], Begins)] = &[
            (b"", Begins::Open),
            (b" \r\n\t", Begins::Open),
            (b"{}", Begins::Head(2)),
            (b"\xef\xbb\xbf {}\nbody", Begins::Head(6)),
            (b"{\"a\":{\"b\":[1,{}]}} {", Begins::Head(18)),
            (b"{\"a\":\"}\\\"}\"}x", Begins::Head(12)),
            (b"{\"a\":\"\\\\\"}}", Begins::Head(10)),
            (b"{\"a\":\"}", Begins::Open),
            (b"[1]", Begins::Else),
            (b"\"{}\"", Begins::Else),
            (b"hello {}", Begins::Else),
            (b"}", Begins::Else),
        ];
        for &(output, begins) in table {
            assert_eq!(whole(output), begins, "{}", output.escape_ascii());
            assert_eq!(in_pieces(output), begins, "{}", output.escape_ascii());
        }
    }

    #[test]
    fn the_end_of_a_block_of_fields_is_found() {
        let table: &[(&[u8], Begins)] = &[
            (b"", Begins::Open),
            (b"A: b\n", Begins::Open),
            (b"A: b\r\n\r", Begins::Open),
            (b"A: b\n\nbody\n\n", Begins::Head(6)),
            (b"A: b\r\n\r\n\n", Begins::Head(8)),
            (b"A: b\n\r\nx", Begins::Head(7)),
            (b"\nbody", Begins::Head(1)),
            (b"\r\n", Begins::Head(2)),
            (b"A: \r\r\n", Begins::Open),
        ];
        for &(output, begins) in table {
            let text = output.escape_ascii();
            assert_eq!(Scan::default().header_block(output), begins, "{text}");
            let mut scan = Scan::default();
            let mut found = Begins::Open;
            for len in 1..=output.len() {
                found = scan.header_block(&output[..len]);
                if found != Begins::Open {
                    break;
                }
            }
            assert_eq!(found, begins, "{text}, byte by byte");
        }
        let long = vec![b'x'; LONGEST_HEAD + 1];
        assert_eq!(Scan::default().header_block(&long), Begins::Else);
    }

    #[test]
    fn a_head_is_not_endless() {
        let mut long = b"{\"a\":\"".to_vec();
        long.resize(LONGEST_HEAD + 1, b'x');
        assert_eq!(whole(&long), Begins::Else);
        assert_eq!(whole(&long[..LONGEST_HEAD]), Begins::Open);
    }
}
