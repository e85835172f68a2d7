//! Verification of a snapshot before any request starts from it, by exact comparison of runs that can be repeated.
//!
//! A run is the same each time in the same [`World`]. So for each sample request:
//!
//! ```text
//!   faithful     plain start in `first`, then `later`   =   snapshot of `first`, in `later`      what was captured is all of it
//!   nothing      snapshot of `first`,  in `later`       =   snapshot of `second`, in `later`     no answer depends on what the
//!   frozen                                                                                       start drew or when it was
//!   nothing      warmed, in `later`                     =   not warmed, in `later`               no answer depends on the samples
//!   kept                                                                                         that came before
//! ```
//!
//! Answer, stderr and exit are compared. With [`SnapshotMode::On`], headers and stderr may be frozen, such as the id that a router
//! draws at its start; status and body may never be.
//!
//! Two things may differ without being frozen. What the runtime's generators give, which are seeded at each start, is different in
//! `first` and in the snapshot; there only the exit is compared. And the order of a map depends on seeds of the start, but not on
//! them alone: what the two snapshots answer differently is not frozen if it is something else with other entropy.

use std::time::Duration;

use super::SnapshotMode;
use super::compare::{Parts, by_time_or_chance, chance};
use super::recorder::{Checkpoint, Ended, Recorder, Run};
use super::worlds::Worlds;
use crate::contract::Contract;
use crate::module::StartPlan;
use crate::outcome::GuestExit;
use crate::sandbox::{World, bytes_of};
use crate::start::Patch;

/// Runs in other worlds, of which one must show that what differs is chance. A Go map of two keys, for one, begins with the first
/// in seven of eight runs.
const MOST_RUNS: u64 = 12;

/// A checkpoint, and how sandboxes start there.
pub(super) struct Recorded {
    pub(super) checkpoint: Checkpoint,
    pub(super) plan: StartPlan,
}

/// The least CPU time of each of the two things that were compared, for the first sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) before: Duration,
    pub(super) snapshot: Duration,
}

/// What is verified, and with what.
pub(super) struct Verifier<'a> {
    pub(super) recorder: &'a Recorder<'a>,
    pub(super) worlds: Worlds,
    pub(super) samples: &'a [Vec<u8>],
    pub(super) mode: SnapshotMode,
}

