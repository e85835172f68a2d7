//! The standard streams: the request, the response and the log. They look like pipes. They are descriptors 0, 1 and 2,
//! unless the guest gives them other numbers.

use super::errno::{Errno, Fail};
use super::guest::{Iovecs, check, write};
use super::rights::{self, Rights};
use crate::sandbox::{BODY_ENDS, Event, HostReply, HostState, Reads, Stop};

/// The maximum number of bytes of stderr that one call accepts. More is a short write, so that the deadline is checked
/// often.
const STDERR_MOST: usize = 1 << 20;

/// Bytes that are copied between two looks at the deadline. On fresh memory that takes a tenth of a millisecond.
const PIECE: usize = 256 << 10;

/// The flag `append`, which writable pipes show.
const APPEND: u16 = 1;

/// All flags.
const FLAGS: u16 = 0b1_1111;

/// The right to each stream: to read it, or to write it.
const RIGHTS: [u64; 3] = [rights::FD_READ, rights::FD_WRITE, rights::FD_WRITE];

/// The state of a guest's standard streams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stdio {
    /// The descriptor of each stream. `None`: it is closed.
    numbers: [Option<i32>; 3],
    flags: [u16; 3],
    /// Rights that were given up.
    lost: [u64; 3],
}

impl Default for Stdio {
    fn default() -> Self {
        Self {
            numbers: [Some(0), Some(1), Some(2)],
            flags: [0, APPEND, APPEND],
            lost: [0; 3],
        }
    }
}

impl Stdio {
    /// The stream whose descriptor is `fd`.
    #[inline]
    fn at(&self, fd: i32) -> Option<Std> {
        let [first, second, third] = self.numbers.map(|number| number == Some(fd));
        match (first, second, third) {
            (true, ..) => Some(Std::In),
            (_, true, _) => Some(Std::Out),
            (.., true) => Some(Std::Err),
            _ => None,
        }
    }
}

/// One of the three standard streams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Std {
    In = 0,
    Out = 1,
    Err = 2,
}

/// A descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fd {
    /// A standard stream; it is open.
    Std(Std),
    /// A descriptor of wasi-common, which knows whether it is open. Only if there are mounts.
    Mounted,
}

/// The kind of the descriptor `fd`.
#[inline]
pub(super) fn locate(host: &HostState, fd: i32) -> Result<Fd, Errno> {
    match host.stdio.at(fd) {
        Some(std) => Ok(Fd::Std(std)),
        None if host.mounts.is_some() => Ok(Fd::Mounted),
        None => Err(Errno::BADF),
    }
}

/// [`locate`], for an operation that needs the rights `needed`.
#[inline]
pub(super) fn allowed(host: &HostState, fd: i32, needed: u64) -> Result<Fd, Fail> {
    let found = locate(host, fd)?;
    match (found, &host.mounts) {
        (Fd::Std(std), _) => rights::check(host.stdio.lost[std as usize], needed)?,
        (Fd::Mounted, Some(mounts)) if !mounts.lost.is_empty() => mounts.lost.check(fd, needed)?,
        _ => {}
    }
    Ok(found)
}

#[inline]
pub(super) fn read(
    host: &mut HostState,
    memory: &mut [u8],
    std: Std,
    iovs: i32,
    count: i32,
    read_at: i32,
) -> Result<(), Fail> {
    if std != Std::In {
        return Err(Errno::BADF.into());
    }
    let (vectors, total) = Iovecs::new(memory, iovs, count)?;
    check(memory, read_at, 4)?;
    if total > 0 && waits_for_stdin(host) {
        return Err(host.wait_for(memory, Event::Body(None)).into());
    }
    let start = host.stdin_read;
    let ends = match host.reads {
        Reads::Plain => false,
        Reads::Park => true,
        Reads::Loop => start == host.stdin.len() && host.contract.is_answered(&host.stdout),
    };
    if ends {
        host.parked = true;
        return Err(Stop::Exit(0).into());
    }
    let mut look = Look::default();
    for index in 0..vectors.count() {
        let rest = &host.stdin[host.stdin_read..];
        if rest.is_empty() {
            break;
        }
        let place = vectors.get(memory, index)?;
        let len = rest.len().min(place.len());
        let pieces = memory[place.start..place.start + len].chunks_mut(PIECE);
        for (to, from) in pieces.zip(rest[..len].chunks(PIECE)) {
            look.before(host, to.len())?;
            to.copy_from_slice(from);
        }
        host.stdin_read += len;
    }
    // Vectors may overlap, but at most the length of stdin is read, which is far below 4 GiB.
    let read = u32::try_from(host.stdin_read - start).map_err(|_| Errno::OVERFLOW)?;
    write(memory, read_at, read.to_le_bytes())?;
    Ok(())
}

