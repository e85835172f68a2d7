//! Everything one guest can reach on the host, and the ways a hostcall ends it.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::budget::Share;
use crate::calls::{Call, Interruption};
use crate::contract::{Contract, http_wasm::Exchange};
use crate::limits::{PAGE, SandboxLimits};
use crate::logs::{Dropped, Logs};
use crate::memory::private_bytes;
use crate::outcome::{GuestExit, Trap, TrapCode};

use super::Observed;
use super::event::{Event, HostReply};
use super::operations::Reply;
use super::output::Output;
use super::wasi::{Mounts, Stdio};

/// What the monotonic clock of a guest shows when it starts, unless it starts from a snapshot. Not 0: some runtimes take 0 for
/// "unset".
pub(crate) const FIRST_READING: u64 = 1_000_000_000;

/// Bytes of room for stdout when the first byte is written.
const FIRST_STDOUT: usize = 8 << 10;

/// An event or a reply of at most this many bytes is in what each call holds from its start.
const SHORT: usize = 16 << 10;

fn beyond_short(bytes: usize) -> u64 {
    if bytes <= SHORT { 0 } else { bytes as u64 }
}

/// What a read of stdin does besides reading.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Reads {
    /// Nothing: at its end, a read gives 0 bytes.
    #[default]
    Plain,
    /// The first one ends the guest, whatever there is to read: its state is that of a program that waits for its request.
    Park,
    /// One at the end of stdin, while stdout holds a complete response, ends the guest, which has answered and waits for
    /// another request.
    Loop,
}

/// What a function's sandboxes have in common on the host side: arguments, environment, data.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Arguments, `argv[0]` first: any bytes without a NUL.
    pub args: Vec<Vec<u8>>,
    /// Environment, in order. No `=` in a name; a value is any bytes without a NUL.
    pub env: Vec<(String, Vec<u8>)>,
    /// What the operation `deployment.data` answers.
    pub data: Option<Arc<[u8]>>,
}

impl Program {
    /// This program with `variables` in addition, but for those that it has.
    pub(crate) fn with_variables(&self, mut variables: Vec<(String, Vec<u8>)>) -> Self {
        variables.retain(|(name, _)| !self.env.iter().any(|(own, _)| own == name));
        Self {
            args: self.args.clone(),
            env: [self.env.as_slice(), &variables].concat(),
            data: self.data.clone(),
        }
    }
}

/// The host side of one sandbox. Hostcalls get it by `&mut`, next to the guest's memory.
#[derive(Debug)]
pub struct HostState {
    /// The running call: deadline and cancellation.
    pub(crate) call: Call,
    pub(crate) program: Arc<Program>,
    /// What requests and responses look like to the guest.
    pub(crate) contract: &'static dyn Contract,
    /// Preopened directories; `None` for a function without `mount`, which then pays nothing for them.
    pub(crate) mounts: Option<Mounts>,
    /// All of stdin, or what has arrived of it since the guest has read the rest.
    pub(crate) stdin: Vec<u8>,
    /// How much of it has been read.
    pub(crate) stdin_read: usize,
    /// How many bytes of stdin have not arrived yet.
    pub(crate) stdin_follows: u64,
    /// What a read of stdin does besides reading.
    pub(crate) reads: Reads,
    /// Whether a read of stdin ended the guest, see [`Reads`].
    pub(crate) parked: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stdout_limit: usize,
    /// What becomes of stdout.
    pub(crate) output: Output,
    /// What the call holds of the engine's memory: the memory that the sandbox starts with, and the buffers.
    share: Share,
    /// How much of that is for the largest event and the largest reply of a host call so far.
    for_events: u64,
    for_replies: u64,
    /// What the guest did to its standard descriptors.
    pub(crate) stdio: Stdio,
    pub(crate) logs: Logs,
    /// What the last `gojinn.call` answered.
    pub(crate) reply: Reply,
    /// The zero of the guest's monotonic clock is `clock_zero - clock_offset`.
    pub(crate) clock_zero: Instant,
    /// Nanoseconds the guest's monotonic clock shows at `clock_zero`.
    pub(crate) clock_offset: u64,
    /// Nanoseconds that the clocks count in.
    pub(crate) clock_resolution: u64,
    /// What the guest asks of the host, and the entropy and clocks it is given, while it is recorded; `None` in each request.
    pub(crate) observed: Option<Box<Observed>>,
    /// Figures and bound of linear memory; a backend reports through [`HostState::memory`].
    pub(crate) memory: MemoryUse,
    /// Whether a hostcall may suspend the guest instead of blocking its thread.
    pub(crate) suspends: bool,
    /// Whether the guest can be suspended while it computes.
    pub(crate) yields: bool,
    /// How long a part of a stream waits at most then.
    pub(crate) flush_after: Duration,
    /// When a `poll_oneoff` that suspended the guest was made the first time.
    pub(crate) poll_began: Option<Instant>,
    /// What the suspended guest waits for.
    pub(crate) waits_for: Option<Event>,
    /// The addresses of its memory then.
    waits_with: Range<usize>,
    /// Whether what it has not written of that memory is lent.
    lends: bool,
    /// What the host has done for the guest that is resumed: for the hostcall that is called again.
    pub(crate) resumed_with: Option<HostReply>,
    /// Request and response, if the guest reads and changes them by hostcalls.
    pub(crate) http: Option<Box<Exchange>>,
    /// What its `handle_request` returned.
    pub(crate) context: i64,
    /// The features of `http_handler` that the guest has enabled.
    pub(crate) features: u32,
    /// What the guest did that ended it, see [`Stop::Violation`].
    pub(crate) violated: Option<String>,
    /// Why a hostcall ended the guest, if one did. Set by [`HostState::stop`] and turned into a guest exit by
    /// [`HostState::exit`].
    stop: Option<Stop>,
}

