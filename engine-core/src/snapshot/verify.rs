//! The proof that a snapshot does what the plain start does, made before any request starts from it.
//!
//! For each sample request, plain runs and runs from the snapshot are compared: how they ended, the status, the names of
//! headers, and every word of their values and of the body on which the plain runs agree with each other. What they do not
//! agree on is time or chance; what is different in every plain run and always the same from the snapshot is frozen. Patches are looked at where
//! they are written.

use super::SnapshotMode;
use super::recorder::{Ended, Recorder, Run};
use crate::contract::Contract;
use crate::module::StartPlan;
use crate::outcome::GuestExit;
use crate::start::Patch;

/// Runs of each sample in addition, after something differed: what two runs agree on by chance, more do not.
const MORE_RUNS: usize = 6;

/// The most plain runs after that, for a word on which all of them agree and the snapshot does not. A Go map of two keys, for one,
/// begins with the first in seven of eight runs: this many agree on it once in 300 times.
const MOST_RUNS: usize = 40;

/// Shows that sandboxes which start by `launch` answer as those which start by `plain`; `Err` says what differs.
///
/// `clock` is what the monotonic clock showed when the state was captured. With [`SnapshotMode::On`] headers may be frozen, such as
/// the id that a router draws at its start; bodies may never be.
pub(super) fn verify(
    recorder: &Recorder<'_>,
    plain: &StartPlan,
    plan: &StartPlan,
    clock: u64,
    samples: &[Vec<u8>],
    mode: SnapshotMode,
) -> Result<(), String> {
    patched(recorder, plan)?;
    for sample in samples {
        let run = |plan| {
            let ended = recorder.answer(plan, sample)?;
            Ok::<_, String>((
                ended.observed.first_monotonic,
                Answer::of(recorder.contract, &ended),
            ))
        };
        let plain = || run(plain).map(|(_, answer)| answer);
        let resumed = || {
            let (reading, answer) = run(plan)?;
            match reading {
                Some(reading) if reading < clock => Err(format!(
                    "its monotonic clock went back, from {clock} ns when it was captured to {reading} ns"
                )),
                _ => Ok(answer),
            }
        };
        // The snapshot's runs lie between plain ones: a date on which those agree is the date that the others saw.
        let mut runs = Runs {
            mode,
            ..Runs::default()
        };
        runs.plain.push(plain()?);
        runs.resumed.extend([resumed()?, resumed()?]);
        runs.plain.push(plain()?);
        if runs.compare().is_ok() {
            continue;
        }
        for _ in 0..MORE_RUNS {
            runs.resumed.push(resumed()?);
            runs.plain.push(plain()?);
        }
        for _ in runs.plain.len()..MOST_RUNS {
            match runs.compare() {
                Err(Differs::Perhaps(_)) => {}
                Ok(()) | Err(Differs::Surely(_)) => break,
            }
            // One of another length would end the comparison word by word, and with it the search for what is frozen.
            let more = plain()?;
            let first = &runs.plain[0];
            if more.end != first.end || more.has_as_many_words(first) {
                runs.plain.push(more);
            }
        }
        runs.compare().map_err(Differs::why)?;
    }
    Ok(())
}

/// Shows that every patch is written, and that random ones differ from sandbox to sandbox.
fn patched(recorder: &Recorder<'_>, plan: &StartPlan) -> Result<(), String> {
    let patches = &plan.state().patches;
    if patches.is_empty() {
        return Ok(());
    }
    // Started and ended at once.
    let untouched = plan.with_entries(&[]);
    let memory = || {
        let ended = recorder.run(&Run {
            plan: &untouched,
            stdin: &[],
            reads: plan.reads,
            capture: true,
            tidy: false,
        })?;
        ended
            .state
            .map(|state| state.memory)
            .ok_or("its state cannot be read".to_owned())
    };
    let (one, other) = (memory()?, memory()?);
    for patch in patches {
        if !patch.fits(one.len() as u64) || !patch.fits(other.len() as u64) {
            return Err(format!("a patch lies outside of its memory: {patch:?}"));
        }
        let (written, at) = match patch {
            Patch::Random { at, len } => {
                let place = *at as usize..*at as usize + *len as usize;
                (one[place.clone()] != other[place], at)
            }
            Patch::Bytes { at, bytes } => {
                let place = *at as usize..*at as usize + bytes.len();
                let same = one[place.clone()] == **bytes && other[place] == **bytes;
                (same, at)
            }
        };
        if !written {
            return Err(format!("the patch at address {at} was not written"));
        }
    }
    Ok(())
}

/// What is known of one sample.
#[derive(Default)]
struct Runs {
    plain: Vec<Answer>,
    resumed: Vec<Answer>,
    mode: SnapshotMode,
}

/// What differs between plain runs and those from the snapshot, in words for the log.
enum Differs {
    /// More plain runs may show that it is chance.
    Perhaps(String),
    Surely(String),
}

impl Differs {
    fn why(self) -> String {
        match self {
            Self::Perhaps(why) | Self::Surely(why) => why,
        }
    }