/// Whether nothing is there to read and more will arrive. It takes what has arrived if the guest has waited for it.
#[inline]
pub(super) fn waits_for_stdin(host: &mut HostState) -> bool {
    if host.stdin_follows == 0 || host.stdin_read < host.stdin.len() {
        return false;
    }
    let Some(HostReply { code, mut bytes }) = host.resumed_with.take() else {
        return true;
    };
    // More than the request has announced is not its body.
    bytes.truncate(usize::try_from(host.stdin_follows).unwrap_or(usize::MAX));
    host.stdin_follows -= bytes.len() as u64;
    if code == BODY_ENDS {
        host.stdin_follows = 0;
    }
    (host.stdin, host.stdin_read) = (bytes, 0);
    host.stdin.is_empty() && host.stdin_follows > 0
}

#[inline]
pub(super) fn write_out(
    host: &mut HostState,
    memory: &mut [u8],
    std: Std,
    iovs: i32,
    count: i32,
    written_at: i32,
) -> Result<(), Fail> {
    if std == Std::In {
        return Err(Errno::BADF.into());
    }
    let (vectors, total) = Iovecs::new(memory, iovs, count)?;
    check(memory, written_at, 4)?;
    let written = if std == Std::Out {
        // A write to a stream is short where it is longer than what may wait, and waits where there is no room.
        let room = match host.output.room(&host.stdout) {
            Some(0) if total > 0 => return Err(host.wait_for(memory, Event::Output).into()),
            Some(room) => room,
            None if total > host.stdout_limit.saturating_sub(host.stdout.len()) as u64 => {
                return Err(Stop::OutputLimit.into());
            }
            None => usize::MAX,
        };
        let before = host.stdout.len();
        let mut look = Look::default();
        for index in 0..vectors.count() {
            let mut place = vectors.get(memory, index)?;
            let left = room - (host.stdout.len() - before);
            place.end = place.end.min(place.start.saturating_add(left));
            for piece in memory[place].chunks(PIECE) {
                look.before(host, piece.len())?;
                host.make_room(piece.len())?;
                host.stdout.extend_from_slice(piece);
            }
        }
        host.output.written(host.contract, &host.stdout);
        if host.yields && host.output.room(&host.stdout).is_some() {
            host.call.plan_flush(host.flush_after);
        }
        host.stdout.len() - before
    } else {
        let mut room = STDERR_MOST;
        for index in 0..vectors.count() {
            let place = vectors.get(memory, index)?;
            let len = place.len().min(room);
            host.logs.stderr(&memory[place.start..place.start + len]);
            room -= len;
        }
        STDERR_MOST - room
    };
    let written = u32::try_from(written).map_err(|_| Errno::OVERFLOW)?;
    write(memory, written_at, written.to_le_bytes())?;
    Ok(())
}

/// Looks at the deadline while much is copied.
#[derive(Default)]
struct Look {
    /// Bytes that were copied since the last look.
    copied: usize,
}

impl Look {
    /// Called before `bytes` more are copied, at most [`PIECE`]. `Err`: the guest must end.
    #[inline]
    fn before(&mut self, host: &HostState, bytes: usize) -> Result<(), Fail> {
        self.copied += bytes;
        if self.copied <= PIECE {
            return Ok(());
        }
        self.copied = bytes;
        match host.call.interruption() {
            Some(why) => Err(why.into()),
            None => Ok(()),
        }
    }
}

pub(super) fn close(host: &mut HostState, std: Std) {
    host.stdio.numbers[std as usize] = None;
}

/// Gives a stream another descriptor.
pub(super) fn renumber(host: &mut HostState, std: Std, to: i32) {
    host.stdio.numbers[std as usize] = Some(to);
}

