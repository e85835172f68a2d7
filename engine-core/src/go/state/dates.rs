//! Tells whether a program has used the date, and keeps it: what its garbage collector stores does not count.

use super::{Globals, collector_stamps, unused_stack};
use crate::go::GoCommand;

/// The memory and the globals of a program that was stopped.
pub(crate) type State<'a> = (&'a [u8], &'a Globals);

/// Whether one of the `readings` of the realtime clock was made by the program, and not by the collector.
pub(crate) fn asked_for_date(go: &GoCommand, memory: &[u8], readings: &[u64]) -> bool {
    let stamps = collector_stamps(go, memory);
    readings.iter().any(|time| !stamps.contains(time))
}

/// Whether memory or globals depend on the date, beyond the times of the collector. `one` and `other` are the same program
/// after the same run with the same entropy at two times, so a difference comes from the date.
pub(crate) fn keeps_date(go: &GoCommand, one: State<'_>, other: State<'_>) -> bool {
    let (stamps, other_stamps) = (collector_stamps(go, one.0), collector_stamps(go, other.0));
    let same_shape =
        one.0.len() == other.0.len() && one.1 == other.1 && stamps.len() == other_stamps.len();
    if !same_shape {
        return true;
    }
    let unused = unused_stack(go, one.0, one.1);
    let is_stamp = |pair| {
        let mut pairs = stamps.iter().zip(&other_stamps);
        pairs.any(|(a, b)| forms(*a).zip(forms(*b)).any(|both| both == pair))
    };
    let pairs = words(one.0).zip(words(other.0));
    pairs.enumerate().any(|(index, (one, other))| {
        one != other && !unused.contains(&(8 * index as u64)) && !is_stamp((one, other))
    })
}

/// The forms in which the collector keeps the time of a cycle: one number, and seconds with nanoseconds.
fn forms(time: u64) -> impl Iterator<Item = u64> {
    let second = 1_000_000_000;
    [time, time / second, time % second].into_iter()
}

fn words(memory: &[u8]) -> impl Iterator<Item = u64> {
    let words = memory.as_chunks::<8>().0.iter();
    words.map(|word| u64::from_le_bytes(*word))
}
