//! The functions on paths, which wasi-common implements on the mounted directories.

use super::errno::{Errno, Fail, answer};
use super::guest::{bytes, check, read};
use super::mounts::forward;
use super::rights;
use super::stdio::{Fd, allowed};
use crate::sandbox::{HostState, Stop};

/// The longest path, as on Linux.
const PATH_MAX: u32 = 4096;

/// The flag of `path_open` that creates a file that does not exist.
const CREAT: i32 = 1;

/// Creates a directory.
pub fn path_create_directory(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    path: i32,
    len: i32,
) -> Result<i32, Stop> {
    answer(|| {
        check_path(host, memory, rights::PATH_CREATE_DIRECTORY, fd, path, len)?;
        forward!(host, memory, path_create_directory(fd, path, len))
    })
}

/// Writes type, size and times of the file or directory at a path.
pub fn path_filestat_get(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    lookup: i32,
    path: i32,
    len: i32,
    stat: i32,
) -> Result<i32, Stop> {
    answer(|| {
        check_path(host, memory, rights::PATH_FILESTAT_GET, fd, path, len)?;
        check(memory, stat, 64)?;
        forward!(host, memory, path_filestat_get(fd, lookup, path, len, stat))
    })
}

/// Sets the times of the file or directory at a path.
#[expect(clippy::too_many_arguments, reason = "the signature is WASI's")]
pub fn path_filestat_set_times(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    lookup: i32,
    path: i32,
    len: i32,
    atim: i64,
    mtim: i64,
    flags: i32,
) -> Result<i32, Stop> {
    answer(|| {
        check_path(host, memory, rights::PATH_FILESTAT_SET_TIMES, fd, path, len)?;
        forward!(
            host,
            memory,
            path_filestat_set_times(fd, lookup, path, len, atim, mtim, flags)
        )
    })
}

/// Creates a hard link.
#[expect(clippy::too_many_arguments, reason = "the signature is WASI's")]
pub fn path_link(
    host: &mut HostState,
    memory: &mut [u8],
    old_fd: i32,
    lookup: i32,
    old_path: i32,
    old_len: i32,
    new_fd: i32,
    new_path: i32,
    new_len: i32,
) -> Result<i32, Stop> {
    answer(|| {
        check_path(
            host,
            memory,
            rights::PATH_LINK_SOURCE,
            old_fd,
            old_path,
            old_len,
        )?;
        check_path(
            host,
            memory,
            rights::PATH_LINK_TARGET,
            new_fd,
            new_path,
            new_len,
        )?;
        forward!(
            host,
            memory,
            path_link(old_fd, lookup, old_path, old_len, new_fd, new_path, new_len)
        )
    })
}

/// Opens a file or directory.
#[expect(clippy::too_many_arguments, reason = "the signature is WASI's")]
pub fn path_open(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    lookup: i32,
    path: i32,
    len: i32,
    oflags: i32,
    base: i64,
    inheriting: i64,
    flags: i32,
    opened: i32,
) -> Result<i32, Stop> {
    answer(|| {
        let creating = if oflags & CREAT == 0 {
            0
        } else {
            rights::PATH_CREATE_FILE
        };
        check_path(host, memory, rights::PATH_OPEN | creating, fd, path, len)?;
        check(memory, opened, 4)?;
        if let Some(mounts) = &host.mounts {
            let wanted = (base | inheriting).cast_unsigned();
            rights::check(mounts.lost.of(fd).inheriting, wanted)?;
        }
        let result: Result<(), Fail> = forward!(
            host,
            memory,
            path_open(
                fd, lookup, path, len, oflags, base, inheriting, flags, opened
            )
        );
        result?;
        if let Some(mounts) = &mut host.mounts {
            let opened = i32::from_le_bytes(read(memory, opened)?);
            mounts.lost.inherit(fd, opened);
        }
        Ok(())
    })
}

/// Writes the target of a symbolic link.
#[expect(clippy::too_many_arguments, reason = "the signature is WASI's")]
pub fn path_readlink(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    path: i32,
    len: i32,
    buf: i32,
    buf_len: i32,
    used: i32,
) -> Result<i32, Stop> {
    answer(|| {
        check_path(host, memory, rights::PATH_READLINK, fd, path, len)?;
        bytes(memory, buf, buf_len)?;
        check(memory, used, 4)?;
        forward!(
            host,
            memory,
            path_readlink(fd, path, len, buf, buf_len, used)
        )
    })
}

