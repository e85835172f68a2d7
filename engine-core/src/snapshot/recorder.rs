//! Runs a function's program at deployment: a sandbox runs in a given [`World`] to its end, where its state is captured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{Captured, SlotSource};
use crate::budget::Share;
use crate::calls::{Calls, Permit};
use crate::contract::Contract;
use crate::error::ErrorKind;
use crate::limits::SandboxLimits;
use crate::logs;
use crate::memory::Image;
use crate::module::{Loaded, StartPlan};
use crate::outcome::{GuestExit, TrapCode};
use crate::priority::cpu_time;
use crate::sandbox::wasi::{MountSet, Stdio};
use crate::sandbox::{
    Asked, Buffers, HostState, Observed, Program, Reads, Stop, World, WorldState,
};
use crate::start::{GlobalValue, StartState};

use super::SnapshotKind;

/// How long all runs for one function may take together. Its deployment, and with it a reload, waits for them.
const BUDGET: Duration = Duration::from_secs(10);

/// How long one run may take. There are about thirty.
const MOST: Duration = Duration::from_secs(2);

/// Runs the program of one function.
pub(super) struct Recorder<'a> {
    calls: &'a Calls,
    slots: &'a SlotSource,
    pub(super) contract: &'static dyn Contract,
    pub(super) loaded: &'a Loaded,
    program: Arc<Program>,
    /// The mounts, all of them read-only.
    mounts: Option<MountSet>,
    limits: SandboxLimits,
    names: Arc<[String]>,
    /// When the last run must have ended.
    until: Instant,
}

/// One run.
pub(super) struct Run<'a> {
    pub(super) plan: &'a StartPlan,
    pub(super) world: World,
    /// The world that it is in after this many questions for entropy or time.
    pub(super) later: Option<(u64, World)>,
    pub(super) stdin: &'a [u8],
    pub(super) reads: Reads,
    /// Whether its state is captured at the end.
    pub(super) capture: bool,
    /// Whether the guest is told to collect its garbage at the end, if it asks.
    pub(super) tidy: bool,
}

/// The result of a run.
pub(super) struct Ended {
    pub(super) exit: GuestExit,
    /// Whether it called `proc_exit`, and did not return.
    pub(super) left: bool,
    /// Whether it ended in a read of stdin, where [`Reads`] of the run end it.
    pub(super) parked: bool,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
    /// What the monotonic clock showed at the end.
    pub(super) clock: u64,
    /// What it asked of the host.
    pub(super) asked: Asked,
    /// How often it asked for entropy or time.
    pub(super) questions: u64,
    /// What the program did to its standard descriptors.
    pub(super) stdio: Stdio,
    /// The features of `http_handler` that the program has enabled.
    pub(super) features: u32,
    /// Whether other descriptors are open than at its start.
    pub(super) descriptors_changed: bool,
    pub(super) state: Option<Captured>,
    /// The module's initial memory.
    pub(super) initial: Option<Arc<Image>>,
    /// CPU time of the run, with the preparation of its memory. It does not depend on what else the machine does.
    pub(super) took: Duration,
}

/// A state from which requests can be served.
pub(super) struct Checkpoint {
    pub(super) kind: SnapshotKind,
    pub(super) state: Captured,
    /// The module's initial memory.
    pub(super) initial: Option<Arc<Image>>,
    /// What the monotonic clock showed.
    pub(super) clock: u64,
    /// What the program did to its standard descriptors.
    pub(super) stdio: Stdio,
    /// The features of `http_handler` that the program has enabled.
    pub(super) features: u32,
    /// What it asked of the host before: for a warm-up, in all rounds.
    pub(super) asked: Asked,
    /// How often it asked for entropy or time in its last run.
    pub(super) questions: u64,
    /// What it wrote to stderr before.
    pub(super) stderr: String,
}

impl Checkpoint {
    /// The checkpoint where a run ended. `Err` says why the program cannot continue from there.
    pub(super) fn of(kind: SnapshotKind, ended: Ended) -> Result<Self, String> {
        if ended.descriptors_changed {
            return Err("it has opened a file or directory and not closed it".into());
        }
        let state = ended
            .state
            .ok_or("its state cannot be read on this backend")?;
        Ok(Self {
            kind,
            state,
            initial: ended.initial,
            clock: ended.clock,
            stdio: ended.stdio,
            features: ended.features,
            asked: ended.asked,
            questions: ended.questions,
            stderr: ended.stderr,
        })
    }

    /// A start from this state, which calls `entries`.
    pub(super) fn plan(&self, entries: &[String]) -> Result<StartPlan, String> {
        let memory = &self.state.memory;
        let image = match &self.initial {
            Some(initial) => Image::from_bytes_over(memory, initial),
            None => Image::from_bytes(memory),
        };
        let image = image.map_err(|error| error.to_string())?;
        let state = StartState {
            image: Some(Arc::new(image)),
            globals: self.state.globals.clone(),
            patches: Vec::new(),
            // Only the state of restorable modules is captured.
            is_restorable: true,
        };
        let mut plan = StartPlan::new(state, entries);
        plan.clock = self.clock;
        plan.stdio = self.stdio;
        plan.features = self.features;
        Ok(plan)
    }
}

