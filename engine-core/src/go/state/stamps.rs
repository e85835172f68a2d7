//! Finds the times at which Go's garbage collector has recorded the ends of its cycles.
//!
//! ```text
//!   runtime.memstats, from offset 0    last_gc_unix    uint64         nanoseconds since 1970
//!                                 8    pause_total_ns  uint64
//!                                 16   pause_ns        [256]uint64    rings: cycle k, from 0, at k % 256
//!                                 2064 pause_end       [256]uint64    nanoseconds since 1970
//!                                 4112 numgc           uint32
//! ```

use super::{half_word, statics, word};
use crate::go::GoCommand;

/// The maximum number of addresses at which all fields are compared. There should be one.
const MOST_TRIED: usize = 1000;

const RING: u64 = 256;
const PAUSES: u64 = 16;
const ENDS: u64 = PAUSES + 8 * RING;
const CYCLES: u64 = ENDS + 8 * RING;

/// The readings of the realtime clock, in nanoseconds, that the collector has made, so that they can be told from those
/// of the program. Empty if there were no cycles or more than are recorded, or if the address is not certain.
pub(crate) fn collector_stamps(go: &GoCommand, memory: &[u8]) -> Vec<u64> {
    let Ok(variables) = statics::variables(go, memory) else {
        return Vec::new();
    };
    let mut found = variables
        .step_by(8)
        .filter(|&at| may_be_there(memory, at))
        .take(MOST_TRIED)
        .filter_map(|at| stamps(memory, at));
    match (found.next(), found.next()) {
        (Some(stamps), None) => stamps,
        _ => Vec::new(),
    }
}

/// Whether the time of the last cycle is where the number of cycles says.
fn may_be_there(memory: &[u8], at: u64) -> bool {
    let last = word(memory, at).filter(|last| *last != 0);
    let cycles = half_word(memory, at + CYCLES).map(u64::from);
    let (Some(last), Some(cycles @ 1..=RING)) = (last, cycles) else {
        return false;
    };
    word(memory, at + ENDS + 8 * (cycles - 1)) == Some(last)
}

/// Reads the times, if the fields are consistent.
fn stamps(memory: &[u8], at: u64) -> Option<Vec<u64>> {
    let cycles = half_word(memory, at + CYCLES)? as usize;
    let ring = |at: u64| {
        (0..RING)
            .map(|index| word(memory, at + 8 * index))
            .collect::<Option<Vec<u64>>>()
    };
    let (pauses, ends) = (ring(at + PAUSES)?, ring(at + ENDS)?);
    let (pauses, no_pauses) = pauses.split_at_checked(cycles)?;
    let (ends, no_ends) = ends.split_at_checked(cycles)?;
    let total = pauses
        .iter()
        .try_fold(0, |sum: u64, pause| sum.checked_add(*pause))?;
    let agree = no_pauses.iter().chain(no_ends).all(|unused| *unused == 0)
        && word(memory, at + 8) == Some(total)
        && ends.iter().all(|end| *end != 0);
    agree.then(|| ends.to_vec())
}
