//! Chooses which snapshot a function gets, if any: the cheapest of those that are allowed and verified.

use std::time::Instant;

use super::language::{self, Language};
use super::recorder::{Checkpoint, Recorder};
use super::samples::Samples;
use super::verify::{Recorded, Times, Verifier};
use super::worlds::Worlds;
use super::{SnapshotFacts, SnapshotKind, SnapshotMode, Warmup};
use crate::backend::SlotSource;
use crate::calls::Calls;
use crate::contract::{Contract, Fields};
use crate::error::{Error, Result};
use crate::limits::SandboxLimits;
use crate::module::{Loaded, StartPlan};
use crate::sandbox::{self, World, wasi::MountSet};
use crate::wasm::Form;

/// How many more runs are timed if a snapshot seems to be slower. The quickest counts.
const TIMED: usize = 5;

/// A function that may get a snapshot.
pub(crate) struct Wanted<'a> {
    pub(crate) calls: &'a Calls,
    pub(crate) slots: &'a SlotSource,
    pub(crate) contract: &'static dyn Contract,
    pub(crate) include: Fields,
    pub(crate) loaded: &'a Loaded,
    pub(crate) program: &'a sandbox::Program,
    /// How many values of `env` and `args` only a request knows.
    pub(crate) per_request_values: usize,
    pub(crate) mounts: Option<&'a MountSet>,
    pub(crate) limits: &'a SandboxLimits,
    pub(crate) form: Form,
    pub(crate) mode: SnapshotMode,
    pub(crate) warmup: Option<&'a Warmup>,
}

/// Takes a snapshot, verifies it, and returns the start plan, if there is one, with the facts. `Err`: the settings
/// contradict each other.
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
    if wanted.contract.samples(wanted.include).is_empty() {
        let why = cannot_know_requests(wanted.contract);
        if wanted.warmup.is_some() {
            return Err(Error::config(format!(
                "warmup cannot be: {why}; leave it out"
            )));
        }
        if wanted.mode == SnapshotMode::On {
            return Err(Error::config(format!(
                "snapshot is on, but {why}; set snapshot to auto"
            )));
        }
    }
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
            "snapshot is on, but env or args have placeholders of the request, and a snapshot could hold only one value of \
             each; take the placeholders out, or set snapshot to auto",
        ));
    }
    Ok(())
}

/// Why functions of a contract without samples have no snapshot.
fn cannot_know_requests(contract: &dyn Contract) -> String {
    format!(
        "a request of the contract {} is in the environment, which a program may read when it starts",
        contract.name()
    )
}

/// A snapshot that may be used.
struct Candidate {
    kind: SnapshotKind,
    plan: StartPlan,
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
    let language = language::of(wanted.loaded, wanted.form)?;
    let sample = wanted.warmup.and_then(|warmup| warmup.sample.as_deref());
    let samples = Samples::new(wanted.contract, wanted.include, sample);
    let worlds = Worlds::now();
    let verifier = Verifier {
        recorder: &recorder,
        worlds,
        samples: &samples.all,
        mode: wanted.mode,
    };

    let first = language.first(&recorder, worlds.first())?;
    facts.stderr.clone_from(&first.stderr);
    let second = language.first(&recorder, worlds.second())?;
    if wanted.mode == SnapshotMode::Auto {
        language.start_is_fresh(&first, &second)?;
    }
    let initial = recorder.initial_globals(worlds.first())?;
    let recorded = |checkpoint: Checkpoint| {
        let plan = language.plan(&checkpoint)?.without_globals(&initial);
        Ok::<_, String>(Recorded { checkpoint, plan })
    };
    let (first, second) = (recorded(first)?, recorded(second)?);
    let times = verifier.start(&first, &second)?;
    let plain = &wanted.loaded.plain;
    if let Some(times) = slower(&verifier, plain, &first.plan, times)? {
        return Err(format!(
            "a request takes {:?} from a snapshot, and {:?} without",
            times.snapshot, times.before
        ));
    }

    let rounds = match (wanted.warmup, first.checkpoint.asked.ready) {
        (None, false) => None,
        (warmup, _) => Some(warmup.map_or(Warmup::USUAL, |warmup| warmup.rounds)),
    };
    let chosen = match rounds {
        None => None,
        Some(rounds) => {
            let warming = Warming {
                language: &*language,
                verifier: &verifier,
                rounds,
            };
            match warming.any(&samples.turns(), &first, &second, &recorded) {
                Ok(warmed) => {
                    facts.stderr.push_str(&warmed.checkpoint.stderr);
                    Some(warmed)
                }
                Err(why) => {
                    facts.why_not = Some(format!("it is not warmed up: {why}"));
                    None
                }
            }
        }
    };
    let Recorded { checkpoint, plan } = chosen.unwrap_or(first);
    Ok(Candidate {
        kind: checkpoint.kind,
        plan,
    })
}

