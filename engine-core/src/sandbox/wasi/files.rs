//! The functions on descriptors: our own for the standard streams, wasi-common's for all others.

use super::errno::{Errno, Fail, answer};
use super::guest::{Iovecs, bytes, bytes_mut, check, range, read, write};
use super::mounts::forward;
use super::rights::{self, Rights};
use super::stdio::{self, Fd, allowed, locate};
use crate::sandbox::{HostState, Stop};

/// Tells the system how a file will be used. Fails for a pipe.
pub fn fd_advise(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    offset: i64,
    len: i64,
    advice: i32,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_ADVISE)? {
        Fd::Std(_) => Err(Errno::BADF.into()),
        Fd::Mounted => forward!(host, memory, fd_advise(fd, offset, len, advice)),
    })
}

/// Not supported, as in wasi-common, because only one operating system has it.
pub fn fd_allocate(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    offset: i64,
    len: i64,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_ALLOCATE)? {
        Fd::Std(_) => Err(Errno::NOTSUP.into()),
        Fd::Mounted => forward!(host, memory, fd_allocate(fd, offset, len)),
    })
}

/// Closes a descriptor.
pub fn fd_close(host: &mut HostState, _: &mut [u8], fd: i32) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(std) => {
            stdio::close(host, std);
            Ok(())
        }
        Fd::Mounted => close_mounted(host, fd),
    })
}

/// Writes a file's data to disk.
pub fn fd_datasync(host: &mut HostState, memory: &mut [u8], fd: i32) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_DATASYNC)? {
        Fd::Std(_) => Ok(()),
        Fd::Mounted => forward!(host, memory, fd_datasync(fd)),
    })
}

/// Writes type, flags and rights of a descriptor.
pub fn fd_fdstat_get(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    stat: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(std) => stdio::fdstat(host, memory, std, stat),
        Fd::Mounted => {
            check(memory, stat, FDSTAT)?;
            let fdstat = mounted_fdstat(host, fd)?;
            write(memory, stat, fdstat.0)?;
            Ok(())
        }
    })
}

/// The bytes of a `fdstat`, aligned as wasi-common writes them.
#[repr(align(8))]
struct Fdstat([u8; FDSTAT as usize]);

const FDSTAT: u32 = 24;

/// The file type of a directory.
const DIRECTORY: u8 = 3;

impl Fdstat {
    fn rights(&self) -> Rights {
        let long = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&self.0[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Rights {
            base: long(8),
            inheriting: long(16),
        }
    }
}

/// The `fdstat` of a directory or file, with the rights that it still has.
fn mounted_fdstat(host: &mut HostState, fd: i32) -> Result<Fdstat, Fail> {
    let mut fdstat = Fdstat([0; FDSTAT as usize]);
    let got: Result<(), Fail> = forward!(host, &mut fdstat.0, fd_fdstat_get(fd, 0));
    got?;
    let mut has = fdstat.rights();
    if fdstat.0[0] != DIRECTORY {
        has.base = rights::of_file(has.base);
    }
    let lost = host.mounts.as_ref().map(|mounts| mounts.lost.of(fd));
    let has = has.without(lost.unwrap_or_default());
    fdstat.0[8..16].copy_from_slice(&has.base.to_le_bytes());
    fdstat.0[16..].copy_from_slice(&has.inheriting.to_le_bytes());
    Ok(fdstat)
}

/// Closes a directory or file.
fn close_mounted(host: &mut HostState, fd: i32) -> Result<(), Fail> {
    let closed: Result<(), Fail> = forward!(host, &mut [], fd_close(fd));
    closed?;
    if let Some(mounts) = &mut host.mounts {
        mounts.lost.close(fd);
    }
    Ok(())
}

/// Sets the flags of a descriptor.
pub fn fd_fdstat_set_flags(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    flags: i32,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_FDSTAT_SET_FLAGS)? {
        Fd::Std(std) => stdio::set_flags(host, std, flags),
        Fd::Mounted => forward!(host, memory, fd_fdstat_set_flags(fd, flags)),
    })
}

