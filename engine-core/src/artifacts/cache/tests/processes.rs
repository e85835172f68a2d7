//! Tests with several processes on one directory, processes that are killed, and full disks.
//!
//! The processes are this test program, started again to run one of the ignored tests.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Directory, Host, filled};
use crate::CodeSource;
use crate::artifacts::cache::CacheConfig;
use crate::fake::Fake;

const DIRECTORY: &str = "GOJINN_TEST_CACHE";

/// Bytes of an artifact that takes some time to write.
const LARGE: usize = 1 << 20;

fn host(cache: &Path) -> Host {
    let fake = Fake {
        padding: LARGE,
        ..Fake::new()
    };
    Host::with(fake, CacheConfig::new(cache))
}

fn child(test: &str, directory: &Path, limit: &str) -> Child {
    // The program inherits the shell's limits and ignored signals.
    Command::new("sh")
        .arg("-c")
        .arg(format!("{limit} exec \"$@\""))
        .arg("sh")
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "--ignored", "--nocapture", "--quiet"])
        .arg(format!("artifacts::cache::tests::processes::{test}"))
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("a process of this program")
}

fn directory_of_child() -> std::path::PathBuf {
    std::env::var_os(DIRECTORY).expect("a parent").into()
}

#[test]
#[ignore = "a process that other tests start"]
fn deploys_one() {
    let host = host(&directory_of_child());
    let source = host.deploy(1);
    assert_eq!(host.engine.warnings(), [""; 0]);
    println!("compiled {} {source:?}", host.fake.compiled());
}

#[test]
#[ignore = "a process that other tests start"]
fn deploys_for_ever() {
    println!("begun");
    for number in 1.. {
        host(&directory_of_child()).deploy(number);
    }
}

#[test]
#[ignore = "a process that other tests start"]
fn deploys_on_a_full_disk() {
    let host = host(&directory_of_child());
    for number in 1..=3 {
        assert_eq!(host.deploy(number), CodeSource::Compiled);
    }
    let stats = host.stats();
    assert_eq!((stats.stored, stats.write_failures), (0, 3));
    assert!(host.warning().contains("cannot be written to"));
    println!("served");
}

#[test]
fn sixteen_processes_cold_at_once() {
    let directory = Directory::new();
    let children: Vec<Child> = (0..16)
        .map(|_| child("deploys_one", &directory.cache(), ""))
        .collect();
    for mut child in children {
        let mut said = String::new();
        let mut out = child.stdout.take().expect("its output");
        out.read_to_string(&mut said).expect("its output");
        assert!(child.wait().expect("its end").success(), "{said}");
        let sound = said.contains("compiled 1 Compiled") || said.contains("compiled 0 Cache");
        assert!(sound, "{said}");
    }
    let next = host(&directory.cache());
    assert_eq!(next.deploy(1), CodeSource::Cache);
    assert_eq!(next.engine.warnings(), [""; 0]);
    directory.entry();
    assert_eq!(directory.named("tmp-").len(), 0);
}

#[test]
fn killed_while_it_writes() {
    let directory = Directory::new();
    for round in 0..100 {
        let mut child = child("deploys_for_ever", &directory.cache(), "");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let begun = lines.any(|line| line.is_ok_and(|line| line.contains("begun")));
        assert!(begun, "round {round}");
        std::thread::sleep(Duration::from_micros(round * 200));
        child.kill().expect("a process to kill");
        child.wait().expect("its end");

        let next = host(&directory.cache());
        for number in 1..=3 {
            next.deploy(number);
        }
        assert_eq!(next.stats().dropped, 0, "an entry is whole or not there");
        assert_eq!(next.engine.warnings(), [""; 0], "round {round}");
        if round % 10 == 0 {
            std::fs::remove_dir_all(directory.cache()).expect("the cache's directory is removed");
        }
    }
}

#[test]
fn a_full_disk() {
    let directory = Directory::new();
    // No file may exceed 64 KiB. The signal for that is ignored, so that the write fails.
    let mut child = child(
        "deploys_on_a_full_disk",
        &directory.cache(),
        "trap '' XFSZ; ulimit -f 128;",
    );
    let mut said = String::new();
    let mut out = child.stdout.take().expect("its output");
    out.read_to_string(&mut said).expect("its output");
    assert!(child.wait().expect("its end").success(), "{said}");
    assert!(said.contains("served"), "{said}");
    assert_eq!(directory.entries().len(), 0);
    assert_eq!(directory.named("tmp-").len(), 0, "half an entry is removed");
}

#[test]
fn entries_that_another_process_wrote_meanwhile_are_found() {
    let directory = filled(1);
    let (one, two) = (Host::new(&directory.cache()), Host::new(&directory.cache()));
    assert_eq!(one.deploy(2), CodeSource::Compiled);
    assert_eq!(two.deploy(2), CodeSource::Cache);
}
