//! How far threads step back behind those that serve.

use std::time::{Duration, Instant};

/// Lowers the priority of the calling thread for the rest of its life, and so of the threads it starts: beside a thread that
/// serves and never sleeps, it gets a tenth of the core.
pub fn step_back() {
    lower(10);
}

/// The same as far as it goes: a sixtieth of a core, and whatever serving leaves idle.
///
/// Beside two threads that wake up 8 000 times a second for 60 µs of work, something that never sleeps made one in ten of them
/// wait for more than 4 ms at nice 10, 2 ms at nice 19, and 0.2 ms like this. `SCHED_IDLE` did no better.
pub fn step_far_back() {
    lower(19);
}

/// Whether the threads that compile a module of `bytes` should step [far back](step_far_back). Not for a small one, which is
/// compiled before anybody notices (64 KiB in some 50 ms); nor on a machine that is
/// [crowded](is_crowded), where it would take for ever.
#[must_use]
pub fn should_step_far_back(bytes: usize) -> bool {
    bytes > 64 << 10 && !is_crowded()
}

/// Whether serving leaves next to nothing of the machine at the moment: less than a tenth of a core to a thread that has
/// stepped [far back](step_far_back), which tries it for a few milliseconds.
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

/// CPU time of the calling thread; where threads do not step back, simply the time.
pub(crate) fn cpu_time() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = libc::CLOCK_THREAD_CPUTIME_ID;
    #[cfg(not(target_os = "linux"))]
    let clock = libc::CLOCK_MONOTONIC;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Lowers the nice level, and lays no claim on the rest of a time slice: Linux (since 6.12) lets a thread that wakes up preempt
/// at once one whose slice is longer than its own, and one that only works in batches preempts nobody.
fn lower(nice: i32) {
    #[cfg(target_os = "linux")]
    if !batch(nice) {
        // SAFETY: no memory is involved. 0 is the calling thread, and lowering needs no permission; where it fails all the
        // same, the thread only competes with serving.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    }
    // Elsewhere it would be the whole process that steps back.
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

/// Nanoseconds of the longest time slice that Linux grants.
#[cfg(target_os = "linux")]
const LONGEST_SLICE: u64 = 100_000_000;

/// Whether the kernel has taken it. It refuses to raise a thread that has stepped back further.
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
        assert_eq!(after(step_back), (libc::SCHED_BATCH, 10));
        assert_eq!(after(step_far_back), (libc::SCHED_BATCH, 19));
        assert_eq!(after(|| {}), own, "nobody else's priority changed");
    }

    #[test]
    fn a_machine_without_an_idle_core_is_crowded() {
        // SAFETY: reads a number.
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
            // Unless they all came first, an attempt may succeed.
            let crowded = (0..50).any(|_| is_crowded());
            done.store(true, Ordering::Relaxed);
            assert!(crowded);
        });
    }
}
