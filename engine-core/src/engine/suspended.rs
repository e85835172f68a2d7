//! The calls that are suspended: their guests wait for the host, and hold no thread.

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

/// All suspended calls of an engine, by the index of their permits.
pub(super) struct SuspendedCalls(Box<[Mutex<Option<Box<Suspended>>>]>);

impl SuspendedCalls {
    /// Room for the calls of `permits`.
    pub(super) fn new(permits: usize) -> Self {
        Self((0..permits).map(|_| Mutex::default()).collect())
    }

    /// Keeps a call.
    pub(super) fn put(&self, suspended: Suspended) {
        let at = suspended.host.call().id().index() as usize;
        let before = self.0[at].lock().replace(Box::new(suspended));
        debug_assert!(before.is_none(), "two calls with one permit");
    }

    /// The call with that id. `None`: it is stale, runs, or was taken already.
    pub(super) fn take(&self, id: CallId) -> Option<Suspended> {
        let mut entry = self.0.get(id.index() as usize)?.lock();
        let is_it = |kept: &mut Box<Suspended>| kept.host.call().id() == id;
        entry.take_if(is_it).map(|suspended| *suspended)
    }

    /// Ends all of them.
    pub(super) fn clear(&self) {
        for entry in &self.0 {
            let suspended = entry.lock().take();
            drop(suspended);
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let waits = |entry: &&Mutex<Option<Box<Suspended>>>| entry.lock().is_some();
        self.0.iter().filter(waits).count()
    }
}

impl std::fmt::Debug for SuspendedCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SuspendedCalls")
            .field("permits", &self.0.len())
            .finish_non_exhaustive()
    }
}
