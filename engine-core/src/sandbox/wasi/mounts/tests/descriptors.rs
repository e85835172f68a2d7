//! Tests of descriptors from the guest's side: append mode, rights that are given up, and numbers that change.

use super::*;

const APPEND: i32 = 1;
const NONBLOCK: i32 = 4;

const SEEK: u64 = 1 << 2;
const TELL: u64 = 1 << 5;

impl Guest {
    fn flags(&mut self, fd: i32) -> i32 {
        i32::from(self.fdstat(fd).expect("it is open").0)
    }

    /// Flags, base rights, inheriting rights.
    fn fdstat(&mut self, fd: i32) -> Result<(u8, u64, u64), i32> {
        let at = RESULT as usize;
        match fd_fdstat_get(&mut self.host, &mut self.memory, fd, RESULT).expect("no stop") {
            0 => Ok((
                self.memory[at + 2],
                u64_at(&self.memory, at + 8),
                u64_at(&self.memory, at + 16),
            )),
            errno => Err(errno),
        }
    }

    fn set_flags(&mut self, fd: i32, flags: i32) -> i32 {
        fd_fdstat_set_flags(&mut self.host, &mut self.memory, fd, flags).expect("no stop")
    }

    fn set_rights(&mut self, fd: i32, base: u64, inheriting: u64) -> i32 {
        let (base, inheriting) = (base.cast_signed(), inheriting.cast_signed());
        fd_fdstat_set_rights(&mut self.host, &mut self.memory, fd, base, inheriting)
            .expect("no stop")
    }

    fn pwrite(&mut self, fd: i32, text: &str, offset: i64) -> Result<u32, i32> {
        let (at, len) = self.put(PATH, text);
        put_iovecs(&mut self.memory, 0x200, &[(at as u32, len as u32)]);
        let (host, memory) = (&mut self.host, &mut self.memory);
        match fd_pwrite(host, memory, fd, 0x200, 1, offset, RESULT).expect("no stop") {
            0 => Ok(u32_at(memory, RESULT as usize)),
            errno => Err(errno),
        }
    }

    fn seek(&mut self, fd: i32, offset: i64, whence: i32) -> Result<u64, i32> {
        let (host, memory) = (&mut self.host, &mut self.memory);
        match fd_seek(host, memory, fd, offset, whence, RESULT).expect("no stop") {
            0 => Ok(u64_at(memory, RESULT as usize)),
            errno => Err(errno),
        }
    }

    fn tell(&mut self, fd: i32) -> Result<u64, i32> {
        let (host, memory) = (&mut self.host, &mut self.memory);
        match fd_tell(host, memory, fd, RESULT).expect("no stop") {
            0 => Ok(u64_at(memory, RESULT as usize)),
            errno => Err(errno),
        }
    }

    fn renumber(&mut self, from: i32, to: i32) -> i32 {
        fd_renumber(&mut self.host, &mut self.memory, from, to).expect("no stop")
    }
}

#[test]
fn a_write_appends_and_a_pwrite_does_not() {
    let directory = Directory::new();
    directory.write("f", "12345");
    let mut guest = Guest::new(&[directory.spec("/", true)]);
    let fd = guest
        .open_with(ROOT, "f", 1, 0, READ | WRITE, APPEND)
        .expect("the file");
    assert_eq!((guest.flags(fd), guest.tell(fd)), (APPEND, Ok(0)));
    assert_eq!(guest.write(fd, "67"), Ok(2));
    assert_eq!(guest.tell(fd), Ok(7));
    // A pwrite uses its offset and does not move the file's offset.
    assert_eq!(guest.pwrite(fd, "ab", 0), Ok(2));
    assert_eq!((guest.tell(fd), guest.seek(fd, 0, 2)), (Ok(7), Ok(7)));
    assert_eq!(directory.read("f"), "ab34567");
    assert_eq!(guest.pwrite(fd, "z", 9), Ok(1));
    assert_eq!(directory.read("f"), "ab34567\0\0z");
    // A seek affects reads only: the next write goes to the end again.
    assert_eq!(guest.seek(fd, 1, 0), Ok(1));
    assert_eq!(guest.read(fd, 2), Ok(b"b3".to_vec()));
    let host_file = fs::OpenOptions::new()
        .append(true)
        .open(directory.path("f"));
    std::io::Write::write_all(&mut host_file.expect("the file"), b"HOST").expect("room");
    assert_eq!(guest.write(fd, "+"), Ok(1));
    assert_eq!(directory.read("f"), "ab34567\0\0zHOST+");
    assert_eq!(guest.tell(fd), Ok(15));
    // An empty write moves nothing.
    assert_eq!(guest.seek(fd, 2, 0), Ok(2));
    assert_eq!((guest.write(fd, ""), guest.tell(fd)), (Ok(0), Ok(2)));
    // Shrunk, then appended to.
    let (host, memory) = (&mut guest.host, &mut guest.memory);
    assert_eq!(fd_filestat_set_size(host, memory, fd, 1), OK);
    assert_eq!(guest.write(fd, "!"), Ok(1));
    assert_eq!(directory.read("f"), "a!");
}

