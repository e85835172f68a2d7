//! What a run-up does with a program: reactors here, Go commands.

use super::policy::Wanted;
use super::run_up::{Ended, Ground, Step, launch};
use super::{Census, SnapshotKind};
use crate::backend::Captured;
use crate::contract::json::parse_response;
use crate::engine::Launch;
use crate::host::Reads;
use crate::outcome::Outcome;
use crate::wasm::Form;

/// A program on its way into a snapshot.
pub(super) enum Program<'a> {
    Reactor { plain: &'a Launch },
    Other,
}

/// A state from which requests can be served.
pub(super) struct Held {
    pub(super) kind: SnapshotKind,
    pub(super) state: Captured,
    /// What the monotonic clock showed.
    pub(super) clock: u64,
    pub(super) census: Census,
    /// Whether the program says that it may be warmed up.
    pub(super) ready: bool,
    /// What it wrote to stderr on its way here.
    pub(super) stderr: String,
}

impl Held {
    /// The state in which a step ended, if it can be gone on from.
    fn of(kind: SnapshotKind, ended: Ended) -> Result<Self, String> {
        if ended.stdio_changed {
            return Err("it changes its standard descriptors before it answers".into());
        }
        if ended.descriptors_changed {
            return Err("it has opened a file or folder and not closed it".into());
        }
        let state = ended
            .state
            .ok_or("its state cannot be read on this backend")?;
        Ok(Self {
            kind,
            state,
            clock: ended.clock,
            ready: ended.census.ready,
            census: ended.census,
            stderr: ended.stderr,
        })
    }
}

impl<'a> Program<'a> {
    pub(super) fn of(wanted: &Wanted<'a>) -> Self {
        match wanted.form {
            Form::Reactor { .. } => Self::Reactor {
                plain: &wanted.loaded.plain,
            },
            Form::Command => Self::Other,
        }
    }

    /// Runs it up to where it waits for its first request.
    pub(super) fn first(&self, ground: &Ground<'_>) -> Result<Held, String> {
        match self {
            Self::Reactor { plain } => {
                let entries = plain.entries();
                let Some((_, before)) = entries.split_last().filter(|(_, rest)| !rest.is_empty())
                else {
                    return Err("it is a reactor without _initialize: nothing runs before its handler".into());
                };
                let ended = ground.run(&Step {
                    launch: &plain.with_entries(before),
                    stdin: &[],
                    reads: Reads::Park,
                    capture: true,
                })?;
                if ended.parked {
                    return Err("it reads its request in _initialize".into());
                }
                returned(&ended, "its _initialize")?;
                silent(&ended)?;
                Held::of(SnapshotKind::Initialised, ended)
            }
            Self::Other => Err(
                "it is a command, and not one of Go's: a command of another language cannot be stopped half way".into(),
            ),
        }
    }

    /// Has it serve `sample` for some rounds.
    pub(super) fn warm(
        &mut self,
        ground: &Ground<'_>,
        mut held: Held,
        rounds: u32,
        sample: &[u8],
    ) -> Result<Held, String> {
        let mut stderr = String::new();
        for _ in 0..rounds {
            held = self.round(ground, &held, sample)?;
            if stderr.is_empty() {
                stderr.clone_from(&held.stderr);
            }
        }
        Ok(Held {
            kind: SnapshotKind::Warmed,
            stderr,
            ..held
        })
    }

    fn round(&mut self, ground: &Ground<'_>, held: &Held, sample: &[u8]) -> Result<Held, String> {
        match self {
            Self::Reactor { .. } => {
                let ended = ground.run(&Step {
                    launch: &self.launch(held)?,
                    stdin: sample,
                    reads: Reads::Plain,
                    capture: true,
                })?;
                returned(&ended, "its handler")?;
                answered(&ended)?;
                Held::of(SnapshotKind::Warmed, ended)
            }
            Self::Other => Err("it cannot be snapshotted".into()),
        }
    }

    /// How sandboxes begin at `held`.
    pub(super) fn launch(&self, held: &Held) -> Result<Launch, String> {
        match self {
            Self::Reactor { plain } => {
                let entries = plain.entries();
                let handler = &entries[entries.len().saturating_sub(1)..];
                launch(&held.state, Vec::new(), handler, held.clock)
            }
            Self::Other => Err("it cannot be snapshotted".into()),
        }
    }

    /// Whether nothing is frozen in `held` that must be fresh.
    pub(super) fn fresh(&self, held: &Held) -> Result<(), String> {
        fresh(&held.census, &[], &[])
    }
}

/// Whether a program asked for nothing that would be frozen, beyond random numbers of these lengths and times that are known
/// to be its runtime's own.
fn fresh(census: &Census, random: &[u32], stamps: &[u64]) -> Result<(), String> {
    if let Some(name) = census.first_file {
        return Err(format!(
            "it uses files before it reads its request ({name}, {} calls): what it found would be frozen",
            census.files
        ));
    }
    if census.random != random {
        return Err(format!(
            "it draws random bytes before it reads its request ({} calls): they would be the same in every request",
            census.random.len()
        ));
    }
    if census.realtime.iter().any(|time| !stamps.contains(time)) {
        return Err(
            "it asks for the date before it reads its request: that would be the same in every request".into(),
        );
    }
    Ok(())
}

fn returned(ended: &Ended, what: &str) -> Result<(), String> {
    match &ended.outcome {
        Outcome::Exit(0) if !ended.left => Ok(()),
        Outcome::Exit(code) => Err(format!("{what} exits with code {code} and does not return")),
        Outcome::Trap(trap) => Err(format!("{what} traps: {trap}")),
    }
}

fn silent(ended: &Ended) -> Result<(), String> {
    if ended.stdout.is_empty() {
        return Ok(());
    }
    Err("it writes to stdout before it reads its request".into())
}

fn answered(ended: &Ended) -> Result<(), String> {
    parse_response(&ended.stdout)
        .map(|_| ())
        .map_err(|error| format!("the answer to its sample request is refused: {error}"))
}
