//! The worlds in which snapshots are recorded and verified. They differ in everything that a snapshot must not freeze.
//!
//! ```text
//!   recorded in   first    the current date                         ──▶ one snapshot
//!                 second   413 days before, with other entropy       ──▶ another
//!   both run in   later    a few seconds after the first            ──▶ the same answers, or something is frozen
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sandbox::World;

/// The worlds of the recordings and of the runs from them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worlds {
    /// Nanoseconds since 1970, at a whole second.
    now: u64,
}

const SECOND: u64 = 1_000_000_000;

/// 413 days, 7 hours, 33 minutes, 41 seconds and a fraction: no unit of the date is the same.
const LONG_AGO: u64 = ((413 * 24 + 7) * 3600 + 33 * 60 + 41) * SECOND + 210_987_654;

impl Worlds {
    /// The worlds around the current date.
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // The second world is earlier. It must not be before 1970, even if the date of this machine is wrong.
        let seconds = since
            .unwrap_or(Duration::ZERO)
            .as_secs()
            .clamp(LONG_AGO / SECOND * 2, 1 << 33);
        Self {
            now: seconds * SECOND,
        }
    }

    /// The world in which the snapshot that requests may start from is recorded.
    pub(super) fn first(self) -> World {
        World {
            seed: 0x1d_57a7_0001,
            wall: self.now + 456_789_123,
            ahead: 0,
            step: 1,
        }
    }

    /// The world in which the snapshot is recorded that the first is compared with.
    pub(super) fn second(self) -> World {
        World {
            seed: 0x2e_9c33_0002,
            wall: self.first().wall - LONG_AGO,
            ahead: 4 * 24 * 3600 * SECOND + 567_891_234_567,
            step: 1,
        }
    }

    /// The entropy of the first, at the time of the second.
    pub(super) fn first_at_another_time(self) -> World {
        World {
            wall: self.second().wall,
            ..self.first()
        }
    }

    /// The world in which sample requests are answered: a few seconds after the first.
    pub(super) fn later(self) -> World {
        World {
            seed: 0x3f_60d1_0003,
            wall: self.now + 3 * SECOND + 123_456_789,
            ahead: 0,
            step: 1,
        }
    }

    /// Like `later`, with other entropy for each number.
    pub(super) fn later_by_chance(self, number: u64) -> World {
        World {
            seed: self.later().seed + (number << 20),
            ..self.later()
        }
    }

    /// Like `later`, with other entropy, dates and durations for each number.
    pub(super) fn later_by_all(self, number: u64) -> World {
        let later = self.later_by_chance(number);
        World {
            wall: later.wall + number * (3 * 24 * 3600 * SECOND + 3_723 * SECOND + 111_111_111),
            ahead: number * 1_234_567,
            step: 1 + number,
            ..later
        }
    }

    /// The world of a round of a warm-up. A hundred rounds, which is the maximum, end before [`later`](Self::later)
    /// begins.
    pub(super) fn round(world: World, round: u32) -> World {
        World {
            seed: world.seed ^ u64::from(round) << 40,
            wall: world.wall + u64::from(round) * 20_123_457,
            ahead: 0,
            ..world
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worlds_differ_where_they_must() {
        let worlds = Worlds::now();
        let (first, second, later) = (worlds.first(), worlds.second(), worlds.later());
        assert!(second.wall < first.wall && first.wall < later.wall);
        assert!(later.wall - first.wall < 5 * SECOND);
        for unit in [
            1,
            1_000,
            1_000_000,
            SECOND,
            60 * SECOND,
            3600 * SECOND,
            24 * 3600 * SECOND,
        ] {
            assert_ne!(first.wall / unit, second.wall / unit);
        }
        let seeds = [first, second, later, worlds.later_by_chance(1)].map(|world| world.seed);
        let mut sorted = seeds.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), seeds.len());
        assert_ne!(Worlds::round(first, 1).seed, Worlds::round(first, 2).seed);
    }
}