/// A warm-up of a program.
struct Warming<'a> {
    language: &'a dyn Language,
    verifier: &'a Verifier<'a>,
    rounds: u32,
}

impl Warming<'_> {
    /// The program, warmed up by the first of `choices` that can be used. `Err` says why the first of all cannot.
    fn any(
        &self,
        choices: &[&[Vec<u8>]],
        first: &Recorded,
        second: &Recorded,
        recorded: &dyn Fn(Checkpoint) -> Result<Recorded, String>,
    ) -> Result<Recorded, String> {
        let mut why = None;
        for turns in choices {
            match self.warm(turns, first, second, recorded) {
                Ok(warmed) => return Ok(warmed),
                Err(wrong) => why = why.or(Some(wrong)),
            }
        }
        Err(why.unwrap_or_else(|| "the contract has no samples".to_owned()))
    }

    /// The warmed program, if it answers as without the warm-up and is not slower. `Err` says why there is none.
    fn warm(
        &self,
        turns: &[Vec<u8>],
        first: &Recorded,
        second: &Recorded,
        recorded: &dyn Fn(Checkpoint) -> Result<Recorded, String>,
    ) -> Result<Recorded, String> {
        let Self { verifier, .. } = *self;
        let worlds = verifier.worlds;
        let warm = self.rounds(turns, &first.checkpoint, worlds.first())?;
        let other = self.rounds(turns, &second.checkpoint, worlds.second())?;
        if verifier.mode == SnapshotMode::Auto {
            let mut again =
                || self.rounds(turns, &first.checkpoint, worlds.first_at_another_time());
            self.language.warm_up_is_fresh(&warm, &other, &mut again)?;
        }
        let (warm, other) = (recorded(warm)?, recorded(other)?);
        let times = verifier.warm_up(first, &warm, &other)?;
        match slower(verifier, &first.plan, &warm.plan, times)? {
            None => Ok(warm),
            Some(times) => Err(format!(
                "a request takes {:?} after the warm-up, and {:?} without",
                times.snapshot, times.before
            )),
        }
    }

    /// Lets the program serve one of `turns` in each round, and the first of them in the last round.
    fn rounds(
        &self,
        turns: &[Vec<u8>],
        from: &Checkpoint,
        world: World,
    ) -> Result<Checkpoint, String> {
        let recorder = self.verifier.recorder;
        let mut last: Option<Checkpoint> = None;
        for round in 1..=self.rounds {
            // A garbage collection before the last round empties the program's pools; the last round fills them again,
            // and leaves no more garbage than one request.
            let tidy = round + 1 == self.rounds;
            let sample = &turns[(self.rounds - round) as usize % turns.len()];
            let world = Worlds::round(world, round);
            let from = last.as_ref().unwrap_or(from);
            let mut next = self.language.round(recorder, from, sample, tidy, world)?;
            if let Some(last) = last {
                next.asked = last.asked.and(&next.asked);
                // With the same sample, every round writes the same.
                next.stderr = match round as usize > turns.len() {
                    true => last.stderr,
                    false => last.stderr + &next.stderr,
                };
            }
            last = Some(next);
        }
        last.ok_or_else(|| "a warm-up has no rounds".to_owned())
    }
}

/// Checks what can be checked without running the program. `Err` says why there cannot be a snapshot.
fn eligible(wanted: &Wanted<'_>) -> Result<(), String> {
    if wanted.contract.samples(wanted.include).is_empty() {
        return Err(cannot_know_requests(wanted.contract));
    }
    let split = &wanted.loaded.split;
    if wanted.per_request_values > 0 {
        return Err(
            "env or args have placeholders, and each request brings other values for them".into(),
        );
    }
    if wanted.mode == SnapshotMode::Auto && wanted.mounts.is_some_and(MountSet::any_writable) {
        return Err(
            "it has a writable mount, and a run without a request must not write there".into(),
        );
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

/// The times, if `snapshot` is slower than `before` by more than measurements on a busy machine differ; otherwise `None`.
/// If both take the same time, the snapshot is used: it has less to do.
fn slower(
    verifier: &Verifier<'_>,
    before: &StartPlan,
    snapshot: &StartPlan,
    mut times: Times,
) -> Result<Option<Times>, String> {
    for _ in 0..TIMED {
        if times.snapshot <= times.before + times.before / 4 {
            return Ok(None);
        }
        let more = verifier.time(before, snapshot)?;
        times.before = times.before.min(more.before);
        times.snapshot = times.snapshot.min(more.snapshot);
    }
    Ok(Some(times))
}
