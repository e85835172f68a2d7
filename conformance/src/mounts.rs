//! Mounts: a folder of the host's, read-only unless the configuration says otherwise.

use std::path::{Path, PathBuf};

use super::{Fixture, module};
use engine_core::GuestExit;
use engine_core::sandbox::wasi::MountSpec;

/// A read-only mount can be read and not written; `rw` can be both.
pub fn a_mount_is_read_only_unless_it_says_rw(fixture: &Fixture) {
    let folder = Folder::new();
    let path = folder.0.join("note.txt");
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
            host: folder.0.clone(),
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
        assert_eq!(folder.0.join("new.txt").exists(), writable);
    }
    let unmounted = fixture.deploy(&read);
    assert_eq!(fixture.run(&unmounted, b"").exit, GuestExit::Exit(1));
}

/// A folder that is gone when the case ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
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

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write(path: &Path, text: &str) {
    if let Err(error) = std::fs::write(path, text) {
        panic!("cannot write {}: {error}", path.display());
    }
}
