//! Tests of what a guest can do with mounts, and within which bounds.

use super::*;

#[test]
fn mounts_are_found_listed_and_read() {
    let (one, two) = (Directory::new(), Directory::new());
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
    let directory = Directory::new();
    let mut guest = Guest::new(&[directory.spec("/", true)]);
    assert_eq!(guest.on_path(path_create_directory, ROOT, "sub"), 0);
    let sub = guest
        .open(ROOT, "sub", DIRECTORY, READ)
        .expect("the directory");
    let fd = guest
        .open(sub, "f", CREAT | EXCL, READ | WRITE)
        .expect("a file");
    assert_eq!(guest.open(sub, "f", CREAT | EXCL, WRITE), Err(EXIST));
    assert_eq!(guest.write(fd, "12345"), Ok(5));
    assert_eq!(directory.read("sub/f"), "12345");
    let (host, memory) = (&mut guest.host, &mut guest.memory);
    assert_eq!(fd_filestat_set_size(host, memory, fd, 2), OK);
    assert_eq!(fd_seek(host, memory, fd, 0, 0, RESULT), OK);
    assert_eq!(guest.read(fd, 9), Ok(b"12".to_vec()));
    // The guest sees the mode that it has asked for, not the one in which the host has opened the file.
    for flags in [0, 4, 5, 0] {
        let (host, memory) = (&mut guest.host, &mut guest.memory);
        assert_eq!(fd_fdstat_get(host, memory, fd, RESULT), OK);
        assert_eq!(memory[RESULT as usize + 2], 0);
        assert_eq!(fd_fdstat_set_flags(host, memory, fd, flags), OK);
        assert_eq!(fd_fdstat_get(host, memory, fd, RESULT), OK);
        assert_eq!(memory[RESULT as usize + 2], flags as u8);
        assert_eq!(fd_fdstat_set_flags(host, memory, fd, 0), OK);
    }
    let appending = guest.open_with(sub, "f", 1, 0, WRITE, 1).expect("the file");
    assert_eq!(guest.write(appending, "3"), Ok(1));
    assert_eq!(directory.read("sub/f"), "123");
    assert_eq!(
        guest.open(sub, "f", TRUNC, WRITE).map(|fd| guest.close(fd)),
        Ok(())
    );
    assert_eq!(directory.read("sub/f"), "");
    assert_eq!(guest.rename((sub, "f"), (ROOT, "g")), 0);
    assert_eq!(guest.link((ROOT, "g"), (ROOT, "h")), 0);
    assert_eq!(guest.symlink("g", "link"), 0);
    assert_eq!(guest.set_times("g", 1), 0);
    assert_eq!(guest.set_times("link", 0), 0);
    assert_eq!(guest.set_times("sub", 1), 0);
    assert_eq!(guest.stat("g").expect("a stat").2, 9_000);
    assert_eq!(directory.names(), ["g", "h", "link", "sub"]);
    assert_eq!(guest.on_path(path_unlink_file, ROOT, "h"), 0);
    assert_eq!(guest.on_path(path_unlink_file, ROOT, "link"), 0);
    assert_eq!(guest.on_path(path_remove_directory, ROOT, "sub"), 0);
    assert_eq!(directory.names(), ["g"]);
}

#[test]
fn open_handles_are_bounded() {
    let directory = Directory::new();
    directory.write("f", "");
    let mut guest = Guest::new(&[directory.spec("/", false)]);
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
    let directory = Directory::new();
    fs::write(directory.path("large"), vec![1; 3 << 20]).expect("a file");
    let mut guest = Guest::new(&[directory.spec("/", true)]);
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
    let directory = Directory::new();
    let mut guest = Guest::with_timeout(&[directory.spec("/", false)], Duration::ZERO);
    assert_eq!(guest.list(ROOT), Err(27));
}

#[test]
fn unusual_files_cause_no_panic() {
    let directory = Directory::new();
    directory.write("old", "");
    let file = fs::File::options()
        .write(true)
        .open(directory.path("old"))
        .expect("the file");
    let before_1970 = SystemTime::UNIX_EPOCH - Duration::from_secs(3600);
    file.set_modified(before_1970).expect("the file system can");
    let unreadable = std::ffi::OsStr::from_bytes(b"not \xff utf-8");
    fs::write(directory.0.join(unreadable), "").expect("a file");
    let mut guest = Guest::new(&[directory.spec("/", true)]);
    assert_eq!(guest.stat("old"), Ok((4, 0, 0)));
    let fd = guest.open(ROOT, "old", 0, READ).expect("the file");
    assert_eq!(
        fd_filestat_get(&mut guest.host, &mut guest.memory, fd, RESULT),
        OK
    );
    assert_eq!(guest.list(ROOT).expect("a listing"), [".", "..", "old"]);
}

