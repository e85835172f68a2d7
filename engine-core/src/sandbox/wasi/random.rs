//! Randomness, from the operating system.

use super::errno::{Errno, answer};
use super::guest::bytes_mut;
use crate::sandbox::{HostState, Stop};

/// The most bytes of one call. A guest that wants more is not after randomness.
const MOST: i32 = 64 << 20;

/// Bytes between two looks at the deadline: under a millisecond of the kernel's generator.
const CHUNK: usize = 256 << 10;

/// Fills a buffer with random bytes.
pub fn random_get(
    host: &mut HostState,
    memory: &mut [u8],
    buf: i32,
    len: i32,
) -> Result<i32, Stop> {
    answer(|| {
        if !(0..=MOST).contains(&len) {
            return Err(Errno::INVAL.into());
        }
        let bytes = bytes_mut(memory, buf, len)?;
        if let Some(observed) = &mut host.observed {
            observed.random(len.cast_unsigned());
        }
        let mut rest = false;
        for chunk in bytes.chunks_mut(CHUNK) {
            if rest && let Some(why) = host.call.interruption() {
                return Err(why.into());
            }
            rest = true;
            match &mut host.observed {
                Some(observed) => observed.world.fill(chunk),
                None => getrandom::fill(chunk).map_err(|_| Errno::IO)?,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::calls::Interruption;
    use crate::sandbox::Stop;
    use crate::sandbox::hostcalls::random_get;
    use crate::sandbox::wasi::testing::{EFAULT, EINVAL, OK, host, host_with};

    #[test]
    fn the_buffer_is_filled_and_nothing_else() {
        let mut host = host();
        let mut memory = vec![0; 1024];
        assert_eq!(random_get(&mut host, &mut memory, 100, 800), OK);
        assert!(
            memory[..100]
                .iter()
                .chain(&memory[900..])
                .all(|&byte| byte == 0)
        );
        // The chance of 700 zeros among 800 random bytes is nil.
        assert!(memory[100..900].iter().filter(|&&byte| byte != 0).count() > 100);
        assert_eq!(random_get(&mut host, &mut memory, 1024, 0), OK);
    }

    #[test]
    fn hostile_arguments_are_refused() {
        let mut host = host();
        let mut memory = vec![0; 64];
        assert_eq!(random_get(&mut host, &mut memory, 0, 65), EFAULT);
        assert_eq!(random_get(&mut host, &mut memory, -1, 2), EFAULT);
        assert_eq!(random_get(&mut host, &mut memory, -1, i32::MAX), EINVAL);
        assert_eq!(random_get(&mut host, &mut memory, 0, -1), EINVAL);
        assert_eq!(
            random_get(&mut host, &mut memory, 0, (64 << 20) + 1),
            EINVAL
        );
        assert_eq!(memory, [0; 64]);
    }

    #[test]
    fn the_deadline_ends_a_large_one() {
        let mut host = host_with(b"", Duration::ZERO);
        let mut memory = vec![0; 1 << 20];
        assert_eq!(
            random_get(&mut host, &mut memory, 0, 1 << 20),
            Err(Stop::Interrupted(Interruption::Deadline))
        );
    }
}