/// Gives up every right that is not in `wanted`.
pub(super) fn set_rights(host: &mut HostState, std: Std, wanted: Rights) -> Result<(), Fail> {
    let lost = rights(host, std).lost_by(wanted)?;
    host.stdio.lost[std as usize] |= lost.base;
    Ok(())
}

/// The rights that a stream still has.
fn rights(host: &HostState, std: Std) -> Rights {
    Rights {
        base: RIGHTS[std as usize] & !host.stdio.lost[std as usize],
        inheriting: 0,
    }
}

/// Writes a `fdstat`. Its padding is not changed.
pub(super) fn fdstat(
    host: &HostState,
    memory: &mut [u8],
    std: Std,
    stat_at: i32,
) -> Result<(), Fail> {
    let place = super::guest::range(memory, stat_at, 24)?;
    let stat = &mut memory[place];
    // The type "unknown" is that of a pipe. Programs treat a character device as a terminal, and stdin of a terminal as
    // an interactive session.
    stat[0] = 0;
    stat[2..4].copy_from_slice(&host.stdio.flags[std as usize].to_le_bytes());
    let rights = rights(host, std);
    stat[8..16].copy_from_slice(&rights.base.to_le_bytes());
    stat[16..24].copy_from_slice(&rights.inheriting.to_le_bytes());
    Ok(())
}

/// Stores the flags, so that `fdstat` shows them. They have no other effect: no operation on these descriptors blocks.
pub(super) fn set_flags(host: &mut HostState, std: Std, flags: i32) -> Result<(), Fail> {
    let flags = u16::try_from(flags).map_err(|_| Errno::INVAL)?;
    if flags & !FLAGS != 0 {
        return Err(Errno::INVAL.into());
    }
    host.stdio.flags[std as usize] = flags;
    Ok(())
}