#[test]
fn standard_descriptors_are_not_touched_by_mounts() {
    let directory = Directory::new();
    directory.write("f", "text");
    let mut guest = Guest::new(&[directory.spec("/", false)]);
    assert_eq!(guest.write(1, "out"), Ok(3));
    assert_eq!(guest.host.stdout, b"out");
    let fd = guest.open(ROOT, "f", 0, READ).expect("the file");
    let (host, memory) = (&mut guest.host, &mut guest.memory);
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
    // The mount itself may be closed. Its number is not used again.
    assert_eq!(fd_close(host, memory, ROOT), OK);
    assert_eq!(guest.open(ROOT, "f", 0, READ), Err(8));
    assert_eq!(guest.read(fd, 9), Ok(b"text".to_vec()));
}

#[test]
fn errors_say_why_a_mount_is_refused() {
    let directory = Directory::new();
    directory.write("file", "");
    directory.fifo("fifo");
    let try_one = |host: PathBuf, guest: &str| {
        let spec = MountSpec {
            host,
            guest: guest.into(),
            writable: false,
        };
        let error = MountSet::new(&[directory.spec("/a", false), spec], &FileBudget::new(10))
            .expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(try_one(directory.path("missing"), "/x").contains("does not exist"));
    assert!(try_one(directory.path("file"), "/x").contains("not a directory"));
    assert!(try_one(directory.path("fifo"), "/x").contains("not a directory"));
    for guest in ["", "data", "./data"] {
        assert!(try_one(directory.0.clone(), guest).contains("must be absolute"));
    }
    for guest in ["//", "/a//b", "/a/../b", "/.", "/a\0"] {
        assert!(try_one(directory.0.clone(), guest).contains("must not have"));
    }
    for guest in ["/a", "/a/"] {
        let error = try_one(directory.0.clone(), guest);
        assert!(error.contains("has the same guest path"), "{error}");
        assert!(error.starts_with("mount "), "{error}");
    }
    let set = MountSet::new(&[], &FileBudget::new(10)).expect("nothing is fine");
    assert!(set.is_empty());
}

#[test]
fn a_listing_contains_no_bytes_of_the_hosts_stack() {
    let directory = Directory::new();
    for name in ["a", "some longer name", "b"] {
        directory.write(name, "");
    }
    let mut guest = Guest::new(&[directory.spec("/", false)]);
    let (host, memory) = (&mut guest.host, &mut guest.memory);
    let list = PATH as usize;
    for len in [0, 16, 21, 22, 23, 24, 25, 46, 47, 48, 49, 50, 73, 74, 500] {
        memory[list..list + 600].fill(0xaa);
        assert_eq!(fd_readdir(host, memory, ROOT, PATH, len, 0, RESULT), OK);
        let end = list + u32_at(memory, RESULT as usize) as usize;
        let mut at = list;
        while at + 21 <= end {
            let padding = &memory[at + 21..end.min(at + 24)];
            assert!(padding.iter().all(|&byte| byte == 0), "{len}: {padding:?}");
            at += 24 + u32_at(memory, at + 16) as usize;
        }
        assert!(memory[end..list + 600].iter().all(|&byte| byte == 0xaa));
    }
    // The result cannot be written, but the list was.
    memory[list..list + 600].fill(0xaa);
    assert_eq!(
        fd_readdir(host, memory, ROOT, PATH, 500, 0, RESULT + 1),
        Ok(INVAL)
    );
    assert_eq!(memory[list + 21..list + 24], [0; 3]);
    // If the result overwrites a header, the list cannot be told from the rest.
    for result in [PATH, PATH + 16, PATH + 28] {
        memory[list..list + 600].fill(0xaa);
        assert_eq!(fd_readdir(host, memory, ROOT, PATH, 64, 0, result), OK);
        assert_eq!(u32_at(memory, result as usize), 64);
        memory[result as usize..result as usize + 4].fill(0);
        assert_eq!(
            memory[list..list + 65],
            [[0; 64].as_slice(), &[0xaa]].concat()
        );
    }
}
