//! A soak test: many requests, after which the process must not hold more than before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::guests::Guest;
use crate::machine::Held;
use crate::subjects::Deployed;

/// How many bytes of resident memory may differ, because of the allocator.
const SLACK: u64 = 2 << 20;

/// The result of a soak test.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// What the process held after warm-up.
    pub before: Held,
    /// What it held at the end.
    pub after: Held,
}

impl Soak {
    /// Whether the process holds no more than after warm-up.
    #[must_use]
    pub fn steady(&self) -> bool {
        self.after.resident <= self.before.resident + SLACK
            && self.after.descriptors == self.before.descriptors
            && self.after.mappings <= self.before.mappings + 4
            && self.after.threads <= self.before.threads
    }
}

/// Makes `requests` requests on `callers` threads, and before them a tenth as many (at most 20 000) to warm up.
#[must_use]
pub fn soak(subject: &Arc<Deployed>, guest: &Guest, requests: u64, callers: usize) -> Soak {
    let make = |requests: u64| {
        let left = AtomicU64::new(requests);
        std::thread::scope(|scope| {
            for _ in 0..callers {
                scope.spawn(|| {
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                            left.checked_sub(1)
                        })
                        .is_ok()
                    {
                        subject.request(guest);
                    }
                });
            }
        });
    };
    make((requests / 10).clamp(1, 20_000));
    let before = Held::now();
    make(requests);
    Soak {
        before,
        after: Held::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grew_is_not_steady() {
        let before = Held {
            resident: 50 << 20,
            descriptors: 10,
            mappings: 100,
            threads: 3,
        };
        let after = |held: Held| Soak {
            before,
            after: held,
        };
        assert!(after(before).steady());
        let leaks = [
            Held {
                resident: before.resident + SLACK + 1,
                ..before
            },
            Held {
                descriptors: 11,
                ..before
            },
            Held {
                mappings: 105,
                ..before
            },
            Held {
                threads: 4,
                ..before
            },
        ];
        assert!(leaks.into_iter().all(|held| !after(held).steady()));
    }
}
