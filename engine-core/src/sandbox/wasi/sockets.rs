//! The functions on sockets, which always fail: a guest has no sockets.

use super::errno::{Errno, Fail, answer};
use super::stdio::{Fd, locate};
use crate::sandbox::{HostState, Stop};

/// Accepts nothing: no descriptor is a socket.
pub fn sock_accept(
    host: &mut HostState,
    _memory: &mut [u8],
    fd: i32,
    _flags: i32,
    _accepted: i32,
) -> Result<i32, Stop> {
    answer(|| no_socket(host, fd))
}

/// Receives nothing: no descriptor is a socket.
#[expect(clippy::too_many_arguments, reason = "the signature is WASI's")]
pub fn sock_recv(
    host: &mut HostState,
    _memory: &mut [u8],
    fd: i32,
    _iovs: i32,
    _count: i32,
    _flags: i32,
    _received: i32,
    _out_flags: i32,
) -> Result<i32, Stop> {
    answer(|| no_socket(host, fd))
}

/// Sends nothing: no descriptor is a socket.
pub fn sock_send(
    host: &mut HostState,
    _memory: &mut [u8],
    fd: i32,
    _iovs: i32,
    _count: i32,
    _flags: i32,
    _sent: i32,
) -> Result<i32, Stop> {
    answer(|| no_socket(host, fd))
}

/// Shuts nothing down: no descriptor is a socket.
pub fn sock_shutdown(
    host: &mut HostState,
    _memory: &mut [u8],
    fd: i32,
    _how: i32,
) -> Result<i32, Stop> {
    answer(|| no_socket(host, fd))
}

fn no_socket(host: &HostState, fd: i32) -> Result<(), Fail> {
    let open = match locate(host, fd)? {
        Fd::Std(_) => true,
        Fd::Mounted => host
            .mounts
            .as_ref()
            .is_some_and(|mounts| mounts.is_open(fd)),
    };
    Err(if open { Errno::NOTSOCK } else { Errno::BADF }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::wasi::testing::{EBADF, host};

    #[test]
    fn nothing_is_a_socket() {
        let mut host = host();
        for (fd, errno) in [(0, Ok(57)), (1, Ok(57)), (3, EBADF), (-1, EBADF)] {
            assert_eq!(sock_accept(&mut host, &mut [], fd, 0, -1), errno);
            assert_eq!(sock_recv(&mut host, &mut [], fd, -1, -1, 0, -1, -1), errno);
            assert_eq!(sock_send(&mut host, &mut [], fd, -1, -1, 0, -1), errno);
            assert_eq!(sock_shutdown(&mut host, &mut [], fd, 3), errno);
        }
    }
}