#[test]
fn append_mode_is_set_and_taken_back() {
    let directory = Directory::new();
    directory.write("f", "123");
    let mut guest = Guest::new(&[directory.spec("/", true)]);
    let fd = guest.open(ROOT, "f", 0, READ | WRITE).expect("the file");
    for (flags, text, expected) in [
        (APPEND, "a", "123a"),
        (0, "B", "123aB"),
        (APPEND | NONBLOCK, "c", "123aBc"),
        (NONBLOCK, "D", "123aBcD"),
    ] {
        assert_eq!(guest.set_flags(fd, flags), 0);
        assert_eq!(guest.flags(fd), flags);
        assert_eq!(guest.write(fd, text), Ok(1));
        assert_eq!(directory.read("f"), expected);
    }
    assert_eq!(guest.seek(fd, 0, 0), Ok(0));
    assert_eq!(guest.write(fd, "x"), Ok(1));
    assert_eq!(guest.set_flags(fd, APPEND), 0);
    assert_eq!(guest.write(fd, "y"), Ok(1));
    assert_eq!(directory.read("f"), "x23aBcDy");
    // Modes that cannot be set, and unknown flags, change nothing.
    for flags in [APPEND | 2, 8, 16, 32, -1] {
        assert_eq!(guest.set_flags(fd, flags), INVAL);
        assert_eq!(guest.flags(fd), APPEND);
    }
}

#[test]
fn append_goes_with_each_way_to_open() {
    let directory = Directory::new();
    let mut guest = Guest::new(&[directory.spec("/", true)]);
    for (name, oflags, rights, before, after) in [
        ("old", 0, WRITE, Some("old"), "old+"),
        ("old2", CREAT, WRITE, Some("old"), "old+"),
        ("new", CREAT, WRITE, None, "+"),
        ("new2", CREAT | EXCL, READ | WRITE, None, "+"),
        ("cut", TRUNC, WRITE, Some("old"), "+"),
        ("cut2", CREAT | TRUNC, READ | WRITE, Some("old"), "+"),
        ("cut3", CREAT | TRUNC, WRITE, None, "+"),
    ] {
        if let Some(text) = before {
            directory.write(name, text);
        }
        let fd = guest.open_with(ROOT, name, 1, oflags, rights, APPEND);
        let fd = fd.unwrap_or_else(|errno| panic!("{name}: {errno}"));
        assert_eq!(guest.seek(fd, 0, 0), Ok(0));
        assert_eq!(guest.write(fd, "+"), Ok(1));
        assert_eq!(directory.read(name), after, "{name}");
        guest.close(fd);
    }
    // Two descriptors of one file never overwrite each other's bytes.
    let [one, two] = [(); 2].map(|()| {
        guest
            .open_with(ROOT, "old", 1, 0, WRITE, APPEND)
            .expect("the file")
    });
    for fd in [one, two, one] {
        assert_eq!(guest.write(fd, "#"), Ok(1));
    }
    assert_eq!(directory.read("old"), "old+###");
    // Appending needs the right to write.
    let fd = guest
        .open_with(ROOT, "old", 1, 0, READ, APPEND)
        .expect("the file");
    assert_eq!((guest.flags(fd), guest.write(fd, "x")), (APPEND, Err(8)));
    assert_eq!(guest.read(fd, 4), Ok(b"old+".to_vec()));
}