/// Gives up rights of a descriptor. Asking for rights that it does not have fails with ENOTCAPABLE.
pub fn fd_fdstat_set_rights(
    host: &mut HostState,
    _memory: &mut [u8],
    fd: i32,
    base: i64,
    inheriting: i64,
) -> Result<i32, Stop> {
    answer(|| {
        let wanted = Rights {
            base: base.cast_unsigned(),
            inheriting: inheriting.cast_unsigned(),
        };
        match locate(host, fd)? {
            Fd::Std(std) => stdio::set_rights(host, std, wanted),
            Fd::Mounted => {
                let lost = mounted_fdstat(host, fd)?.rights().lost_by(wanted)?;
                if let Some(observed) = &mut host.observed {
                    observed.file("fd_fdstat_set_rights");
                }
                if let Some(mounts) = &mut host.mounts {
                    mounts.lost.lose(fd, lost);
                }
                Ok(())
            }
        }
    })
}

/// Writes type, size and times of an open file.
pub fn fd_filestat_get(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    stat: i32,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_FILESTAT_GET)? {
        Fd::Std(_) => stdio::filestat(memory, stat),
        Fd::Mounted => {
            check(memory, stat, 64)?;
            forward!(host, memory, fd_filestat_get(fd, stat))
        }
    })
}

/// Sets the size of an open file.
pub fn fd_filestat_set_size(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    size: i64,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_FILESTAT_SET_SIZE)? {
        Fd::Std(_) => Err(Errno::BADF.into()),
        Fd::Mounted => forward!(host, memory, fd_filestat_set_size(fd, size)),
    })
}

/// Sets the times of an open file.
pub fn fd_filestat_set_times(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    atim: i64,
    mtim: i64,
    flags: i32,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_FILESTAT_SET_TIMES)? {
        Fd::Std(_) => Err(Errno::BADF.into()),
        Fd::Mounted => forward!(host, memory, fd_filestat_set_times(fd, atim, mtim, flags)),
    })
}

/// Reads at an offset. Fails for a pipe.
pub fn fd_pread(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    iovs: i32,
    count: i32,
    offset: i64,
    read: i32,
) -> Result<i32, Stop> {
    answer(
        || match allowed(host, fd, rights::FD_READ | rights::FD_SEEK)? {
            Fd::Std(_) => Err(Errno::SPIPE.into()),
            Fd::Mounted => {
                Iovecs::new(memory, iovs, count)?;
                check(memory, read, 4)?;
                forward!(host, memory, fd_pread(fd, iovs, count, offset, read))
            }
        },
    )
}

/// Writes that a descriptor is a mount, and the length of its path.
pub fn fd_prestat_get(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    prestat: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Err(Errno::BADF.into()),
        Fd::Mounted => {
            check(memory, prestat, 8)?;
            forward!(host, memory, fd_prestat_get(fd, prestat))
        }
    })
}

/// Writes the path of a mount.
pub fn fd_prestat_dir_name(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    path: i32,
    len: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Err(Errno::BADF.into()),
        Fd::Mounted => {
            bytes(memory, path, len)?;
            forward!(host, memory, fd_prestat_dir_name(fd, path, len))
        }
    })
}

/// Writes at an offset. Fails for a pipe.
pub fn fd_pwrite(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    iovs: i32,
    count: i32,
    offset: i64,
    written: i32,
) -> Result<i32, Stop> {
    answer(
        || match allowed(host, fd, rights::FD_WRITE | rights::FD_SEEK)? {
            Fd::Std(_) => Err(Errno::SPIPE.into()),
            Fd::Mounted => {
                Iovecs::new(memory, iovs, count)?;
                check(memory, written, 4)?;
                forward!(host, memory, fd_pwrite(fd, iovs, count, offset, written))
            }
        },
    )
}

/// Reads from a descriptor.
pub fn fd_read(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    iovs: i32,
    count: i32,
    read: i32,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_READ)? {
        Fd::Std(std) => stdio::read(host, memory, std, iovs, count, read),
        Fd::Mounted => {
            Iovecs::new(memory, iovs, count)?;
            check(memory, read, 4)?;
            forward!(host, memory, fd_read(fd, iovs, count, read))
        }
    })
}