    fn within(self, place: &str) -> Self {
        match self {
            Self::Perhaps(why) => Self::Perhaps(format!("{place}, {why}")),
            Self::Surely(why) => Self::Surely(format!("{place}, {why}")),
        }
    }
}

impl Runs {
    fn compare(&self) -> Result<(), Differs> {
        let Some(expected) = self.plain.first() else {
            return Ok(());
        };
        if let Some(other) = self.plain.iter().find(|run| run.end != expected.end) {
            return Err(Differs::Surely(format!(
                "its plain runs do not agree with each other: {}, and then {}",
                expected.end, other.end
            )));
        }
        if let Some(other) = self.resumed.iter().find(|run| run.end != expected.end) {
            return Err(Differs::Surely(format!(
                "a plain run came to {}, and one from the snapshot to {}",
                expected.end, other.end
            )));
        }
        let may_be_frozen = self.mode == SnapshotMode::On;
        self.compare_words(&expected.values, |run| &run.values, may_be_frozen)
            .map_err(|differs| differs.within("in the headers"))?;
        self.compare_words(&expected.body, |run| &run.body, false)
    }

    /// One part of the answers.
    fn compare_words(
        &self,
        expected: &Words,
        part: Part,
        may_be_frozen: bool,
    ) -> Result<(), Differs> {
        let count = expected.len();
        if self.plain.iter().any(|run| part(run).len() != count) {
            return self.compare_beginnings(expected, part);
        }
        if let Some(other) = self.resumed.iter().find(|run| part(run).len() != count) {
            return Err(Differs::Surely(format!(
                "a plain run answers {count} words, and one from the snapshot {}",
                part(other).len()
            )));
        }
        (0..count).try_for_each(|at| {
            self.compare_word(at, part)?;
            if may_be_frozen {
                return Ok(());
            }
            self.find_frozen(at, part)
        })
    }

    /// The words at `at`, which all runs have.
    fn compare_word(&self, at: usize, part: Part) -> Result<(), Differs> {
        let expected = part(&self.plain[0]).word(at);
        if self.plain.iter().any(|run| part(run).word(at) != expected) {
            return Ok(());
        }
        let mut resumed = self.resumed.iter().map(|run| part(run).word(at));
        resumed
            .find(|other| *other != expected)
            .map_or(Ok(()), |other| {
                Err(Differs::Perhaps(differ(expected, other)))
            })
    }

    /// Whether the words at `at` are different in every plain run, and always the same from the snapshot.
    fn find_frozen(&self, at: usize, part: Part) -> Result<(), Differs> {
        let all_differ = self.plain.iter().enumerate().all(|(index, run)| {
            let mut before = self.plain[..index].iter();
            before.all(|other| part(other).word(at) != part(run).word(at))
        });
        let mut resumed = self.resumed.iter().map(|run| part(run).word(at));
        match resumed.next() {
            Some(first) if all_differ && resumed.all(|other| other == first) => {
                Err(Differs::Surely(format!(
                    "every plain run answers something else where each one from the snapshot answers {:?}",
                    shown(first)
                )))
            }
            _ => Ok(()),
        }
    }

    /// Plain answers of several lengths: nothing says which word is which, but where all of them begin alike.
    fn compare_beginnings(&self, expected: &Words, part: Part) -> Result<(), Differs> {
        let alike = |other: &Answer| {
            let count = expected.len().min(part(other).len());
            let differs = |&at: &usize| expected.word(at) != part(other).word(at);
            (0..count).find(differs).unwrap_or(count)
        };
        let common = self.plain.iter().map(alike).min().unwrap_or(0);
        match self.resumed.iter().find(|run| alike(run) < common) {
            None => Ok(()),
            Some(run) => {
                let at = alike(run);
                Err(Differs::Surely(differ(
                    expected.word(at),
                    part(run).word(at),
                )))
            }
        }
    }
}

/// The values of headers, or the body.
type Part = fn(&Answer) -> &Words;

fn differ(plain: &[u8], resumed: &[u8]) -> String {
    format!(
        "all plain runs answer {:?} where one from the snapshot answers {:?}",
        shown(plain),
        shown(resumed)
    )
}

/// The beginning of a word, for an error.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(40)]).into_owned()
}

/// What came of one run.
struct Answer {
    /// How it ended, with status and names of headers if that was an answer.
    end: String,
    /// The values of headers, one after the other.
    values: Words,
    body: Words,
}

impl Answer {
    fn has_as_many_words(&self, other: &Self) -> bool {
        (self.values.len(), self.body.len()) == (other.values.len(), other.body.len())
    }

    fn of(contract: &dyn Contract, ended: &Ended) -> Self {
        let (end, body) = match &ended.exit {
            GuestExit::Trap(trap) => (format!("a trap ({})", trap.code.describe()), &[][..]),
            GuestExit::Exit(0) => match contract.parse_response(&ended.stdout) {
                Ok(response) => {
                    let names: Vec<_> = response.headers.iter().map(|(name, _)| name).collect();
                    let mut values = Vec::new();
                    for (_, value) in &response.headers {
                        values.extend_from_slice(value);
                        values.push(b'\n');
                    }
                    return Self {
                        end: format!("status {} with headers {names:?}", response.status),
                        values: Words::of(&values),
                        body: Words::of(&response.body),
                    };
                }
                Err(_) => ("output that is no response".to_owned(), &ended.stdout[..]),
            },
            GuestExit::Exit(code) => (format!("exit code {code}"), &[][..]),
        };
        Self {
            end,
            values: Words::default(),
            body: Words::of(body),
        }
    }
}

