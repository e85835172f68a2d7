//! Tests of mounts from the guest's side: what works, what is refused, and what must not block.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use super::{FileBudget, MountSet, MountSpec, Sandbox};
use crate::error::ErrorKind;
use crate::sandbox::HostState;
use crate::sandbox::hostcalls::*;
use crate::sandbox::wasi::testing::{
    EBADF, EFAULT, OK, host_with_mounts, host_with_set, put_fd, put_iovecs, u32_at, u64_at,
};

mod budget;
mod descriptors;
mod refusing;
mod serving;

const ACCES: i32 = 2;
const EXIST: i32 = 20;
const FAULT: i32 = 21;
const ILSEQ: i32 = 25;
const INVAL: i32 = 28;
const ISDIR: i32 = 31;
const MFILE: i32 = 33;
const NAMETOOLONG: i32 = 37;
const NOENT: i32 = 44;
const NOTDIR: i32 = 54;
const NFILE: i32 = 41;
const NOTCAPABLE: i32 = 76;
const NOTSUP: i32 = 58;
const PERM: i32 = 63;
const ROFS: i32 = 69;

const CREAT: i32 = 1;
const DIRECTORY: i32 = 2;
const EXCL: i32 = 4;
const TRUNC: i32 = 8;

const READ: i64 = 1 << 1;
const WRITE: i64 = 1 << 6;

/// The first mount's descriptor.
const ROOT: i32 = 3;

/// Addresses in guest memory: of the paths of a call, and of its result.
const PATH: i32 = 0x1000;
const PATH_2: i32 = 0x3000;
const RESULT: i32 = 0x100;

