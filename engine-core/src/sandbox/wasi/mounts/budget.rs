//! The bound on open files and directories of all guests together: the process needs descriptors for its connections too.
//!
//! ```text
//!   0                               most / 2                               most
//!   |  whichever function asks first  |  the same share for each function  |
//! ```
//!
//! So one function cannot take all, and a function that is alone with its need gets far more than its share. A function
//! uses its share first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};

/// The part of the process's descriptors (`ulimit -n`) that guests may have: one in so many.
const PART: u64 = 4;

/// What guests may have if the process may have any number.
const MOST: u64 = 1 << 20;

/// How many files and directories the guests of an engine may have open together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FileBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    open: AtomicUsize,
    /// Those beyond the shares of their functions.
    beyond: AtomicUsize,
    /// Functions with mounts.
    functions: AtomicUsize,
    refused: AtomicU64,
}

impl FileBudget {
    /// A quarter of the descriptors that this process may have.
    #[must_use]
    pub fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = (limit / PART).clamp(1, MOST);
        Self::new(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// At most `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                most,
                open: AtomicUsize::new(0),
                beyond: AtomicUsize::new(0),
                functions: AtomicUsize::new(0),
                refused: AtomicU64::new(0),
            }),
        }
    }

    /// How many there may be.
    #[must_use]
    pub fn most(&self) -> usize {
        self.shared.most
    }

    /// How many there are.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// How often a guest was refused one because of this bound.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The part of one more function.
    pub(super) fn share(&self) -> Arc<Share> {
        self.shared.functions.fetch_add(1, Ordering::Relaxed);
        Arc::new(Share {
            budget: Arc::clone(&self.shared),
            open: AtomicUsize::new(0),
        })
    }
}

/// What one function has of the budget.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Shared>,
    open: AtomicUsize,
}

impl Share {
    /// One more file or directory, if there may be one.
    pub(super) fn open(self: &Arc<Self>) -> Option<Handle> {
        let handle = self.take();
        if handle.is_none() {
            self.budget.refused.fetch_add(1, Ordering::Relaxed);
        }
        handle
    }

    fn take(self: &Arc<Self>) -> Option<Handle> {
        let budget = &*self.budget;
        let half = budget.most / 2;
        let functions = budget.functions.load(Ordering::Relaxed).max(1);
        let share = (budget.most - half) / functions;
        let is_beyond = if add(&self.open, share) {
            false
        } else if add(&budget.beyond, half) {
            true
        } else {
            return None;
        };
        let handle = Handle {
            share: Arc::clone(self),
            is_beyond,
            is_counted: add(&budget.open, budget.most),
        };
        // Shares become smaller with each function, and what is open stays so: the sum may be more than there is.
        handle.is_counted.then_some(handle)
    }
}

/// Adds one if that makes no more than `most`.
fn add(count: &AtomicUsize, most: usize) -> bool {
    let more = |count| (count < most).then_some(count + 1);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .is_ok()
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.functions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One open file or directory of the budget.
#[derive(Debug)]
pub(super) struct Handle {
    share: Arc<Share>,
    is_beyond: bool,
    is_counted: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let budget = &self.share.budget;
        let count = if self.is_beyond {
            &budget.beyond
        } else {
            &self.share.open
        };
        count.fetch_sub(1, Ordering::Relaxed);
        if self.is_counted {
            budget.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(share: &Arc<Share>) -> Vec<Handle> {
        std::iter::from_fn(|| share.open()).collect()
    }

    #[test]
    fn a_function_alone_has_the_whole_budget() {
        for most in [1, 2, 7, 100] {
            let budget = FileBudget::new(most);
            let share = budget.share();
            let handles = all(&share);
            assert_eq!((handles.len(), budget.open()), (most, most));
            assert_eq!(budget.refused(), 1);
            drop(handles);
            assert_eq!(budget.open(), 0);
            assert_eq!(all(&share).len(), most);
        }
    }

    #[test]
    fn each_function_has_its_share_whatever_the_others_take() {
        let budget = FileBudget::new(100);
        let shares: Vec<_> = (0..5).map(|_| budget.share()).collect();
        let greedy = all(&shares[0]);
        assert_eq!(greedy.len(), 60);
        let others: Vec<_> = shares[1..].iter().map(all).collect();
        assert!(others.iter().all(|handles| handles.len() == 10));
        assert_eq!(budget.open(), 100);
        assert!(shares[0].open().is_none(), "its share is used up");
        // The share of a function that is gone is that of the others.
        let mut others = others;
        drop(others.pop());
        let mut shares = shares;
        drop(shares.pop());
        assert!(shares[1].open().is_some());
    }

    #[test]
    fn more_functions_than_files_get_what_is_left() {
        let budget = FileBudget::new(4);
        let shares: Vec<_> = (0..9).map(|_| budget.share()).collect();
        let handles: Vec<_> = shares.iter().filter_map(|share| share.open()).collect();
        assert_eq!(handles.len(), 2);
        drop(handles);
        assert!(shares[8].open().is_some());
    }

    #[test]
    fn a_function_that_comes_later_makes_the_shares_smaller_and_the_bound_holds() {
        let budget = FileBudget::new(20);
        let first = budget.share();
        let handles = all(&first);
        assert_eq!(handles.len(), 20);
        let second = budget.share();
        assert!(second.open().is_none(), "all are in use");
        assert_eq!((budget.open(), budget.refused()), (20, 2));
        drop(handles);
        assert_eq!(all(&first).len(), 15);
        let rest = (all(&first), all(&second));
        assert_eq!((rest.0.len(), rest.1.len()), (15, 5));
        drop(rest);
        assert_eq!(budget.open(), 0);
    }

    #[test]
    fn threads_never_exceed_it() {
        let budget = FileBudget::new(16);
        let shares: Vec<_> = (0..4).map(|_| budget.share()).collect();
        std::thread::scope(|scope| {
            for share in &shares {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let handles = all(share);
                        assert!(budget.open() <= 16);
                        drop(handles);
                    }
                });
            }
        });
        assert_eq!(budget.open(), 0);
    }
}