impl Verifier<'_> {
    /// Shows that sandboxes which start at `first` answer as those of the plain start do, and that nothing in their answers was frozen:
    /// `second` is the same, recorded in another world. `Err` says what differs.
    pub(super) fn start(&self, first: &Recorded, second: &Recorded) -> Result<Times, String> {
        let checkpoint = &first.checkpoint;
        if first.plan.clock < checkpoint.clock {
            return Err(format!(
                "its monotonic clock went back, from {} ns when it was captured to {} ns",
                checkpoint.clock, first.plan.clock
            ));
        }
        seeded(first, second)?;
        let mut times = None;
        for sample in self.samples {
            let plain = self.plain(checkpoint, sample)?;
            let snapshot = self.answer(&first.plan, self.worlds.later(), sample)?;
            self.faithful(first, sample, &plain, &snapshot)?;
            let other = self.not_frozen(first, second, sample, &snapshot)?;
            times.get_or_insert(Times {
                before: plain.took,
                snapshot: snapshot.took.min(other),
            });
        }
        times.ok_or_else(no_samples)
    }

    /// Shows that sandboxes which start at `first`, a warm-up of `cold`, answer as those which start at `cold` do, and that nothing in
    /// their answers was frozen.
    pub(super) fn warm_up(
        &self,
        cold: &Recorded,
        first: &Recorded,
        second: &Recorded,
    ) -> Result<Times, String> {
        seeded(first, second)?;
        let mut times = None;
        for sample in self.samples {
            let later = self.worlds.later();
            let before = self.answer(&cold.plan, later, sample)?;
            let warm = self.answer(&first.plan, later, sample)?;
            let other = self.not_frozen(first, second, sample, &warm)?;
            self.not_kept(cold, sample, &before, &warm)?;
            times.get_or_insert(Times {
                before: before.took,
                snapshot: warm.took.min(other),
            });
        }
        times.ok_or_else(no_samples)
    }

    /// The least CPU time of the first sample by each of two starts, of a few runs more.
    pub(super) fn time(&self, before: &StartPlan, snapshot: &StartPlan) -> Result<Times, String> {
        let sample = self.samples.first().ok_or_else(no_samples)?;
        let took = |plan| Ok::<_, String>(self.answer(plan, self.worlds.later(), sample)?.took);
        Ok(Times {
            before: took(before)?,
            snapshot: took(snapshot)?,
        })
    }

    /// What a plain start answers that begins in the world of the recording, and finds the later one after it.
    fn plain(&self, recorded: &Checkpoint, sample: &[u8]) -> Result<Answer, String> {
        let ended = self.recorder.run(&Run {
            plan: &self.recorder.loaded.plain,
            world: self.worlds.first(),
            later: Some((recorded.questions, self.worlds.later())),
            stdin: sample,
            reads: crate::sandbox::Reads::Plain,
            capture: false,
            tidy: true,
        })?;
        Ok(Answer::of(self.recorder.contract, ended))
    }

    /// What a start at a snapshot answers, in a world that its patches come from, too.
    fn answer(&self, plan: &StartPlan, world: World, sample: &[u8]) -> Result<Answer, String> {
        let ended = self.recorder.run(&Run {
            plan: &patched(plan, world),
            world,
            later: None,
            stdin: sample,
            reads: plan.reads,
            capture: false,
            tidy: true,
        })?;
        Ok(Answer::of(self.recorder.contract, ended))
    }

    /// Shows that the snapshot holds all of the program's state.
    fn faithful(
        &self,
        first: &Recorded,
        sample: &[u8],
        plain: &Answer,
        snapshot: &Answer,
    ) -> Result<(), String> {
        let before = &first.checkpoint.stderr;
        if plain.is(before, snapshot) {
            return Ok(());
        }
        // It may be what the generators give: without patches, they go on from where they were.
        let patches = &first.plan.state().patches;
        let unpatched = first
            .plan
            .with_entries(&first.plan.entries())
            .with_patches(Vec::new());
        let unpatched = if patches.is_empty() {
            None
        } else {
            Some(self.answer(&unpatched, self.worlds.later(), sample)?)
        };
        match unpatched {
            Some(unpatched) if plain.is(before, &unpatched) => {
                if snapshot.exit == plain.exit {
                    return Ok(());
                }
                Err(plain.differs_from(snapshot, before))
            }
            Some(unpatched) => Err(plain.differs_from(&unpatched, before)),
            None => Err(plain.differs_from(snapshot, before)),
        }
    }

    /// Shows that nothing of the world of a recording is in the answer. Returns what the other run took.
    fn not_frozen(
        &self,
        first: &Recorded,
        second: &Recorded,
        sample: &[u8],
        answer: &Answer,
    ) -> Result<Duration, String> {
        let later = self.worlds.later();
        let other = self.answer(&second.plan, later, sample)?;
        let (expected, got) = (answer.parts(self.mode), other.parts(self.mode));
        if expected == got {
            return Ok(other.took);
        }
        if self.same_at_one_time(first, second, sample)? {
            return Ok(other.took);
        }
        let mut pairs = vec![(expected.clone(), got.clone())];
        let mut verdict = Err(0);
        for number in 1..=MOST_RUNS {
            let world = self.worlds.later_by_chance(number);
            let answer = |plan| Ok::<_, String>(self.answer(plan, world, sample)?.parts(self.mode));
            pairs.push((answer(&first.plan)?, answer(&second.plan)?));
            verdict = chance(&pairs);
            if verdict.is_ok() {
                return Ok(other.took);
            }
        }
        let part = verdict.err().unwrap_or(0);
        Err(format!(
            "{} is what the start drew or the time at which it was, and would be the same in every request: {}",
            NAMES[part.min(NAMES.len() - 1)],
            both(&expected[part], &got[part])
        ))
    }

    /// Whether the answers are the same where both snapshots see the same monotonic clock. By default each goes on from where it was
    /// captured, and an answer that tells what the clock shows tells that.
    fn same_at_one_time(
        &self,
        first: &Recorded,
        second: &Recorded,
        sample: &[u8],
    ) -> Result<bool, String> {
        let latest = first.plan.clock.max(second.plan.clock);
        let at = |recorded: &Recorded| {
            let world = World {
                ahead: latest - recorded.plan.clock + 1_000_000_000,
                ..self.worlds.later()
            };
            let answer = self.answer(&recorded.plan, world, sample)?;
            Ok::<_, String>(answer.parts(self.mode))
        };
        Ok(at(first)? == at(second)?)
    }

    /// Shows that a warm-up left nothing that is seen in an answer.
    fn not_kept(
        &self,
        cold: &Recorded,
        sample: &[u8],
        before: &Answer,
        warm: &Answer,
    ) -> Result<(), String> {
        if before.exit != warm.exit {
            return Err(before.differs_from(warm, ""));
        }
        let (expected, got) = (
            before.parts(SnapshotMode::Auto),
            warm.parts(SnapshotMode::Auto),
        );
        if expected == got {
            return Ok(());
        }
        let mut runs = vec![expected.clone()];
        let mut verdict = Err(0);
        for number in 1..=MOST_RUNS {
            let world = self.worlds.later_by_all(number);
            let more = self.answer(&cold.plan, world, sample)?;
            runs.push(more.parts(SnapshotMode::Auto));
            verdict = by_time_or_chance(&runs, &got);
            if verdict.is_ok() {
                return Ok(());
            }
        }
        let part = verdict.err().unwrap_or(0);
        Err(format!(
            "{} shows what requests before it left: {}",
            NAMES[part.min(NAMES.len() - 1)],
            both(&expected[part], &got[part])
        ))
    }
}

