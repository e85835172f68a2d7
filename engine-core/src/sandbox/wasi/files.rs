//! The functions on descriptors: ours for 0-2, wasi-common's for the rest.

use super::errno::{Errno, Fail, answer};
use super::guest::{Iovecs, bytes, bytes_mut, check, range, read, write};
use super::mounts::forward;
use super::stdio::{self, Fd, locate};
use crate::sandbox::{HostState, Stop};

/// Says how a file will be used. Nothing to say about a pipe.
pub fn fd_advise(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    offset: i64,
    len: i64,
    advice: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Err(Errno::BADF.into()),
        Fd::Mounted => forward!(host, memory, fd_advise(fd, offset, len, advice)),
    })
}

/// Not supported, as in wasi-common: it exists on one operating system only.
pub fn fd_allocate(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    offset: i64,
    len: i64,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Err(Errno::NOTSUP.into()),
        Fd::Mounted => forward!(host, memory, fd_allocate(fd, offset, len)),
    })
}

/// Closes a descriptor.
pub fn fd_close(host: &mut HostState, memory: &mut [u8], fd: i32) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(std) => {
            stdio::close(host, std);
            Ok(())
        }
        Fd::Mounted => forward!(host, memory, fd_close(fd)),
    })
}

/// Writes a file's data to disk.
pub fn fd_datasync(host: &mut HostState, memory: &mut [u8], fd: i32) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
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
            check(memory, stat, 24)?;
            forward!(host, memory, fd_fdstat_get(fd, stat))
        }
    })
}

/// Sets the flags of a descriptor.
pub fn fd_fdstat_set_flags(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    flags: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(std) => stdio::set_flags(host, std, flags),
        Fd::Mounted => forward!(host, memory, fd_fdstat_set_flags(fd, flags)),
    })
}

/// Succeeds without effect, as in wasi-common: rights are no longer part of WASI.
pub fn fd_fdstat_set_rights(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    base: i64,
    inheriting: i64,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Ok(()),
        Fd::Mounted => forward!(host, memory, fd_fdstat_set_rights(fd, base, inheriting)),
    })
}

/// Writes type, size and times of an open file.
pub fn fd_filestat_get(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    stat: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
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
    answer(|| match locate(host, fd)? {
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
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Err(Errno::BADF.into()),
        Fd::Mounted => forward!(host, memory, fd_filestat_set_times(fd, atim, mtim, flags)),
    })
}

/// Reads at an offset. A pipe has none.
pub fn fd_pread(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    iovs: i32,
    count: i32,
    offset: i64,
    read: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Err(Errno::SPIPE.into()),
        Fd::Mounted => {
            Iovecs::new(memory, iovs, count)?;
            check(memory, read, 4)?;
            forward!(host, memory, fd_pread(fd, iovs, count, offset, read))
        }
    })
}

/// Says that a descriptor is a mount, and how long its path is.
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

/// Writes at an offset. A pipe has none.
pub fn fd_pwrite(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    iovs: i32,
    count: i32,
    offset: i64,
    written: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Err(Errno::SPIPE.into()),
        Fd::Mounted => {
            Iovecs::new(memory, iovs, count)?;
            check(memory, written, 4)?;
            forward!(host, memory, fd_pwrite(fd, iovs, count, offset, written))
        }
    })
}

/// Reads.
pub fn fd_read(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    iovs: i32,
    count: i32,
    read: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(std) => stdio::read(host, memory, std, iovs, count, read),
        Fd::Mounted => {
            Iovecs::new(memory, iovs, count)?;
            check(memory, read, 4)?;
            forward!(host, memory, fd_read(fd, iovs, count, read))
        }
    })
}

/// Lists a folder.
pub fn fd_readdir(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    buf: i32,
    len: i32,
    cookie: i64,
    used: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
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
                        // Written last, over a list that nobody can read any more.
                        memory[list].fill(0);
                        write(memory, used, filled)?;
                    } else {
                        clear_padding(&mut memory[list]);
                    }
                }
                // Nothing was listed.
                Err(Fail::Errno(Errno::BADF | Errno::NOTDIR)) => {}
                // Not all was.
                Err(_) => clear_padding(bytes_mut(memory, buf, len)?),
            }
            listed
        }
    })
}

/// Clears the padding of each `dirent`. Wasi-common leaves in it what was on the host's stack.
fn clear_padding(mut list: &mut [u8]) {
    while let Some(header) = list.get_mut(..DIRENT.min(list.len()))
        && let Some(padding) = header.get_mut(DIRENT_PADDING..)
    {
        padding.fill(0);
        let Some(&[a, b, c, d]) = header.get(16..20).and_then(<[u8]>::first_chunk) else {
            return;
        };
        let name = u32::from_le_bytes([a, b, c, d]) as usize;
        // No name is empty: the list has ended.
        if name == 0 {
            return;
        }
        list = list.get_mut(DIRENT + name..).unwrap_or_default();
    }
}

/// Bytes of a `dirent` without its name, and where in it the padding begins that ends it.
const DIRENT: usize = 24;
const DIRENT_PADDING: usize = 21;

/// Gives a descriptor another number, closing what had it. The numbers 0-2 keep their meaning.
pub fn fd_renumber(host: &mut HostState, memory: &mut [u8], fd: i32, to: i32) -> Result<i32, Stop> {
    answer(|| match (locate(host, fd)?, locate(host, to)?) {
        (Fd::Std(one), Fd::Std(other)) if one == other => Ok(()),
        (Fd::Mounted, Fd::Mounted) => forward!(host, memory, fd_renumber(fd, to)),
        _ => Err(Errno::NOTSUP.into()),
    })
}

/// Moves the offset of an open file. A pipe has none.
pub fn fd_seek(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    offset: i64,
    whence: i32,
    position: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Err(Errno::SPIPE.into()),
        Fd::Mounted => {
            check(memory, position, 8)?;
            forward!(host, memory, fd_seek(fd, offset, whence, position))
        }
    })
}

/// Writes a file's data and metadata to disk.
pub fn fd_sync(host: &mut HostState, memory: &mut [u8], fd: i32) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Ok(()),
        Fd::Mounted => forward!(host, memory, fd_sync(fd)),
    })
}

/// Writes the offset of an open file. A pipe has none.
pub fn fd_tell(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    position: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
        Fd::Std(_) => Err(Errno::SPIPE.into()),
        Fd::Mounted => {
            check(memory, position, 8)?;
            forward!(host, memory, fd_tell(fd, position))
        }
    })
}

/// Writes.
pub fn fd_write(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    iovs: i32,
    count: i32,
    written: i32,
) -> Result<i32, Stop> {
    answer(|| match locate(host, fd)? {
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
    use crate::sandbox::wasi::testing::{EBADF, OK, host};

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

    #[test]
    fn standard_descriptors_keep_their_numbers() {
        let mut host = host();
        assert_eq!(fd_renumber(&mut host, &mut [], 1, 1), OK);
        assert_eq!(fd_renumber(&mut host, &mut [], 1, 2), ENOTSUP);
        assert_eq!(fd_renumber(&mut host, &mut [], 1, 3), EBADF);
        assert_eq!(fd_close(&mut host, &mut [], 1), OK);
        assert_eq!(fd_renumber(&mut host, &mut [], 1, 2), EBADF);
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
