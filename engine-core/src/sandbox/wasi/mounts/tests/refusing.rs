//! Tests of what mounts refuse: changes to read-only mounts, special files, ways out of a mount, and hostile arguments.

use super::*;

#[test]
fn a_read_only_mount_stays_as_it_is() {
    let (directory, other) = (Directory::new(), Directory::new());
    directory.write("f", "text");
    other.write("o", "other");
    fs::create_dir(directory.path("sub")).expect("a directory");
    let mut guest = Guest::new(&[directory.spec("/ro", false), other.spec("/rw", true)]);
    let before = fs::metadata(directory.path("f"))
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
        .expect("the directory");
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
    // Through the descriptors of a directory and of a file that is open for reading. `append` does not open for writing.
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
    assert_eq!(directory.names(), ["f", "sub"]);
    assert_eq!(directory.read("f"), "text");
    assert_eq!(
        before,
        fs::metadata(directory.path("f"))
            .expect("metadata")
            .modified()
            .ok()
    );
    assert_eq!(other.names(), ["o"]);
}

#[test]
fn fifos_sockets_and_devices_are_refused_without_blocking() {
    let directory = Directory::new();
    directory.fifo("fifo");
    symlink("fifo", directory.path("to-fifo")).expect("a link");
    let _listener = UnixListener::bind(directory.path("socket")).expect("a socket");
    for writable in [false, true] {
        let mut guest = Guest::new(&[directory.spec("/data", writable)]);
        for name in ["fifo", "to-fifo", "socket"] {
            assert_eq!(guest.open(ROOT, name, 0, READ), Err(ACCES));
            assert_eq!(guest.open_with(ROOT, name, 1, 0, READ, 4), Err(ACCES));
            let refused = if writable { ACCES } else { ROFS };
            for rights in [WRITE, READ | WRITE] {
                assert_eq!(guest.open(ROOT, name, 0, rights), Err(refused));
                assert_eq!(guest.open(ROOT, name, CREAT | TRUNC, rights), Err(refused));
            }
            assert_eq!(guest.set_times(name, 1), refused);
            assert_eq!(guest.set_times(name, 0), if writable { 0 } else { ROFS });
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
fn a_file_that_is_replaced_by_a_fifo_does_not_block() {
    let directory = Directory::new();
    directory.write("x", "file");
    directory.fifo("spare");
    let (x, spare) = (directory.path("x"), directory.path("spare"));
    let (done, stop) = std::sync::mpsc::channel::<()>();
    let exchanger = std::thread::spawn(move || {
        let between = x.with_extension("between");
        while matches!(stop.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
            for (from, to) in [(&x, &between), (&spare, &x), (&between, &spare)] {
                fs::rename(from, to).expect("no other thread renames");
            }
        }
    });
    let mut guest = Guest::new(&[directory.spec("/data", true)]);
    let (mut opened, mut refused, mut round) = (0, 0, 0);
    // Until both kinds have been found often, also on a busy machine.
    while round < 5_000 || (opened.min(refused) < 100 && round < 5_000_000) {
        round += 1;
        let rights = [READ, WRITE, READ | WRITE][round % 3];
        match guest.open(ROOT, "x", 0, rights) {
            Ok(fd) => {
                opened += 1;
                guest.close(fd);
            }
            // ENXIO: a FIFO without a reader, opened for writing without blocking.
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
    let outside = Directory::new();
    outside.write("secret", "secret");
    let inside = outside.path("mounted");
    fs::create_dir(&inside).expect("a directory");
    fs::create_dir(inside.join("sub")).expect("a directory");
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
    // Nothing leads out of a directory that was opened inside of the mount either.
    let sub = guest
        .open(ROOT, "sub", DIRECTORY, READ)
        .expect("the directory");
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
fn hostile_arguments_are_refused() {
    let directory = Directory::new();
    directory.write("f", "text");
    let mut guest = Guest::new(&[directory.spec("/", true)]);
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
    // Misaligned results: wasi-common needs alignment, and must only return an error.
    assert_eq!(fd_tell(host, memory, fd, RESULT + 1), Ok(INVAL));
    memory[PATH as usize] = 0xff;
    assert_eq!(path_unlink_file(host, memory, ROOT, PATH, 1), Ok(ILSEQ));
    assert_eq!(guest.open(ROOT, "f\0g", 0, READ), Err(INVAL));
    assert_eq!(guest.open(ROOT, ".", 0, WRITE), Err(ISDIR));
    assert_eq!(guest.open(ROOT, "f", DIRECTORY, READ), Err(NOTDIR));
    assert_eq!(guest.open(ROOT, "f", DIRECTORY | CREAT, READ), Err(INVAL));
    assert_eq!(directory.read("f"), "text");
}
