//! The bound on the files of all guests together, in a process that may have few descriptors.
//!
//! That process is this test program, started again to run the ignored test.

use std::process::Command;

use super::*;

/// Descriptors of the child.
const LIMIT: usize = 128;

#[test]
fn guests_leave_descriptors_for_connections() {
    let program = std::env::current_exe().expect("this program");
    let child = Command::new("sh")
        .args(["-c", &format!("ulimit -n {LIMIT} && exec \"$@\""), "sh"])
        .arg(program)
        .args(["--exact", "--ignored", "--nocapture", "--quiet"])
        .arg("sandbox::wasi::mounts::tests::budget::guests_open_what_they_can")
        .output()
        .expect("a process of this program");
    let said = String::from_utf8_lossy(&child.stdout);
    let complained = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}{complained}");
    assert!(said.contains("connections were accepted"), "{said}");
}

#[test]
#[ignore = "a process that another test starts"]
fn guests_open_what_they_can() {
    let directory = Directory::new();
    directory.write("f", "text");
    fs::create_dir(directory.path("sub")).expect("a directory");
    let budget = FileBudget::of_this_process();
    assert_eq!(budget.most(), LIMIT / 4);
    let spec = [directory.spec("/", true)];
    let [greedy, modest] = [(); 2].map(|()| MountSet::new(&spec, &budget).expect("a directory"));

    // Eight calls of one function, each of which opens whatever it can.
    let mut guests: Vec<_> = (0..8).map(|_| Guest::of(&greedy)).collect();
    let mut opened = Vec::new();
    for (number, guest) in guests.iter_mut().enumerate() {
        let names = [("f", 0), ("sub", DIRECTORY), ("new", CREAT), (".", 0)];
        for (name, oflags) in names.into_iter().cycle() {
            match guest.open(ROOT, name, oflags, READ) {
                Ok(fd) => opened.push((number, fd)),
                Err(errno) => {
                    assert_eq!(errno, NFILE);
                    break;
                }
            }
        }
    }
    // Half of the budget, and its share of the other half.
    let most = LIMIT / 8 + LIMIT / 16;
    assert_eq!((opened.len(), budget.open()), (most, most));
    assert!(budget.refused() >= 8);
    // What is refused is not created.
    assert_eq!(guests[7].open(ROOT, "never", CREAT, WRITE), Err(NFILE));
    assert!(!directory.path("never").exists());

    // The other function has its share, and the process the rest.
    let mut other = Guest::of(&modest);
    let share: Vec<_> = std::iter::from_fn(|| other.open(ROOT, "f", 0, READ).ok()).collect();
    assert_eq!(share.len(), LIMIT / 16);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let connections: Vec<_> = (0..LIMIT / 4)
        .map(|_| {
            let client = std::net::TcpStream::connect(address).expect("a client");
            (client, listener.accept().expect("a connection"))
        })
        .collect();
    println!("{} connections were accepted", connections.len());

    // What is closed, and what a call leaves open at its end, can be opened again.
    let (number, fd) = opened[0];
    guests[number].close(fd);
    assert!(guests[7].open(ROOT, "f", 0, READ).is_ok());
    drop(guests);
    assert_eq!(budget.open(), share.len());
    let mut next = Guest::of(&greedy);
    assert!(next.open(ROOT, "f", 0, READ).is_ok());
    drop((next, other));
    assert_eq!(budget.open(), 0);
}
