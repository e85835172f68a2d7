//! The byte buffers of calls, kept so that the next calls can reuse them.

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::per_cpu::PerCpu;
use crate::sandbox::Buffers;

/// A larger buffer is shrunk to this many bytes before it is kept.
pub(super) const KEEP_BUFFER: usize = 256 * 1024;

/// The most that a processor keeps: more than calls run at once. Many more may be in flight, whose guests wait.
pub(super) const KEPT: usize = 64;

/// The buffers that no call uses at the moment, for each processor.
#[derive(Debug)]
pub(super) struct BufferPool(PerCpu<CachePadded<ArrayQueue<Buffers>>>);

impl BufferPool {
    /// A pool that keeps the buffers of `most` calls for each processor.
    pub(super) fn new(most: usize) -> Self {
        Self(PerCpu::new(|| CachePadded::new(ArrayQueue::new(most))))
    }

    /// Empty buffers for one call.
    pub(super) fn take(&self) -> Buffers {
        self.0.here().pop().unwrap_or_default()
    }

    /// Takes buffers back and empties them.
    pub(super) fn give(&self, mut buffers: Buffers) {
        drop(std::mem::take(&mut buffers.share));
        for buffer in [&mut buffers.stdin, &mut buffers.stdout] {
            buffer.clear();
            buffer.shrink_to(KEEP_BUFFER);
        }
        // If the queue is full there are enough buffers, and these are freed.
        let _ = self.0.here().push(buffers);
    }

    /// How many are kept, and for how many processors.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.0.iter().map(|queue| queue.len()).sum(), self.0.len())
    }
}
