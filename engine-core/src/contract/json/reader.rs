//! A strict reader of one JSON text (RFC 8259), which borrows strings where it can.
//!
//! It is used instead of `serde_json` for three reasons: the authors of guests read its errors, it must notice keys
//! that occur twice (in upper or lower case), and it borrows strings without escapes. The tests compare it with
//! `serde_json`.

use std::borrow::Cow;

use super::super::BadOutput;
use super::super::bad_output::Excerpt;
use super::scan;

/// How deep arrays and objects may be nested, including the outermost object. `serde_json` has the same bound.
pub(super) const MAX_DEPTH: usize = 127;

/// The character that some programs write in front of any text.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// What a text is, for errors.
pub(super) struct Subject {
    /// How the text is called.
    name: &'static str,
    /// What to do if it is not UTF-8.
    not_utf8: &'static str,
    /// What to do if its syntax is wrong.
    syntax: &'static str,
    /// What is wrong if it goes on after the object.
    more: &'static str,
}

/// The output of a guest.
pub(super) const OUTPUT: Subject = Subject {
    name: "the output",
    not_utf8: "send a binary body base64-encoded as body_base64",
    syntax: "print exactly one JSON object to stdout, and anything else (such as logs) to stderr",
    more: "more output after the response",
};

/// A sample request.
pub(super) const SAMPLE: Subject = Subject {
    name: "the sample",
    not_utf8: "write a body that is not text into \"body_base64\"",
    syntax: "a sample is exactly one JSON object",
    more: "more text after the request",
};

/// A position in a JSON text.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    subject: &'static Subject,
}

/// A string as it is between its quotes: checked, but not decoded.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    text: &'a str,
    at: usize,
    escapes: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `text`, which must be UTF-8. A byte order mark is skipped.
    pub(super) fn new(text: &'a [u8], subject: &'static Subject) -> Result<Self, BadOutput> {
        match std::str::from_utf8(text) {
            Ok(text) => Ok(Self::of(text, subject)),
            Err(error) => Err(BadOutput::at(
                error.valid_up_to(),
                format!("{} is not UTF-8; {}", subject.name, subject.not_utf8),
            )),
        }
    }

    /// A reader at the start of `text`, which ends where `text` ceases to be UTF-8.
    pub(super) fn of_valid_part(text: &'a [u8], subject: &'static Subject) -> Self {
        let valid = text.utf8_chunks().next();
        Self::of(valid.map_or("", |chunk| chunk.valid()), subject)
    }

    fn of(text: &'a str, subject: &'static Subject) -> Self {
        let marked = text.starts_with(BYTE_ORDER_MARK);
        let at = if marked {
            BYTE_ORDER_MARK.len_utf8()
        } else {
            0
        };
        Self { text, at, subject }
    }

    /// The position as an offset in bytes, for errors.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Skips white space, and returns the next byte, if there is one.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                next => return next.copied(),
            }
        }
    }

    /// Skips white space, and takes `byte` if it is next.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes a `null`, if it is next.
    pub(super) fn take_null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.take_word("null")
    }

    /// Takes `true` or `false`, if one of them is next.
    pub(super) fn take_bool(&mut self) -> Option<bool> {
        match self.peek() {
            Some(b't') if self.take_word("true") => Some(true),
            Some(b'f') if self.take_word("false") => Some(false),
            _ => None,
        }
    }

    /// Goes back to the position `at`, where a value begins that was taken.
    pub(super) fn go_back(&mut self, at: usize) {
        debug_assert!(at <= self.at, "it was here before");
        self.at = at;
    }

    /// Takes an object. `member` is called with each key, and must take its value.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Raw<'a>) -> Result<(), BadOutput>,
    ) -> Result<(), BadOutput> {
        if !self.take(b'{') {
            return Err(self.unexpected("`{`"));
        }
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let key = self.string()?;
            if !self.take(b':') {
                return Err(self.unexpected("`:`"));
            }
            member(self, key)?;
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
    }

    /// Takes an array. `element` is called for each element, and must take it.
    pub(super) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), BadOutput>,
    ) -> Result<(), BadOutput> {
        if !self.take(b'[') {
            return Err(self.unexpected("`[`"));
        }
        if self.take(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.unexpected("`,` or `]`"));
            }
        }
    }

    /// Takes a string.
    pub(super) fn string(&mut self) -> Result<Raw<'a>, BadOutput> {
        if !self.take(b'"') {
            return Err(self.unexpected("a string"));
        }
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut escapes = false;
        loop {
            self.at += scan::plain(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escapes = true;
                    self.at += self.escape_length()?;
                }
                Some(byte) => {
                    return Err(BadOutput::at(
                        self.at,
                        format!(
                            "a string contains the control character {byte:#04x}; write it as \\u{byte:04x}"
                        ),
                    ));
                }
                None => return Err(self.unexpected("the rest of a string")),
            }
        }
        let text = &self.text[start..self.at];
        self.at += 1;
        Ok(Raw {
            text,
            at: start,
            escapes,
        })
    }

    /// Takes a number as it is written.
    pub(super) fn number(&mut self) -> Result<&'a str, BadOutput> {
        let minus = self.take(b'-');
        let start = self.at - usize::from(minus);
        let whole = self.digits();
        let leading_zero = whole > 1 && self.text.as_bytes()[self.at - whole] == b'0';
        if whole == 0 || leading_zero {
            self.at -= whole;
            return Err(self.unexpected("digits without leading zeros"));
        }
        if self.take_now(|byte| byte == b'.') && self.digits() == 0 {
            return Err(self.unexpected("a digit after the decimal point"));
        }
        if self.take_now(|byte| matches!(byte, b'e' | b'E')) {
            self.take_now(|byte| matches!(byte, b'+' | b'-'));
            if self.digits() == 0 {
                return Err(self.unexpected("a digit in the exponent"));
            }
        }
        Ok(&self.text[start..self.at])
    }

    /// Takes one value of any kind, which is inside of `depth` arrays and objects.
    pub(super) fn skip(&mut self, depth: usize) -> Result<(), BadOutput> {
        let next = self.peek();
        if matches!(next, Some(b'{' | b'[')) && depth >= MAX_DEPTH {
            return Err(BadOutput::at(
                self.at,
                format!(
                    "more than {MAX_DEPTH} arrays and objects inside of each other; nest them less deeply"
                ),
            ));
        }
        match next {
            Some(b'{') => self.object(|reader, _| reader.skip(depth + 1)),
            Some(b'[') => self.array(|reader| reader.skip(depth + 1)),
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ if self.take_word("null") || self.take_word("true") || self.take_word("false") => {
                Ok(())
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    /// The error that something else than `expected` is next.
    #[cold]
    pub(super) fn unexpected(&self, expected: &str) -> BadOutput {
        let rest = &self.text[self.at..];
        match rest.chars().next() {
            Some(_) => {
                let word = rest
                    .split_inclusive(|character: char| !character.is_alphanumeric())
                    .next()
                    .unwrap_or(rest);
                BadOutput::at(
                    self.at,
                    format!(
                        "expected {expected}, found {}; {}",
                        Excerpt(word),
                        self.subject.syntax
                    ),
                )
            }
            None => BadOutput::at(
                self.at,
                format!(
                    "{} ends where {expected} was expected; {}",
                    self.subject.name, self.subject.syntax
                ),
            ),
        }
    }

    /// Checks that only white space is left.
    pub(super) fn end(&mut self) -> Result<(), BadOutput> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(BadOutput::at(
                self.at,
                format!(
                    "{}: {}; {}",
                    self.subject.more,
                    Excerpt(&self.text[self.at..]),
                    self.subject.syntax
                ),
            )),
        }
    }

    /// The length of the escape that begins here.
    fn escape_length(&self) -> Result<usize, BadOutput> {
        let escape = &self.text.as_bytes()[self.at..];
        match escape.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
            Some(b'u') if escape.len() >= 6 && escape[2..6].iter().all(u8::is_ascii_hexdigit) => {
                Ok(6)
            }
            _ => Err(BadOutput::at(
                self.at,
                "a string contains a backslash that does not begin a JSON escape; write a backslash as \\\\",
            )),
        }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Takes the next byte if it `matches`. Unlike [`take`](Self::take) it does not skip white space.
    fn take_now(&mut self, matches: impl Fn(u8) -> bool) -> bool {
        let found = self
            .text
            .as_bytes()
            .get(self.at)
            .is_some_and(|&byte| matches(byte));
        self.at += usize::from(found);
        found
    }

    /// Takes decimal digits and counts them.
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.take_now(|byte| byte.is_ascii_digit()) {}
        self.at - start
    }
}

