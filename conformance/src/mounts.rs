//! A case about mounts: a directory of the host, which is read-only unless the configuration says otherwise.

use std::path::{Path, PathBuf};

use super::{CHECKS, Fixture, module};
use engine_core::sandbox::wasi::MountSpec;
use engine_core::{Function, GuestExit};

/// A guest can read a read-only mount but not write to it. It can do both with `rw`.
pub fn a_mount_is_read_only_unless_it_says_rw(fixture: &Fixture) {
    let directory = Directory::new();
    let path = directory.0.join("note.txt");
    write(&path, "from the host");

    // Opens note.txt for reading (or creates new.txt with O_CREAT and write rights) below fd 3; exits with the errno.
    let open = |name: &str, oflags: u32, rights: u64, then: &str| {
        module(
            &format!(r#"(data (i32.const 256) "{name}")"#),
            &format!(
                r#"(func (export "_start") (local $errno i32)
                       (local.set $errno (call $path_open (i32.const 3) (i32.const 0) (i32.const 256) (i32.const {})
                           (i32.const {oflags}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 128)))
                       (if (local.get $errno) (then (call $proc_exit (i32.const 1))))
                       {then})"#,
                name.len()
            ),
        )
        .replacen(
            "(module",
            r#"(module (import "wasi_snapshot_preview1" "path_open"
                   (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#,
            1,
        )
    };
    let read = open(
        "note.txt",
        0,
        2,
        r#"(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 100))
           (drop (call $fd_read (i32.load (i32.const 128)) (i32.const 0) (i32.const 1) (i32.const 8)))
           (call $print (i32.const 1024) (i32.load (i32.const 8)))"#,
    );
    let write = open(
        "new.txt",
        1,
        64,
        "(call $write (i32.load (i32.const 128)) (i32.const 256) (i32.const 7))",
    );
    let escape = open("../note.txt", 0, 2, "");

    for writable in [false, true] {
        let mount = MountSpec {
            host: directory.0.clone(),
            guest: "/data".into(),
            writable,
        };
        let deploy =
            |wat: &str| fixture.deploy_with(wat, |config| config.mounts = vec![mount.clone()]);
        let run = fixture.run(&deploy(&read), b"");
        assert_eq!(
            (run.exit, run.stdout),
            (GuestExit::Exit(0), b"from the host".to_vec())
        );
        assert_eq!(fixture.run(&deploy(&escape), b"").exit, GuestExit::Exit(1));
        let expected = GuestExit::Exit(if writable { 0 } else { 1 });
        assert_eq!(
            fixture.run(&deploy(&write), b"").exit,
            expected,
            "writable: {writable}"
        );
        assert_eq!(directory.0.join("new.txt").exists(), writable);
    }
    let unmounted = fixture.deploy(&read);
    assert_eq!(fixture.run(&unmounted, b"").exit, GuestExit::Exit(1));
}

/// A write in append mode goes to the end, and a `fd_pwrite` to its offset.
pub fn a_write_appends_and_a_pwrite_obeys_its_offset(fixture: &Fixture) {
    let directory = Directory::new();
    let path = directory.0.join("log");
    write(&path, "12345");
    let guest = with_files(
        r#"(call $check (i32.eqz (call $open (i32.const 0) (i64.const 66) (i32.const 1))))
           (call $write (global.get $fd) (i32.const 300) (i32.const 2))
           (call $check (i32.eqz (call $fd_pwrite (global.get $fd) (i32.const 0) (i32.const 1) (i64.const 1) (i32.const 8))))
           (call $check (i32.eqz (call $fd_seek (global.get $fd) (i64.const 0) (i32.const 1) (i32.const 16))))
           (call $check (i64.eq (i64.load (i32.const 16)) (i64.const 7)))
           (call $check (i32.eqz (call $fd_seek (global.get $fd) (i64.const 0) (i32.const 0) (i32.const 16))))
           (call $write (global.get $fd) (i32.const 300) (i32.const 1))"#,
    );
    let function = deploy(fixture, &guest, &directory);
    assert_eq!(fixture.run(&function, b"").exit, GuestExit::Exit(0));
    assert_eq!(std::fs::read_to_string(&path).ok(), Some("1ab45aba".into()));
}

/// Rights that are given up stay away: calls that need them fail with ENOTCAPABLE, and so does asking for them again.
pub fn rights_are_given_up_for_good(fixture: &Fixture) {
    let directory = Directory::new();
    let path = directory.0.join("log");
    write(&path, "12345");
    let guest = with_files(
        r#"(local $rights i64)
           (call $check (i32.eqz (call $open (i32.const 0) (i64.const 66) (i32.const 0))))
           (call $check (i32.eqz (call $fd_fdstat_get (global.get $fd) (i32.const 16))))
           (local.set $rights (i64.load (i32.const 24)))
           (call $check (i64.eq (i64.and (local.get $rights) (i64.const 70)) (i64.const 70)))
           ;; without the right to write
           (call $check (i32.eqz (call $fd_fdstat_set_rights (global.get $fd)
               (i64.and (local.get $rights) (i64.const -65)) (i64.const 0))))
           (i32.store (i32.const 0) (i32.const 300))
           (i32.store (i32.const 4) (i32.const 1))
           (call $check (i32.eq (i32.const 76)
               (call $fd_write (global.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
           (call $check (i32.eqz (call $fd_read (global.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
           (call $check (i32.eq (i32.const 76)
               (call $fd_fdstat_set_rights (global.get $fd) (local.get $rights) (i64.const 0))))
           ;; stdout without any
           (call $check (i32.eqz (call $fd_fdstat_set_rights (i32.const 1) (i64.const 0) (i64.const 0))))
           (call $check (i32.eq (i32.const 76)
               (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"#,
    );
    let run = fixture.run(&deploy(fixture, &guest, &directory), b"");
    assert_eq!((run.exit, run.stdout), (GuestExit::Exit(0), Vec::new()));
    assert_eq!(std::fs::read_to_string(&path).ok(), Some("12345".into()));
}

/// `fd_renumber` can give another number to a standard stream, and the number of a standard stream to a file.
pub fn standard_streams_take_other_numbers(fixture: &Fixture) {
    let directory = Directory::new();
    let path = directory.0.join("log");
    write(&path, "");
    let guest = with_files(
        r#"(call $check (i32.eqz (call $open (i32.const 0) (i64.const 64) (i32.const 0))))
           ;; stdout gets the file's number, and 1 is closed then
           (call $check (i32.eqz (call $fd_renumber (i32.const 1) (global.get $fd))))
           (call $check (i32.eq (i32.const 8) (call $fd_fdstat_get (i32.const 1) (i32.const 16))))
           (call $check (i32.eq (i32.const 8) (call $fd_renumber (global.get $fd) (i32.const 1))))
           (call $write (global.get $fd) (i32.const 300) (i32.const 1))
           ;; and then the number of stderr, which another file has taken
           (global.set $other (global.get $fd))
           (call $check (i32.eqz (call $open (i32.const 0) (i64.const 64) (i32.const 0))))
           (call $check (i32.eqz (call $fd_renumber (global.get $fd) (i32.const 2))))
           (call $write (i32.const 2) (i32.const 300) (i32.const 2))
           (call $check (i32.eqz (call $fd_renumber (global.get $other) (i32.const 2))))
           (call $write (i32.const 2) (i32.const 301) (i32.const 1))"#,
    );
    let run = fixture.run(&deploy(fixture, &guest, &directory), b"");
    assert_eq!((run.exit, run.stdout), (GuestExit::Exit(0), b"ab".to_vec()));
    assert_eq!(std::fs::read_to_string(&path).ok(), Some("ab".into()));
}

/// A command with `$open oflags rights flags`, which opens the file `log` of the mount as `$fd`, and "ab" at 300.
fn with_files(code: &str) -> String {
    let fields = r#"(global $fd (mut i32) (i32.const 0)) (global $other (mut i32) (i32.const 0))
        (data (i32.const 256) "log") (data (i32.const 300) "ab")"#;
    let functions = format!(
        r#"{CHECKS}
        (func $open (param $oflags i32) (param $rights i64) (param $flags i32) (result i32)
            (local $errno i32)
            (local.set $errno (call $path_open (i32.const 3) (i32.const 0) (i32.const 256) (i32.const 3)
                (local.get $oflags) (local.get $rights) (i64.const 0) (local.get $flags) (i32.const 128)))
            (global.set $fd (i32.load (i32.const 128)))
            (local.get $errno))
        (func (export "_start") {code})"#
    );
    let imports = [
        ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
        ("fd_pwrite", "i32 i32 i32 i64 i32"),
        ("fd_seek", "i32 i64 i32 i32"),
        ("fd_fdstat_get", "i32 i32"),
        ("fd_fdstat_set_rights", "i32 i64 i64"),
        ("fd_renumber", "i32 i32"),
    ];
    let imports: String = imports
        .iter()
        .map(|(name, params)| {
            format!(
                r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) (result i32)))"#
            )
        })
        .collect();
    module(fields, &functions).replacen("(module", &format!("(module {imports}"), 1)
}

/// Deploys a guest with the directory at `/data`, writable.
fn deploy(fixture: &Fixture, wat: &str, directory: &Directory) -> Function {
    fixture.deploy_with(wat, |config| {
        config.mounts = vec![MountSpec {
            host: directory.0.clone(),
            guest: "/data".into(),
            writable: true,
        }];
    })
}

/// A directory that is removed when the case ends.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("gojinn-case-{}-{unique}", std::process::id()));
        if let Err(error) = std::fs::create_dir_all(&path) {
            panic!("cannot create {}: {error}", path.display());
        }
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write(path: &Path, text: &str) {
    if let Err(error) = std::fs::write(path, text) {
        panic!("cannot write {}: {error}", path.display());
    }
}
