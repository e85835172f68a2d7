//! The kinds of snapshots there are, and what is told of the one that a function got.

use std::time::Duration;

/// Whether a function's sandboxes may start from a snapshot.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SnapshotMode {
    /// They never do.
    Off,
    /// Wherever it is possible, whatever the program got from the host before: files, entropy and times may be frozen.
    On,
    /// Where nothing is frozen that must be fresh.
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

/// Requests that a program serves before its snapshot is taken. What they leave behind in the program's variables is there in
/// every later request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warmup {
    /// How many, from 1 to [`Warmup::MOST`].
    pub rounds: u32,
    /// The request, as it stands on stdin; `None`: a default one, `GET /`.
    pub sample: Option<Vec<u8>>,
}

impl Warmup {
    /// The most rounds. More have shown no effect.
    pub const MOST: u32 = 100;

    /// Rounds of a module that says by `gojinn.ready` that it may be warmed up, where none are asked for.
    pub(crate) const USUAL: u32 = 3;
}

/// What sandboxes start from.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SnapshotKind {
    /// No snapshot: the module's own beginning.
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

/// How a function's sandboxes start, and why not otherwise.
#[derive(Clone, Debug, Default)]
pub struct SnapshotFacts {
    /// What they start from.
    pub kind: SnapshotKind,
    /// Why there is no snapshot, or why it is not the warmed one that was asked for, in words for the log.
    pub why_not: Option<String>,
    /// How long it took to find out, with all run-ups and proofs.
    pub took: Duration,
    /// Bytes of captured memory; 0 without a snapshot.
    pub bytes: u64,
    /// Places in it that differ from sandbox to sandbox.
    pub patches: usize,
    /// What the program wrote to stderr on its way into the snapshot; no request logs that again.
    pub stderr: String,
}
