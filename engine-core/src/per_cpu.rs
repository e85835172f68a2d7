//! One value for each processor, so that calls on different processors work on different cache lines.

#[cfg(not(target_os = "linux"))]
use std::sync::atomic::{AtomicUsize, Ordering};

/// One `T` for each processor.
///
/// A thread may move to another processor at any time. So this makes contention rare, but gives no exclusive access: a
/// `T` that several threads may change needs a lock or atomics, as anywhere else.
#[derive(Debug)]
pub struct PerCpu<T>(Box<[T]>);

impl<T> PerCpu<T> {
    /// Calls `make` once for each processor.
    pub fn new(make: impl FnMut() -> T) -> Self {
        Self::with_len(processors(), make)
    }

    /// Calls `make` `len` times, at least once. If there are more processors than values, several share one.
    pub(crate) fn with_len(len: usize, mut make: impl FnMut() -> T) -> Self {
        Self((0..len.max(1)).map(|_| make()).collect())
    }

    /// The value of the processor that this thread runs on.
    #[must_use]
    pub fn here(&self) -> &T {
        &self.0[self.home()]
    }

    /// The index of the value of the processor that this thread runs on.
    pub(crate) fn home(&self) -> usize {
        index(self.0.len())
    }
}

impl<T> std::ops::Deref for PerCpu<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> std::ops::DerefMut for PerCpu<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> FromIterator<T> for PerCpu<T> {
    /// # Panics
    /// If there is no item.
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let items: Box<[T]> = items.into_iter().collect();
        assert!(!items.is_empty(), "values per processor need at least one");
        Self(items)
    }
}

/// The index below `len` that belongs to the processor on which this thread runs. `len` must be at least 1.
pub(crate) fn index(len: usize) -> usize {
    processor() % len
}

/// The number of processors that this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The processor that this thread runs on at this moment. Takes a few nanoseconds: it is read from memory that is
/// shared with the kernel (rseq).
#[cfg(target_os = "linux")]
fn processor() -> usize {
    // SAFETY: takes no arguments and only reads.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// A number for this thread: on this system each thread counts as a processor.
#[cfg(not(target_os = "linux"))]
fn processor() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static THREAD: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    THREAD.try_with(|&thread| thread).unwrap_or(0)
}
