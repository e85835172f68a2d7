//! The kinds of snapshots, and the facts about the snapshot of one function.

use std::time::Duration;

/// Whether a function's sandboxes may start from a snapshot.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SnapshotMode {
    /// They never do.
    Off,
    /// They do wherever it is possible. Files, entropy and times that the program got before its snapshot may be frozen.
    On,
    /// They do unless the snapshot would freeze something that must be fresh in each request.
    #[default]
    Auto,
}

impl SnapshotMode {
    /// The mode with that name, as in configuration.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "off" => Some(Self::Off),
            "on" => Some(Self::On),
            "auto" => Some(Self::Auto),
            _ => None,
        }
    }
}

/// Requests that a program serves before its snapshot is taken. Every later request finds what they left in the
/// program's variables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warmup {
    /// How many, from 1 to [`Warmup::MOST`].
    pub rounds: u32,
    /// The request, as the contract writes it, with any white space; `None`: those of the contract, in turns. A deployment refuses
    /// a text that is not a request of the function's contract.
    pub sample: Option<Vec<u8>>,
}

impl Warmup {
    /// The most rounds. More have shown no effect.
    pub const MOST: u32 = 100;

    /// The rounds for a module that allows a warm-up by calling `gojinn.ready`, if its configuration names no number.
    pub(crate) const USUAL: u32 = 3;
}

/// What sandboxes start from.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SnapshotKind {
    /// No snapshot: sandboxes start at the beginning of the module.
    #[default]
    None,
    /// A reactor after its `_initialize`.
    Initialised,
    /// A command that waits for its first request.
    Parked,
    /// A program that has served sample requests.
    Warmed,
}

impl SnapshotKind {
    /// The name used in logs and descriptions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Initialised => "initialised",
            Self::Parked => "parked",
            Self::Warmed => "warmed",
        }
    }
}

/// How a function's sandboxes start, and why there is no better start.
#[derive(Clone, Debug, Default)]
pub struct SnapshotFacts {
    /// What they start from.
    pub kind: SnapshotKind,
    /// Why there is no snapshot, or why it is not the warmed one that was asked for, in words for the log.
    pub why_not: Option<String>,
    /// How long it took to record and verify, with all runs.
    pub took: Duration,
    /// Bytes of captured memory; 0 without a snapshot.
    pub bytes: u64,
    /// How many ranges of it get other bytes in each sandbox.
    pub patches: usize,
    /// What the program wrote to stderr before the snapshot was taken. Requests do not log it again.
    pub stderr: String,
}
