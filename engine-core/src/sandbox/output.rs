//! The output of a guest, and how much of it has left: all of it at the guest's end, or as a stream.

use crate::contract::{Begins, Contract, Scan, after_line_break};

/// How much of a stream's body waits at most until the host takes it, in bytes. A guest that writes more waits.
pub(crate) const STREAM_WAITING: usize = 32 * 1024;

/// What becomes of stdout.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Output {
    /// It is read when the guest has ended.
    #[default]
    Whole,
    /// Whether it begins with the head of a stream is not known yet.
    Open(Scan),
    /// It is a stream; neither its head nor the body has left.
    Head {
        /// How many bytes the head has.
        len: usize,
        /// Whether one line break after it is no part of the body.
        line_break: bool,
    },
    /// It is a stream, whose head has left. `begun`: and a part of its body. What is in stdout has not left.
    Body {
        /// Whether a byte of the body, or the line break before it, has left.
        begun: bool,
    },
}

impl Output {
    /// Looks at stdout after a write.
    pub(crate) fn written(&mut self, contract: &dyn Contract, stdout: &[u8]) {
        if let Self::Open(scan) = self {
            match contract.stream_head(scan, stdout) {
                Begins::Open => {}
                Begins::Else => *self = Self::Whole,
                Begins::Head(len) => {
                    let line_break = contract.has_line_break_after_head();
                    *self = Self::Head { len, line_break };
                }
            }
        }
    }

    /// How many more bytes the guest may write to a stream now. `None`: it is no stream.
    pub(crate) fn room(self, stdout: &[u8]) -> Option<usize> {
        let waiting = self.body(stdout)?.len();
        Some(STREAM_WAITING.saturating_sub(waiting))
    }

    /// The part of the body that is in stdout, if it is a stream.
    pub(crate) fn body(self, stdout: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Whole | Self::Open(_) => None,
            Self::Head {
                len,
                line_break: true,
            } => Some(after_line_break(&stdout[len..])),
            Self::Head { len, .. } => Some(&stdout[len..]),
            Self::Body { begun: false } => Some(after_line_break(stdout)),
            Self::Body { begun: true } => Some(stdout),
        }
    }

    /// Notes that the head, and the body as far as it is in stdout, have left.
    pub(crate) fn left(&mut self, stdout: &mut Vec<u8>) {
        *self = match *self {
            Self::Head { len, line_break } => Self::Body {
                begun: !line_break || stdout.len() > len,
            },
            Self::Body { begun } => Self::Body {
                begun: begun || !stdout.is_empty(),
            },
            other => return *self = other,
        };
        stdout.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_leaves_in_parts() {
        let contract = crate::contract::default();
        let mut output = Output::Open(Scan::default());
        let mut stdout = b"{\"stream\":".to_vec();
        output.written(contract, &stdout);
        assert_eq!(output.room(&stdout), None);
        stdout.extend(b"true}");
        output.written(contract, &stdout);
        let head = Output::Head {
            len: 15,
            line_break: true,
        };
        assert_eq!(output, head);
        assert_eq!(output.body(&stdout), Some(&b""[..]));
        output.left(&mut stdout);
        assert_eq!(output, Output::Body { begun: false });
        // The line break after the head comes later, and is not part of the body.
        stdout.extend(b"\nbody");
        assert_eq!(output.body(&stdout), Some(&b"body"[..]));
        output.left(&mut stdout);
        stdout.extend(b"\nmore");
        assert_eq!(output.body(&stdout), Some(&b"\nmore"[..]));
        assert_eq!(output.room(&stdout), Some(STREAM_WAITING - 5));
    }

    #[test]
    fn what_is_no_stream_stays_whole() {
        let contract = crate::contract::default();
        for text in [
            "{\"status\":200}",
            "{\"stream\":false}",
            "[]",
            "{\"stream\":1}",
        ] {
            let mut output = Output::Open(Scan::default());
            output.written(contract, text.as_bytes());
            assert_eq!(output, Output::Whole, "{text}");
            assert_eq!(output.body(text.as_bytes()), None);
        }
    }
}
