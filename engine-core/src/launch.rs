//! A loaded module, and how sandboxes of it begin: as the module does, or from a snapshot.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Finished, GlobalValue, Job, Module, Sandbox, Slots, Start, StartPoint};
use crate::calls::lanes;
use crate::engine::Shared;
use crate::error::Result;
use crate::host::{FIRST_READING, HostState, Reads};
use crate::limits::Limits;
use crate::memory::{Image, cpu};
use crate::snapshot::Patch;
use crate::wasi::Stdio;
use crate::wasm::Split;

/// A module that is ready to be instantiated, with what the split took out of it.
pub(crate) struct Loaded {
    pub(crate) module: Arc<dyn Module>,
    /// Its own beginning.
    pub(crate) plain: Launch,
    pub(crate) split: Split,
    pub(crate) compiled_in: Duration,
    /// Whether its sandboxes may have slots.
    pub(crate) slots: bool,
}

impl Loaded {
    /// Makes a sandbox: in a slot of the pool, or in memory of the backend's own where there is none to be had.
    pub(crate) fn sandbox(
        &self,
        shared: &Shared,
        launch: &Launch,
        limits: &Limits,
    ) -> Result<Box<dyn Sandbox + '_>> {
        let pool = shared.pool.as_ref().filter(|_| self.slots);
        let slots = pool.map(|pool| {
            |image: &Arc<Image>| {
                let slot = pool.slot(image, limits.memory_bytes());
                slot.inspect_err(|_| shared.metrics.no_slot()).ok()
            }
        });
        let slots = slots.as_ref().map(|slots| slots as &dyn Slots);
        self.module
            .instantiate(Start::new(launch.point(), slots), limits)
    }

    /// Makes a sandbox and runs it to its end. `host` is to be [prepared](Launch::prepare) for `launch`.
    pub(crate) fn run(
        &self,
        shared: &Shared,
        launch: &Launch,
        limits: &Limits,
        host: Box<HostState>,
        capture: Option<Arc<[String]>>,
    ) -> Result<Finished> {
        let sandbox = self.sandbox(shared, launch, limits)?;
        Ok(sandbox.run(Job {
            entries: launch.entries(),
            host,
            capture,
        }))
    }
}

/// How the sandboxes of a function begin: as the module does, or from a snapshot.
///
/// What each call takes a reference on is there once for each lane: calls on different processors then count their
/// references on different cache lines.
#[derive(Debug)]
pub(crate) struct Launch {
    points: Box<[Arc<StartPoint>]>,
    entries: Box<[Arc<[String]>]>,
    /// What the monotonic clock shows at the beginning, in nanoseconds.
    pub(crate) clock: u64,
    pub(crate) reads: Reads,
    /// What has become of the standard descriptors.
    pub(crate) stdio: Stdio,
}

impl Launch {
    /// The beginning at `point`, with `entries` to call.
    pub(crate) fn new(point: StartPoint, entries: &[String]) -> Self {
        Self {
            points: per_lane(|| Arc::new(point.copy())),
            entries: per_lane(|| entries.iter().cloned().collect()),
            clock: FIRST_READING,
            reads: Reads::Plain,
            stdio: Stdio::default(),
        }
    }

    /// Makes the host side of a call what a guest that begins here must find.
    pub(crate) fn prepare(&self, host: &mut HostState) {
        host.clock_offset = self.clock;
        host.reads = self.reads;
        host.stdio = self.stdio;
    }

    pub(crate) fn point(&self) -> Arc<StartPoint> {
        Arc::clone(&self.points[cpu() % self.points.len()])
    }

    /// The same beginning, with `patches` that are written at each start.
    pub(crate) fn with_patches(self, patches: Vec<Patch>) -> Self {
        self.at(|point| point.patches = patches.clone())
    }

    /// The same beginning, where globals that are `initial` anyway are not set.
    pub(crate) fn without_globals(self, initial: &[(String, GlobalValue)]) -> Self {
        self.at(|point| point.globals.retain(|global| !initial.contains(global)))
    }

    fn at(self, change: impl Fn(&mut StartPoint)) -> Self {
        let point = || {
            let mut point = self.points[0].copy();
            change(&mut point);
            Arc::new(point)
        };
        Self {
            points: per_lane(point),
            ..self
        }
    }

    /// The same beginning, with other entries to call.
    pub(crate) fn with_entries(&self, entries: &[String]) -> Self {
        Self {
            points: self.points.clone(),
            entries: per_lane(|| entries.iter().cloned().collect()),
            clock: self.clock,
            reads: self.reads,
            stdio: self.stdio,
        }
    }

    pub(crate) fn entries(&self) -> Arc<[String]> {
        Arc::clone(&self.entries[cpu() % self.entries.len()])
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

/// One of what `make` makes for each lane.
pub(crate) fn per_lane<T>(make: impl Fn() -> T) -> Box<[T]> {
    (0..lanes()).map(|_| make()).collect()
}