impl<'a> Recorder<'a> {
    pub(super) fn new(
        calls: &'a Calls,
        slots: &'a SlotSource,
        contract: &'static dyn Contract,
        loaded: &'a Loaded,
        program: &Program,
        mounts: Option<&MountSet>,
        limits: &SandboxLimits,
    ) -> Self {
        Self {
            calls,
            slots,
            contract,
            loaded,
            program: Arc::new(program.clone()),
            mounts: mounts.map(MountSet::read_only),
            limits: limits.clone(),
            until: Instant::now() + BUDGET,
            names: loaded
                .split
                .globals
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }

    /// Runs the program. `Err` says why the host could not, or that there is no time left.
    pub(super) fn run(&self, run: &Run<'_>) -> Result<Ended, String> {
        let permit = self.permit()?;
        let mounts = self.mounts.as_ref().map(MountSet::open).transpose();
        let mounts = mounts.map_err(|error| error.to_string())?;
        let (begun, used) = (Instant::now(), cpu_time());
        let left = self.until.saturating_duration_since(begun).min(MOST);
        let mut host = Box::new(HostState::new(
            permit.begin(left),
            Arc::clone(&self.program),
            mounts,
            self.contract,
            Buffers {
                stdin: run.stdin.to_vec(),
                stdout: Vec::new(),
                share: Share::default(),
            },
            &self.limits,
        ));
        run.plan.prepare(&mut host);
        host.reads = run.reads;
        host.http = self.contract.sample_exchange(run.stdin, &self.limits);
        let world = WorldState::new(run.world, host.clock_offset, run.later);
        host.observed = Some(Box::new(Observed::new(world, run.tidy)));
        let names = run.capture.then(|| Arc::clone(&self.names));
        let finished = self
            .loaded
            .run(self.slots, run.plan, &self.limits, host, names)
            .map_err(|error| error.to_string())?;
        let took = cpu_time().saturating_sub(used);
        if let GuestExit::Trap(trap) = &finished.exit
            && trap.code == TrapCode::Deadline
        {
            return Err(too_long());
        }
        let mut host = finished.host;
        let changed = |set| host.mounts.as_ref().is_some_and(|open| open.changed(set));
        let descriptors_changed = self.mounts.as_ref().is_some_and(changed);
        let (parked, left) = (host.parked, matches!(host.ended_by(), Some(Stop::Exit(_))));
        let (stdio, features) = (host.stdio, host.features);
        if let Some(exchange) = host.http.take() {
            // What the guest did is all in there.
            host.stdout = format!("{exchange:?}").into_bytes();
        }
        let observed = host.observed.take();
        let observed = observed
            .ok_or("a bug in Gojinn: the record of its hostcalls is lost; please report it")?;
        let (buffers, packed, _) = host.into_parts();
        Ok(Ended {
            exit: finished.exit,
            left,
            parked,
            stdout: buffers.stdout,
            stderr: text(&packed),
            clock: observed.world.shown(),
            questions: observed.world.asked(),
            asked: observed.asked,
            stdio,
            features,
            descriptors_changed,
            state: finished.captured.map(|captured| *captured),
            initial: self.loaded.split.image.clone(),
            took,
        })
    }

    /// The values of globals before any code has run. A global that still has its value need not be set.
    pub(super) fn initial_globals(
        &self,
        world: World,
    ) -> Result<Vec<(String, GlobalValue)>, String> {
        let nothing = self.run(&Run {
            plan: &self.loaded.plain.with_entries(&[]),
            world,
            later: None,
            stdin: &[],
            reads: Reads::Plain,
            capture: true,
            tidy: false,
        })?;
        nothing
            .state
            .map(|state| state.globals)
            .ok_or_else(|| "its state cannot be read on this backend".to_owned())
    }

    /// Waits for a permit to run a sandbox. It does not queue, so requests come first.
    fn permit(&self) -> Result<Permit, String> {
        while Instant::now() < self.until {
            match self.calls.reserve() {
                Ok(permit) => return Ok(permit),
                Err(error) if error.kind() != ErrorKind::Rejected => {
                    return Err(format!("no sandbox could be run: {error}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        Err(too_long())
    }
}

fn too_long() -> String {
    format!(
        "running it with sample requests takes too long: more than {MOST:?} for one or {BUDGET:?} for all"
    )
}

/// Packed log lines as text.
fn text(packed: &[u8]) -> String {
    let mut text = String::new();
    for (_, line) in logs::lines(packed) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text
}
