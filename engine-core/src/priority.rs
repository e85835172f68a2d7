//! How far threads step back behind those that serve.

/// Lowers the priority of the calling thread for the rest of its life, and so of the threads it starts: for what takes
/// milliseconds and has somebody waiting.
pub(crate) fn step_back() {
    // At 10, a serving thread that wants the same core gets about nine tenths of it.
    nice(10);
}

/// The same as far as it goes: for what takes seconds and may take for ever.
///
/// A weight of 15 beside a serving thread's 1024, and no claim on the rest of a time slice: Linux (since 6.12) lets a thread
/// that wakes up preempt at once one whose slice is longer than its own, and one that only works in batches never preempts
/// anybody. With two threads that wake up 8 000 times a second for 60 µs of work, 9 of 10 waited 4 ms or less beside a thread at
/// nice 10, 2 ms at nice 19, 0.2 ms so; `SCHED_IDLE` did no better, and starves on a machine that is never idle.
pub(crate) fn step_far_back() {
    #[cfg(target_os = "linux")]
    if batch() {
        return;
    }
    nice(19);
}

/// Nanoseconds of the longest time slice that Linux grants.
#[cfg(target_os = "linux")]
const LONGEST_SLICE: u64 = 100_000_000;

/// Whether the kernel has taken it.
#[cfg(target_os = "linux")]
fn batch() -> bool {
    let wanted = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_BATCH as u32,
        sched_flags: 0,
        sched_nice: 19,
        sched_priority: 0,
        sched_runtime: LONGEST_SLICE,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a structure that lives as long as the call; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) == 0 }
}

fn nice(level: libc::c_int) {
    // SAFETY: no memory is involved. On Linux, 0 is the calling thread (elsewhere the whole process, hence nothing is done),
    // and lowering needs no permission; where it fails all the same, the thread only competes with serving.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, level);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = level;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Policy and nice level of a thread started by one that did `step`.
    fn after(step: fn()) -> (libc::c_int, libc::c_int) {
        let read = || {
            // SAFETY: no memory is involved; 0 is the calling thread.
            unsafe {
                (
                    libc::sched_getscheduler(0),
                    libc::getpriority(libc::PRIO_PROCESS, 0),
                )
            }
        };
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    step();
                    std::thread::scope(|scope| scope.spawn(read).join().expect("a thread"))
                })
                .join()
                .expect("a thread")
        })
    }

    #[test]
    fn what_a_thread_starts_stays_behind_with_it() {
        let own = after(|| {});
        assert_eq!(after(step_back), (own.0, own.1.max(10)));
        assert_eq!(after(step_far_back), (libc::SCHED_BATCH, 19));
        assert_eq!(after(|| {}), own, "nobody else's priority changed");
    }
}