/// Lists a directory.
pub fn fd_readdir(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    buf: i32,
    len: i32,
    cookie: i64,
    used: i32,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_READDIR)? {
        Fd::Std(_) => Err(Errno::BADF.into()),
        Fd::Mounted => {
            bytes(memory, buf, len)?;
            check(memory, used, 4)?;
            let listed: Result<(), Fail> =
                forward!(host, memory, fd_readdir(fd, buf, len, cookie, used));
            match listed {
                Ok(()) => {
                    let filled = read(memory, used)?;
                    let list = range(memory, buf, u32::from_le_bytes(filled))?;
                    let result = range(memory, used, 4)?;
                    if result.start < list.end && list.start < result.end {
                        // The result overwrites the list, which can no longer be read. Clear it, and write the result
                        // last.
                        memory[list].fill(0);
                        write(memory, used, filled)?;
                    } else {
                        clear_padding(&mut memory[list]);
                    }
                }
                // The list was not written.
                Err(Fail::Errno(Errno::BADF | Errno::NOTDIR)) => {}
                // A part of the list may have been written.
                Err(_) => clear_padding(bytes_mut(memory, buf, len)?),
            }
            listed
        }
    })
}

/// Clears the padding of each `dirent`. wasi-common does not initialise it, so it holds bytes of the host's stack.
fn clear_padding(mut list: &mut [u8]) {
    while let Some(header) = list.get_mut(..DIRENT.min(list.len()))
        && let Some(padding) = header.get_mut(DIRENT_PADDING..)
    {
        padding.fill(0);
        let Some(&[a, b, c, d]) = header.get(16..20).and_then(<[u8]>::first_chunk) else {
            return;
        };
        let name = u32::from_le_bytes([a, b, c, d]) as usize;
        // Names are never empty, so the list has ended.
        if name == 0 {
            return;
        }
        list = list.get_mut(DIRENT + name..).unwrap_or_default();
    }
}

/// Bytes of a `dirent` without its name, and where in it the padding begins that ends it.
const DIRENT: usize = 24;
const DIRENT_PADDING: usize = 21;

/// Gives a descriptor the number of another one, which is closed first.
pub fn fd_renumber(host: &mut HostState, _: &mut [u8], fd: i32, to: i32) -> Result<i32, Stop> {
    answer(|| {
        let (from, replaced) = (open(host, fd)?, open(host, to)?);
        if fd == to {
            return Ok(());
        }
        match replaced {
            Fd::Std(std) => stdio::close(host, std),
            Fd::Mounted => close_mounted(host, to)?,
        }
        match from {
            Fd::Std(std) => stdio::renumber(host, std, to),
            Fd::Mounted => {
                if let Some(observed) = &mut host.observed {
                    observed.file("fd_renumber");
                }
            }
        }
        match &mut host.mounts {
            Some(mounts) => mounts.renumbered(from == Fd::Mounted, fd, to),
            None => Ok(()),
        }
    })
}

/// The kind of the descriptor `fd`, if it is open.
fn open(host: &HostState, fd: i32) -> Result<Fd, Errno> {
    let found = locate(host, fd)?;
    match (found, &host.mounts) {
        (Fd::Mounted, Some(mounts)) if !mounts.is_open(fd) => Err(Errno::BADF),
        _ => Ok(found),
    }
}

/// Moves the offset of an open file. Fails for a pipe.
pub fn fd_seek(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    offset: i64,
    whence: i32,
    position: i32,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_SEEK)? {
        Fd::Std(_) => Err(Errno::SPIPE.into()),
        Fd::Mounted => {
            check(memory, position, 8)?;
            forward!(host, memory, fd_seek(fd, offset, whence, position))
        }
    })
}

/// Writes a file's data and metadata to disk.
pub fn fd_sync(host: &mut HostState, memory: &mut [u8], fd: i32) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_SYNC)? {
        Fd::Std(_) => Ok(()),
        Fd::Mounted => forward!(host, memory, fd_sync(fd)),
    })
}

/// Writes the offset of an open file. Fails for a pipe.
pub fn fd_tell(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    position: i32,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_TELL)? {
        Fd::Std(_) => Err(Errno::SPIPE.into()),
        Fd::Mounted => {
            check(memory, position, 8)?;
            forward!(host, memory, fd_tell(fd, position))
        }
    })
}