/// Removes an empty directory.
pub fn path_remove_directory(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    path: i32,
    len: i32,
) -> Result<i32, Stop> {
    answer(|| {
        check_path(host, memory, rights::PATH_REMOVE_DIRECTORY, fd, path, len)?;
        forward!(host, memory, path_remove_directory(fd, path, len))
    })
}

/// Renames a file or directory.
#[expect(clippy::too_many_arguments, reason = "the signature is WASI's")]
pub fn path_rename(
    host: &mut HostState,
    memory: &mut [u8],
    old_fd: i32,
    old_path: i32,
    old_len: i32,
    new_fd: i32,
    new_path: i32,
    new_len: i32,
) -> Result<i32, Stop> {
    answer(|| {
        check_path(
            host,
            memory,
            rights::PATH_RENAME_SOURCE,
            old_fd,
            old_path,
            old_len,
        )?;
        check_path(
            host,
            memory,
            rights::PATH_RENAME_TARGET,
            new_fd,
            new_path,
            new_len,
        )?;
        forward!(
            host,
            memory,
            path_rename(old_fd, old_path, old_len, new_fd, new_path, new_len)
        )
    })
}

/// Creates a symbolic link.
pub fn path_symlink(
    host: &mut HostState,
    memory: &mut [u8],
    target: i32,
    target_len: i32,
    fd: i32,
    path: i32,
    len: i32,
) -> Result<i32, Stop> {
    answer(|| {
        check_path(host, memory, rights::PATH_SYMLINK, fd, target, target_len)?;
        check_path(host, memory, rights::PATH_SYMLINK, fd, path, len)?;
        forward!(
            host,
            memory,
            path_symlink(target, target_len, fd, path, len)
        )
    })
}

/// Removes a file.
pub fn path_unlink_file(
    host: &mut HostState,
    memory: &mut [u8],
    fd: i32,
    path: i32,
    len: i32,
) -> Result<i32, Stop> {
    answer(|| {
        check_path(host, memory, rights::PATH_UNLINK_FILE, fd, path, len)?;
        forward!(host, memory, path_unlink_file(fd, path, len))
    })
}

/// Checks what every path needs: a descriptor that can be a directory and has the rights `needed`, and a path of
/// bounded length that is inside of memory.
fn check_path(
    host: &HostState,
    memory: &[u8],
    needed: u64,
    fd: i32,
    path: i32,
    len: i32,
) -> Result<(), Fail> {
    if let Fd::Std(_) = allowed(host, fd, needed)? {
        return Err(Errno::NOTDIR.into());
    }
    if len.cast_unsigned() > PATH_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    bytes(memory, path, len)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::wasi::testing::{EBADF, host};

    #[test]
    fn without_mounts_there_are_no_paths() {
        let mut host = host();
        let memory = &mut [0xaa; 128];
        for (fd, errno) in [(0, Ok(54)), (2, Ok(54)), (3, EBADF), (-1, EBADF)] {
            assert_eq!(path_create_directory(&mut host, memory, fd, 0, 1), errno);
            assert_eq!(path_filestat_get(&mut host, memory, fd, 0, 0, 1, 0), errno);
            assert_eq!(
                path_filestat_set_times(&mut host, memory, fd, 0, 0, 1, 0, 0, 0),
                errno
            );
            assert_eq!(path_link(&mut host, memory, fd, 0, 0, 1, fd, 0, 1), errno);
            assert_eq!(
                path_open(&mut host, memory, fd, 0, 0, 1, 0, 0, 0, 0, 0),
                errno
            );
            assert_eq!(path_readlink(&mut host, memory, fd, 0, 1, 0, 0, 0), errno);
            assert_eq!(path_remove_directory(&mut host, memory, fd, 0, 1), errno);
            assert_eq!(path_rename(&mut host, memory, fd, 0, 1, fd, 0, 1), errno);
            assert_eq!(path_symlink(&mut host, memory, 0, 1, fd, 0, 1), errno);
            assert_eq!(path_unlink_file(&mut host, memory, fd, 0, 1), errno);
        }
        assert_eq!(memory, &[0xaa; 128]);
    }
}
