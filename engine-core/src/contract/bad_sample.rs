//! Why a sample request was refused.

use std::fmt;

/// Why a sample request was refused, and at which position of its text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadSample {
    /// The line, from 1.
    line: usize,
    /// The column in characters, from 1.
    column: usize,
    message: String,
}

impl BadSample {
    /// Something is wrong at the byte `offset` of `text`.
    pub(super) fn at(text: &[u8], offset: usize, message: String) -> Self {
        let before = &text[..offset.min(text.len())];
        let begin = before
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        Self {
            line: 1 + before.iter().filter(|&&byte| byte == b'\n').count(),
            column: 1 + String::from_utf8_lossy(&before[begin..]).chars().count(),
            message,
        }
    }
}

/// `LINE:COLUMN: MESSAGE`.
impl fmt::Display for BadSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for BadSample {}
