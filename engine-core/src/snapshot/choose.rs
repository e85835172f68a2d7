//! Which snapshot a function gets, if any: the cheapest of those that are allowed and proved.

use std::time::{Duration, Instant};

use super::program::{Checkpoint, Program};
use super::recorder::Recorder;
use super::{SnapshotFacts, SnapshotKind, SnapshotMode, Warmup, verify};
use crate::backend::SlotSource;
use crate::calls::Calls;
use crate::contract::Contract;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::module::{Loaded, StartPlan};
use crate::sandbox::{self, wasi::MountSet};
use crate::wasm::Form;

/// Runs of each candidate, of which the quickest counts.
const TIMED: usize = 5;

/// A function that may get a snapshot.
pub(crate) struct Wanted<'a> {
    pub(crate) calls: &'a Calls,
    pub(crate) slots: &'a SlotSource,
    pub(crate) contract: &'static dyn Contract,
    pub(crate) loaded: &'a Loaded,
    pub(crate) program: &'a sandbox::Program,
    /// Values of env and args that each request brings.
    pub(crate) per_request_values: usize,
    pub(crate) mounts: Option<&'a MountSet>,
    pub(crate) limits: &'a Limits,
    pub(crate) form: Form,
    pub(crate) mode: SnapshotMode,
    pub(crate) warmup: Option<&'a Warmup>,
}

/// Takes a snapshot, proves it, and says what came of it. `Err`: settings that contradict each other.
pub(crate) fn take(wanted: &Wanted<'_>) -> Result<(Option<StartPlan>, SnapshotFacts)> {
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
                let point = chosen.plan.state();
                facts.bytes = point.image.as_ref().map_or(0, |image| image.len());
                facts.patches = point.patches.len();
                Some(chosen.plan)
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
    if wanted.mode == SnapshotMode::On && wanted.per_request_values > 0 {
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
    plan: StartPlan,
    took: Duration,
}

fn choose(wanted: &Wanted<'_>, facts: &mut SnapshotFacts) -> Result<Candidate, String> {
    eligible(wanted)?;
    let recorder = Recorder::new(
        wanted.calls,
        wanted.slots,
        wanted.contract,
        wanted.loaded,
        wanted.program,
        wanted.mounts,
        wanted.limits,
    );
    let mut program = Program::of(wanted.loaded, wanted.form)?;
    let sample = wanted.warmup.and_then(|warmup| warmup.sample.as_deref());
    let samples = samples(wanted.contract, sample);

    let first = program.first(&recorder)?;
    facts.stderr.clone_from(&first.stderr);
    if wanted.mode == SnapshotMode::Auto {
        program.fresh(&first)?;
    }
    let plain = &wanted.loaded.plain;
    let initial = recorder.initial_globals()?;
    let candidate = |program: &Program<'_>, held: &Checkpoint| {
        let plan = program.plan(held)?.without_globals(&initial);
        verify::verify(&recorder, plain, &plan, held.clock, &samples, wanted.mode)?;
        Ok::<_, String>(Candidate {
            kind: held.kind,
            took: time(&recorder, &plan, &samples[0])?,
            plan,
        })
    };
    let cold = candidate(&program, &first);
    let warm = match (wanted.warmup, first.ready) {
        (None, false) => None,
        (warmup, _) => {
            let rounds = warmup.map_or(Warmup::USUAL, |warmup| warmup.rounds);
            let warm = program
                .warm(&recorder, first, rounds, &samples[0])
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
    let plainly = time(&recorder, plain, &samples[0])?;
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
    if wanted.per_request_values > 0 {
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
fn time(recorder: &Recorder<'_>, plan: &StartPlan, sample: &[u8]) -> Result<Duration, String> {
    let mut best = Duration::MAX;
    for _ in 0..TIMED {
        let ended = recorder.answer(plan, sample)?;
        best = best.min(ended.took);
    }
    Ok(best)
}

/// The requests that a snapshot is verified with: the user's, if there is one, and those of the contract.
pub(super) fn samples(contract: &dyn Contract, user: Option<&[u8]>) -> Vec<Vec<u8>> {
    let mut samples = contract.samples();
    if let Some(user) = user {
        samples.insert(0, user.to_vec());
    }
    samples
}