/// The same start, with the random bytes of its patches as that world gives them.
fn patched(plan: &StartPlan, world: World) -> StartPlan {
    let mut seed = world.seed;
    let state = plan.state();
    let patches = state.patches.iter().map(|patch| match patch {
        Patch::Random { at, len } => {
            let mut bytes = vec![0; *len as usize];
            seed = seed.rotate_left(7).wrapping_add(1);
            bytes_of(seed, &mut bytes);
            Patch::Bytes {
                at: *at,
                bytes: bytes.into_boxed_slice(),
            }
        }
        Patch::Bytes { .. } => patch.clone(),
    });
    let patches = patches.collect();
    plan.with_entries(&plan.entries()).with_patches(patches)
}

/// Shows that each random patch is written over something that comes from the entropy of the start: a generator that the program
/// seeded with a constant is the same in both recordings, and must stay as it is.
fn seeded(first: &Recorded, second: &Recorded) -> Result<(), String> {
    for patch in &first.plan.state().patches {
        let Patch::Random { at, len } = patch else {
            continue;
        };
        let bytes = |recorded: &Recorded| {
            let at = usize::try_from(*at).ok()?;
            let memory = &recorded.checkpoint.state.memory;
            memory.get(at..at + *len as usize).map(<[u8]>::to_vec)
        };
        match (bytes(first), bytes(second)) {
            (Some(one), Some(other)) if one != other => {}
            (Some(_), Some(_)) => {
                return Err(format!(
                    "the generator at address {at} does not depend on the entropy of the start"
                ));
            }
            _ => {
                return Err(format!(
                    "the patch at address {at} does not fit in its memory"
                ));
            }
        }
    }
    Ok(())
}

fn no_samples() -> String {
    "a bug: the contract has no sample requests".to_owned()
}

/// How the parts are called in errors: of all of an answer, or of what may not be frozen in any case.
const NAMES: [&str; 2] = ["part of its answer", "part of what it writes to stderr"];

/// What came of one run.
struct Answer {
    exit: String,
    stdout: Vec<u8>,
    stderr: String,
    /// Status, names of headers, and body, if the output is a response.
    response: Option<(String, Vec<u8>)>,
    took: Duration,
}

impl Answer {
    fn of(contract: &dyn Contract, ended: Ended) -> Self {
        let response = contract.parse_response(&ended.stdout).ok().map(|response| {
            let names: Vec<_> = response.headers.iter().map(|(name, _)| name).collect();
            (
                format!("status {} with headers {names:?}", response.status),
                response.body.to_vec(),
            )
        });
        Self {
            exit: match &ended.exit {
                GuestExit::Exit(code) => format!("exit code {code}"),
                GuestExit::Trap(trap) => format!("a trap ({})", trap.code.describe()),
            },
            response,
            stdout: ended.stdout,
            stderr: ended.stderr,
            took: ended.took,
        }
    }