/// Writes to a descriptor.
pub fn fd_write(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    iovs: i32,
    count: i32,
    written: i32,
) -> Result<i32, Stop> {
    answer(|| match allowed(host, fd, rights::FD_WRITE)? {
        Fd::Std(std) => stdio::write_out(host, memory, std, iovs, count, written),
        Fd::Mounted => {
            Iovecs::new(memory, iovs, count)?;
            check(memory, written, 4)?;
            forward!(host, memory, fd_write(fd, iovs, count, written))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::wasi::testing::{EBADF, OK, host, put_iovecs, u64_at};

    const ENOTCAPABLE: Result<i32, Stop> = Ok(76);
    const ENOTSUP: Result<i32, Stop> = Ok(58);
    const ESPIPE: Result<i32, Stop> = Ok(70);

    #[test]
    fn a_pipe_has_no_offset_and_no_size() {
        let mut host = host();
        for fd in 0..3 {
            let memory = &mut [0xaa; 64];
            assert_eq!(fd_seek(&mut host, memory, fd, 0, 1, 0), ESPIPE);
            assert_eq!(fd_tell(&mut host, memory, fd, 0), ESPIPE);
            assert_eq!(fd_pread(&mut host, memory, fd, 0, 0, 0, 0), ESPIPE);
            assert_eq!(fd_pwrite(&mut host, memory, fd, 0, 0, 0, 0), ESPIPE);
            assert_eq!(fd_allocate(&mut host, memory, fd, 0, 1), ENOTSUP);
            assert_eq!(fd_advise(&mut host, memory, fd, 0, 1, 0), EBADF);
            assert_eq!(fd_filestat_set_size(&mut host, memory, fd, 0), EBADF);
            assert_eq!(fd_filestat_set_times(&mut host, memory, fd, 0, 0, 5), EBADF);
            assert_eq!(fd_readdir(&mut host, memory, fd, 0, 32, 0, 0), EBADF);
            assert_eq!(fd_datasync(&mut host, memory, fd), OK);
            assert_eq!(fd_sync(&mut host, memory, fd), OK);
            assert_eq!(fd_fdstat_set_rights(&mut host, memory, fd, 0, 0), OK);
            assert_eq!(memory, &[0xaa; 64]);
        }
    }

    #[test]
    fn without_mounts_there_is_nothing_above_two() {
        let mut host = host();
        for fd in [3, 4, 1000, -1, i32::MIN, i32::MAX] {
            let memory = &mut [0xaa; 64];
            assert_eq!(fd_advise(&mut host, memory, fd, 0, 0, 0), EBADF);
            assert_eq!(fd_allocate(&mut host, memory, fd, 0, 0), EBADF);
            assert_eq!(fd_close(&mut host, memory, fd), EBADF);
            assert_eq!(fd_datasync(&mut host, memory, fd), EBADF);
            assert_eq!(fd_fdstat_get(&mut host, memory, fd, 0), EBADF);
            assert_eq!(fd_fdstat_set_flags(&mut host, memory, fd, 0), EBADF);
            assert_eq!(fd_fdstat_set_rights(&mut host, memory, fd, 0, 0), EBADF);
            assert_eq!(fd_filestat_get(&mut host, memory, fd, 0), EBADF);
            assert_eq!(fd_filestat_set_size(&mut host, memory, fd, 0), EBADF);
            assert_eq!(fd_filestat_set_times(&mut host, memory, fd, 0, 0, 0), EBADF);
            assert_eq!(fd_pread(&mut host, memory, fd, 0, 0, 0, 0), EBADF);
            assert_eq!(fd_prestat_get(&mut host, memory, fd, 0), EBADF);
            assert_eq!(fd_prestat_dir_name(&mut host, memory, fd, 0, 0), EBADF);
            assert_eq!(fd_pwrite(&mut host, memory, fd, 0, 0, 0, 0), EBADF);
            assert_eq!(fd_read(&mut host, memory, fd, 0, 0, 0), EBADF);
            assert_eq!(fd_readdir(&mut host, memory, fd, 0, 0, 0, 0), EBADF);
            assert_eq!(fd_seek(&mut host, memory, fd, 0, 0, 0), EBADF);
            assert_eq!(fd_sync(&mut host, memory, fd), EBADF);
            assert_eq!(fd_tell(&mut host, memory, fd, 0), EBADF);
            assert_eq!(fd_write(&mut host, memory, fd, 0, 0, 0), EBADF);
            assert_eq!(memory, &[0xaa; 64]);
        }
    }

    /// Writes the byte at 40.
    fn put(host: &mut HostState, fd: i32) -> Result<i32, Stop> {
        let mut memory = [0; 64];
        put_iovecs(&mut memory, 0, &[(40, 1)]);
        memory[40] = b'x';
        fd_write(host, &mut memory, fd, 0, 1, 48)
    }

    #[test]
    fn a_standard_stream_takes_the_number_of_another() {
        let mut host = host();
        assert_eq!(fd_renumber(&mut host, &mut [], 1, 1), OK);
        assert_eq!(fd_renumber(&mut host, &mut [], 1, 3), EBADF);
        assert_eq!(fd_renumber(&mut host, &mut [], 3, 1), EBADF);
        assert_eq!(put(&mut host, 1), OK);
        // stdout is 2 now, 1 is closed, and so is stderr.
        assert_eq!(fd_renumber(&mut host, &mut [], 1, 2), OK);
        assert_eq!(put(&mut host, 1), EBADF);
        assert_eq!(put(&mut host, 2), OK);
        assert_eq!(host.stdout, b"xx");
        assert_eq!(fd_renumber(&mut host, &mut [], 2, 1), EBADF);
        // Then stdout becomes 0.
        assert_eq!(fd_renumber(&mut host, &mut [], 2, 0), OK);
        assert_eq!(put(&mut host, 0), OK);
        assert_eq!(host.stdout, b"xxx");
        assert_eq!(fd_close(&mut host, &mut [], 0), OK);
        for fd in 0..3 {
            assert_eq!(put(&mut host, fd), EBADF);
            assert_eq!(fd_fdstat_get(&mut host, &mut [0; 64], fd, 0), EBADF);
        }
        assert!(host.logs.finish().0.is_empty());
    }

    #[test]
    fn rights_of_standard_streams_are_given_up_for_good() {
        let mut host = host();
        let rights = |host: &mut HostState, fd| {
            let mut memory = [0; 32];
            assert_eq!(fd_fdstat_get(host, &mut memory, fd, 0), OK);
            (u64_at(&memory, 8) as i64, u64_at(&memory, 16) as i64)
        };
        for fd in 0..3 {
            let (base, inheriting) = rights(&mut host, fd);
            for (more, inherited) in [(1 << 2, 0), (-1, 0), (0, 1), (1 << 63, 0)] {
                let refused = fd_fdstat_set_rights(&mut host, &mut [], fd, base | more, inherited);
                assert_eq!(refused, ENOTCAPABLE);
            }
            let same = fd_fdstat_set_rights(&mut host, &mut [], fd, base, inheriting);
            assert_eq!(same, OK);
            assert_eq!(rights(&mut host, fd), (base, inheriting));
            assert_eq!(fd_fdstat_set_rights(&mut host, &mut [], fd, 0, 0), OK);
            assert_eq!(rights(&mut host, fd), (0, 0));
            let again = fd_fdstat_set_rights(&mut host, &mut [], fd, base, inheriting);
            assert_eq!(again, ENOTCAPABLE);
        }
        let memory = &mut [0; 64];
        assert_eq!(fd_read(&mut host, memory, 0, 0, 1, 48), ENOTCAPABLE);
        // They go with the stream when it gets another number.
        assert_eq!(fd_renumber(&mut host, &mut [], 1, 0), OK);
        for fd in [0, 2] {
            assert_eq!(put(&mut host, fd), ENOTCAPABLE);
        }
        assert!(host.stdout.is_empty());
    }

    #[test]
    fn standard_descriptors_are_no_mounts() {
        let mut host = host();
        for fd in 0..3 {
            assert_eq!(fd_prestat_get(&mut host, &mut [], fd, 0), EBADF);
            assert_eq!(fd_prestat_dir_name(&mut host, &mut [], fd, 0, 0), EBADF);
        }
    }
}
