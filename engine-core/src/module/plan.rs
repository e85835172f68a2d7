//! The plan of how a function's sandboxes start: as the module does, or from a snapshot.

use std::sync::Arc;

use crate::per_cpu::PerCpu;
use crate::sandbox::wasi::Stdio;
use crate::sandbox::{FIRST_READING, HostState, Reads};
use crate::start::{GlobalValue, Patch, StartState};

/// How the sandboxes of a function start: as the module does, or from a snapshot.
///
/// Each call takes a reference on the state and on the entries. There is one copy of both for each processor, so that
/// calls on different processors count their references on different cache lines.
#[derive(Debug)]
pub(crate) struct StartPlan {
    states: PerCpu<Arc<StartState>>,
    entries: PerCpu<Arc<[String]>>,
    /// What the guest's monotonic clock shows at the start, in nanoseconds.
    pub(crate) clock: u64,
    pub(crate) reads: Reads,
    /// The state of the standard descriptors at the start.
    pub(crate) stdio: Stdio,
    /// The features of `http_handler` that are enabled at the start.
    pub(crate) features: u32,
}

impl StartPlan {
    /// A start from `state`, with `entries` to call.
    pub(crate) fn new(state: StartState, entries: &[String]) -> Self {
        Self {
            states: PerCpu::new(|| Arc::new(state.copy())),
            entries: PerCpu::new(|| entries.iter().cloned().collect()),
            clock: FIRST_READING,
            reads: Reads::Plain,
            stdio: Stdio::default(),
            features: 0,
        }
    }

    /// Sets up the host side of a call for a guest that starts with this plan.
    pub(crate) fn prepare(&self, host: &mut HostState) {
        host.clock_offset = self.clock;
        host.reads = self.reads;
        host.stdio = self.stdio;
        host.features = self.features;
    }

    /// Bytes of memory that a sandbox starts with.
    pub(crate) fn bytes(&self) -> u64 {
        let image = self.states[0].image.as_ref();
        image.map_or(0, |image| image.len())
    }

    pub(crate) fn state(&self) -> Arc<StartState> {
        Arc::clone(self.states.here())
    }

    /// The same plan, with `patches` that are written at each start.
    pub(crate) fn with_patches(self, patches: Vec<Patch>) -> Self {
        self.at(|state| state.patches = patches.clone())
    }

    /// The same plan, without the globals that have the values in `initial` anyway.
    pub(crate) fn without_globals(self, initial: &[(String, GlobalValue)]) -> Self {
        self.at(|state| state.globals.retain(|global| !initial.contains(global)))
    }

    fn at(self, change: impl Fn(&mut StartState)) -> Self {
        let state = || {
            let mut state = self.states[0].copy();
            change(&mut state);
            Arc::new(state)
        };
        Self {
            states: PerCpu::new(state),
            ..self
        }
    }

    /// The same plan, with other entries to call.
    pub(crate) fn with_entries(&self, entries: &[String]) -> Self {
        Self {
            states: self.states.iter().cloned().collect(),
            entries: PerCpu::new(|| entries.iter().cloned().collect()),
            clock: self.clock,
            reads: self.reads,
            stdio: self.stdio,
            features: self.features,
        }
    }

    pub(crate) fn entries(&self) -> Arc<[String]> {
        Arc::clone(self.entries.here())
    }
}
