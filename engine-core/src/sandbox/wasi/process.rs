//! The functions that end the guest or yield.

use super::errno::Errno;
use crate::sandbox::{HostState, Stop};

/// Ends the guest.
pub fn proc_exit(_host: &mut HostState, _memory: &mut [u8], code: i32) -> Result<(), Stop> {
    Err(Stop::Exit(code))
}

/// Signals are not supported.
pub fn proc_raise(_host: &mut HostState, _memory: &mut [u8], _signal: i32) -> Result<i32, Stop> {
    Ok(i32::from(Errno::NOSYS.0))
}

/// Does nothing, because the guest has no other threads. But a guest that calls this in a loop ends at its deadline here.
pub fn sched_yield(host: &mut HostState, _memory: &mut [u8]) -> Result<i32, Stop> {
    match host.call.interruption() {
        Some(why) => Err(why.into()),
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::calls::Interruption;
    use crate::sandbox::wasi::testing::{OK, host, host_with};

    #[test]
    fn exit_ends_the_guest_with_its_code() {
        assert_eq!(proc_exit(&mut host(), &mut [], -3), Err(Stop::Exit(-3)));
        assert_eq!(proc_raise(&mut host(), &mut [], 9), Ok(52));
    }

    #[test]
    fn yielding_notices_the_deadline() {
        assert_eq!(sched_yield(&mut host(), &mut []), OK);
        assert_eq!(
            sched_yield(&mut host_with(b"", Duration::ZERO), &mut []),
            Err(Stop::Interrupted(Interruption::Deadline))
        );
    }
}