impl HostState {
    /// The host side of one call.
    #[must_use]
    pub fn new(
        call: Call,
        program: Arc<Program>,
        mounts: Option<Mounts>,
        contract: &'static dyn Contract,
        buffers: Buffers,
        limits: &SandboxLimits,
    ) -> Self {
        let Buffers {
            stdin,
            stdout,
            share,
        } = buffers;
        Self {
            clock_zero: call.started(),
            clock_offset: FIRST_READING,
            call,
            program,
            contract,
            mounts,
            stdin,
            stdin_read: 0,
            stdin_follows: 0,
            reads: Reads::Plain,
            parked: false,
            observed: None,
            stdout,
            stdout_limit: limits.stdout(),
            output: Output::Whole,
            share,
            for_events: 0,
            for_replies: 0,
            waits_with: 0..0,
            lends: false,
            stdio: Stdio::default(),
            logs: Logs::new(limits.logs),
            reply: Reply::default(),
            clock_resolution: u64::try_from(limits.clock_resolution.as_nanos())
                .unwrap_or(u64::MAX)
                .max(1),
            memory: MemoryUse::new(limits),
            suspends: false,
            yields: false,
            flush_after: limits.flush_after,
            poll_began: None,
            waits_for: None,
            resumed_with: None,
            http: None,
            context: 0,
            features: 0,
            violated: None,
            stop: None,
        }
    }

    /// The running call.
    #[must_use]
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// Lends what the suspended guest has not written of its memory, if the system says how much that is.
    pub(crate) fn lend_unwritten(&mut self) {
        self.lends = true;
        let Range { start, end } = self.waits_with;
        if let Some(written) = private_bytes(start, end - start) {
            self.share
                .lend(((end - start) as u64).saturating_sub(written));
        }
    }

    /// Whether it has been made to lend since its guest waits.
    pub(crate) fn lends(&self) -> bool {
        self.lends
    }

    /// Takes back what was lent while the guest waited.
    pub(crate) fn take_back(&mut self) {
        self.lends = false;
        self.share.take_back();
    }

    /// Makes room for `more` bytes of stdout within the engine's memory.
    #[inline]
    pub(crate) fn make_room(&mut self, more: usize) -> Result<(), Stop> {
        let (needed, has) = (self.stdout.len() + more, self.stdout.capacity());
        if needed <= has {
            return Ok(());
        }
        let wanted = needed.max(2 * has).max(FIRST_STDOUT);
        if !self.share.take((wanted - has) as u64) {
            return Err(Stop::MemoryFull);
        }
        self.stdout.reserve_exact(wanted - self.stdout.len());
        Ok(())
    }

