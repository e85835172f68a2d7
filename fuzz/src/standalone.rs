//! The targets' program without libFuzzer: it replays files, or tries changed seeds for some time.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use crate::mutate::{Rng, mutate};
use crate::report::unhex;
use crate::shrink::shrink;
use crate::{Disagreement, Target};

const USAGE: &str = "\
replay:  TARGET FILE-OR-DIRECTORY...   each file is an input
         TARGET --hex 7b7d             one input, as a report prints it
search:  TARGET [--seconds 5] [--seed NUMBER]
         tries changed seeds for that long, and prints the seed number that repeats the run";

/// What the command line asks for.
#[derive(Debug, Eq, PartialEq)]
enum Task {
    Replay {
        paths: Vec<PathBuf>,
        inputs: Vec<Vec<u8>>,
    },
    Search {
        time: Duration,
        seed: Option<u64>,
    },
}

/// The `main` of a target. The exit code is a failure if there is a disagreement.
#[must_use]
pub fn main(target: &Target) -> ExitCode {
    let done = match parse(std::env::args_os().skip(1)) {
        Ok(Task::Replay { paths, inputs }) => replay(target, &paths, inputs),
        Ok(Task::Search { time, seed }) => search(target, time, seed),
        Err(problem) => {
            eprintln!("{problem}\n{}", USAGE.replace("TARGET", target.name));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(summary) => {
            println!("{}: {summary}", target.name);
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// All files at `path`, in any depth, sorted by name.
pub fn inputs(path: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    if !path.is_dir() {
        return Ok(vec![(path.to_owned(), fs::read(path)?)]);
    }
    let mut entries = fs::read_dir(path)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        found.extend(inputs(&entry)?);
    }
    Ok(found)
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Task, String> {
    let (mut paths, mut inputs) = (Vec::new(), Vec::new());
    let (mut time, mut seed) = (Duration::from_secs(5), None);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next().and_then(|value| value.into_string().ok());
            value.ok_or_else(|| format!("{} needs a value", argument.display()))
        };
        match argument.to_str() {
            Some("--hex") => {
                let value = value()?;
                inputs.push(unhex(&value).ok_or_else(|| {
                    format!("--hex {value:?}: not an even number of hexadecimal digits")
                })?);
            }
            Some("--seconds") => {
                let value = value()?;
                let seconds = value
                    .parse()
                    .map_err(|_| format!("--seconds {value:?}: not a number of seconds"))?;
                time = Duration::from_secs(seconds);
            }
            Some("--seed") => {
                let value = value()?;
                seed = Some(
                    value
                        .parse()
                        .map_err(|_| format!("--seed {value:?}: not a number"))?,
                );
            }
            Some(other) if other.starts_with('-') => return Err(format!("unknown option {other}")),
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    if paths.is_empty() && inputs.is_empty() {
        return Ok(Task::Search { time, seed });
    }
    Ok(Task::Replay { paths, inputs })
}

fn replay(target: &Target, paths: &[PathBuf], given: Vec<Vec<u8>>) -> Result<String, String> {
    let mut all: Vec<_> = given
        .into_iter()
        .map(|input| (PathBuf::from("--hex"), input))
        .collect();
    for path in paths {
        all.extend(inputs(path).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    for (path, input) in &all {
        target.run(input).map_err(|disagreement| {
            format!(
                "{}: {}",
                path.display(),
                disagreement.report(target.name, input)
            )
        })?;
    }
    Ok(format!("{} inputs, no disagreement", all.len()))
}

fn search(target: &Target, time: Duration, seed: Option<u64>) -> Result<String, String> {
    let directory = target.seeds();
    let seeds = inputs(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let seeds: Vec<_> = seeds.into_iter().map(|(_, input)| input).collect();
    let seed = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(1, |since| since.as_nanos() as u64)
    });
    println!("{}: searching with --seed {seed}", target.name);
    let mut rng = Rng::new(seed);
    let begun = Instant::now();
    let mut tried = 0u64;
    while begun.elapsed() < time {
        let input = mutate(&mut rng, &seeds, target.dictionary, target.max_len);
        tried += 1;
        if let Err(disagreement) = target.run(&input) {
            return Err(found(target, &input, &disagreement));
        }
    }
    Ok(format!("{tried} inputs in {time:?}, no disagreement"))
}

/// Shrinks the input, writes it to a file, and returns the report.
fn found(target: &Target, input: &[u8], disagreement: &Disagreement) -> String {
    let small = shrink(input, |smaller| {
        let about = target.run(smaller).map_err(|found| found.about);
        about.is_err_and(|about| about == disagreement.about)
    });
    // If the disagreement does not occur again, the first report is used.
    let (input, disagreement) = match target.run(&small) {
        Err(disagreement) => (small.as_slice(), disagreement),
        Ok(()) => (input, disagreement.clone()),
    };
    let report = disagreement.report(target.name, input);
    match keep(target, input) {
        Ok(path) => format!("{report}\n  kept in: {}", path.display()),
        Err(error) => format!("{report}\n  (not kept in a file: {error})"),
    }
}

fn keep(target: &Target, input: &[u8]) -> io::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("artifacts")
        .join(target.name);
    fs::create_dir_all(&directory)?;
    // FNV-1a: the same input always gets the same name.
    let name = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let path = directory.join(format!("found-{name:016x}"));
    fs::write(&path, input)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_command_line_says_what_to_do() {
        let search = |seconds, seed| {
            let time = Duration::from_secs(seconds);
            Ok(Task::Search { time, seed })
        };
        assert_eq!(parsed(""), search(5, None));
        assert_eq!(parsed("--seconds 60 --seed 7"), search(60, Some(7)));
        assert_eq!(
            parsed("a --hex 7b7d b/c"),
            Ok(Task::Replay {
                paths: vec!["a".into(), "b/c".into()],
                inputs: vec![b"{}".to_vec()],
            })
        );
        for wrong in ["--hex", "--hex 7", "--seconds x", "--seed -1", "--what"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    /// Disagrees on every input with an `x` in it.
    const NO_X: Target = Target {
        name: "no-x",
        check: |input| crate::report::same("x", ("has x", &input.contains(&b'x')), ("may", &false)),
        dictionary: &[],
        max_len: 10,
    };

    #[test]
    fn a_replay_fails_where_the_oracle_does() {
        let fine = replay(&NO_X, &[], vec![b"abc".to_vec(), b"".to_vec()]);
        assert_eq!(fine, Ok("2 inputs, no disagreement".into()));
        let report = replay(&NO_X, &[], vec![b"axc".to_vec()]).expect_err("there is an x");
        assert!(report.contains("has x: true"), "{report}");
        assert!(report.contains("--hex 617863"), "{report}");
        let missing = replay(&NO_X, &["/no/such/file".into()], vec![]);
        assert!(missing.is_err_and(|problem| problem.starts_with("/no/such/file: ")));
    }
}
