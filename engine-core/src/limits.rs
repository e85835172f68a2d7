//! What one sandbox may use, and the defaults of `docs/contract.md`.

use std::time::Duration;

/// Bytes in one page of linear memory.
pub const PAGE: u64 = 64 * 1024;

/// Limits of one sandbox. Every field has the default that `docs/contract.md` documents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SandboxLimits {
    /// The longest time from the start of the call to the guest's end, including all waiting. 60 s.
    pub timeout: Duration,
    /// Bytes of linear memory, rounded down to pages; at most 4 GiB. 128 MB.
    pub memory: u64,
    /// Bytes of the decoded response body. 10 MB. It also bounds stdout, see [`stdout`](Self::stdout).
    pub output: usize,
    /// Bytes of log lines (stderr and `host_log`), and room for one line in each 64 of them. What a guest logs beyond that
    /// is dropped and counted. 64 KiB.
    pub logs: usize,
    /// Bytes of the decoded request body. 10 MB.
    pub body: usize,
    /// How long a part of a stream waits at most while its guest computes, on backends whose guests
    /// [yield](crate::backend::Instance::YIELDS). 5 ms.
    pub flush_after: Duration,
    /// What the clocks that the guest sees count in; they show no time in between. 1 ns.
    pub clock_resolution: Duration,
    /// Elements of all tables together. One million (16 MB).
    pub table_elements: u64,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            memory: 128_000_000,
            output: 10_000_000,
            logs: 64 * 1024,
            body: 10_000_000,
            flush_after: Duration::from_millis(5),
            clock_resolution: Duration::from_nanos(1),
            table_elements: 1_000_000,
        }
    }
}

impl SandboxLimits {
    /// The memory limit in whole pages, rounded down.
    #[must_use]
    pub fn memory_pages(&self) -> u64 {
        (self.memory / PAGE).min(65_536)
    }

    /// The most bytes of stdout; one more ends the guest. Base64 takes four thirds of a body and text in JSON hardly ever
    /// twice its bytes; the headers come on top.
    #[must_use]
    pub fn stdout(&self) -> usize {
        const BESIDE_BODY: usize = 256 * 1024;
        self.output.saturating_mul(2).saturating_add(BESIDE_BODY)
    }

    /// The memory limit in bytes, rounded down to whole pages.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_pages() * PAGE
    }
}