#[test]
fn a_file_that_may_only_be_appended_to_is_appended_to() {
    let directory = Directory::new();
    directory.write("log", "1");
    let chattr = |how| {
        let mut command = std::process::Command::new("chattr");
        command.arg(how).arg(directory.path("log"));
        command.status().is_ok_and(|status| status.success())
    };
    if !chattr("+a") {
        return; // Not this file system, or not this user.
    }
    let mut guest = Guest::new(&[directory.spec("/", true)]);
    let refused = guest.open(ROOT, "log", 0, WRITE);
    let cut = guest.open_with(ROOT, "log", 1, TRUNC, WRITE, APPEND);
    let opened = guest.open_with(ROOT, "log", 1, 0, WRITE, APPEND);
    let written = opened.map(|fd| (guest.write(fd, "2"), guest.flags(fd)));
    let text = directory.read("log");
    assert!(chattr("-a"));
    assert_eq!((refused, cut), (Err(PERM), Err(PERM)));
    assert_eq!(written, Ok((Ok(1), APPEND)));
    assert_eq!(text, "12");
}

#[test]
fn rights_of_a_file_are_given_up_for_good() {
    let directory = Directory::new();
    directory.write("f", "text");
    let mut guest = Guest::new(&[directory.spec("/", true)]);
    let fd = guest.open(ROOT, "f", 0, READ | WRITE).expect("the file");
    let (_, all, inheriting) = guest.fdstat(fd).expect("it is open");
    let (read, write) = (READ as u64, WRITE as u64);
    assert_eq!(
        all & (read | write | SEEK | TELL),
        read | write | SEEK | TELL
    );
    assert_eq!(inheriting, 0);
    assert_eq!(guest.set_rights(fd, all, 0), 0);
    // Rights that it does not have cannot be set, and trying to changes nothing.
    for (base, inheriting) in [(all | 1 << 14, 0), (u64::MAX, 0), (all, 1), (1 << 40, 0)] {
        assert_eq!(guest.set_rights(fd, base, inheriting), NOTCAPABLE);
        assert_eq!(guest.fdstat(fd), Ok((0, all, 0)));
    }
    assert_eq!(guest.set_rights(fd, all & !(read | write), 0), 0);
    assert_eq!(guest.fdstat(fd), Ok((0, all & !(read | write), 0)));
    assert_eq!(guest.read(fd, 1), Err(NOTCAPABLE));
    assert_eq!(guest.write(fd, "x"), Err(NOTCAPABLE));
    assert_eq!(guest.pwrite(fd, "x", 0), Err(NOTCAPABLE));
    assert_eq!(guest.seek(fd, 1, 0), Ok(1));
    for more in [read, write, read | write] {
        let base = all & !(read | write) | more;
        assert_eq!(guest.set_rights(fd, base, 0), NOTCAPABLE);
    }
    assert_eq!(guest.set_rights(fd, TELL, 0), 0);
    assert_eq!(
        (guest.seek(fd, 1, 0), guest.tell(fd)),
        (Err(NOTCAPABLE), Ok(1))
    );
    assert_eq!(guest.set_flags(fd, APPEND), NOTCAPABLE);
    put_fd(&mut guest.memory, 0, 5, 1, fd as u32);
    let (host, memory) = (&mut guest.host, &mut guest.memory);
    assert_eq!(poll_oneoff(host, memory, 0, 0x400, 1, RESULT), OK);
    assert_eq!(memory[0x408], NOTCAPABLE as u8);
    assert_eq!(fd_filestat_get(host, memory, fd, RESULT), Ok(NOTCAPABLE));
    assert_eq!(fd_sync(host, memory, fd), Ok(NOTCAPABLE));
    // It can still be closed, and another descriptor of the file has its own rights.
    guest.close(fd);
    assert_eq!(guest.set_rights(fd, 0, 0), 8);
    let fd = guest.open(ROOT, "f", 0, READ | WRITE).expect("the file");
    assert_eq!(guest.write(fd, "T"), Ok(1));
    assert_eq!(directory.read("f"), "Text");
}

