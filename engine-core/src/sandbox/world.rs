//! Entropy and clocks that are given to a run in place of the system's, so that the run can be repeated exactly.
//!
//! A snapshot is recorded and verified in such worlds, and no request is ever answered in one. Time goes on by one step for
//! each reading of a clock, and by as much as the guest sleeps, without waiting for it.

use std::time::Duration;

use crate::calls::Interruption;

/// What a run finds: everything that the host gives a guest by chance or by time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct World {
    /// Where the stream of random bytes begins.
    pub(crate) seed: u64,
    /// What the realtime clock shows at the beginning, in nanoseconds since 1970.
    pub(crate) wall: u64,
    /// How far the monotonic clock is ahead of where the start puts it, in nanoseconds.
    pub(crate) ahead: u64,
    /// How many nanoseconds pass with each of the first readings of a clock.
    pub(crate) step: u64,
}

/// So many readings of a clock make the steps between them twice as long: a guest that waits by reading gets there.
const READINGS: u32 = 256;

/// The longest step, in nanoseconds.
const LONGEST_STEP: u64 = 1_000_000;

/// How long a run may sleep in all.
const PATIENCE: Duration = Duration::from_secs(2);

/// A world, and how far a run has got in it.
#[derive(Debug)]
pub(crate) struct WorldState {
    world: World,
    /// The world that the run is given once it has asked so often.
    later: Option<(u64, World)>,
    /// How often it has asked for entropy or time, or slept.
    asked: u64,
    /// State of the stream of random bytes.
    stream: u64,
    /// What the clocks show, in nanoseconds.
    wall: u64,
    monotonic: u64,
    readings: u32,
    slept: Duration,
}

impl WorldState {
    /// The beginning of a run whose monotonic clock starts at `monotonic`, unless the world is ahead of that. With `later`, the run
    /// is in that other world once it has asked for entropy or time so often.
    pub(crate) fn new(world: World, monotonic: u64, later: Option<(u64, World)>) -> Self {
        Self {
            world,
            later,
            asked: 0,
            stream: world.seed,
            wall: world.wall,
            monotonic: monotonic.saturating_add(world.ahead),
            readings: 0,
            slept: Duration::ZERO,
        }
    }

    /// How often the run has asked for entropy or time, or slept.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// Notes that the run asks. To be called once for each hostcall that does.
    pub(crate) fn ask(&mut self) {
        if let Some((_, world)) = self.later.take_if(|(after, _)| *after <= self.asked) {
            let asked = self.asked;
            *self = Self {
                asked,
                ..Self::new(world, self.monotonic, None)
            };
        }
        self.asked += 1;
    }

    /// The next random bytes.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = next(&mut self.stream).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// A reading of the realtime clock.
    pub(crate) fn realtime(&mut self) -> u64 {
        self.step();
        self.wall
    }

    /// A reading of the monotonic clock.
    pub(crate) fn monotonic(&mut self) -> u64 {
        self.step();
        self.monotonic
    }

    /// What the monotonic clock shows, read by the host.
    pub(crate) fn shown(&self) -> u64 {
        self.monotonic
    }

    /// Lets that much time pass. `Err`: the run has slept for too long.
    pub(crate) fn sleep(&mut self, time: Duration) -> Result<(), Interruption> {
        self.slept = self.slept.saturating_add(time);
        if self.slept > PATIENCE {
            return Err(Interruption::Deadline);
        }
        self.pass(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn step(&mut self) {
        let doubled = (self.readings / READINGS).min(20);
        self.readings = self.readings.saturating_add(1);
        self.pass((self.world.step << doubled).min(LONGEST_STEP));
    }

    fn pass(&mut self, nanos: u64) {
        self.wall = self.wall.saturating_add(nanos);
        self.monotonic = self.monotonic.saturating_add(nanos);
    }
}

/// Random bytes of the world with that seed, from another stream than the guest's.
pub(crate) fn bytes_of(seed: u64, bytes: &mut [u8]) {
    let mut stream = !seed;
    for chunk in bytes.chunks_mut(8) {
        let word = next(&mut stream).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

/// splitmix64: good enough that no guest finds it odd, and never used for anything that must be secret.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: World = World {
        seed: 1,
        wall: 1_000,
        ahead: 0,
        step: 1,
    };

    fn drawn(state: &mut WorldState) -> [u8; 20] {
        let mut bytes = [0; 20];
        state.ask();
        state.fill(&mut bytes);
        bytes
    }

    #[test]
    fn the_same_world_gives_the_same_and_another_seed_does_not() {
        let begin = |seed| WorldState::new(World { seed, ..ONE }, 0, None);
        assert_eq!(drawn(&mut begin(1)), drawn(&mut begin(1)));
        assert_ne!(drawn(&mut begin(1)), drawn(&mut begin(2)));
        let mut state = begin(1);
        assert_ne!(drawn(&mut state), drawn(&mut state));
    }

    #[test]
    fn clocks_go_on_together_and_sleeping_takes_no_time() {
        let mut state = WorldState::new(World { ahead: 7, ..ONE }, 500, None);
        assert_eq!(
            (state.shown(), state.realtime(), state.monotonic()),
            (507, 1_001, 509)
        );
        state.sleep(Duration::from_nanos(90)).unwrap();
        assert_eq!((state.realtime(), state.shown()), (1_093, 600));
        assert_eq!(
            state.sleep(Duration::from_secs(3)),
            Err(Interruption::Deadline)
        );
    }

    #[test]
    fn a_guest_that_waits_by_reading_gets_there() {
        let mut state = WorldState::new(ONE, 0, None);
        let mut readings = 0;
        while state.monotonic() < 20_000_000 {
            readings += 1;
        }
        assert!(readings < 10_000, "{readings}");
    }

    #[test]
    fn the_later_world_begins_after_so_many_questions_and_the_monotonic_clock_goes_on() {
        let later = World {
            seed: 2,
            wall: 9_000,
            ahead: 3,
            step: 1,
        };
        let mut state = WorldState::new(ONE, 0, Some((2, later)));
        let before = (drawn(&mut state), drawn(&mut state));
        let mut plain = WorldState::new(ONE, 0, None);
        assert_eq!(before, (drawn(&mut plain), drawn(&mut plain)));
        let mut alone = WorldState::new(later, state.shown(), None);
        assert_eq!(drawn(&mut state), drawn(&mut alone));
        assert_eq!(state.shown(), alone.shown());
        assert_eq!(state.realtime(), 9_001);
        assert_eq!(state.asked(), 3);
    }
}
