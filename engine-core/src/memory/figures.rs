//! What a pool counts.

/// A pool's figures at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PoolFigures {
    /// Slots that exist.
    pub slots_total: u64,
    /// Slots that a sandbox uses.
    pub busy: u64,
    /// Free slots that hold an image, pristine.
    pub warm: u64,
    /// Slots taken out of use because their reset failed, since the pool was made.
    pub retired: u64,
    /// Bytes that free slots keep resident, as counted at their last reset.
    pub resident_bytes: u64,
    /// Resets by page scan.
    pub resets_scan: u64,
    /// Resets by copying everything.
    pub resets_copy: u64,
    /// Resets by giving everything back.
    pub resets_madvise: u64,
    /// Resets that failed.
    pub reset_failures: u64,
}
