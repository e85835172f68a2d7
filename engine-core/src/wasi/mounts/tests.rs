//! Mounts from the guest's side: what works, what is refused, and what must not hang.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use super::{MountSet, MountSpec, Sandbox};
use crate::error::ErrorKind;
use crate::host::HostState;
use crate::hostcall::*;
use crate::wasi::testing::{
    EBADF, EFAULT, OK, host_with_mounts, put_fd, put_iovecs, u32_at, u64_at,
};

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

/// Where the paths of a call stand in guest memory, and where its result goes.
const PATH: i32 = 0x1000;
const PATH_2: i32 = 0x3000;
const RESULT: i32 = 0x100;

/// A folder of the test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gojinn-mounts-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a new file");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the file is there")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder is there");
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

    fn fifo(&self, name: &str) {
        let path = std::ffi::CString::new(self.path(name).as_os_str().as_bytes());
        let path = path.expect("no NUL in it");
        // SAFETY: `path` is a C string that lives until after the call.
        let made = unsafe { libc::mkfifo(path.as_ptr(), 0o666) };
        assert_eq!(made, 0);
    }
}

impl Drop for Folder {
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

    /// The names in a folder, read in small pieces the way libc does.
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

#[test]
fn mounts_are_found_listed_and_read() {
    let (one, two) = (Folder::new(), Folder::new());
    one.write("a.txt", "hello");
    for name in ["b", "c", "d", "e"] {
        one.write(name, "");
    }
    let mut guest = Guest::new(&[one.spec("/data", false), two.spec("/tmp/x/", true)]);
    for (fd, name) in [(3, "/data"), (4, "/tmp/x")] {
        let (host, memory) = (&mut guest.host, &mut guest.memory);
        assert_eq!(fd_prestat_get(host, memory, fd, RESULT), OK);
        let at = RESULT as usize;
        assert_eq!(
            (memory[at], u32_at(memory, at + 4) as usize),
            (0, name.len())
        );
        assert_eq!(
            fd_prestat_dir_name(host, memory, fd, RESULT, name.len() as i32),
            OK
        );
        assert_eq!(&memory[at..at + name.len()], name.as_bytes());
        assert_eq!(
            fd_prestat_dir_name(host, memory, fd, RESULT, name.len() as i32 - 1),
            Ok(NAMETOOLONG)
        );
    }
    assert_eq!(
        fd_prestat_get(&mut guest.host, &mut guest.memory, 5, RESULT),
        EBADF
    );
    assert_eq!(
        guest.list(ROOT).expect("a listing"),
        [".", "..", "a.txt", "b", "c", "d", "e"]
    );
    let fd = guest.open(ROOT, "a.txt", 0, READ).expect("it is there");
    assert_eq!(guest.read(fd, 3), Ok(b"hel".to_vec()));
    assert_eq!(guest.read(fd, 30), Ok(b"lo".to_vec()));
    assert_eq!(guest.read(fd, 30), Ok(vec![]));
    guest.close(fd);
    assert_eq!(guest.read(fd, 1), Err(8));
    assert_eq!(guest.open(ROOT, "nothing", 0, READ), Err(NOENT));
    assert_eq!(guest.stat("a.txt").expect("a stat").0, 4);
    assert_eq!(guest.stat("a.txt").expect("a stat").1, 5);
}

#[test]
fn a_writable_mount_can_be_changed() {
    let folder = Folder::new();
    let mut guest = Guest::new(&[folder.spec("/", true)]);
    assert_eq!(guest.on_path(path_create_directory, ROOT, "sub"), 0);
    let sub = guest
        .open(ROOT, "sub", DIRECTORY, READ)
        .expect("the folder");
    let fd = guest
        .open(sub, "f", CREAT | EXCL, READ | WRITE)
        .expect("a file");
    assert_eq!(guest.open(sub, "f", CREAT | EXCL, WRITE), Err(EXIST));
    assert_eq!(guest.write(fd, "12345"), Ok(5));
    assert_eq!(folder.read("sub/f"), "12345");
    let (host, memory) = (&mut guest.host, &mut guest.memory);
    assert_eq!(fd_filestat_set_size(host, memory, fd, 2), OK);
    assert_eq!(fd_seek(host, memory, fd, 0, 0, RESULT), OK);
    assert_eq!(guest.read(fd, 9), Ok(b"12".to_vec()));
    // Not left in the mode it was opened with.
    assert_eq!(
        fd_fdstat_get(&mut guest.host, &mut guest.memory, fd, RESULT),
        OK
    );
    assert_eq!(guest.memory[RESULT as usize + 2], 0);
    let appending = guest.open_with(sub, "f", 1, 0, WRITE, 1).expect("the file");
    assert_eq!(guest.write(appending, "3"), Ok(1));
    assert_eq!(folder.read("sub/f"), "123");
    assert_eq!(
        guest.open(sub, "f", TRUNC, WRITE).map(|fd| guest.close(fd)),
        Ok(())
    );
    assert_eq!(folder.read("sub/f"), "");
    assert_eq!(guest.rename((sub, "f"), (ROOT, "g")), 0);
    assert_eq!(guest.link((ROOT, "g"), (ROOT, "h")), 0);
    assert_eq!(guest.symlink("g", "link"), 0);
    assert_eq!(guest.set_times("g", 1), 0);
    assert_eq!(guest.set_times("link", 0), 0);
    assert_eq!(guest.set_times("sub", 1), 0);
    assert_eq!(guest.stat("g").expect("a stat").2, 9_000);
    assert_eq!(folder.names(), ["g", "h", "link", "sub"]);
    assert_eq!(guest.on_path(path_unlink_file, ROOT, "h"), 0);
    assert_eq!(guest.on_path(path_unlink_file, ROOT, "link"), 0);
    assert_eq!(guest.on_path(path_remove_directory, ROOT, "sub"), 0);
    assert_eq!(folder.names(), ["g"]);
}

#[test]
fn a_read_only_mount_stays_as_it_is() {
    let (folder, other) = (Folder::new(), Folder::new());
    folder.write("f", "text");
    other.write("o", "other");
    fs::create_dir(folder.path("sub")).expect("a folder");
    let mut guest = Guest::new(&[folder.spec("/ro", false), other.spec("/rw", true)]);
    let before = fs::metadata(folder.path("f"))
        .expect("metadata")
        .modified()
        .ok();
    for (oflags, rights) in [
        (0, WRITE),
        (0, READ | WRITE),
        (CREAT, READ),
        (TRUNC, READ),
        (CREAT | TRUNC, WRITE),
    ] {
        assert_eq!(guest.open(ROOT, "f", oflags, rights), Err(ROFS));
        assert_eq!(guest.open(ROOT, "new", oflags, rights), Err(ROFS));
    }
    let sub = guest
        .open(ROOT, "sub", DIRECTORY, READ)
        .expect("the folder");
    assert_eq!(guest.open(sub, "new", CREAT, WRITE), Err(ROFS));
    assert_eq!(guest.on_path(path_create_directory, ROOT, "d"), ROFS);
    assert_eq!(guest.on_path(path_remove_directory, ROOT, "sub"), ROFS);
    assert_eq!(guest.on_path(path_unlink_file, ROOT, "f"), ROFS);
    assert_eq!(guest.symlink("f", "l"), ROFS);
    assert_eq!(guest.set_times("f", 0), ROFS);
    assert_eq!(guest.set_times("f", 1), ROFS);
    for (from, to) in [
        ((3, "f"), (3, "g")),
        ((3, "f"), (4, "g")),
        ((4, "o"), (3, "o")),
    ] {
        assert_eq!(guest.rename(from, to), ROFS);
        assert_eq!(guest.link(from, to), ROFS);
    }
    // A file that is open for reading, and a folder, through their descriptors. `append` opens nothing for writing.
    let fd = guest.open_with(ROOT, "f", 1, 0, READ, 1).expect("the file");
    assert_eq!(guest.write(fd, "x"), Err(8));
    let (host, memory) = (&mut guest.host, &mut guest.memory);
    assert_eq!(fd_pwrite(host, memory, fd, 0x200, 1, 0, RESULT), EBADF);
    assert_eq!(fd_filestat_set_size(host, memory, fd, 0), Ok(ROFS));
    assert_eq!(fd_filestat_set_times(host, memory, fd, 1, 1, 5), Ok(ROFS));
    assert_eq!(fd_filestat_set_times(host, memory, sub, 1, 1, 5), Ok(ROFS));
    assert_eq!(fd_allocate(host, memory, fd, 0, 100), Ok(NOTSUP));
    assert_eq!(fd_fdstat_set_flags(host, memory, fd, 1), OK);
    assert_eq!(guest.write(fd, "x"), Err(8));
    assert_eq!(folder.names(), ["f", "sub"]);
    assert_eq!(folder.read("f"), "text");
    assert_eq!(
        before,
        fs::metadata(folder.path("f"))
            .expect("metadata")
            .modified()
            .ok()
    );
    assert_eq!(other.names(), ["o"]);
}

#[test]
fn fifos_sockets_and_devices_are_refused_and_hang_nobody() {
    let folder = Folder::new();
    folder.fifo("fifo");
    symlink("fifo", folder.path("to-fifo")).expect("a link");
    let _listener = UnixListener::bind(folder.path("socket")).expect("a socket");
    for writable in [false, true] {
        let mut guest = Guest::new(&[folder.spec("/data", writable)]);
        for name in ["fifo", "to-fifo", "socket"] {
            assert_eq!(guest.open(ROOT, name, 0, READ), Err(ACCES));
            assert_eq!(guest.open_with(ROOT, name, 1, 0, READ, 4), Err(ACCES));
            let refused = if writable { ACCES } else { ROFS };
            for rights in [WRITE, READ | WRITE] {
                assert_eq!(guest.open(ROOT, name, 0, rights), Err(refused));
                assert_eq!(guest.open(ROOT, name, CREAT | TRUNC, rights), Err(refused));
            }
            assert_eq!(guest.set_times(name, 1), refused);
            assert!(guest.stat(name).is_ok());
        }
    }
    let dev = MountSpec {
        host: "/dev".into(),
        guest: "/dev".into(),
        writable: true,
    };
    let mut guest = Guest::new(&[dev]);
    for device in ["null", "zero", "full", "tty"] {
        assert_eq!(guest.open(ROOT, device, 0, READ), Err(ACCES));
        assert_eq!(guest.open(ROOT, device, 0, WRITE), Err(ACCES));
    }
}

#[test]
fn a_file_that_turns_into_a_fifo_hangs_nobody() {
    let folder = Folder::new();
    folder.write("x", "file");
    folder.fifo("spare");
    let (x, spare) = (folder.path("x"), folder.path("spare"));
    let (done, stop) = std::sync::mpsc::channel::<()>();
    let exchanger = std::thread::spawn(move || {
        let between = x.with_extension("between");
        while matches!(stop.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
            for (from, to) in [(&x, &between), (&spare, &x), (&between, &spare)] {
                fs::rename(from, to).expect("nobody else renames");
            }
        }
    });
    let mut guest = Guest::new(&[folder.spec("/data", true)]);
    let (mut opened, mut refused, mut round) = (0, 0, 0);
    // Until both have been met often, on a busy machine too.
    while round < 5_000 || (opened.min(refused) < 100 && round < 5_000_000) {
        round += 1;
        let rights = [READ, WRITE, READ | WRITE][round % 3];
        match guest.open(ROOT, "x", 0, rights) {
            Ok(fd) => {
                opened += 1;
                guest.close(fd);
            }
            // ENXIO: a FIFO nobody reads, opened for writing without blocking.
            Err(ACCES | NOENT | 60) => refused += 1,
            Err(errno) => panic!("errno {errno}"),
        }
        assert!([0, ACCES, NOENT].contains(&guest.set_times("x", 1)));
    }
    drop(done);
    exchanger.join().expect("the exchanger does not panic");
    assert!(
        opened > 0 && refused > 0,
        "{opened} opened, {refused} refused"
    );
}

#[test]
fn nothing_leads_out_of_a_mount() {
    let outside = Folder::new();
    outside.write("secret", "secret");
    let inside = outside.path("mounted");
    fs::create_dir(&inside).expect("a folder");
    fs::create_dir(inside.join("sub")).expect("a folder");
    fs::write(inside.join("f"), "fine").expect("a file");
    let link = |target: &Path, name: &str| symlink(target, inside.join(name)).expect("a link");
    link(&outside.path("secret"), "absolute");
    link(Path::new("../secret"), "relative");
    link(Path::new("sub/../../secret"), "winding");
    link(Path::new(".."), "up");
    link(Path::new("/"), "root");
    link(Path::new("f"), "fine");
    let spec = MountSpec {
        host: inside,
        guest: "/m".into(),
        writable: true,
    };
    let mut guest = Guest::new(&[spec]);
    let secret = outside.path("secret");
    let secret = secret.to_str().expect("UTF-8").to_owned();
    let paths = [
        "absolute",
        "relative",
        "winding",
        "up/secret",
        "../secret",
        "sub/../../secret",
    ];
    let others = [
        "root/etc/passwd",
        "/etc/passwd",
        "..",
        "/",
        secret.as_str(),
        "up",
        "root",
    ];
    for path in paths.into_iter().chain(others) {
        for (oflags, rights) in [(0, READ), (0, WRITE), (CREAT, WRITE), (DIRECTORY, READ)] {
            assert_eq!(guest.open(ROOT, path, oflags, rights), Err(PERM), "{path}");
        }
        assert_eq!(guest.stat(path), Err(PERM), "{path}");
        assert_eq!(guest.set_times(path, 1), PERM, "{path}");
    }
    for path in ["../new", "up/new", "/tmp/new", "sub/../../new"] {
        assert_eq!(guest.open(ROOT, path, CREAT, WRITE), Err(PERM), "{path}");
        assert_eq!(
            guest.on_path(path_create_directory, ROOT, path),
            PERM,
            "{path}"
        );
        assert_eq!(guest.rename((ROOT, "f"), (ROOT, path)), PERM, "{path}");
        assert_eq!(guest.link((ROOT, "f"), (ROOT, path)), PERM, "{path}");
        assert_eq!(guest.symlink("f", path), PERM, "{path}");
    }
    assert_eq!(guest.on_path(path_unlink_file, ROOT, "../secret"), PERM);
    assert_eq!(guest.rename((ROOT, "../secret"), (ROOT, "mine")), PERM);
    // A folder opened inside of the mount is a border as well.
    let sub = guest
        .open(ROOT, "sub", DIRECTORY, READ)
        .expect("the folder");
    assert_eq!(guest.open(sub, "../f", 0, READ), Err(PERM));
    // Links that would lead other programs out.
    for target in ["/etc/passwd", "../secret", "sub/../../secret", ".."] {
        assert_eq!(guest.symlink(target, "new"), PERM);
    }
    let fd = guest
        .open(ROOT, "fine", 0, READ)
        .expect("a link that stays inside");
    assert_eq!(guest.read(fd, 9), Ok(b"fine".to_vec()));
    assert_eq!(outside.names(), ["mounted", "secret"]);
    assert_eq!(outside.read("secret"), "secret");
}

#[test]
fn open_handles_are_bounded() {
    let folder = Folder::new();
    folder.write("f", "");
    let mut guest = Guest::new(&[folder.spec("/", false)]);
    let mut open = Vec::new();
    let refused = loop {
        match guest.open(ROOT, if open.len() % 2 == 0 { "f" } else { "." }, 0, READ) {
            Ok(fd) => open.push(fd),
            Err(errno) => break errno,
        }
    };
    assert_eq!(refused, MFILE);
    assert!(open.len() <= Sandbox::HANDLES && open.len() > Sandbox::HANDLES - 8);
    guest.close(open[0]);
    assert!(guest.open(ROOT, "f", 0, READ).is_ok());
    assert_eq!(guest.open(ROOT, "f", 0, READ), Err(MFILE));
}

#[test]
fn one_call_moves_a_bounded_amount() {
    let folder = Folder::new();
    fs::write(folder.path("large"), vec![1; 3 << 20]).expect("a file");
    let mut guest = Guest::new(&[folder.spec("/", true)]);
    let fd = guest
        .open(ROOT, "large", 0, READ | WRITE)
        .expect("the file");
    assert_eq!(
        guest.read(fd, 3 << 20).map(|bytes| bytes.len()),
        Ok(1 << 20)
    );
    put_iovecs(
        &mut guest.memory,
        0x200,
        &[(1 << 20, 900_000), (1 << 20, 900_000)],
    );
    let (host, memory) = (&mut guest.host, &mut guest.memory);
    assert_eq!(fd_write(host, memory, fd, 0x200, 2, RESULT), OK);
    assert_eq!(u32_at(memory, RESULT as usize), 1 << 20);
    assert_eq!(fd_tell(host, memory, fd, RESULT), OK);
    assert_eq!(u64_at(memory, RESULT as usize), 2 << 20);
}

#[test]
fn a_listing_stops_at_the_deadline() {
    let folder = Folder::new();
    let mut guest = Guest::with_timeout(&[folder.spec("/", false)], Duration::ZERO);
    assert_eq!(guest.list(ROOT), Err(27));
}

#[test]
fn odd_files_panic_nobody() {
    let folder = Folder::new();
    folder.write("old", "");
    let file = fs::File::options()
        .write(true)
        .open(folder.path("old"))
        .expect("the file");
    let before_1970 = SystemTime::UNIX_EPOCH - Duration::from_secs(3600);
    file.set_modified(before_1970).expect("the file system can");
    let unreadable = std::ffi::OsStr::from_bytes(b"not \xff utf-8");
    fs::write(folder.0.join(unreadable), "").expect("a file");
    let mut guest = Guest::new(&[folder.spec("/", true)]);
    assert_eq!(guest.stat("old"), Ok((4, 0, 0)));
    let fd = guest.open(ROOT, "old", 0, READ).expect("the file");
    assert_eq!(
        fd_filestat_get(&mut guest.host, &mut guest.memory, fd, RESULT),
        OK
    );
    assert_eq!(guest.list(ROOT).expect("a listing"), [".", "..", "old"]);
}

#[test]
fn hostile_arguments_are_refused() {
    let folder = Folder::new();
    folder.write("f", "text");
    let mut guest = Guest::new(&[folder.spec("/", true)]);
    let fd = guest.open(ROOT, "f", 0, READ | WRITE).expect("the file");
    let end = guest.memory.len() as i32;
    let (host, memory) = (&mut guest.host, &mut guest.memory[..]);
    for (path, len, errno) in [
        (end, 1, FAULT),
        (-1, 1, FAULT),
        (end - 1, 2, FAULT),
        (PATH, -1, NAMETOOLONG),
        (PATH, 4097, NAMETOOLONG),
    ] {
        assert_eq!(
            path_open(host, memory, ROOT, 0, path, len, 0, READ, 0, 0, RESULT),
            Ok(errno)
        );
        assert_eq!(path_unlink_file(host, memory, ROOT, path, len), Ok(errno));
        assert_eq!(
            path_rename(host, memory, ROOT, PATH, 1, ROOT, path, len),
            Ok(errno)
        );
        assert_eq!(
            path_symlink(host, memory, path, len, ROOT, PATH, 1),
            Ok(errno)
        );
    }
    memory[PATH as usize] = b'f';
    for out in [end, end - 3, -1, i32::MIN] {
        assert_eq!(
            path_open(host, memory, ROOT, 0, PATH, 1, 0, READ, 0, 0, out),
            EFAULT
        );
        assert_eq!(
            path_filestat_get(host, memory, ROOT, 0, PATH, 1, out),
            EFAULT
        );
        assert_eq!(
            path_readlink(host, memory, ROOT, PATH, 1, 0, 8, out),
            EFAULT
        );
        assert_eq!(
            path_readlink(host, memory, ROOT, PATH, 1, out, 8, RESULT),
            EFAULT
        );
        assert_eq!(fd_readdir(host, memory, ROOT, out, 64, 0, RESULT), EFAULT);
        assert_eq!(fd_readdir(host, memory, ROOT, PATH, 64, 0, out), EFAULT);
        assert_eq!(fd_seek(host, memory, fd, 0, 0, out), EFAULT);
        assert_eq!(fd_tell(host, memory, fd, out), EFAULT);
        assert_eq!(fd_read(host, memory, fd, out, 1, RESULT), EFAULT);
        assert_eq!(fd_pread(host, memory, fd, 0x200, 0, 0, out), EFAULT);
        assert_eq!(fd_fdstat_get(host, memory, fd, out), EFAULT);
        assert_eq!(fd_filestat_get(host, memory, fd, out), EFAULT);
        assert_eq!(fd_prestat_get(host, memory, ROOT, out), EFAULT);
        assert_eq!(fd_prestat_dir_name(host, memory, ROOT, out, 8), EFAULT);
    }
    assert_eq!(fd_read(host, memory, fd, 0x200, 1025, RESULT), Ok(INVAL));
    assert_eq!(fd_write(host, memory, fd, 0x200, -1, RESULT), Ok(INVAL));
    assert_eq!(fd_seek(host, memory, fd, 0, 3, RESULT), Ok(INVAL));
    assert_eq!(fd_seek(host, memory, fd, -1, 0, RESULT), Ok(INVAL));
    assert_eq!(fd_seek(host, memory, fd, i64::MIN, 1, RESULT), Ok(INVAL));
    assert_eq!(fd_advise(host, memory, fd, -1, -1, 0), Ok(INVAL));
    assert_eq!(fd_advise(host, memory, fd, 0, 0, 99), Ok(INVAL));
    assert_eq!(fd_filestat_set_size(host, memory, fd, -1), Ok(INVAL));
    assert_eq!(fd_filestat_set_times(host, memory, fd, 0, 0, 15), Ok(INVAL));
    assert_eq!(
        path_open(host, memory, ROOT, 0, PATH, 1, -1, READ, 0, 0, RESULT),
        Ok(INVAL)
    );
    assert_eq!(
        path_open(host, memory, ROOT, -1, PATH, 1, 0, READ, 0, 0, RESULT),
        Ok(INVAL)
    );
    assert_eq!(
        path_open(host, memory, fd, 0, PATH, 1, 0, READ, 0, 0, RESULT),
        Ok(NOTDIR)
    );
    assert_eq!(
        path_open(host, memory, 99, 0, PATH, 1, 0, READ, 0, 0, RESULT),
        EBADF
    );
    assert_eq!(fd_readdir(host, memory, ROOT, PATH, 64, -1, RESULT), OK);
    assert_eq!(u32_at(memory, RESULT as usize), 0);
    // Misaligned results: wasi-common wants alignment, and must only say so.
    assert_eq!(fd_tell(host, memory, fd, RESULT + 1), Ok(INVAL));
    memory[PATH as usize] = 0xff;
    assert_eq!(path_unlink_file(host, memory, ROOT, PATH, 1), Ok(ILSEQ));
    assert_eq!(guest.open(ROOT, "f\0g", 0, READ), Err(INVAL));
    assert_eq!(guest.open(ROOT, ".", 0, WRITE), Err(ISDIR));
    assert_eq!(guest.open(ROOT, "f", DIRECTORY, READ), Err(NOTDIR));
    assert_eq!(guest.open(ROOT, "f", DIRECTORY | CREAT, READ), Err(INVAL));
    assert_eq!(folder.read("f"), "text");
}

#[test]
fn standard_descriptors_are_not_touched_by_mounts() {
    let folder = Folder::new();
    folder.write("f", "text");
    let mut guest = Guest::new(&[folder.spec("/", false)]);
    assert_eq!(guest.write(1, "out"), Ok(3));
    assert_eq!(guest.host.stdout, b"out");
    let fd = guest.open(ROOT, "f", 0, READ).expect("the file");
    let (host, memory) = (&mut guest.host, &mut guest.memory);
    assert_eq!(fd_renumber(host, memory, fd, 0), Ok(NOTSUP));
    assert_eq!(fd_renumber(host, memory, 1, fd), Ok(NOTSUP));
    assert_eq!(fd_renumber(host, memory, 99, fd), EBADF);
    assert_eq!(fd_close(host, memory, 1), OK);
    assert_eq!(fd_close(host, memory, 1), EBADF);
    assert_eq!(sock_shutdown(host, memory, fd, 1), Ok(57));
    assert_eq!(sock_shutdown(host, memory, 99, 1), EBADF);
    put_fd(memory, 0, 5, 1, fd as u32);
    put_fd(memory, 48, 6, 1, 99);
    assert_eq!(poll_oneoff(host, memory, 0, 0x400, 2, RESULT), OK);
    assert_eq!(u32_at(memory, RESULT as usize), 2);
    assert_eq!((memory[0x408], memory[0x428]), (0, 8));
    // The mount itself may be closed, and its number is not given out again.
    assert_eq!(fd_close(host, memory, ROOT), OK);
    assert_eq!(guest.open(ROOT, "f", 0, READ), Err(8));
    assert_eq!(guest.read(fd, 9), Ok(b"text".to_vec()));
}

#[test]
fn what_cannot_be_mounted_is_explained() {
    let folder = Folder::new();
    folder.write("file", "");
    folder.fifo("fifo");
    let try_one = |host: PathBuf, guest: &str| {
        let spec = MountSpec {
            host,
            guest: guest.into(),
            writable: false,
        };
        let error = MountSet::new(&[folder.spec("/a", false), spec]).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(try_one(folder.path("missing"), "/x").contains("does not exist"));
    assert!(try_one(folder.path("file"), "/x").contains("not a folder"));
    assert!(try_one(folder.path("fifo"), "/x").contains("not a folder"));
    for guest in ["", "data", "./data"] {
        assert!(try_one(folder.0.clone(), guest).contains("must be absolute"));
    }
    for guest in ["//", "/a//b", "/a/../b", "/.", "/a\0"] {
        assert!(try_one(folder.0.clone(), guest).contains("must not have"));
    }
    for guest in ["/a", "/a/"] {
        let error = try_one(folder.0.clone(), guest);
        assert!(error.contains("has a mount already"), "{error}");
        assert!(error.starts_with("mount "), "{error}");
    }
    let set = MountSet::new(&[]).expect("nothing is fine");
    assert!(set.is_empty());
}
