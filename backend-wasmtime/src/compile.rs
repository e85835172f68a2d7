//! Compiles modules on a bounded number of separate threads, with large stacks and the lowest priority, so that
//! requests are not disturbed.
//!
//! A deployment must not fail because there are always requests. If requests leave almost nothing of the machine, the
//! threads keep the caller's priority. If that happens later, during the compilation, one more thread with the caller's
//! priority joins them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_core::priority::{should_step_far_back, step_far_back};
use engine_core::{Error, ErrorKind, Result, panic_text};
use parking_lot::{Condvar, Mutex};
use wasmtime::Engine;

use crate::trap;

/// The stack size of a compiling thread: a compiler recurses into nested code.
const STACK: usize = 8 << 20;

/// How long the threads' CPU time is measured before it is compared with [`LEAST`].
const WATCHED: Duration = Duration::from_millis(500);

/// The threads starve if all of them together get less than this share of one core.
const LEAST: f64 = 0.1;

/// Compiles a valid module to an artifact, on `threads` threads that end with the compilation. If they step far back,
/// one more thread is held in reserve.
pub(crate) fn compile(engine: &Engine, wasm: &[u8], threads: usize) -> Result<Vec<u8>> {
    let threads = threads.max(1);
    let far_back = should_step_far_back(wasm.len());
    let reserve = Arc::new(Reserve::default());
    let waiting = Arc::clone(&reserve);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads + usize::from(far_back))
        .thread_name(|index| format!("gojinn-compile-{index}"))
        .stack_size(STACK)
        // Runs on each thread before its first work.
        .start_handler(move |index| {
            if index < threads {
                if far_back {
                    step_far_back();
                }
                waiting.watch_this();
            } else {
                waiting.wait();
            }
        })
        .build()
        .map_err(|error| {
            reserve.end();
            Error::host("cannot start the threads that compile").because(error)
        })?;
    // wasmtime compiles functions in parallel on the rayon pool in which it is called.
    let compiled = pool.install(|| {
        catch_unwind(AssertUnwindSafe(|| engine.precompile_module(wasm)))
            .unwrap_or_else(|panic| {
                Err(wasmtime::Error::msg(format!(
                    "the compiler panicked: {}",
                    panic_text(&*panic)
                )))
            })
            .map_err(|error| {
                Error::new(ErrorKind::Compile, "wasmtime cannot compile the module")
                    .because(trap::boxed(error))
            })
    });
    reserve.end();
    compiled
}

/// Makes one thread wait until the others starve.
#[derive(Default)]
struct Reserve {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The CPU-time clocks of the other threads.
    clocks: Vec<libc::clockid_t>,
    /// The compilation has ended, so the threads of the clocks may have ended too.
    ended: bool,
}

impl Reserve {
    /// Watches the CPU time of the calling thread until the end.
    fn watch_this(&self) {
        #[cfg(target_os = "linux")]
        let mut clock = 0;
        #[cfg(target_os = "linux")]
        // SAFETY: the calling thread exists, and `clock` is writable.
        if unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) } == 0 {
            self.state.lock().clocks.push(clock);
        }
    }

    /// Returns when the watched threads starve, or at the end.
    fn wait(&self) {
        let mut state = self.state.lock();
        while !state.ended {
            let (begun, before) = (Instant::now(), state.cpu());
            while !state.ended && begun.elapsed() < WATCHED {
                self.changed.wait_until(&mut state, begun + WATCHED);
            }
            let got = state.cpu().saturating_sub(before);
            // On systems where threads do not step back, they do not starve.
            if cfg!(target_os = "linux")
                && got.as_secs_f64() < begun.elapsed().as_secs_f64() * LEAST
            {
                return;
            }
        }
    }

    fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }
}

impl State {
    /// The CPU time of all watched threads.
    fn cpu(&self) -> Duration {
        self.clocks.iter().copied().map(cpu).sum()
    }
}

/// The CPU time that a thread's clock shows; 0 if the thread has ended.
fn cpu(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes to `time`, which lives longer than the call. The clock of an ended thread is an error.
    // If its number was reused, the result is another thread's time, which does no harm.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn the_reserve_comes_when_the_others_get_nothing() {
        // No thread is watched, so they get no CPU time.
        Reserve::default().wait();
        // The watched thread gets no CPU time because it sleeps.
        let reserve = Reserve::default();
        let slept = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                reserve.watch_this();
                while !slept.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
            });
            reserve.wait();
            slept.store(true, Ordering::Relaxed);
        });
        assert!(!reserve.state.lock().ended);
    }

    #[test]
    fn the_reserve_ends_with_the_compilation() {
        let reserve = Reserve::default();
        reserve.end();
        reserve.wait();
        let compiled = compile(&Engine::default(), b"\0asm\x01\0\0\0", 2).unwrap();
        assert!(!compiled.is_empty());
        let error = compile(&Engine::default(), b"\0asm", 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Compile);
    }
}
