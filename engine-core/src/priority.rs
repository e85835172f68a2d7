//! Lowers the priority of threads that compile and deploy, so that they do not slow down the threads that serve requests.

use std::time::{Duration, Instant};

/// Lowers the priority of the calling thread, and of the threads that it starts from now on. It cannot be raised again.
/// Beside a serving thread that never sleeps, such a thread gets a tenth of the core.
pub fn step_back() {
    lower(10);
}

/// Lowers the priority of the calling thread as far as possible: it gets a sixtieth of a core, and the time that
/// serving leaves idle.
///
/// Measured with two threads that wake up 8 000 times a second for 60 µs of work, beside a thread that never sleeps:
/// one in ten wake-ups waited for more than 4 ms with that thread at nice 10, 2 ms at nice 19, and 0.2 ms with this
/// function. `SCHED_IDLE` was not better.
pub fn step_far_back() {
    lower(19);
}

/// Whether the threads that compile a module of `bytes` should step [far back](step_far_back). Not for a small module,
/// which is compiled too fast to disturb (64 KiB in about 50 ms). And not on a [crowded](is_crowded) machine, where the
/// compilation would hardly make progress.
#[must_use]
pub fn should_step_far_back(bytes: usize) -> bool {
    bytes > 64 << 10 && !is_crowded()
}

/// Whether serving leaves almost nothing of the machine at the moment: a thread that has stepped [far
/// back](step_far_back) gets less than a tenth of a core. Finds out by running such a thread for a few milliseconds.
#[must_use]
pub fn is_crowded() -> bool {
    const ENOUGH: Duration = Duration::from_millis(5);
    const LEAST: u32 = 10;
    let attempt = || {
        step_far_back();
        let (begun, before) = (Instant::now(), cpu_time());
        loop {
            let got = cpu_time().saturating_sub(before);
            if got >= ENOUGH {
                return begun.elapsed() > ENOUGH * LEAST;
            }
            if begun.elapsed() > ENOUGH * LEAST {
                return true;
            }
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("gojinn-attempt".into())
            .spawn_scoped(scope, attempt)
            .map_or(true, |attempt| attempt.join().unwrap_or(true))
    })
}

/// CPU time of the calling thread. On systems where threads do not step back, the time of the monotonic clock.
pub(crate) fn cpu_time() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = libc::CLOCK_THREAD_CPUTIME_ID;
    #[cfg(not(target_os = "linux"))]
    let clock = libc::CLOCK_MONOTONIC;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes to `time`, which lives longer than the call.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Raises the nice value, and makes the thread easy to preempt. Linux (since 6.12) lets a thread that wakes up preempt
/// a thread with a longer time slice at once, and a `SCHED_BATCH` thread that wakes up preempts no other thread.
fn lower(nice: i32) {
    #[cfg(target_os = "linux")]
    if !batch(nice) {
        // SAFETY: takes no pointer. 0 is the calling thread. Lowering needs no permission; if it fails anyway, the thread
        // competes with serving, and nothing else happens.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    }
    // On other systems this would lower the priority of the whole process.
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// The longest time slice that Linux grants, in nanoseconds.
#[cfg(target_os = "linux")]
const LONGEST_SLICE: u64 = 100_000_000;

/// Sets policy, nice value and time slice, and returns whether the kernel has accepted. It refuses for a thread that
/// has stepped back further already.
#[cfg(target_os = "linux")]
fn batch(nice: i32) -> bool {
    let wanted = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_BATCH as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: LONGEST_SLICE,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a structure that lives as long as the call; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) == 0 }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Policy and nice value of a thread that was started by a thread that had called `step`.
    fn after(step: fn()) -> (libc::c_int, libc::c_int) {
        let read = || {
            // SAFETY: takes no pointers; 0 is the calling thread.
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
    fn threads_inherit_the_lowered_priority() {
        let own = after(|| {});
        assert_eq!(after(step_back), (libc::SCHED_BATCH, 10));
        assert_eq!(after(step_far_back), (libc::SCHED_BATCH, 19));
        assert_eq!(after(|| {}), own, "other threads keep their priority");
    }

    #[test]
    fn a_machine_without_an_idle_core_is_crowded() {
        // SAFETY: takes no pointers and only reads.
        let cores = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..cores * 2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            // An attempt may succeed as long as not all of these threads have started.
            let crowded = (0..50).any(|_| is_crowded());
            done.store(true, Ordering::Relaxed);
            assert!(crowded);
        });
    }
}