    /// Whether a plain start's answer is that of `other`, which was told `before` on stderr when it was recorded.
    fn is(&self, before: &str, other: &Self) -> bool {
        self.exit == other.exit
            && self.stdout == other.stdout
            && written(&[&self.stderr]) == written(&[before, &other.stderr])
    }

    /// In words, how the answer of a start from a snapshot differs from this one.
    fn differs_from(&self, snapshot: &Self, before: &str) -> String {
        if self.exit != snapshot.exit {
            return format!(
                "a plain run came to {}, and one from the snapshot to {}",
                self.exit, snapshot.exit
            );
        }
        let (what, differ) = if self.stdout == snapshot.stdout {
            let (plain, other) = (
                written(&[&self.stderr]),
                written(&[before, &snapshot.stderr]),
            );
            ("on stderr", both(&plain, &other))
        } else {
            ("as its answer", both(&self.stdout, &snapshot.stdout))
        };
        format!("a plain run and one from the snapshot write different things {what}: {differ}")
    }

    /// What must not depend on the world of the recording.
    fn parts(&self, mode: SnapshotMode) -> Parts {
        match (mode, &self.response) {
            (SnapshotMode::On, Some((head, body))) => {
                let answer = [self.exit.as_bytes(), head.as_bytes(), body.as_slice()];
                vec![answer.join(&b'\n')]
            }
            (SnapshotMode::On, None) => vec![[self.exit.as_bytes(), &self.stdout].join(&b'\n')],
            _ => vec![
                [self.exit.as_bytes(), &self.stdout].join(&b'\n'),
                self.stderr.clone().into_bytes(),
            ],
        }
    }
}

/// What was written to stderr, without the ends of lines: a line may be cut where the snapshot was taken.
fn written(texts: &[&str]) -> Vec<u8> {
    let bytes = texts.iter().flat_map(|text| text.bytes());
    bytes.filter(|byte| *byte != b'\n').collect()
}

/// Where two texts differ, in words.
fn both(one: &[u8], other: &[u8]) -> String {
    let at = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let from = at.saturating_sub(8);
    let shown = |text: &[u8]| {
        let part = &text[from.min(text.len())..(at + 24).min(text.len())];
        String::from_utf8_lossy(part).into_owned()
    };
    format!("{:?}, and {:?}", shown(one), shown(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_goes_on_where_the_snapshot_cut_it() {
        let answer = |stderr: &str| Answer {
            exit: "exit code 0".into(),
            stdout: Vec::new(),
            stderr: stderr.into(),
            response: None,
            took: Duration::ZERO,
        };
        let plain = answer("starting… done\nrequest\n");
        assert!(plain.is("starting…\n", &answer(" done\nrequest\n")));
        assert!(!plain.is("starting…\n", &answer(" done\n")));
        let why = plain.differs_from(&answer(" done\n"), "starting…\n");
        assert!(why.contains("on stderr"), "{why}");
    }

    #[test]
    fn on_lets_headers_and_stderr_be_frozen() {
        let stdout = br#"{"status":200,"headers":{"X-Id":["1"]},"body":"b"}"#;
        let other = br#"{"status":200,"headers":{"X-Id":["2"]},"body":"b"}"#;
        let answer = |stdout: &[u8], stderr: &str| {
            Answer::of(
                crate::contract::default(),
                Ended {
                    exit: GuestExit::Exit(0),
                    left: true,
                    parked: false,
                    stdout: stdout.to_vec(),
                    stderr: stderr.into(),
                    clock: 0,
                    asked: crate::sandbox::Asked::default(),
                    questions: 0,
                    stdio: crate::sandbox::wasi::Stdio::default(),
                    descriptors_changed: false,
                    state: None,
                    took: Duration::ZERO,
                },
            )
        };
        let (one, two) = (answer(stdout, "a"), answer(other, "b"));
        assert_eq!(one.parts(SnapshotMode::On), two.parts(SnapshotMode::On));
        assert_ne!(one.parts(SnapshotMode::Auto), two.parts(SnapshotMode::Auto));
        let three = answer(
            br#"{"status":200,"headers":{"X-Id":["1"]},"body":"c"}"#,
            "a",
        );
        assert_ne!(one.parts(SnapshotMode::On), three.parts(SnapshotMode::On));
    }
}
