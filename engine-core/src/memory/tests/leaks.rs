//! A test that the pool leaks nothing: after 50 000 sandboxes the process has no more mappings and descriptors than
//! before.

use std::process::Command;

use super::super::{Pool, ResetMode};
use super::*;

const CYCLES: usize = 50_000;

/// Mappings and descriptors are counted for a whole process, so the test runs in a separate one.
#[test]
fn nothing_leaks() {
    let (_, inner) = concat!(module_path!(), "::nothing_leaks_alone")
        .split_once("::")
        .expect("a path inside the crate");
    let tests = std::env::current_exe().expect("this program");
    let ran = Command::new(tests)
        .args(["--exact", inner, "--ignored", "--test-threads=1"])
        .output()
        .expect("the tests, once more");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by nothing_leaks, in a separate process"]
fn nothing_leaks_alone() {
    let before = (maps(), descriptors());
    let mut steady = None;
    {
        let pool = Pool::new(config(ResetMode::Auto)).expect("a pool");
        let contents = [1, 2, 3].map(bytes);
        let images = contents.each_ref().map(|bytes| image(bytes));
        let mut random = Random(1);
        for cycle in 0..CYCLES {
            let which = random.below(3);
            let mut slot = pool.slot(&images[which], 64 * PAGE).expect("a slot");
            let more = slot.len() + random.below(3) * WASM_PAGE;
            slot.grow_to(more).expect("room to grow");
            for _ in 0..8 {
                let offset = random.below(slot.len());
                write(&mut slot, offset, 1);
            }
            if cycle % 500 == 0 {
                let passing = image(&bytes(cycle as u64));
                drop(pool.slot(&passing, 64 * PAGE).expect("a slot"));
            }
            if cycle == CYCLES / 10 {
                steady = Some((maps(), descriptors()));
            }
        }
        assert_eq!(steady, Some((maps(), descriptors())));
        let slots = pool.stats().slots_total as usize;
        assert!(
            maps() <= before.0 + 4 * slots + 8,
            "{} mappings for {slots} slots",
            maps()
        );
    }
    // The allocator may have made one or two mappings more.
    assert!(
        maps() <= before.0 + 2,
        "{} mappings before, {} after",
        before.0,
        maps()
    );
    assert_eq!(descriptors(), before.1);
}

fn maps() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the process's mappings");
    maps.lines().count()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("the process's descriptors")
        .count()
}
