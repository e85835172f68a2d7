//! Cancels a deployment from another thread.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use parking_lot::Mutex;

/// Cancels the deployments that it was given to, running and future ones. All clones share one state.
#[derive(Clone)]
pub struct Cancel {
    /// Dropped by `cancel`. Every receiver of the channel then sees that it is disconnected.
    pending: Arc<Mutex<Option<Sender<Infallible>>>>,
    happened: Receiver<Infallible>,
}

impl Cancel {
    /// One that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        let (pending, happened) = bounded(0);
        Self {
            pending: Arc::new(Mutex::new(Some(pending))),
            happened,
        }
    }

    /// Cancels. Does nothing the second time.
    pub fn cancel(&self) {
        self.pending.lock().take();
    }

    /// Whether `cancel` has been called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.happened.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// A channel that is disconnected once `cancel` has been called.
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
