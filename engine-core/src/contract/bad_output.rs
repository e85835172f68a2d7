//! Why a guest's output was refused.

use std::fmt;

/// Why a guest's output was refused: which rule it breaks, where, and what to do.
///
/// The message is for the log. Its length is bounded, and quoted parts of the guest's output are escaped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadOutput {
    /// The byte of the output at which it breaks the rule, if it is one byte.
    offset: Option<usize>,
    message: String,
}

impl BadOutput {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            offset: None,
            message: message.into(),
        }
    }

    /// A rule that is broken at the byte `offset` of the output.
    pub(super) fn at(offset: usize, message: impl Into<String>) -> Self {
        Self {
            offset: Some(offset),
            message: message.into(),
        }
    }

    /// The offset, and the message without it.
    pub(super) fn into_parts(self) -> (Option<usize>, String) {
        (self.offset, self.message)
    }
}

impl fmt::Display for BadOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(offset) = self.offset {
            write!(f, "byte {offset}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for BadOutput {}

/// Displays at most 40 characters of a guest's text, quoted and escaped to printable ASCII.
pub(super) struct Excerpt<'a>(pub(super) &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX: usize = 40;
        f.write_str("\"")?;
        for character in self.0.chars().take(MAX) {
            write!(f, "{}", character.escape_default())?;
        }
        f.write_str(if self.0.chars().nth(MAX).is_some() {
            "...\""
        } else {
            "\""
        })
    }
}
