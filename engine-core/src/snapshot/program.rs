//! What a run-up does with a program: how far it runs before its first request, and how it serves another.

use super::SnapshotKind;
use super::recorder::{Ended, Recorder, Run, plan};
use crate::backend::Captured;
use crate::contract::Contract;
use crate::go::GoCommand;
use crate::go::state as go;
use crate::module::{Loaded, StartPlan};
use crate::outcome::GuestExit;
use crate::sandbox::wasi::Stdio;
use crate::sandbox::{Observed, Reads};
use crate::wasm::{Form, RESUME_EXPORT};

/// A program on its way into a snapshot.
pub(super) enum Program<'a> {
    /// It returns from `_initialize`, and from its handler.
    Reactor { plain: &'a StartPlan },
    /// A command of Go's, which can be stopped in the middle.
    Go {
        plain: &'a StartPlan,
        go: &'a GoCommand,
        /// Whether it was seen to read another request after it had answered one.
        loops: bool,
    },
}

/// A state from which requests can be served.
pub(super) struct Checkpoint {
    pub(super) kind: SnapshotKind,
    pub(super) state: Captured,
    /// What the monotonic clock showed.
    pub(super) clock: u64,
    /// What it did to its standard descriptors.
    stdio: Stdio,
    pub(super) observed: Observed,
    /// Whether the program says that it may be warmed up.
    pub(super) ready: bool,
    /// What it wrote to stderr on its way here.
    pub(super) stderr: String,
}

impl Checkpoint {
    /// The state in which a step ended, if it can be gone on from.
    fn of(kind: SnapshotKind, ended: Ended) -> Result<Self, String> {
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
            stdio: ended.stdio,
            ready: ended.observed.ready,
            observed: ended.observed,
            stderr: ended.stderr,
        })
    }
}

impl<'a> Program<'a> {
    /// `Err` says why there is no way to snapshot it.
    pub(super) fn of(loaded: &'a Loaded, form: Form) -> Result<Self, String> {
        let plain = &loaded.plain;
        match (form, &loaded.split.go) {
            (Form::Reactor { .. }, _) => Ok(Self::Reactor { plain }),
            (Form::Command, Ok(go)) => Ok(Self::Go {
                plain,
                go,
                loops: false,
            }),
            (Form::Command, Err(why)) => Err(format!(
                "it is a command, and only those of Go can be stopped half way; to Go it does not belong: {why}"
            )),
        }
    }

    /// Runs it up to where it waits for its first request.
    pub(super) fn first(&self, recorder: &Recorder<'_>) -> Result<Checkpoint, String> {
        match self {
            Self::Reactor { plain } => {
                let entries = plain.entries();
                let before = match entries.split_last() {
                    Some((_, before)) if !before.is_empty() => before,
                    _ => {
                        return Err(
                            "it is a reactor without _initialize: nothing runs before its handler"
                                .into(),
                        );
                    }
                };
                let ended = recorder.run(&Run {
                    plan: &plain.with_entries(before),
                    stdin: &[],
                    reads: Reads::Park,
                    capture: true,
                    tidy: true,
                })?;
                if ended.parked {
                    return Err("it reads its request in _initialize".into());
                }
                returned(&ended, "its _initialize")?;
                silent(&ended)?;
                Checkpoint::of(SnapshotKind::Initialised, ended)
            }
            Self::Go { plain, go, .. } => {
                let ended = recorder.run(&Run {
                    plan: plain,
                    stdin: &[],
                    reads: Reads::Park,
                    capture: true,
                    tidy: true,
                })?;
                silent(&ended)?;
                parked(go, SnapshotKind::Parked, ended)
            }
        }
    }

    /// Has it serve `sample` for some rounds.
    pub(super) fn warm(
        &mut self,
        recorder: &Recorder<'_>,
        mut held: Checkpoint,
        rounds: u32,
        sample: &[u8],
    ) -> Result<Checkpoint, String> {
        let mut stderr = String::new();
        for round in 1..=rounds {
            // A collection empties pools, which the last round fills again; what it leaves behind is a request's garbage only.
            let tidy = round + 1 == rounds;
            held = self.round(recorder, &held, sample, tidy)?;
            if stderr.is_empty() {
                stderr.clone_from(&held.stderr);
            }
        }
        Ok(Checkpoint { stderr, ..held })
    }