/// A directory for one test, which is removed at its end.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gojinn-mounts-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a new file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the file is there")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the directory is there");
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into()
            })
            .collect();
        names.sort();
        names
    }

    fn spec(&self, guest: &str, writable: bool) -> MountSpec {
        MountSpec {
            host: self.0.clone(),
            guest: guest.into(),
            writable,
        }
    }

    pub(super) fn fifo(&self, name: &str) {
        let path = std::ffi::CString::new(self.path(name).as_os_str().as_bytes());
        let path = path.expect("no NUL in it");
        // SAFETY: `path` is a C string that lives longer than the call.
        let made = unsafe { libc::mkfifo(path.as_ptr(), 0o666) };
        assert_eq!(made, 0);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A function with one path.
type OnPath = fn(&mut HostState, &mut [u8], i32, i32, i32) -> Result<i32, crate::Stop>;

/// A guest with mounts.
struct Guest {
    host: HostState,
    memory: Vec<u8>,
}

impl Guest {
    fn new(mounts: &[MountSpec]) -> Self {
        Self::with_timeout(mounts, Duration::from_secs(60))
    }

    /// One of several guests of a function.
    fn of(set: &MountSet) -> Self {
        Self {
            host: host_with_set(set),
            memory: vec![0; 4 << 20],
        }
    }

    fn with_timeout(mounts: &[MountSpec], timeout: Duration) -> Self {
        Self {
            host: host_with_mounts(timeout, mounts),
            memory: vec![0; 4 << 20],
        }
    }

    fn put(&mut self, at: i32, text: &str) -> (i32, i32) {
        self.memory[at as usize..at as usize + text.len()].copy_from_slice(text.as_bytes());
        (at, text.len() as i32)
    }

    fn open(&mut self, dir: i32, path: &str, oflags: i32, rights: i64) -> Result<i32, i32> {
        self.open_with(dir, path, 1, oflags, rights, 0)
    }

    fn open_with(
        &mut self,
        dir: i32,
        path: &str,
        lookup: i32,
        oflags: i32,
        rights: i64,
        flags: i32,
    ) -> Result<i32, i32> {
        let (path, len) = self.put(PATH, path);
        let errno = path_open(
            &mut self.host,
            &mut self.memory,
            dir,
            lookup,
            path,
            len,
            oflags,
            rights,
            0,
            flags,
            RESULT,
        );
        match errno.expect("no stop") {
            0 => Ok(u32_at(&self.memory, RESULT as usize) as i32),
            errno => Err(errno),
        }
    }

    fn read(&mut self, fd: i32, len: u32) -> Result<Vec<u8>, i32> {
        put_iovecs(&mut self.memory, 0x200, &[(1 << 20, len)]);
        let errno = fd_read(&mut self.host, &mut self.memory, fd, 0x200, 1, RESULT);
        match errno.expect("no stop") {
            0 => {
                let read = u32_at(&self.memory, RESULT as usize) as usize;
                Ok(self.memory[1 << 20..(1 << 20) + read].to_vec())
            }
            errno => Err(errno),
        }
    }

    fn write(&mut self, fd: i32, text: &str) -> Result<u32, i32> {
        let (at, len) = self.put(PATH, text);
        put_iovecs(&mut self.memory, 0x200, &[(at as u32, len as u32)]);
        let errno = fd_write(&mut self.host, &mut self.memory, fd, 0x200, 1, RESULT);
        match errno.expect("no stop") {
            0 => Ok(u32_at(&self.memory, RESULT as usize)),
            errno => Err(errno),
        }
    }

    fn close(&mut self, fd: i32) {
        assert_eq!(fd_close(&mut self.host, &mut self.memory, fd), OK);
    }

    /// One of the functions with one path.
    fn on_path(&mut self, call: OnPath, dir: i32, path: &str) -> i32 {
        let (path, len) = self.put(PATH, path);
        call(&mut self.host, &mut self.memory, dir, path, len).expect("no stop")
    }

    fn rename(&mut self, from: (i32, &str), to: (i32, &str)) -> i32 {
        let (a, a_len) = self.put(PATH, from.1);
        let (b, b_len) = self.put(PATH_2, to.1);
        let (host, memory) = (&mut self.host, &mut self.memory);
        path_rename(host, memory, from.0, a, a_len, to.0, b, b_len).expect("no stop")
    }

    fn link(&mut self, from: (i32, &str), to: (i32, &str)) -> i32 {
        let (a, a_len) = self.put(PATH, from.1);
        let (b, b_len) = self.put(PATH_2, to.1);
        let (host, memory) = (&mut self.host, &mut self.memory);
        path_link(host, memory, from.0, 0, a, a_len, to.0, b, b_len).expect("no stop")
    }

    fn symlink(&mut self, target: &str, path: &str) -> i32 {
        let (a, a_len) = self.put(PATH, target);
        let (b, b_len) = self.put(PATH_2, path);
        path_symlink(&mut self.host, &mut self.memory, a, a_len, ROOT, b, b_len).expect("no stop")
    }

    fn set_times(&mut self, path: &str, lookup: i32) -> i32 {
        let (path, len) = self.put(PATH, path);
        let (host, memory) = (&mut self.host, &mut self.memory);
        path_filestat_set_times(host, memory, ROOT, lookup, path, len, 7_000, 9_000, 5)
            .expect("no stop")
    }

    fn stat(&mut self, path: &str) -> Result<(u8, u64, u64), i32> {
        let (path, len) = self.put(PATH, path);
        let (host, memory) = (&mut self.host, &mut self.memory);
        match path_filestat_get(host, memory, ROOT, 1, path, len, RESULT).expect("no stop") {
            0 => {
                let at = RESULT as usize;
                Ok((
                    memory[at + 16],
                    u64_at(memory, at + 32),
                    u64_at(memory, at + 48),
                ))
            }
            errno => Err(errno),
        }
    }

    /// The names in a directory, read in small pieces as libc does.
    fn list(&mut self, fd: i32) -> Result<Vec<String>, i32> {
        let (mut names, mut cookie) = (Vec::new(), 0);
        loop {
            let (host, memory) = (&mut self.host, &mut self.memory);
            match fd_readdir(host, memory, fd, PATH, 64, cookie, RESULT).expect("no stop") {
                0 => {}
                errno => return Err(errno),
            }
            let used = u32_at(memory, RESULT as usize) as usize;
            let (mut at, end) = (PATH as usize, PATH as usize + used);
            let before = names.len();
            while at + 24 <= end {
                let len = u32_at(memory, at + 16) as usize;
                if at + 24 + len > end {
                    break;
                }
                let name = &memory[at + 24..at + 24 + len];
                names.push(String::from_utf8(name.to_vec()).expect("UTF-8"));
                cookie = u64_at(memory, at) as i64;
                at += 24 + len;
            }
            if used < 64 {
                names.sort();
                return Ok(names);
            }
            assert!(names.len() > before, "64 bytes hold each of these names");
        }
    }
}