#[test]
fn rights_of_a_directory_are_given_up_with_what_is_opened_through_it() {
    let directory = Directory::new();
    directory.write("f", "text");
    fs::create_dir(directory.path("sub")).expect("a directory");
    let mut guest = Guest::new(&[directory.spec("/", true)]);
    let sub = guest.open(ROOT, "sub", DIRECTORY, READ).expect("it");
    let (_, base, inheriting) = guest.fdstat(ROOT).expect("it is open");
    let (unlink, create) = (1 << 26, 1 << 10);
    assert_eq!(base & (unlink | create), unlink | create);
    assert_eq!(
        guest.set_rights(ROOT, base & !(unlink | create), inheriting),
        0
    );
    assert_eq!(guest.on_path(path_unlink_file, ROOT, "f"), NOTCAPABLE);
    assert_eq!(guest.open(ROOT, "new", CREAT, WRITE), Err(NOTCAPABLE));
    assert_eq!(guest.open(ROOT, "new", CREAT | EXCL, 0), Err(NOTCAPABLE));
    assert_eq!(guest.on_path(path_create_directory, ROOT, "d"), 0);
    assert!(guest.list(ROOT).is_ok());
    let fd = guest.open(ROOT, "f", 0, WRITE).expect("the file");
    assert_eq!(guest.write(fd, "T"), Ok(1));
    // Descriptors that were opened before keep their rights.
    let fd = guest.open(sub, "new", CREAT, WRITE).expect("a file");
    guest.close(fd);

    let base = base & !(unlink | create);
    let write = WRITE as u64;
    assert_eq!(
        guest.set_rights(ROOT, base, inheriting & !(write | unlink)),
        0
    );
    assert_eq!(guest.open(ROOT, "f", 0, WRITE), Err(NOTCAPABLE));
    assert_eq!(guest.open(ROOT, "f", 0, READ | WRITE), Err(NOTCAPABLE));
    let fd = guest.open(ROOT, "f", 0, READ).expect("the file");
    assert_eq!(guest.read(fd, 9), Ok(b"Text".to_vec()));
    let inner = guest.open(ROOT, "sub", DIRECTORY, READ).expect("it");
    let (_, base, inheriting) = guest.fdstat(inner).expect("it is open");
    assert_eq!((base & unlink, inheriting & (write | unlink)), (0, 0));
    assert_eq!(guest.on_path(path_unlink_file, inner, "new"), NOTCAPABLE);
    assert_eq!(guest.open(inner, "new", 0, WRITE), Err(NOTCAPABLE));
    assert_eq!(
        guest.set_rights(inner, base, inheriting | write),
        NOTCAPABLE
    );

    // Without any right it can only be closed.
    assert_eq!(guest.set_rights(ROOT, 0, 0), 0);
    assert_eq!(guest.list(ROOT), Err(NOTCAPABLE));
    assert_eq!(guest.stat("f"), Err(NOTCAPABLE));
    assert_eq!(guest.set_times("f", 1), NOTCAPABLE);
    assert_eq!(guest.symlink("f", "l"), NOTCAPABLE);
    assert_eq!(guest.rename((ROOT, "f"), (sub, "g")), NOTCAPABLE);
    assert_eq!(guest.rename((sub, "new"), (ROOT, "g")), NOTCAPABLE);
    assert_eq!(guest.link((ROOT, "f"), (sub, "g")), NOTCAPABLE);
    assert_eq!(guest.on_path(path_remove_directory, ROOT, "d"), NOTCAPABLE);
    assert_eq!(guest.open(ROOT, "f", 0, 0), Err(NOTCAPABLE));
    guest.close(ROOT);
    assert_eq!(directory.names(), ["d", "f", "sub"]);
}

