//! Tests of which differences between two recordings come from the date.

use super::*;

const ONE: u64 = 1_795_000_000_123_456_789;
const OTHER: u64 = 1_759_000_000_987_654_321;

#[test]
fn only_readings_that_the_collector_does_not_store_are_the_programs() {
    let mut stopped = Stopped::new();
    let asked = |stopped: &Stopped, readings: &[u64]| {
        asked_for_date(&stopped.go, &stopped.memory, readings)
    };
    assert!(!asked(&stopped, &[]));
    assert!(asked(&stopped, &[ONE]));
    stopped.collected(&[ONE, ONE + 5]);
    assert!(!asked(&stopped, &[ONE + 5, ONE]));
    assert!(asked(&stopped, &[ONE, ONE + 1]));
}

#[test]
fn what_differs_beyond_the_times_of_the_collector_is_the_date() {
    let (mut one, mut other) = (Stopped::new(), Stopped::new());
    one.collected(&[ONE]);
    other.collected(&[OTHER]);
    let kept = |one: &Stopped, other: &Stopped| {
        let (this, that) = (
            (&*one.memory, &*one.globals),
            (&*other.memory, &*other.globals),
        );
        keeps_date(&one.go, this, that)
    };
    assert!(!kept(&one, &other));
    // The collector keeps its time in two forms, and what is below the stack pointer is never read.
    let set = |at: u64, value: u64, that: u64| {
        let (mut one, mut other) = (one.clone(), other.clone());
        one.set(at, value);
        other.set(at, that);
        kept(&one, &other)
    };
    assert!(!set(VARIABLES, ONE / 1_000_000_000, OTHER / 1_000_000_000));
    assert!(!set(VARIABLES, ONE % 1_000_000_000, OTHER % 1_000_000_000));
    assert!(!set(LO, 1, 2));
    assert!(set(VARIABLES, ONE, OTHER + 1));
    assert!(set(VARIABLES, 1, 2));
    assert!(set(one.sp() + 8, 1, 2), "a frame that is in use");
    // Different cycles, memories or globals.
    let mut changed = other.clone();
    changed.collected(&[OTHER, OTHER + 1]);
    assert!(kept(&one, &changed));
    let mut changed = other.clone();
    changed.memory.extend([0; 8]);
    assert!(kept(&one, &changed));
    let mut changed = other.clone();
    changed.register(crate::go::CTXT, 1);
    assert!(kept(&one, &changed));
}
