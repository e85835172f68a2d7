//! A case about the verification of snapshots, with snapshots that are wrong on purpose.

use super::super::{Fixture, expect};
use super::guest;
use engine_core::SnapshotFault as Fault;

/// A request whose answer has a number from every generator of the runtime.
const DRAWS: &[u8] = br#"{"method":"GET","uri":"/?draws=1","headers":{},"body":"","trace_id":"1"}"#;

/// A request whose answer has the times of both clocks.
const CLOCKS: &[u8] =
    br#"{"method":"GET","uri":"/?clocks=1","headers":{},"body":"","trace_id":"1"}"#;

/// Each fault is found, and a snapshot without a fault is not refused.
pub fn every_fault_is_found(fixture: &Fixture) {
    let Some(probe) = guest("go-probe") else {
        return;
    };
    let verify = |sample, fault| expect(fixture.engine.try_fault(&probe, &[], Some(sample), fault));
    assert_eq!(verify(DRAWS, Fault::Nothing), Ok(()));
    for (sample, fault, words) in [
        // Not broken, but an answer that tells what the clock shows, and how long ago the start was, tells when that was: the
        // same in every request.
        (CLOCKS, Fault::Nothing, "would be the same in every request"),
        (DRAWS, Fault::StackPointer, "snapshot"),
        (DRAWS, Fault::Entry, "snapshot"),
        (DRAWS, Fault::Memory(b"math/rand"), "snapshot"),
        (DRAWS, Fault::Patches, "would be the same in every request"),
        (DRAWS, Fault::PatchAddress, "does not fit"),
        (CLOCKS, Fault::Clock, "went back"),
    ] {
        let refused = verify(sample, fault).expect_err("a fault that was not found");
        assert!(refused.contains(words), "{fault:?}: {refused}");
    }
}
