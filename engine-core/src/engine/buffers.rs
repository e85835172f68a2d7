//! The byte buffers of calls, kept so that the next calls can reuse them.

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::budget::Budget;
use crate::per_cpu::PerCpu;
use crate::sandbox::Buffers;

/// A larger buffer is shrunk to this many bytes before it is kept.
pub(super) const KEEP_BUFFER: usize = 256 * 1024;

/// The most that a processor keeps: more than calls run at once. Many more may be in flight, whose guests wait.
pub(super) const KEPT: usize = 64;

/// The buffers that no call uses at the moment, for each processor. Their shares of the engine's memory are empty.
#[derive(Debug)]
pub(super) struct BufferPool {
    kept: PerCpu<CachePadded<ArrayQueue<Buffers>>>,
    budget: Budget,
}

impl BufferPool {
    /// A pool that keeps the buffers of `most` calls for each processor. Calls take memory from `budget`.
    pub(super) fn new(most: usize, budget: Budget) -> Self {
        let kept = PerCpu::new(|| CachePadded::new(ArrayQueue::new(most)));
        Self { kept, budget }
    }

    /// Empty buffers for one call, and an empty share of the budget.
    pub(super) fn take(&self) -> Buffers {
        self.kept.here().pop().unwrap_or_else(|| Buffers {
            share: self.budget.share(),
            ..Buffers::default()
        })
    }

    /// Takes buffers back and empties them.
    pub(super) fn give(&self, mut buffers: Buffers) {
        // The share itself is kept: making one changes a reference count.
        buffers.share.shrink_to(0);
        for buffer in [&mut buffers.stdin, &mut buffers.stdout] {
            buffer.clear();
            buffer.shrink_to(KEEP_BUFFER);
        }
        // If the queue is full there are enough buffers, and these are freed.
        let _ = self.kept.here().push(buffers);
    }

    /// How many are kept, and for how many processors.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (
            self.kept.iter().map(|queue| queue.len()).sum(),
            self.kept.len(),
        )
    }
}
