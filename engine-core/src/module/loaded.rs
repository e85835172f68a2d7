//! A loaded module with the parts that the split took out of it, and how sandboxes are made from it.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Finished, Job, Module, Progress, Sandbox, SlotSource, Slots, Start};
use crate::error::{Error, Result};
use crate::limits::SandboxLimits;
use crate::memory::Image;
use crate::module::{Split, StartPlan};
use crate::sandbox::{Event, HostReply, HostState};

/// A response of status 200 without headers, trailers and body.
const NOTHING: [u8; 12] = [200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A module that is ready to be instantiated, with the parts that the split took out of it.
pub(crate) struct Loaded {
    pub(crate) module: Arc<dyn Module>,
    /// How sandboxes start without a snapshot.
    pub(crate) plain: StartPlan,
    pub(crate) split: Split,
    pub(crate) compiled_in: Duration,
    /// Whether its sandboxes may use slots of the pool.
    pub(crate) slots: bool,
    /// Whether calls of its guests may be suspended.
    pub(crate) suspends: bool,
}

impl Loaded {
    /// Makes a sandbox: in a slot of the pool, or in memory that the backend allocates if no slot is free.
    pub(crate) fn sandbox(
        &self,
        slots: &SlotSource,
        plan: &StartPlan,
        limits: &SandboxLimits,
    ) -> Result<Box<dyn Sandbox + '_>> {
        let source = |image: &Arc<Image>| slots.slot(image, limits);
        let source = (self.slots && slots.pool().is_some()).then_some(&source as &dyn Slots);
        let mut start = Start::new(plan.state(), source).within(slots.budget());
        start.few_slots = slots.are_few();
        self.module.instantiate(start, limits)
    }

    /// Makes a sandbox and runs it to its end. `host` must be [prepared](StartPlan::prepare) for `plan`.
    pub(crate) fn run(
        &self,
        slots: &SlotSource,
        plan: &StartPlan,
        limits: &SandboxLimits,
        host: Box<HostState>,
        capture: Option<Arc<[String]>>,
    ) -> Result<Finished> {
        let mut sandbox = self.sandbox(slots, plan, limits)?;
        let job = Job {
            entries: plan.entries(),
            host,
            capture,
        };
        let mut progress = sandbox.run(job);
        loop {
            match progress {
                Progress::Finished(finished) => return Ok(finished),
                Progress::Waiting(mut host) => {
                    let Some(Event::Next { .. }) = host.waits_for.take() else {
                        return Err(Error::host(
                            "a bug: a guest was suspended in a run that cannot be suspended",
                        ));
                    };
                    // A guest of http-wasm without a web server: the next handler answers 200, and nothing else.
                    host.resumed_with = Some(HostReply {
                        code: 0,
                        bytes: NOTHING.to_vec(),
                    });
                    progress = sandbox.resume(host);
                }
            }
        }
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("plain", &self.plain)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}
