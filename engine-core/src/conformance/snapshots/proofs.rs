//! The proof of a snapshot, held against snapshots that are wrong on purpose.

use super::super::{Fixture, expect};
use super::guest;
use crate::snapshot::sabotage::{Sabotage, prove};

/// A request whose answer tells a draw from every generator of the runtime.
const DRAWS: &[u8] = br#"{"method":"GET","uri":"/?draws=1","headers":{},"body":"","trace_id":"1"}"#;

/// One whose answer tells what both clocks show.
const CLOCKS: &[u8] =
    br#"{"method":"GET","uri":"/?clocks=1","headers":{},"body":"","trace_id":"1"}"#;

/// Each fault is found, and what is not broken is not refused.
pub fn every_fault_is_found(fixture: &Fixture) {
    let Some(probe) = guest("go-probe") else {
        return;
    };
    let proved =
        |sample, sabotage| expect(prove(&fixture.engine, &probe, &[], Some(sample), sabotage));
    for sample in [DRAWS, CLOCKS] {
        assert_eq!(proved(sample, Sabotage::Nothing), Ok(()));
    }
    for (sample, sabotage, words) in [
        (DRAWS, Sabotage::StackPointer, "snapshot"),
        (DRAWS, Sabotage::Entry, "snapshot"),
        (DRAWS, Sabotage::Memory(b"math/rand"), "snapshot"),
        (
            DRAWS,
            Sabotage::Patches,
            "each one from the snapshot answers",
        ),
        (DRAWS, Sabotage::PatchAddress, "does not fit"),
        (CLOCKS, Sabotage::Clock, "went back"),
    ] {
        let refused = proved(sample, sabotage).expect_err("a fault that was not found");
        assert!(refused.contains(words), "{sabotage:?}: {refused}");
    }
}