#[test]
fn files_and_standard_streams_can_take_each_others_numbers() {
    let directory = Directory::new();
    directory.write("f", "from the file");
    let mut guest = Guest::new(&[directory.spec("/", true)]);
    guest.host.stdin = b"from the request".to_vec();
    // stdin has another number now, and 0 is closed.
    let spare = guest.open(ROOT, "spare", CREAT, 0).expect("a file");
    assert_eq!(guest.renumber(0, spare), 0);
    assert_eq!(guest.fdstat(0), Err(8));
    assert_eq!(guest.fdstat(spare), Ok((0, READ as u64, 0)));
    assert_eq!(guest.read(spare, 4), Ok(b"from".to_vec()));
    assert_eq!(guest.renumber(spare, 0), 8);
    // 0 is closed, so nothing can take its number.
    let file = guest.open(ROOT, "f", 0, READ).expect("the file");
    assert_eq!(guest.renumber(file, 0), 8);
    // The file takes the number of stdin, and is read through it.
    assert_eq!(guest.renumber(file, spare), 0);
    assert_eq!((guest.read(file, 1), guest.read(0, 1)), (Err(8), Err(8)));
    assert_eq!(guest.read(spare, 99), Ok(b"from the file".to_vec()));

    // stdout goes to a file and comes back.
    let out = guest.open(ROOT, "out", CREAT, WRITE).expect("a file");
    let keep = guest.open(ROOT, "spare", 0, 0).expect("a file");
    assert_eq!(guest.write(1, "a"), Ok(1));
    assert_eq!(guest.renumber(1, keep), 0);
    assert_eq!(guest.write(1, "lost"), Err(8));
    assert_eq!(guest.write(keep, "b"), Ok(1));
    assert_eq!(guest.renumber(out, 2), 0);
    assert_eq!(guest.write(2, "to the file"), Ok(11));
    assert_eq!(guest.renumber(keep, 2), 0);
    assert_eq!(guest.write(2, "c"), Ok(1));
    assert_eq!(guest.host.stdout, b"abc");
    assert_eq!(directory.read("out"), "to the file");
    for fd in [0, 1, out, keep, file] {
        assert_eq!((guest.fdstat(fd), guest.renumber(fd, 2)), (Err(8), 8));
    }
    assert_eq!(guest.renumber(2, 2), 0);
    assert_eq!(guest.renumber(99, 99), 8);
    // No number is used twice.
    let next = guest.open(ROOT, "f", 0, READ).expect("the file");
    assert!(next > keep, "{next} was in use");
}

#[test]
fn a_mount_takes_another_number_and_keeps_its_path() {
    let directory = Directory::new();
    directory.write("f", "text");
    let mut guest = Guest::new(&[directory.spec("/data", true)]);
    assert_eq!(guest.renumber(ROOT, 0), 0);
    assert_eq!(guest.open(ROOT, "f", 0, READ), Err(8));
    let (host, memory) = (&mut guest.host, &mut guest.memory);
    assert_eq!(fd_prestat_get(host, memory, 0, RESULT), OK);
    assert_eq!(u32_at(memory, RESULT as usize + 4), 5);
    assert_eq!(guest.list(0).expect("a listing"), [".", "..", "f"]);
    let fd = guest.open(0, "f", 0, READ).expect("the file");
    assert_eq!(guest.read(fd, 9), Ok(b"text".to_vec()));
    guest.close(0);
    assert_eq!(guest.list(0), Err(8));
    // Rights move with the descriptor.
    assert_eq!(guest.set_rights(fd, 0, 0), 0);
    assert_eq!(guest.renumber(fd, 1), 0);
    assert_eq!(guest.read(1, 1), Err(NOTCAPABLE));
    assert_eq!(guest.read(fd, 1), Err(8));
    guest.close(1);
    assert_eq!(guest.read(1, 1), Err(8));
}

#[test]
fn every_change_of_descriptors_is_noticed() {
    let directory = Directory::new();
    directory.write("f", "text");
    let specs = [directory.spec("/a", true), directory.spec("/b", true)];
    let set = MountSet::new(&specs, &FileBudget::new(10)).expect("the directory is there");
    type Act = fn(&mut Guest);
    let acts: [(bool, Act); 9] = [
        (false, |_| {}),
        (false, |guest| {
            for _ in 0..400 {
                let fd = guest.open(ROOT, "f", 0, READ).expect("the file");
                guest.close(fd);
            }
        }),
        (true, |guest| {
            guest.open(ROOT, "f", 0, READ).expect("the file");
        }),
        (true, |guest| {
            for _ in 0..400 {
                let fd = guest.open(ROOT, "f", 0, READ).expect("the file");
                guest.close(fd);
            }
            guest.open(ROOT, "f", 0, READ).expect("the file");
        }),
        (true, |guest| guest.close(ROOT)),
        (true, |guest| {
            guest.close(ROOT);
            guest.open(ROOT + 1, "f", 0, READ).expect("the file");
        }),
        (true, |guest| assert_eq!(guest.renumber(ROOT, ROOT + 1), 0)),
        (true, |guest| assert_eq!(guest.renumber(1, 2), 0)),
        (true, |guest| assert_eq!(guest.set_rights(ROOT, 0, 0), 0)),
    ];
    for (at, (changes, act)) in acts.into_iter().enumerate() {
        let mut guest = Guest::new(&specs);
        act(&mut guest);
        let mounts = guest.host.mounts.as_ref().expect("mounts");
        assert_eq!(mounts.changed(&set), changes, "{at}");
    }
}
