//! Clocks: the real one is real, the monotonic one belongs to the sandbox.

use std::time::{Instant, SystemTime};

use super::errno::{Errno, answer};
use super::guest::write;
use crate::sandbox::{HostState, Stop};

/// The clocks of preview 1. CPU time is answered with elapsed time: a sandbox runs on one thread from start to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Clock {
    Real,
    Monotonic,
}

impl Clock {
    /// The clock with that id.
    #[inline]
    pub(super) fn from_id(id: u32) -> Result<Self, Errno> {
        match id {
            0 => Ok(Self::Real),
            1..=3 => Ok(Self::Monotonic),
            _ => Err(Errno::INVAL),
        }
    }

    /// What it shows now, in nanoseconds.
    #[inline]
    pub(super) fn now(self, host: &mut HostState) -> Result<u64, Errno> {
        match self {
            Self::Real => {
                if let Some(observed) = &mut host.observed {
                    return Ok(observed.realtime());
                }
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let nanos = since.map_err(|_| Errno::OVERFLOW)?.as_nanos();
                u64::try_from(nanos).map_err(|_| Errno::OVERFLOW)
            }
            Self::Monotonic => {
                if let Some(observed) = &mut host.observed {
                    return Ok(observed.monotonic());
                }
                Ok(monotonic(host, Instant::now()))
            }
        }
    }
}

/// What the guest's monotonic clock shows at `at`.
#[inline]
pub(crate) fn monotonic(host: &HostState, at: Instant) -> u64 {
    if let Some(observed) = &host.observed {
        return observed.world.shown();
    }
    let elapsed = at.saturating_duration_since(host.clock_zero).as_nanos();
    // More than 584 years would be needed to saturate.
    let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
    host.clock_offset.saturating_add(elapsed)
}

/// Writes a clock's resolution.
pub fn clock_res_get(
    host: &mut HostState,
    memory: &mut [u8],
    id: i32,
    resolution: i32,
) -> Result<i32, Stop> {
    answer(|| {
        Clock::from_id(id.cast_unsigned())?;
        write(memory, resolution, host.clock_resolution.to_le_bytes())?;
        Ok(())
    })
}

/// Writes the time a clock shows.
pub fn clock_time_get(
    host: &mut HostState,
    memory: &mut [u8],
    id: i32,
    _precision: i64,
    time: i32,
) -> Result<i32, Stop> {
    answer(|| {
        let now = Clock::from_id(id.cast_unsigned())?.now(host)?;
        let shown = now - now % host.clock_resolution;
        write(memory, time, shown.to_le_bytes())?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use crate::sandbox::hostcalls::{clock_res_get, clock_time_get};
    use crate::sandbox::wasi::testing::{EFAULT, EINVAL, OK, host, u64_at};

    #[test]
    fn the_real_clock_is_real() {
        let mut host = host();
        let mut memory = [0; 8];
        let before = SystemTime::now();
        assert_eq!(clock_time_get(&mut host, &mut memory, 0, 1, 0), OK);
        let shown = SystemTime::UNIX_EPOCH + Duration::from_nanos(u64_at(&memory, 0));
        assert!(before <= shown && shown <= SystemTime::now());
    }

    #[test]
    fn the_monotonic_clock_starts_at_its_offset_and_never_goes_back() {
        let mut host = host();
        host.clock_offset = 5_000_000_000;
        let mut memory = [0; 8];
        let mut last = 5_000_000_000;
        for id in [1, 2, 3, 1] {
            assert_eq!(clock_time_get(&mut host, &mut memory, id, 0, 0), OK);
            let now = u64_at(&memory, 0);
            assert!(now >= last);
            last = now;
        }
        let elapsed = host.clock_zero.elapsed().as_nanos() as u64;
        assert!(last <= 5_000_000_000 + elapsed);
    }

    #[test]
    fn unknown_clocks_and_bad_pointers_are_refused() {
        let mut host = host();
        let mut memory = [0xaa; 8];
        for id in [4, -1, i32::MIN] {
            assert_eq!(clock_time_get(&mut host, &mut memory, id, 0, 0), EINVAL);
            assert_eq!(clock_res_get(&mut host, &mut memory, id, 0), EINVAL);
        }
        for at in [1, 8, -1, i32::MIN] {
            assert_eq!(clock_time_get(&mut host, &mut memory, 0, 0, at), EFAULT);
            assert_eq!(clock_res_get(&mut host, &mut memory, 1, at), EFAULT);
        }
        assert_eq!(memory, [0xaa; 8]);
        assert_eq!(clock_res_get(&mut host, &mut memory, 1, 0), OK);
        assert_eq!(u64_at(&memory, 0), 1);
    }

    #[test]
    fn coarse_clocks_show_whole_steps_only() {
        let mut host = host();
        host.clock_resolution = 1_000_000;
        host.clock_offset = 1_234_567;
        let mut memory = [0; 8];
        for id in [0, 1] {
            assert_eq!(clock_time_get(&mut host, &mut memory, id, 0, 0), OK);
            let shown = u64_at(&memory, 0);
            assert!(shown > 0 && shown.is_multiple_of(1_000_000), "{shown}");
            assert_eq!(clock_res_get(&mut host, &mut memory, id, 0), OK);
            assert_eq!(u64_at(&memory, 0), 1_000_000);
        }
    }
}
