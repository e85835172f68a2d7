//! Compiling, apart from serving: on a bounded number of threads of its own, with large stacks and the lowest priority.
//!
//! A deployment must not fail because requests never stop coming: where they leave next to nothing of the machine, the threads keep
//! the caller's priority; and where it comes to that later, one more that has it joins them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_core::priority::{should_step_far_back, step_far_back};
use engine_core::{Error, ErrorKind, Result, panic_text};
use parking_lot::{Condvar, Mutex};
use wasmtime::Engine;

use crate::trap;

/// Stack of a compiling thread: a compiler recurses over what the guest nests.
const STACK: usize = 8 << 20;

/// How long the threads are watched before it is said what they got of the machine.
const WATCHED: Duration = Duration::from_millis(500);

/// They starve if all of them together get less than this share of one core.
const LEAST: f64 = 0.1;

/// Compiles a valid module to an artifact, on `threads` threads that end with it, and one in reserve where they step far back.
pub(crate) fn compile(engine: &Engine, wasm: &[u8], threads: usize) -> Result<Vec<u8>> {
    let threads = threads.max(1);
    let far_back = should_step_far_back(wasm.len());
    let reserve = Arc::new(Reserve::default());
    let waiting = Arc::clone(&reserve);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads + usize::from(far_back))
        .thread_name(|index| format!("gojinn-compile-{index}"))
        .stack_size(STACK)
        // Runs on each thread before it takes any work.
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
            Error::host("cannot start threads to compile on").because(error)
        })?;
    // Wasmtime compiles functions in parallel on the rayon pool that it is called in.
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

/// Holds one thread back until the others starve.
#[derive(Default)]
struct Reserve {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The clocks of the others' CPU time.
    clocks: Vec<libc::clockid_t>,
    /// Nothing is left to do: the clocks may be gone.
    ended: bool,
}

impl Reserve {
    /// Has the calling thread watched until the end.
    fn watch_this(&self) {
        #[cfg(target_os = "linux")]
        let mut clock = 0;
        #[cfg(target_os = "linux")]
        // SAFETY: the thread that asks is there, and `clock` is writable.
        if unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) } == 0 {
            self.state.lock().clocks.push(clock);
        }
    }

    /// Returns when the others starve, or at the end.
    fn wait(&self) {
        let mut state = self.state.lock();
        while !state.ended {
            let (begun, before) = (Instant::now(), state.cpu());
            while !state.ended && begun.elapsed() < WATCHED {
                self.changed.wait_until(&mut state, begun + WATCHED);
            }
            let got = state.cpu().saturating_sub(before);
            // Where threads do not step back, they do not starve.
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
    /// CPU time of all that are watched.
    fn cpu(&self) -> Duration {
        self.clocks.iter().copied().map(cpu).sum()
    }
}

/// What a thread's clock of CPU time shows; nothing if the thread is gone.
fn cpu(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is writable. The clock of a thread that is gone is an error, and no other thread's as long as its number
    // is not given away again, and then it is only a wrong figure.
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
        // Nobody is watched, so nobody gets anything.
        Reserve::default().wait();
        // This one gets nothing because it sleeps.
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
    fn the_reserve_goes_when_all_is_done() {
        let reserve = Reserve::default();
        reserve.end();
        reserve.wait();
        let compiled = compile(&Engine::default(), b"\0asm\x01\0\0\0", 2).unwrap();
        assert!(!compiled.is_empty());
        let error = compile(&Engine::default(), b"\0asm", 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Compile);
    }
}