    fn round(
        &mut self,
        recorder: &Recorder<'_>,
        held: &Checkpoint,
        sample: &[u8],
        tidy: bool,
    ) -> Result<Checkpoint, String> {
        let plan = self.resume(held)?;
        match self {
            Self::Reactor { .. } => {
                let ended = recorder.run(&Run {
                    plan: &plan,
                    stdin: sample,
                    reads: Reads::Plain,
                    capture: true,
                    tidy,
                })?;
                returned(&ended, "its handler")?;
                answered(recorder.contract, &ended)?;
                Checkpoint::of(SnapshotKind::Warmed, ended)
            }
            Self::Go { go, loops, .. } => {
                let frame = go::main_frame(go, &held.state.memory, &held.state.globals);
                let ended = recorder.run(&Run {
                    plan: &plan,
                    stdin: sample,
                    reads: Reads::Loop,
                    capture: true,
                    tidy,
                })?;
                if ended.parked {
                    *loops = true;
                    return parked(go, SnapshotKind::Warmed, ended);
                }
                exited(&ended)?;
                answered(recorder.contract, &ended)?;
                let frame = frame?;
                let stderr = ended.stderr.clone();
                let mut held = Checkpoint::of(SnapshotKind::Warmed, ended)?;
                let Captured { memory, globals } = &mut held.state;
                go::rewind(go, &frame, memory, globals)?;
                let again = recorder.run(&Run {
                    plan: &resume_go(&held)?,
                    stdin: &[],
                    reads: Reads::Park,
                    capture: true,
                    tidy,
                })?;
                silent(&again)?;
                let mut held = parked(go, SnapshotKind::Warmed, again)?;
                held.stderr.insert_str(0, &stderr);
                Ok(held)
            }
        }
    }

    /// How sandboxes that serve requests begin at `held`.
    pub(super) fn plan(&self, held: &Checkpoint) -> Result<StartPlan, String> {
        let mut plan = self.resume(held)?;
        if let Self::Go { go, loops, .. } = self {
            let patches = go::generators(go, &held.state.memory, &held.state.globals)?;
            plan = plan.with_patches(patches);
            if *loops {
                plan.reads = Reads::Loop;
            }
        }
        Ok(plan)
    }

    /// How a step of the run-up goes on at `held`.
    fn resume(&self, held: &Checkpoint) -> Result<StartPlan, String> {
        match self {
            Self::Reactor { plain } => {
                let entries = plain.entries();
                let handler = &entries[entries.len().saturating_sub(1)..];
                plan(&held.state, handler, held.clock, held.stdio)
            }
            Self::Go { .. } => resume_go(held),
        }
    }

    /// Whether nothing is frozen in `held` that must be fresh.
    pub(super) fn fresh(&self, held: &Checkpoint) -> Result<(), String> {
        match self {
            Self::Reactor { .. } => fresh(&held.observed, &[], &[]),
            // The seed of the runtime's generators, which are patched, and the ends of collections.
            Self::Go { go, .. } => {
                let stamps = go::collector_stamps(go, &held.state.memory);
                fresh(&held.observed, &[RUNTIME_SEED], &stamps)
            }
        }
    }
}

/// The random bytes that Go's runtime asks for when it starts.
const RUNTIME_SEED: u32 = 32;

fn resume_go(held: &Checkpoint) -> Result<StartPlan, String> {
    plan(
        &held.state,
        &[RESUME_EXPORT.to_owned()],
        held.clock,
        held.stdio,
    )
}

/// The state of a Go command that waits for a request, ready to be resumed.
fn parked(go: &GoCommand, kind: SnapshotKind, ended: Ended) -> Result<Checkpoint, String> {
    if !ended.parked {
        return Err(match &ended.exit {
            GuestExit::Exit(code) => {
                format!("it ends with exit code {code} before it reads its request")
            }
            GuestExit::Trap(trap) => format!("it traps before it reads its request: {trap}"),
        });
    }
    let mut held = Checkpoint::of(kind, ended)?;
    let Captured { memory, globals } = &mut held.state;
    go::park(go, memory, globals)?;
    Ok(held)
}

/// Whether a program asked for nothing that would be frozen, beyond random numbers of these lengths and times that are known
/// to be its runtime's own.
fn fresh(observed: &Observed, random: &[u32], stamps: &[u64]) -> Result<(), String> {
    if let Some(name) = observed.first_file {
        return Err(format!(
            "it uses files before it reads its request ({name}, {} calls): what it found would be frozen",
            observed.files
        ));
    }
    if observed.random != random {
        return Err(format!(
            "it draws random bytes before it reads its request ({} calls): they would be the same in every request",
            observed.random.len()
        ));
    }
    if observed.realtime.iter().any(|time| !stamps.contains(time)) {
        return Err(
            "it asks for the date before it reads its request: that would be the same in every request".into(),
        );
    }
    Ok(())
}

fn returned(ended: &Ended, what: &str) -> Result<(), String> {
    match &ended.exit {
        GuestExit::Exit(0) if !ended.left => Ok(()),
        GuestExit::Exit(code) => Err(format!("{what} exits with code {code} and does not return")),
        GuestExit::Trap(trap) => Err(format!("{what} traps: {trap}")),
    }
}

fn exited(ended: &Ended) -> Result<(), String> {
    match &ended.exit {
        GuestExit::Exit(0) if ended.left => Ok(()),
        GuestExit::Exit(code) => Err(format!("its sample request ends with exit code {code}")),
        GuestExit::Trap(trap) => Err(format!("its sample request ends with a trap: {trap}")),
    }
}

fn silent(ended: &Ended) -> Result<(), String> {
    if ended.stdout.is_empty() {
        return Ok(());
    }
    Err("it writes to stdout before it reads its request".into())
}

fn answered(contract: &dyn Contract, ended: &Ended) -> Result<(), String> {
    contract
        .parse_response(&ended.stdout)
        .map(|_| ())
        .map_err(|error| format!("the answer to its sample request is refused: {error}"))
}