/// Text in words: letters and digits together, everything else by itself.
#[derive(Default)]
struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    fn of(body: &[u8]) -> Self {
        let words = body
            .chunk_by(|one, other| one.is_ascii_alphanumeric() && other.is_ascii_alphanumeric());
        let mut end = 0;
        let ends = words.map(|word| {
            end += word.len();
            end
        });
        Self {
            ends: ends.collect(),
            bytes: body.to_vec(),
        }
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    /// The word at `at`; empty if there are fewer.
    fn word(&self, at: usize) -> &[u8] {
        let begin = at
            .checked_sub(1)
            .map_or(0, |before| self.ends.get(before).copied().unwrap_or(0));
        self.ends
            .get(at)
            .map_or(&[], |&end| &self.bytes[begin..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(value: &str, body: &str) -> Answer {
        Answer {
            end: "status 200".into(),
            values: Words::of(value.as_bytes()),
            body: Words::of(body.as_bytes()),
        }
    }

    fn runs(mode: SnapshotMode, plain: &[(&str, &str)], resumed: &[(&str, &str)]) -> Runs {
        let answers = |parts: &[(&str, &str)]| {
            let answers = parts.iter().map(|(value, body)| answer(value, body));
            answers.collect()
        };
        Runs {
            plain: answers(plain),
            resumed: answers(resumed),
            mode,
        }
    }

    #[track_caller]
    fn differs(runs: &Runs) -> Differs {
        runs.compare().expect_err("a difference")
    }

    #[test]
    fn what_differs_in_every_plain_run_and_never_from_the_snapshot_is_frozen() {
        let body = |mode| {
            let plain = [("a", "id 1"), ("a", "id 2")];
            runs(mode, &plain, &[("a", "id 3"), ("a", "id 3")])
        };
        let header = |mode| {
            let plain = [("id-1", "a"), ("id-2", "a")];
            runs(mode, &plain, &[("id-3", "a"), ("id-3", "a")])
        };
        for frozen in [
            body(SnapshotMode::Auto),
            body(SnapshotMode::On),
            header(SnapshotMode::Auto),
        ] {
            let Differs::Surely(why) = differs(&frozen) else {
                panic!("more plain runs would not show another reason");
            };
            assert!(why.contains("each one from the snapshot answers \"3\""));
        }
        assert!(header(SnapshotMode::On).compare().is_ok());
    }

    #[test]
    fn what_differs_on_both_sides_is_time_or_chance() {
        let plain = [("at 1", "x1 y"), ("at 2", "x2 y")];
        let resumed = [("at 3", "x3 y"), ("at 4", "x4 y")];
        let runs = runs(SnapshotMode::Auto, &plain, &resumed);
        assert!(runs.compare().is_ok());
    }

    #[test]
    fn what_all_plain_runs_agree_on_must_be_the_same() {
        for resumed in [("text", "y"), ("json", "x")] {
            for mode in [SnapshotMode::Auto, SnapshotMode::On] {
                let mut runs = runs(mode, &[("text", "x"), ("text", "x")], &[("text", "x")]);
                assert!(runs.compare().is_ok());
                runs.resumed.push(answer(resumed.0, resumed.1));
                let Differs::Perhaps(why) = differs(&runs) else {
                    panic!("it may be chance");
                };
                assert!(why.contains("all plain runs answer"), "{why}");
                assert_eq!(why.contains("in the headers"), resumed.1 == "x", "{why}");
                // It was.
                runs.plain.push(answer(resumed.0, resumed.1));
                assert!(runs.compare().is_ok());
            }
        }
    }

    #[test]
    fn lengths_are_compared_where_plain_runs_agree_on_them() {
        let plain = [("", "a b"), ("", "a b")];
        let mut runs = runs(SnapshotMode::Auto, &plain, &[("", "a b c")]);
        assert!(matches!(differs(&runs), Differs::Surely(_)));
        // Then only the beginning is.
        runs.plain.push(answer("", "a b d e"));
        assert!(runs.compare().is_ok());
        runs.resumed.push(answer("", "b"));
        assert!(matches!(differs(&runs), Differs::Surely(_)));
    }

    #[test]
    fn ends_must_be_the_same() {
        let mut runs = runs(SnapshotMode::Auto, &[("", "a")], &[("", "a")]);
        runs.resumed[0].end = "status 500".into();
        assert!(matches!(differs(&runs), Differs::Surely(why) if why.contains("came to")));
        runs.plain.push(answer("", "a"));
        runs.plain[1].end = "status 404".into();
        assert!(matches!(differs(&runs), Differs::Surely(why) if why.contains("do not agree")));
    }
}