impl<'a> Raw<'a> {
    /// The offset of its opening quote.
    pub(super) fn begin(self) -> usize {
        self.at - 1
    }

    /// The text with its escapes decoded.
    #[inline]
    pub(super) fn decode(self) -> Result<Cow<'a, str>, BadOutput> {
        if self.escapes {
            self.unescape().map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(self.text))
        }
    }

    fn unescape(self) -> Result<String, BadOutput> {
        // An escape is never shorter than the character that it encodes.
        let mut text = String::with_capacity(self.text.len());
        let mut rest = self.text;
        loop {
            // The string was checked, so only an escape can end a run.
            let (run, escape) = rest.split_at(scan::plain(rest.as_bytes()));
            text.push_str(run);
            let Some(&kind) = escape.as_bytes().get(1) else {
                return Ok(text);
            };
            let (character, length) = match kind {
                b'b' => ('\u{8}', 2),
                b'f' => ('\u{c}', 2),
                b'n' => ('\n', 2),
                b'r' => ('\r', 2),
                b't' => ('\t', 2),
                b'u' => unicode(escape).ok_or_else(|| {
                    BadOutput::at(
                        self.at + self.text.len() - escape.len(),
                        format!(
                            "half a surrogate pair: {}; send a binary body base64-encoded as body_base64",
                            Excerpt(&escape[..6])
                        ),
                    )
                })?,
                _ => (char::from(kind), 2),
            };
            text.push(character);
            rest = &escape[length..];
        }
    }
}

/// The character that a checked `\u....`, or a pair of them, encodes; and the length of the escape or the pair.
fn unicode(escape: &str) -> Option<(char, usize)> {
    let unit = |text: &str| u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let first = unit(escape)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let second = unit(&escape[6..])?;
    if !(0xd800..0xdc00).contains(&first) || !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    Some((char::from_u32(code)?, 12))
}
