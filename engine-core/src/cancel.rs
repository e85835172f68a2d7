//! Giving up a deployment from another thread.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use parking_lot::Mutex;

/// Cancels the deployments that were given it, those to come included. All clones are one.
#[derive(Clone)]
pub struct Cancel {
    /// Dropped when it happens, which everybody who waits on the other end sees.
    pending: Arc<Mutex<Option<Sender<Infallible>>>>,
    happened: Receiver<Infallible>,
}

impl Cancel {
    /// One that has not happened.
    #[must_use]
    pub fn new() -> Self {
        let (pending, happened) = bounded(0);
        Self {
            pending: Arc::new(Mutex::new(Some(pending))),
            happened,
        }
    }

    /// Lets it happen. The second time does nothing.
    pub fn cancel(&self) {
        self.pending.lock().take();
    }

    /// Whether it has happened.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.happened.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Disconnected once it has happened.
    pub(crate) fn happened(&self) -> &Receiver<Infallible> {
        &self.happened
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}
