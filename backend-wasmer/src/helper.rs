//! Threads for guests that may be suspended: wasmer keeps what it knows of a running guest on its thread, so such a guest
//! keeps the thread, which is blocked while the guest waits.
//!
//! ```text
//!   the call's thread                    a helper
//!   enter ── job ──────────────────────▶ runs the guest
//!         ◀─ Waiting(host state) ─────── the hostcall that waits blocks here
//!   resume ── host state ──────────────▶ makes the hostcall again
//!         ◀─ Ended ───────────────────── the guest has left its entry point
//! ```
//!
//! The instance belongs to the helper from the job until `Waiting` or `Ended`, and to the call in between.

use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use engine_core::HostState;
use parking_lot::Mutex;

use crate::trap::End;

/// How long a helper waits for another guest before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Stack of a helper: wasmer allocates the guest's, and hostcalls run on this one.
const STACK: usize = 512 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// The helpers that wait for a guest.
static IDLE_HELPERS: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());

/// What a helper says.
pub(crate) enum Said {
    /// The guest waits for what the host state says.
    Waiting(Box<HostState>),
    /// The guest has left its entry point.
    Ended(Result<(), End>),
}

/// A guest on a helper, as its call sees it.
pub(crate) struct Guest {
    replies: Sender<Box<HostState>>,
    says: Receiver<Said>,
}

/// The call, as its guest on a helper sees it.
#[derive(Debug)]
pub(crate) struct Caller {
    says: Sender<Said>,
    replies: Receiver<Box<HostState>>,
}

/// The two ends for one call.
pub(crate) fn pair() -> (Guest, Caller) {
    let (says, said) = bounded(1);
    let (replies, replied) = bounded(1);
    (
        Guest {
            replies,
            says: said,
        },
        Caller {
            says,
            replies: replied,
        },
    )
}

impl Guest {
    /// Blocks until the guest waits or has ended. `None`: its thread is gone.
    pub(crate) fn listen(&self) -> Option<Said> {
        self.says.recv().ok()
    }

    /// Goes on with a guest that waits.
    pub(crate) fn reply(&self, host: Box<HostState>) {
        // If its thread is gone, `listen` says so.
        let _ = self.replies.send(host);
    }

    /// Ends a guest that waits, and blocks until it has left its entry point.
    pub(crate) fn end(self) {
        drop(self.replies);
        let _ = self.says.recv();
    }
}

impl Caller {
    /// Says that the guest has left its entry point.
    pub(crate) fn ended(&self, end: Result<(), End>) {
        let _ = self.says.send(Said::Ended(end));
    }

    /// Hands out the host state of a guest that waits, and blocks until it comes back. `None`: the guest is to end.
    pub(crate) fn wait(&self, host: Box<HostState>) -> Option<Box<HostState>> {
        self.says.send(Said::Waiting(host)).ok()?;
        self.replies.recv().ok()
    }
}

/// Runs `job` on a helper: one that is idle, or a new one. `Err`: the system gives no thread.
pub(crate) fn run(mut job: Job) -> std::io::Result<()> {
    loop {
        let idle = IDLE_HELPERS.lock().pop();
        let Some(idle) = idle else { break };
        match idle.send(job) {
            Ok(()) => return Ok(()),
            Err(refused) => job = refused.0,
        }
    }
    std::thread::Builder::new()
        .name("gojinn-waiting".into())
        .stack_size(STACK)
        .spawn(move || {
            job();
            let (sender, jobs) = bounded(1);
            loop {
                IDLE_HELPERS.lock().push(sender.clone());
                match jobs.recv_timeout(IDLE) {
                    Ok(job) => job(),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        let mut idle = IDLE_HELPERS.lock();
                        let before = idle.len();
                        idle.retain(|other| !other.same_channel(&sender));
                        if idle.len() < before {
                            return;
                        }
                        drop(idle);
                        // A job is on its way.
                        if let Ok(job) = jobs.recv() {
                            job();
                        }
                    }
                }
            }
        })
        .map(drop)
}