/// Writes a `filestat`. Its padding is not changed.
pub(super) fn filestat(memory: &mut [u8], stat_at: i32) -> Result<(), Fail> {
    let place = super::guest::range(memory, stat_at, 64)?;
    let stat = &mut memory[place];
    stat[..17].fill(0);
    stat[24..].fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::logs::{Dropped, lines};
    use crate::sandbox::Stop;
    use crate::sandbox::hostcalls::{
        fd_close, fd_fdstat_get, fd_fdstat_set_flags, fd_filestat_get, fd_read, fd_write,
    };
    use crate::sandbox::wasi::testing::{
        EBADF, EFAULT, EINVAL, OK, host, host_with, put_iovecs, u32_at, u64_at,
    };

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn stdin_is_read_through_all_vectors_up_to_its_end() {
        let mut host = host_with(b"0123456789", MINUTE);
        let mut memory = vec![0xaa; 256];
        put_iovecs(&mut memory, 0, &[(100, 3), (110, 0), (120, 4)]);
        assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 3, 64), OK);
        assert_eq!(u32_at(&memory, 64), 7);
        assert_eq!(&memory[100..104], b"012\xaa");
        assert_eq!(&memory[120..125], b"3456\xaa");
        assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 3, 64), OK);
        assert_eq!((u32_at(&memory, 64), &memory[100..103]), (3, &b"789"[..]));
        for _ in 0..2 {
            assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 3, 64), OK);
            assert_eq!(u32_at(&memory, 64), 0);
        }
    }

    #[test]
    fn a_bad_vector_or_result_pointer_consumes_nothing() {
        let mut host = host_with(b"0123456789", MINUTE);
        let mut memory = vec![0xaa; 128];
        put_iovecs(&mut memory, 0, &[(64, 4), (u32::MAX, 2)]);
        assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 2, 32), EFAULT);
        put_iovecs(&mut memory, 0, &[(64, 4), (64, u32::MAX)]);
        assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 2, 32), EFAULT);
        assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 1, 125), EFAULT);
        assert_eq!(fd_read(&mut host, &mut memory, 0, 124, 1, 32), EFAULT);
        assert_eq!(fd_read(&mut host, &mut memory, 0, -8, 1, 32), EFAULT);
        assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 1025, 32), EINVAL);
        assert_eq!(fd_read(&mut host, &mut memory, 0, 0, -1, 32), EINVAL);
        assert_eq!(fd_read(&mut host, &mut memory, 1, 0, 1, 32), EBADF);
        assert_eq!(memory[64..68], [0xaa; 4]);
        assert_eq!(host.stdin_read, 0);
        assert_eq!(fd_read(&mut host, &mut [], 0, 0, 0, 0), EFAULT);
    }

    #[test]
    fn a_read_that_rewrites_its_own_vectors_stays_in_memory() {
        // The first vector is the memory of the other three.
        let mut host = host_with(&[0xff; 64], MINUTE);
        let mut memory = vec![0; 64];
        put_iovecs(&mut memory, 0, &[(8, 24), (40, 8), (40, 8), (40, 8)]);
        assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 4, 60), EFAULT);
        assert_eq!(memory[8..32], [0xff; 24]);
        assert_eq!(memory[32..], [0; 32]);
    }

    #[test]
    fn overlapping_vectors_are_read_one_after_the_other() {
        let mut host = host_with(b"abcdef", MINUTE);
        let mut memory = vec![0; 64];
        put_iovecs(&mut memory, 0, &[(32, 4), (34, 2)]);
        assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 2, 60), OK);
        assert_eq!((u32_at(&memory, 60), &memory[32..36]), (6, &b"abef"[..]));
    }

    #[test]
    fn stdout_gathers_and_its_limit_ends_the_guest() {
        let mut host = host();
        host.stdout_limit = 10;
        let mut memory = vec![0; 128];
        memory[64..70].copy_from_slice(b"hello!");
        put_iovecs(&mut memory, 0, &[(64, 5), (69, 1), (0, 0)]);
        assert_eq!(fd_write(&mut host, &mut memory, 1, 0, 3, 32), OK);
        assert_eq!(u32_at(&memory, 32), 6);
        put_iovecs(&mut memory, 0, &[(64, 4)]);
        assert_eq!(fd_write(&mut host, &mut memory, 1, 0, 1, 32), OK);
        assert_eq!(host.stdout, b"hello!hell");
        put_iovecs(&mut memory, 0, &[(64, 1)]);
        assert_eq!(
            fd_write(&mut host, &mut memory, 1, 0, 1, 32),
            Err(Stop::OutputLimit)
        );
        assert_eq!(host.stdout.len(), 10);
        put_iovecs(&mut memory, 0, &[(64, 0)]);
        assert_eq!(fd_write(&mut host, &mut memory, 1, 0, 1, 32), OK);
    }

    #[test]
    fn many_vectors_with_the_whole_memory_are_bounded() {
        let mut host = host();
        let mut memory = vec![b'x'; 1 << 20];
        put_iovecs(&mut memory, 0, &vec![(0, 1 << 20); 1024]);
        assert_eq!(
            fd_write(&mut host, &mut memory, 1, 0, 1024, 0),
            Err(Stop::OutputLimit)
        );
        assert_eq!(host.stdout.len(), 0);
        // stderr accepts a bounded number of bytes in one call: a short write.
        assert_eq!(fd_write(&mut host, &mut memory, 2, 0, 1024, 8192), OK);
        assert_eq!(u32_at(&memory, 8192), 1 << 20);
    }

    #[test]
    fn the_deadline_ends_long_copies() {
        use crate::calls::Interruption;

        let sent: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
        for (timeout, expected) in [
            (MINUTE, OK),
            (
                Duration::ZERO,
                Err(Stop::Interrupted(Interruption::Deadline)),
            ),
        ] {
            let mut host = host_with(&sent, timeout);
            let mut memory = vec![0; 1 << 20];
            // One vector is longer than a piece, and the others are so only together.
            put_iovecs(
                &mut memory,
                0,
                &[(64, 600_000), (600_064, 200_000), (800_064, 200_000)],
            );
            assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 3, 40), expected);
            assert_eq!(memory[64..1_000_064] == sent, expected == OK);
            assert_eq!(fd_write(&mut host, &mut memory, 1, 0, 3, 40), expected);
            assert_eq!(host.stdout == sent, expected == OK);
            let mut host = host_with(&sent, timeout);
            put_iovecs(&mut memory, 0, &[(64, 1000)]);
            assert_eq!(fd_read(&mut host, &mut memory, 0, 0, 1, 40), OK);
        }
    }

    #[test]
    fn a_bad_write_changes_nothing() {
        let mut host = host();
        let mut memory = vec![0; 128];
        put_iovecs(&mut memory, 0, &[(64, 4), (126, 4)]);
        for (iovs, count, written) in [(0, 2, 32), (0, 1, 126), (-4, 1, 32), (120, 2, 32)] {
            assert_eq!(
                fd_write(&mut host, &mut memory, 1, iovs, count, written),
                EFAULT
            );
            assert_eq!(
                fd_write(&mut host, &mut memory, 2, iovs, count, written),
                EFAULT
            );
        }
        assert_eq!(fd_write(&mut host, &mut memory, 1, 0, i32::MIN, 32), EINVAL);
        assert_eq!(fd_write(&mut host, &mut memory, 0, 0, 1, 32), EBADF);
        assert_eq!(fd_write(&mut host, &mut memory, 3, 0, 1, 32), EBADF);
        assert_eq!(fd_write(&mut host, &mut memory, -1, 0, 1, 32), EBADF);
        assert!(host.stdout.is_empty());
    }

    #[test]
    fn stderr_becomes_log_lines() {
        let mut host = host();
        let mut memory = vec![0; 64];
        memory[32..40].copy_from_slice(b"one\ntwo\n");
        put_iovecs(&mut memory, 0, &[(32, 8)]);
        assert_eq!(fd_write(&mut host, &mut memory, 2, 0, 1, 16), OK);
        assert_eq!(u32_at(&memory, 16), 8);
        let (packed, dropped) = host.logs.finish();
        let lines: Vec<_> = lines(&packed).map(|(_, line)| line.to_vec()).collect();
        assert_eq!(
            (lines, dropped),
            (vec![b"one".to_vec(), b"two".to_vec()], Dropped::default())
        );
    }

    #[test]
    fn a_closed_descriptor_is_gone() {
        let mut host = host_with(b"x", MINUTE);
        let mut memory = vec![0; 128];
        put_iovecs(&mut memory, 0, &[(64, 1)]);
        for fd in 0..3 {
            assert_eq!(fd_close(&mut host, &mut memory, fd), OK);
            assert_eq!(fd_close(&mut host, &mut memory, fd), EBADF);
            assert_eq!(fd_read(&mut host, &mut memory, fd, 0, 1, 32), EBADF);
            assert_eq!(fd_write(&mut host, &mut memory, fd, 0, 1, 32), EBADF);
            assert_eq!(fd_fdstat_get(&mut host, &mut memory, fd, 32), EBADF);
            assert_eq!(fd_filestat_get(&mut host, &mut memory, fd, 32), EBADF);
        }
        assert!(host.stdout.is_empty());
    }

    #[test]
    fn they_look_like_pipes() {
        let mut host = host();
        for (fd, flags, rights) in [(0, 0, 2), (1, 1, 64), (2, 1, 64)] {
            let mut memory = vec![0xaa; 64];
            assert_eq!(fd_fdstat_get(&mut host, &mut memory, fd, 8), OK);
            assert_eq!(memory[8], 0);
            assert_eq!(u16::from_le_bytes([memory[10], memory[11]]), flags);
            assert_eq!((u64_at(&memory, 16), u64_at(&memory, 24)), (rights, 0));
            assert_eq!(memory[32..], [0xaa; 32]);
            assert_eq!(fd_filestat_get(&mut host, &mut memory, fd, 0), OK);
            assert_eq!((memory[16], u64_at(&memory, 32)), (0, 0));
            assert_eq!(fd_fdstat_get(&mut host, &mut memory, fd, 41), EFAULT);
            assert_eq!(fd_filestat_get(&mut host, &mut memory, fd, 1), EFAULT);
        }
    }

    #[test]
    fn flags_are_kept() {
        let mut host = host();
        let mut memory = vec![0; 64];
        assert_eq!(fd_fdstat_set_flags(&mut host, &mut memory, 0, 0b100), OK);
        assert_eq!(fd_fdstat_get(&mut host, &mut memory, 0, 0), OK);
        assert_eq!(memory[2], 0b100);
        for flags in [0b10_0000, -1, 1 << 16] {
            assert_eq!(
                fd_fdstat_set_flags(&mut host, &mut memory, 0, flags),
                EINVAL
            );
        }
    }
}
