//! The proof that a snapshot does what the plain start does, made before any request starts from it.
//!
//! For each sample request, plain runs and runs from the snapshot are compared: how they ended, the status, the names of
//! headers, and every word of the body on which the plain runs agree with each other. What they do not agree on is time or
//! chance; what is different in every plain run and always the same from the snapshot is frozen. Patches are looked at where
//! they are written.

use super::patch::Patch;
use super::run_up::{Ended, Ground, Step};
use crate::contract::json::parse_response;
use crate::engine::Launch;
use crate::outcome::Outcome;

/// The most runs of each sample in addition, while something differs: what two runs agree on by chance, more do not. A Go map of
/// two keys, for one, begins with the first in seven of eight runs: so many agree on it once in 300 times.
const MORE_RUNS: usize = 40;

/// Shows that sandboxes which start by `launch` answer as those which start by `plain`; `Err` says what differs.
///
/// `clock` is what the monotonic clock showed when the state was captured.
pub(super) fn prove(
    ground: &Ground<'_>,
    plain: &Launch,
    launch: &Launch,
    clock: u64,
    samples: &[Vec<u8>],
) -> Result<(), String> {
    patched(ground, launch)?;
    for sample in samples {
        let run = |launch| {
            let ended = ground.run(&Step {
                launch,
                stdin: sample,
                reads: launch.reads,
                capture: false,
                tidy: false,
            })?;
            Ok::<_, String>((ended.census.first_monotonic, Answer::of(&ended)))
        };
        let plain = || run(plain).map(|(_, answer)| answer);
        let resumed = || {
            let (reading, answer) = run(launch)?;
            match reading {
                Some(reading) if reading < clock => Err(format!(
                    "its monotonic clock went back, from {clock} ns when it was captured to {reading} ns"
                )),
                _ => Ok(answer),
            }
        };
        // The snapshot's runs lie between plain ones: a date on which those agree is the date that the others saw.
        let mut runs = Runs::default();
        runs.plain.push(plain()?);
        runs.resumed.extend([resumed()?, resumed()?]);
        runs.plain.push(plain()?);
        for _ in 0..MORE_RUNS {
            if runs.compare().is_ok() {
                break;
            }
            runs.resumed.push(resumed()?);
            runs.plain.push(plain()?);
        }
        runs.compare()?;
    }
    Ok(())
}

/// Shows that every patch is written, and that random ones differ from sandbox to sandbox.
fn patched(ground: &Ground<'_>, launch: &Launch) -> Result<(), String> {
    let patches = &launch.point().patches;
    if patches.is_empty() {
        return Ok(());
    }
    // Started and ended at once.
    let untouched = launch.with_entries(&[]);
    let memory = || {
        let ended = ground.run(&Step {
            launch: &untouched,
            stdin: &[],
            reads: launch.reads,
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
}

impl Runs {
    fn compare(&self) -> Result<(), String> {
        let Some(expected) = self.plain.first() else {
            return Ok(());
        };
        if let Some(other) = self.plain.iter().find(|run| run.end != expected.end) {
            return Err(format!(
                "its plain runs do not agree with each other: {}, and then {}",
                expected.end, other.end
            ));
        }
        if let Some(other) = self.resumed.iter().find(|run| run.end != expected.end) {
            return Err(format!(
                "a plain run came to {}, and one from the snapshot to {}",
                expected.end, other.end
            ));
        }
        let count = expected.words.len();
        if self.plain.iter().any(|run| run.words.len() != count) {
            return self.compare_beginnings(expected);
        }
        if let Some(other) = self.resumed.iter().find(|run| run.words.len() != count) {
            return Err(format!(
                "the body of a plain run has {count} words, that of one from the snapshot {}",
                other.words.len()
            ));
        }
        (0..count).try_for_each(|at| self.compare_words(at))
    }

    /// The words at `at`, which all runs have.
    fn compare_words(&self, at: usize) -> Result<(), String> {
        let word = |run: &'_ Answer| run.words.word(at).to_vec();
        let expected = word(&self.plain[0]);
        if self.plain.iter().all(|run| run.words.word(at) == expected) {
            let other = self
                .resumed
                .iter()
                .map(word)
                .find(|other| *other != expected);
            return other.map_or(Ok(()), |other| Err(differ(&expected, &other)));
        }
        let all_differ = self.plain.iter().enumerate().all(|(index, run)| {
            let mut before = self.plain[..index].iter();
            before.all(|other| other.words.word(at) != run.words.word(at))
        });
        let mut resumed = self.resumed.iter().map(|run| run.words.word(at));
        match resumed.next() {
            Some(first) if all_differ && resumed.all(|other| other == first) => Err(format!(
                "every plain run answers something else where each one from the snapshot answers {:?}",
                shown(first)
            )),
            _ => Ok(()),
        }
    }

    /// Plain bodies of several lengths: nothing says which word is which, but where all of them begin alike.
    fn compare_beginnings(&self, expected: &Answer) -> Result<(), String> {
        let alike = |other: &Answer| {
            let count = expected.words.len().min(other.words.len());
            let differs = |&at: &usize| expected.words.word(at) != other.words.word(at);
            (0..count).find(differs).unwrap_or(count)
        };
        let common = self.plain.iter().map(alike).min().unwrap_or(0);
        match self.resumed.iter().find(|run| alike(run) < common) {
            None => Ok(()),
            Some(run) => {
                let at = alike(run);
                Err(differ(expected.words.word(at), run.words.word(at)))
            }
        }
    }
}

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
    words: Words,
}

impl Answer {
    fn of(ended: &Ended) -> Self {
        let (end, body) = match &ended.outcome {
            Outcome::Trap(trap) => (format!("a trap ({})", trap.code.describe()), &[][..]),
            Outcome::Exit(0) => match parse_response(&ended.stdout) {
                Ok(response) => {
                    let names: Vec<_> = response.headers.iter().map(|(name, _)| name).collect();
                    return Self {
                        end: format!("status {} with headers {names:?}", response.status),
                        words: Words::of(&response.body),
                    };
                }
                Err(_) => ("output that is no response".to_owned(), &ended.stdout[..]),
            },
            Outcome::Exit(code) => (format!("exit code {code}"), &[][..]),
        };
        Self {
            end,
            words: Words::of(body),
        }
    }
}

/// A body in words: letters and digits together, everything else by itself.
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
