//! Compares the backends: a guest makes the same sequence of hostcalls on each of them.
//!
//! ```text
//!   bytes ──▶ Scenario ──script──▶ driver.wasm on wasmi, wasmtime, wasmer ──▶ the same log, output and end?
//! ```
//!
//! The guest is always the same module (`driver`). It reads a script from stdin, makes the calls with the script's
//! arguments, and logs each errno, and its whole memory at the end. So no input needs a compilation. And if a request
//! left something behind for the next one, that would be seen as well.

mod driver;
mod lab;
mod scenario;
pub mod seeds;

use std::sync::OnceLock;

use engine_core::{GuestExit, RawRun, TrapCode};

use crate::Target;
use crate::report::{Disagreement, same};

use lab::{Lab, SECRET};
pub use scenario::{Op, Scenario};

/// The target, as the module documentation describes it.
pub const TARGET: Target = Target {
    name: "wasi",
    check,
    dictionary: DICTIONARY,
    max_len: 2048,
};

fn check(input: &[u8]) -> Result<(), Disagreement> {
    static LAB: OnceLock<Lab> = OnceLock::new();
    let lab = LAB.get_or_init(|| match Lab::new() {
        Ok(lab) => lab,
        Err(error) => panic!("the backends cannot be set up: {error}"),
    });
    let scenario = Scenario::decode(input);
    agrees(lab, &scenario).map_err(|found| found.with("scenario", scenario.to_string()))
}

/// Checks that every backend ends the scenario in the same way, within its limits.
fn agrees(lab: &Lab, scenario: &Scenario) -> Result<(), Disagreement> {
    let mut first: Option<(&str, Seen)> = None;
    for (name, guest) in lab.guests(scenario.mounted) {
        let mut run = lab.run(guest.quick, scenario)?;
        check_bounds(lab, name, &run)?;
        if trap(&run) == Some(TrapCode::Deadline) {
            if scenario.may_wait() {
                return Ok(());
            }
            // Either the machine is busy, or the guest does not end. The run with the long deadline tells which.
            run = lab.run(guest.patient, scenario)?;
            if trap(&run) == Some(TrapCode::Deadline) {
                return Err(Disagreement::new(
                    "whether a script without loops and waits ends",
                    (name, format!("{:?} after {:?}", run.exit, run.duration)),
                    ("expected", "an end".to_owned()),
                ));
            }
        }
        let seen = Seen::of(&run);
        match &first {
            None => first = Some((name, seen)),
            Some((first_name, first)) => first.compare(first_name, &seen, name)?,
        }
    }
    lab.check_mount()
}

/// Checks what must hold after any run.
fn check_bounds(lab: &Lab, name: &str, run: &RawRun) -> Result<(), Disagreement> {
    let limits = lab.limits();
    for (what, used, most) in [
        ("bytes of memory", run.memory_peak, limits.memory_bytes()),
        (
            "bytes of stdout",
            run.stdout.len() as u64,
            limits.stdout() as u64,
        ),
        ("bytes of log", run.logs.len() as u64, limits.logs as u64),
    ] {
        if used > most {
            return Err(Disagreement::new(
                what,
                (name, used.to_string()),
                ("limit", most.to_string()),
            ));
        }
    }
    let leaks = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET);
    if leaks(&run.stdout) || leaks(&run.logs) {
        return Err(Disagreement::new(
            "a file outside of the mount",
            (name, "was read".to_owned()),
            ("expected", "cannot be read".to_owned()),
        ));
    }
    if let Some(TrapCode::Host) = trap(run) {
        return Err(Disagreement::new(
            "a fault of the host",
            (name, format!("{:?}", run.exit)),
            ("expected", "an errno".to_owned()),
        ));
    }
    Ok(())
}

fn trap(run: &RawRun) -> Option<TrapCode> {
    match &run.exit {
        GuestExit::Trap(trap) => Some(trap.code),
        GuestExit::Exit(_) => None,
    }
}

/// The results that must be equal on every backend.
#[derive(Debug, Eq, PartialEq)]
struct Seen {
    /// The exit code, or the class of the trap (its text differs between backends).
    end: Result<i32, TrapCode>,
    stdout: Vec<u8>,
    logs: Vec<u8>,
    memory_peak: u64,
    memory_refused: u32,
}

