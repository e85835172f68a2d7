//! Runs a function's program without requests: a sandbox that runs in a given [`World`] to some point, and its state there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{Captured, SlotSource};
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

/// How long all runs for one function may take together: its deployment, and with it a reload, waits for them.
const BUDGET: Duration = Duration::from_secs(10);

/// How long one run may take: there are some thirty of them.
const MOST: Duration = Duration::from_secs(2);

/// Runs the program of one function.
pub(super) struct Recorder<'a> {
    calls: &'a Calls,
    slots: &'a SlotSource,
    pub(super) contract: &'static dyn Contract,
    pub(super) loaded: &'a Loaded,
    program: Arc<Program>,
    /// None of them writable.
    mounts: Option<MountSet>,
    limits: SandboxLimits,
    names: Arc<[String]>,
    /// When there is no time left.
    until: Instant,
}

/// One run.
pub(super) struct Run<'a> {
    pub(super) plan: &'a StartPlan,
    pub(super) world: World,
    /// The world it is in once it has asked for entropy or time so often.
    pub(super) later: Option<(u64, World)>,
    pub(super) stdin: &'a [u8],
    pub(super) reads: Reads,
    /// Whether its state is wanted at the end.
    pub(super) capture: bool,
    /// Whether the guest is told to tidy up at its end, if it asks.
    pub(super) tidy: bool,
}

/// Where a run ended.
pub(super) struct Ended {
    pub(super) exit: GuestExit,
    /// Whether it was ended by `proc_exit` or by a read, and did not return.
    pub(super) left: bool,
    pub(super) parked: bool,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
    /// What the monotonic clock showed.
    pub(super) clock: u64,
    pub(super) asked: Asked,
    /// How often it asked for entropy or time.
    pub(super) questions: u64,
    /// What the program did to its standard descriptors.
    pub(super) stdio: Stdio,
    /// Whether descriptors are open that are not at a start, or the other way round.
    pub(super) descriptors_changed: bool,
    pub(super) state: Option<Captured>,
    /// CPU time, from its memory to its end: whatever else the machine does is not in it.
    pub(super) took: Duration,
}

/// A state from which requests can be served.
pub(super) struct Checkpoint {
    pub(super) kind: SnapshotKind,
    pub(super) state: Captured,
    /// What the monotonic clock showed.
    pub(super) clock: u64,
    /// What the program did to its standard descriptors.
    pub(super) stdio: Stdio,
    /// What it asked of the host on its way here: for a warm-up, in all rounds.
    pub(super) asked: Asked,
    /// How often it asked for entropy or time in its last run.
    pub(super) questions: u64,
    /// What it wrote to stderr on its way here.
    pub(super) stderr: String,
}

impl Checkpoint {
    /// The state in which a run ended, if it can be gone on from.
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
            clock: ended.clock,
            stdio: ended.stdio,
            asked: ended.asked,
            questions: ended.questions,
            stderr: ended.stderr,
        })
    }

    /// The beginning at this state, with `entries` to call.
    pub(super) fn plan(&self, entries: &[String]) -> Result<StartPlan, String> {
        let image = Image::from_bytes(&self.state.memory).map_err(|error| error.to_string())?;
        let state = StartState {
            image: Some(Arc::new(image)),
            globals: self.state.globals.clone(),
            patches: Vec::new(),
            // Only the state of such modules is captured.
            is_restorable: true,
        };
        let mut plan = StartPlan::new(state, entries);
        plan.clock = self.clock;
        plan.stdio = self.stdio;
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

    /// Runs the program. `Err`, in words: the host could not.
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
            },
            &self.limits,
        ));
        run.plan.prepare(&mut host);
        host.reads = run.reads;
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
        let stdio = host.stdio;
        let observed = host.observed.take();
        let observed = observed.ok_or("a bug: what it asked of the host is lost")?;
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
            descriptors_changed,
            state: finished.captured.map(|captured| *captured),
            took,
        })
    }

    /// What globals hold before anything has run: those that still do need not be set.
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

    /// A permit to run a sandbox. Requests come first.
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
