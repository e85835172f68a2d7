//! What a pool counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::mapped::ResetBy;

/// A pool's stats at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PoolStats {
    /// Slots that exist.
    pub slots_total: u64,
    /// Slots that a sandbox uses.
    pub busy: u64,
    /// Slots that hold an image and are pristine: free ones, and those in which an instance waits for its next sandbox.
    pub warm: u64,
    /// The warm slots in which an instance waits for its next sandbox.
    pub waiting: u64,
    /// Slots taken out of use because a reset or a mapping failed, since the pool was made.
    pub retired: u64,
    /// Bytes that slots keep resident. Each slot counts what its last reset kept.
    pub resident_bytes: u64,
    /// Resets by page scan.
    pub resets_scan: u64,
    /// Resets by copying the whole image.
    pub resets_copy: u64,
    /// Resets by giving every page back to the kernel.
    pub resets_madvise: u64,
    /// Resets that failed.
    pub reset_failures: u64,
}

/// The counters of one shard: each CPU has its own, on its own cache lines.
#[derive(Debug, Default)]
pub(super) struct Counters {
    scan: AtomicU64,
    copy: AtomicU64,
    madvise: AtomicU64,
    failures: AtomicU64,
    retired: AtomicU64,
    /// Slots of this shard in which an instance waits.
    waiting: AtomicU64,
}

impl Counters {
    pub(super) fn waits(&self, waits: bool) {
        if waits {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn reset(&self, by: ResetBy) {
        let counter = match by {
            ResetBy::Copy => &self.copy,
            ResetBy::Madvise => &self.madvise,
            ResetBy::Scan => &self.scan,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reset_failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retired(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, stats: &mut PoolStats) {
        stats.waiting += self.waiting.load(Ordering::Relaxed);
        stats.resets_scan += self.scan.load(Ordering::Relaxed);
        stats.resets_copy += self.copy.load(Ordering::Relaxed);
        stats.resets_madvise += self.madvise.load(Ordering::Relaxed);
        stats.reset_failures += self.failures.load(Ordering::Relaxed);
        stats.retired += self.retired.load(Ordering::Relaxed);
    }
}