    /// Takes bytes of the engine's memory, until the call's end.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Stop> {
        if self.share.take(bytes as u64) {
            Ok(())
        } else {
            Err(Stop::MemoryFull)
        }
    }

    /// Takes the memory for what the guest waits for: the engine's copy, and that of the caller, whose buffer stays as large as
    /// the largest event.
    pub(crate) fn hold_event(&mut self) -> Result<(), Stop> {
        let output = self.output.body(&self.stdout).map_or(0, <[u8]>::len);
        let event = self.waits_for.as_ref().map_or(0, Event::bytes);
        self.hold_event_of(output + event)
    }

    /// [`hold_event`](Self::hold_event) for an event of so many bytes, which is about to be made.
    pub(crate) fn hold_event_of(&mut self, bytes: usize) -> Result<(), Stop> {
        let wanted = beyond_short(bytes).saturating_mul(2);
        self.hold(wanted.saturating_sub(self.for_events) as usize)?;
        self.for_events = self.for_events.max(wanted);
        Ok(())
    }

    /// Takes the memory for the reply to what the guest waits for: the caller's copy, the engine's, and what is read of it.
    pub(crate) fn hold_reply(&mut self, bytes: usize) -> Result<(), Stop> {
        let wanted = beyond_short(bytes).saturating_mul(3);
        self.hold(wanted.saturating_sub(self.for_replies) as usize)?;
        self.for_replies = self.for_replies.max(wanted);
        Ok(())
    }

    /// Memory figures, for the backend to keep.
    pub fn memory(&mut self) -> &mut MemoryUse {
        &mut self.memory
    }

    /// Whether a hostcall of this call may suspend the guest: return [`Stop::Waits`]. If not, it blocks the thread.
    #[must_use]
    pub fn suspends(&self) -> bool {
        self.suspends
    }

    /// Suspends the guest, which has this memory, until the host has dealt with `event`.
    pub(crate) fn wait_for(&mut self, memory: &[u8], event: Event) -> Stop {
        let start = memory.as_ptr().addr();
        self.waits_with = start..start + memory.len();
        self.waits_for = Some(event);
        Stop::Waits
    }

    /// Called when the guest, which has this memory, was interrupted while it computes and its call goes on: whether it must be
    /// suspended, because what it has written to a stream must leave.
    pub fn must_yield(&mut self, memory: &[u8]) -> bool {
        let yields = self.yields && self.call.flush_is_due();
        if yields {
            self.wait_for(memory, Event::Output);
        }
        yields
    }

    /// Notes why the guest is being ended. The first reason stays. Backends call it when a hostcall returned `Err(Stop)`,
    /// and then make the engine unwind the guest in whatever way is cheapest.
    pub fn stop(&mut self, why: Stop) {
        debug_assert!(why != Stop::Waits, "a guest that waits is not ended");
        self.stop.get_or_insert(why);
    }

    /// Whether a hostcall has ended the guest.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Why a hostcall ended the guest, if one did.
    pub(crate) fn ended_by(&self) -> Option<Stop> {
        self.stop
    }

    /// The outcome of a run that ended with `trap`, or by returning. A reason noted by [`HostState::stop`] wins: the trap is
    /// then only the backend's way to unwind.
    #[must_use]
    pub fn exit(&self, trap: Option<Trap>) -> GuestExit {
        match (self.stop, trap) {
            (Some(Stop::Violation), _) => {
                let text = self.violated.clone().unwrap_or_default();
                GuestExit::Trap(Trap::new(TrapCode::Violation, text))
            }
            (Some(stop), _) => stop.exit(),
            (None, Some(trap)) => GuestExit::Trap(trap),
            (None, None) => GuestExit::Exit(0),
        }
    }

    /// The pooled buffers, the packed log lines, and what of these was dropped.
    pub(crate) fn into_parts(self: Box<Self>) -> (Buffers, Vec<u8>, Dropped) {
        let (logs, dropped) = self.logs.finish();
        let buffers = Buffers {
            stdin: self.stdin,
            stdout: self.stdout,
            share: self.share,
        };
        (buffers, logs, dropped)
    }
}