impl Seen {
    fn of(run: &RawRun) -> Self {
        Self {
            end: match &run.exit {
                GuestExit::Exit(code) => Ok(*code),
                GuestExit::Trap(trap) => Err(trap.code),
            },
            stdout: run.stdout.clone(),
            logs: run.logs.clone(),
            memory_peak: run.memory_peak,
            memory_refused: run.memory_refused,
        }
    }

    fn compare(&self, name: &str, other: &Self, other_name: &str) -> Result<(), Disagreement> {
        same("the end", (name, &self.end), (other_name, &other.end))?;
        same(
            "the log: errnos, then memory",
            (name, &Log(&self.logs, &other.logs)),
            (other_name, &Log(&other.logs, &self.logs)),
        )?;
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        same(
            "stdout",
            (name, &shown(&self.stdout)),
            (other_name, &shown(&other.stdout)),
        )?;
        let stats = |seen: &Self| (seen.memory_peak, seen.memory_refused);
        same(
            "memory's peak and refusals",
            (name, &stats(self)),
            (other_name, &stats(other)),
        )
    }
}

/// A packed log whose debug output shows where it differs from another one.
struct Log<'a>(&'a [u8], &'a [u8]);

impl PartialEq for Log<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl std::fmt::Debug for Log<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut others = engine_core::logs::lines(self.1);
        for (index, (level, line)) in engine_core::logs::lines(self.0).enumerate() {
            let other = others.next();
            if other == Some((level, line)) {
                continue;
            }
            let at = other.and_then(|(_, other)| line.iter().zip(other).position(|(a, b)| a != b));
            let at = at.unwrap_or(0);
            let part = &line[at..line.len().min(at + 64)];
            return write!(
                f,
                "line {index} (level {level}, {} bytes), byte {at}: {}",
                line.len(),
                part.escape_ascii()
            );
        }
        write!(f, "nothing after the other's lines")
    }
}

const DICTIONARY: &[&[u8]] = &[
    // Arguments: numbers at the edges, ends of memory.
    &[0x80, 0xff, 0xff],
    &[0x83, 0x01],
    &[0x84, 0x00],
    &[0x84, 0x04],
    &[0x84, 0x08],
    &[0x85, 0x00],
    &[0x85, 0x03],
    &[0x85, 0x05],
    &[0x86, 0x04],
    &[0x87, 0x00],
    // An iovec at 0 of 8 bytes at 256, and calls that use it.
    &[0x00, 0x00, 0x82, 0x00, 0x01, 0, 0, 0x08, 0, 0, 0],
    &[0x03 + 26, 0x01, 0x00, 0x01, 0x10],
    &[0x03 + 20, 0x00, 0x00, 0x01, 0x10],
    b"hello.txt",
    b"folder",
    b"../secret.txt",
    b"way-out",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8]) -> Result<(), Disagreement> {
        TARGET.run(bytes)
    }

    #[test]
    fn a_difference_is_seen_and_shown() {
        let seen = || Seen {
            end: Ok(0),
            stdout: b"out".to_vec(),
            logs: vec![1, 3, 0, 0, 0, b'a', b'b', b'c'],
            memory_peak: 1,
            memory_refused: 0,
        };
        assert_eq!(seen().compare("a", &seen(), "b"), Ok(()));
        let mut other = seen();
        other.logs[7] = b'x';
        let found = seen()
            .compare("a", &other, "b")
            .expect_err("the log differs");
        assert!(found.sides[0].1.ends_with("byte 2: c"), "{found:?}");
        assert!(found.sides[1].1.ends_with("byte 2: x"), "{found:?}");
        for spoil in [
            |seen: &mut Seen| seen.end = Err(TrapCode::Deadline),
            |seen: &mut Seen| seen.stdout.clear(),
            |seen: &mut Seen| seen.memory_peak += 1,
            |seen: &mut Seen| seen.memory_refused += 1,
        ] {
            let mut other = seen();
            spoil(&mut other);
            assert!(seen().compare("a", &other, "b").is_err());
        }
    }

    #[test]
    fn nothing_and_noise_agree() {
        assert_eq!(run(b""), Ok(()));
        for step in 1..=255u8 {
            let noise: Vec<u8> = (0..120u8).map(|index| index.wrapping_mul(step)).collect();
            if !Scenario::decode(&noise).may_wait() {
                assert_eq!(run(&noise), Ok(()));
            }
        }
    }
}
