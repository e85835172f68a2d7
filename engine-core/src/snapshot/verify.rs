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
//! Answer, stderr and exit are compared. With [`SnapshotMode::On`], headers and stderr may be frozen, such as the id
//! that a router draws at its start; status and body may never be.
//!
//! Two things may differ although nothing is frozen:
//!
//! - Values from the runtime's random generators. They are seeded at each start, so a snapshot's differ from those of a
//!   plain start in `first`. If an answer differs only because of them, only the exit is compared.
//! - The order of a map. It depends on a seed of the start, but not on it alone. So where the answers of the two
//!   snapshots differ, they are asked again with other entropy. If they differ in another way then, it is chance.

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

/// The most runs in other worlds, to show that a difference is chance. Many are needed: a Go map of two keys, for
/// example, begins with the first in seven of eight runs.
const MOST_RUNS: u64 = 12;

/// A checkpoint, and how sandboxes start there.
pub(super) struct Recorded {
    pub(super) checkpoint: Checkpoint,
    pub(super) plan: StartPlan,
}

/// The least CPU time that the first sample took from each of two starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) before: Duration,
    pub(super) snapshot: Duration,
}

/// Compares runs of one function's program.
pub(super) struct Verifier<'a> {
    pub(super) recorder: &'a Recorder<'a>,
    pub(super) worlds: Worlds,
    pub(super) samples: &'a [Vec<u8>],
    pub(super) mode: SnapshotMode,
}

impl Verifier<'_> {
    /// Checks that sandboxes which start at `first` answer as those of the plain start do, and that nothing in their
    /// answers is frozen. `second` is the same checkpoint, recorded in another world. `Err` says what differs.
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

    /// Checks that sandboxes which start at `first`, a warm-up of `cold`, answer as those which start at `cold` do, and
    /// that nothing in their answers is frozen.
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

    /// The CPU time of one more run of the first sample from each of two starts.
    pub(super) fn time(&self, before: &StartPlan, snapshot: &StartPlan) -> Result<Times, String> {
        let sample = self.samples.first().ok_or_else(no_samples)?;
        let took = |plan| Ok::<_, String>(self.answer(plan, self.worlds.later(), sample)?.took);
        Ok(Times {
            before: took(before)?,
            snapshot: took(snapshot)?,
        })
    }

    /// The answer of a plain start. It begins in the world of the recording, and continues in the later one where the
    /// recording ended.
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

    /// The answer of a start from a snapshot in `world`, from which its random patches come too.
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

    /// Checks that the snapshot holds all of the program's state.
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
        // The random generators may be the reason. Without patches, they continue as in the plain start.
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

    /// Checks that the answer holds nothing of the world of the recording. Returns the time of the other snapshot's run.
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
            "{} depends on random bytes or the time of the start, and would be the same in every request: {}",
            NAMES[part.min(NAMES.len() - 1)],
            both(&expected[part], &got[part])
        ))
    }

    /// Whether the answers are the same if both snapshots see the same monotonic clock. Otherwise each clock continues
    /// from the time of its capture, and an answer that contains the clock's reading would differ.
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

    /// Checks that a warm-up left nothing that is visible in an answer.
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

/// The same start, with random bytes of `world` in its patches.
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

/// Checks that each random patch replaces bytes that come from the entropy of the start. A generator that the program
/// seeded with a constant is the same in both recordings; it must stay as it is.
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
    "a bug in Gojinn: the contract has no sample requests; please report it".to_owned()
}

/// The names of an answer's [`Parts`] in errors.
const NAMES: [&str; 2] = ["part of its answer", "part of what it writes to stderr"];

/// The answer of one run.
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
        let response = contract.parse_response(&ended.stdout).ok();
        // What lets the request go on is compared as it was written.
        let answer = response.filter(|response| response.next.is_none());
        let response = answer.map(|response| {
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

    /// Whether this answer of a plain start is the same as `other`, that of a snapshot which wrote `before` to stderr
    /// when it was recorded.
    fn is(&self, before: &str, other: &Self) -> bool {
        self.exit == other.exit
            && self.stdout == other.stdout
            && written(&[&self.stderr]) == written(&[before, &other.stderr])
    }

    /// Says how the answer of a start from a snapshot differs from this one.
    fn differs_from(&self, snapshot: &Self, before: &str) -> String {
        if self.exit != snapshot.exit {
            return format!(
                "a plain run ended with {}, and one from the snapshot with {}",
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

    /// The parts of the answer that must not depend on the world of the recording.
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

/// What was written to stderr, without the ends of lines: the snapshot may have been taken in the middle of a line.
fn written(texts: &[&str]) -> Vec<u8> {
    let bytes = texts.iter().flat_map(|text| text.bytes());
    bytes.filter(|byte| *byte != b'\n').collect()
}

/// Shows two texts around the first byte in which they differ.
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
                    features: 0,
                    descriptors_changed: false,
                    state: None,
                    initial: None,
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