/// The pooled byte buffers of one call.
#[derive(Debug, Default)]
pub struct Buffers {
    /// All of stdin.
    pub stdin: Vec<u8>,
    /// What the guest has written to stdout.
    pub stdout: Vec<u8>,
    /// What the call holds of the engine's memory.
    pub share: Share,
}

/// Why a hostcall does not return to the guest: it ends the guest, or suspends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// `proc_exit`.
    Exit(i32),
    /// The deadline passed or the call was cancelled while the host waited for the guest, or between two checks.
    Interrupted(Interruption),
    /// More stdout than a response within `max_output` needs.
    OutputLimit,
    /// The guest did what its contract does not allow. The host state says what.
    Violation,
    /// The engine's memory is full, and the guest wrote more to stdout than the call holds of it.
    MemoryFull,
    /// Not an end: the guest waits for the host ([`Event`]), and gives its thread back meanwhile.
    Waits,
}

impl Stop {
    /// The outcome this stop stands for.
    #[must_use]
    pub fn exit(self) -> GuestExit {
        let code = match self {
            Self::Exit(code) => return GuestExit::Exit(code),
            Self::Interrupted(Interruption::Deadline) => TrapCode::Deadline,
            Self::Interrupted(Interruption::Cancelled) => TrapCode::Cancelled,
            Self::OutputLimit => TrapCode::OutputLimit,
            Self::Violation => TrapCode::Violation,
            Self::MemoryFull => TrapCode::MemoryFull,
            // A backend that notes it as an end has a bug.
            Self::Waits => TrapCode::Host,
        };
        GuestExit::Trap(Trap::new(code, ""))
    }
}

impl From<Interruption> for Stop {
    fn from(why: Interruption) -> Self {
        Self::Interrupted(why)
    }
}

/// Bound and figures of a sandbox's memory and tables.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    limit: u64,
    table_limit: u64,
    table_elements: u64,
    peak: u64,
    refused: u32,
    refused_for_engine: bool,
}

impl MemoryUse {
    /// No memory yet, bounded by `limits`.
    #[must_use]
    pub fn new(limits: &SandboxLimits) -> Self {
        Self {
            limit: limits.memory_pages() * PAGE,
            table_limit: limits.table_elements,
            table_elements: 0,
            peak: 0,
            refused: 0,
            refused_for_engine: false,
        }
    }

    /// Whether the limit allows `bytes` of linear memory in all.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        bytes <= self.limit
    }

    /// Whether linear memory may have `bytes` in all; notes a refusal.
    pub fn may_grow_to(&mut self, bytes: u64) -> bool {
        if bytes > self.limit {
            self.refused += 1;
            return false;
        }
        self.peak = self.peak.max(bytes);
        true
    }

    /// Whether the tables may have `more` elements in addition; notes a refusal.
    pub fn may_add_elements(&mut self, more: u64) -> bool {
        let total = self.table_elements.saturating_add(more);
        if total > self.table_limit {
            self.refused += 1;
            return false;
        }
        self.table_elements = total;
        true
    }

    /// How many elements the tables have together.
    #[must_use]
    pub fn table_elements(&self) -> u64 {
        self.table_elements
    }

    /// How many more elements the tables may have together.
    #[must_use]
    pub fn table_elements_left(&self) -> u64 {
        self.table_limit - self.table_elements
    }

    /// Notes a refusal that the engine itself decided.
    pub fn refuse(&mut self) {
        self.refused += 1;
    }

    /// Notes that the engine's memory was full.
    pub(super) fn refuse_for_engine(&mut self) {
        self.refused += 1;
        self.refused_for_engine = true;
    }

    /// Whether a growth was refused because the engine's memory was full.
    #[must_use]
    pub fn refused_for_engine(&self) -> bool {
        self.refused_for_engine
    }

    /// The most linear memory there was, in bytes.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// How often growth was refused.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.refused
    }
}
