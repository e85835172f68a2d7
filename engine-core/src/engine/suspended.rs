//! The calls that are suspended: their guests wait for the host, and hold no thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::backend::Sandbox;
use crate::calls::CallId;
use crate::sandbox::HostState;

use super::function::Function;

/// A call whose guest waits.
pub(super) struct Suspended {
    /// Dropped before `function`, from whose module it borrows.
    pub(super) sandbox: Box<dyn Sandbox>,
    pub(super) host: Box<HostState>,
    pub(super) function: Function,
    pub(super) begun: Instant,
}

impl Suspended {
    /// The call of `function` whose guest is in `sandbox`.
    pub(super) fn new(
        sandbox: Box<dyn Sandbox + '_>,
        host: Box<HostState>,
        function: Function,
        begun: Instant,
    ) -> Self {
        // SAFETY: the sandbox borrows from the module that made it, which is that of `function`: both come from one call of
        // `Function::reached`. `function` keeps the module alive and in its place, behind an `Arc`. Wherever a `Suspended` is
        // taken apart or dropped, the sandbox goes first.
        let sandbox: Box<dyn Sandbox> = unsafe { std::mem::transmute(sandbox) };
        Self {
            sandbox,
            host,
            function,
            begun,
        }
    }
}

/// All suspended calls of an engine.
pub(super) struct SuspendedCalls {
    /// By the index of their permits.
    calls: Box<[Mutex<Option<Box<Suspended>>>]>,
    /// How many of them hold memory that they have not been asked to [lend](Self::lend).
    unasked: AtomicUsize,
    /// Where the last one was that was asked.
    asked: AtomicUsize,
}

impl SuspendedCalls {
    /// Room for the calls of `permits`.
    pub(super) fn new(permits: usize) -> Self {
        Self {
            calls: (0..permits).map(|_| Mutex::default()).collect(),
            unasked: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        }
    }

    /// Keeps a call.
    pub(super) fn put(&self, suspended: Suspended) {
        let at = suspended.host.call().id().index() as usize;
        let mut entry = self.calls[at].lock();
        self.unasked.fetch_add(1, Ordering::Relaxed);
        let before = entry.replace(Box::new(suspended));
        debug_assert!(before.is_none(), "two calls with one permit");
    }

    /// The call with that id. `None`: it is stale, runs, or was taken already.
    pub(super) fn take(&self, id: CallId) -> Option<Suspended> {
        let mut entry = self.calls.get(id.index() as usize)?.lock();
        let is_it = |kept: &mut Box<Suspended>| kept.host.call().id() == id;
        entry.take_if(is_it).map(|suspended| self.taken(*suspended))
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        for entry in &self.calls {
            let suspended = entry.lock().take();
            drop(suspended.map(|suspended| self.taken(*suspended)));
        }
    }

    fn taken(&self, suspended: Suspended) -> Suspended {
        if !suspended.host.lends() {
            self.unasked.fetch_sub(1, Ordering::Relaxed);
        }
        suspended
    }

    /// Makes one call lend what its guest has not written of its memory. `false`: all have been asked.
    pub(super) fn lend(&self) -> bool {
        if self.unasked.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let (before, after) = self.calls.split_at(self.asked.load(Ordering::Relaxed));
        for entry in after.iter().chain(before) {
            // One that is being put or taken is not worth waiting for.
            if let Some(mut entry) = entry.try_lock()
                && let Some(suspended) = entry.as_mut().filter(|kept| !kept.host.lends())
            {
                suspended.host.lend_unwritten();
                self.unasked.fetch_sub(1, Ordering::Relaxed);
                let at = suspended.host.call().id().index() as usize;
                self.asked.store(at, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let waits = |entry: &&Mutex<Option<Box<Suspended>>>| entry.lock().is_some();
        self.calls.iter().filter(waits).count()
    }
}

impl std::fmt::Debug for SuspendedCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SuspendedCalls")
            .field("permits", &self.calls.len())
            .finish_non_exhaustive()
    }
}
