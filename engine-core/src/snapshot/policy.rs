//! Which snapshot a function gets, if any: the cheapest of those that are allowed and proved.

use std::time::{Duration, Instant};

use super::program::{Held, Program};
use super::run_up::Ground;
use super::{SnapshotFacts, SnapshotKind, SnapshotMode, Warmup, proof, samples};
use crate::engine::Shared;
use crate::error::{Error, Result};
use crate::host;
use crate::launch::{Launch, Loaded};
use crate::limits::Limits;
use crate::wasi::MountSet;
use crate::wasm::Form;

/// Runs of each candidate, of which the quickest counts.
const TIMED: usize = 5;

/// A function that may get a snapshot.
pub(crate) struct Wanted<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) loaded: &'a Loaded,
    pub(crate) program: &'a host::Program,
    /// Values of env and args that each request brings.
    pub(crate) late_values: usize,
    pub(crate) mounts: Option<&'a MountSet>,
    pub(crate) limits: &'a Limits,
    pub(crate) form: Form,
    pub(crate) mode: SnapshotMode,
    pub(crate) warmup: Option<&'a Warmup>,
}

/// Takes a snapshot, proves it, and says what came of it. `Err`: settings that contradict each other.
pub(crate) fn take(wanted: &Wanted<'_>) -> Result<(Option<Launch>, SnapshotFacts)> {
    check(wanted)?;
    let mut facts = SnapshotFacts::default();
    if wanted.mode == SnapshotMode::Off {
        return Ok((None, facts));
    }
    let begun = Instant::now();
    let taken = choose(wanted, &mut facts);
    facts.took = begun.elapsed();
    Ok((
        match taken {
            Ok(chosen) => {
                facts.kind = chosen.kind;
                let point = chosen.launch.point();
                facts.bytes = point.image.as_ref().map_or(0, |image| image.len());
                facts.patches = point.patches.len();
                Some(chosen.launch)
            }
            Err(why) => {
                facts.why_not = Some(why);
                None
            }
        },
        facts,
    ))
}

fn check(wanted: &Wanted<'_>) -> Result<()> {
    if let Some(warmup) = wanted.warmup {
        if wanted.mode == SnapshotMode::Off {
            return Err(Error::config(
                "warmup needs a snapshot, and snapshot is off; leave one of them out",
            ));
        }
        if !(1..=Warmup::MOST).contains(&warmup.rounds) {
            return Err(Error::config(format!(
                "warmup is {}; it must be from 1 to {}",
                warmup.rounds,
                Warmup::MOST
            )));
        }
    }
    if wanted.mode == SnapshotMode::On && wanted.late_values > 0 {
        return Err(Error::config(
            "snapshot is on, and env or args have values that each request brings: a snapshot holds those of its start; \
             take the placeholders out, or set snapshot to auto",
        ));
    }
    Ok(())
}

/// A snapshot that may be used.
struct Candidate {
    kind: SnapshotKind,
    launch: Launch,
    took: Duration,
}

fn choose(wanted: &Wanted<'_>, facts: &mut SnapshotFacts) -> Result<Candidate, String> {
    eligible(wanted)?;
    let ground = Ground::new(
        wanted.shared,
        wanted.loaded,
        wanted.program,
        wanted.mounts,
        wanted.limits,
    );
    let mut program = Program::of(wanted.loaded, wanted.form)?;
    let sample = wanted.warmup.and_then(|warmup| warmup.sample.as_deref());
    let samples = samples::all(sample);

    let first = program.first(&ground)?;
    facts.stderr.clone_from(&first.stderr);
    if wanted.mode == SnapshotMode::Auto {
        program.fresh(&first)?;
    }
    let plain = &wanted.loaded.plain;
    let initial = ground.initial_globals()?;
    let candidate = |program: &Program<'_>, held: &Held| {
        let launch = program.launch(held)?.without_globals(&initial);
        proof::prove(&ground, plain, &launch, held.clock, &samples, wanted.mode)?;
        Ok::<_, String>(Candidate {
            kind: held.kind,
            took: time(&ground, &launch, &samples[0])?,
            launch,
        })
    };
    let cold = candidate(&program, &first);
    let warm = match (wanted.warmup, first.ready) {
        (None, false) => None,
        (warmup, _) => {
            let rounds = warmup.map_or(Warmup::USUAL, |warmup| warmup.rounds);
            let warm = program
                .warm(&ground, first, rounds, &samples[0])
                .and_then(|held| {
                    facts.stderr.push_str(&held.stderr);
                    candidate(&program, &held)
                });
            Some(warm.map_err(|why| format!("it is not warmed up: {why}")))
        }
    };
    let best = match (cold, warm) {
        (Ok(cold), Some(Ok(warm))) if !slower(warm.took, cold.took) => warm,
        (Ok(cold), Some(Ok(warm))) => {
            facts.why_not = Some(format!(
                "it is not warmed up: a request takes {:?} then, and {:?} without",
                warm.took, cold.took
            ));
            cold
        }
        (Ok(cold), Some(Err(why))) => {
            facts.why_not = Some(why);
            cold
        }
        (Ok(cold), None) => cold,
        (Err(_), Some(Ok(warm))) => warm,
        (Err(why), _) => return Err(why),
    };
    let plainly = time(&ground, plain, &samples[0])?;
    if slower(best.took, plainly) {
        return Err(format!(
            "a request takes {:?} from a snapshot, and {plainly:?} without",
            best.took
        ));
    }
    Ok(best)
}

/// What can be said without running anything.
fn eligible(wanted: &Wanted<'_>) -> Result<(), String> {
    let split = &wanted.loaded.split;
    if wanted.late_values > 0 {
        return Err("env or args have values that each request brings".into());
    }
    if wanted.mode == SnapshotMode::Auto && wanted.mounts.is_some_and(MountSet::any_writable) {
        return Err("it has a writable mount, which no run-up sees".into());
    }
    if split.image.is_none() {
        return Err(match &split.why_not {
            Some(why) => format!("its memory cannot be mapped: {why}"),
            None => "it has no memory".into(),
        });
    }
    match &split.hidden_state {
        None => Ok(()),
        Some(hidden) => Err(format!("it has state that cannot be captured: {hidden}")),
    }
}

/// Whether `one` is more than `other`, by more than a few measurements on a busy machine differ. Where it makes no difference,
/// a start that has less to do is the better one.
fn slower(one: Duration, other: Duration) -> bool {
    one > other + other / 4
}

/// The quickest of some requests.
fn time(ground: &Ground<'_>, launch: &Launch, sample: &[u8]) -> Result<Duration, String> {
    let mut best = Duration::MAX;
    for _ in 0..TIMED {
        let ended = ground.answer(launch, sample)?;
        best = best.min(ended.took);
    }
    Ok(best)
}
