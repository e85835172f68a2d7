//! The two traits that a backend writes for the runner: how an instance is made of a loaded module, and how its guest runs.
//!
//! ```text
//!   new:               make ─▶ memory (image) ─▶ set_global ... ─▶ memory (patches)
//!   from the pool:     begin ─▶ memory (patches)
//!                        │
//!                        ▼
//!   a request:         interrupt ─▶ put ─▶ enter, once per entry ─▶ take ─▶ used
//!                          ▲                │
//!                          └── put ◀─ take ◀┘ Waiting; then resume instead of enter
//!                                                                            │
//!   afterwards:                            reset ─▶ pool, or the instance is dropped
//! ```
//!
//! The [`Runner`](super::Runner) makes these calls, in this order, on the thread of the request. Both traits are used with
//! static dispatch only: the dynamic calls of a request are [`Module::instantiate`](super::Module::instantiate) and
//! [`Sandbox::run`](super::Sandbox::run).

use std::sync::Arc;

use crate::calls::Interrupt;
use crate::error::{Error, Result};
use crate::memory::Slot;
use crate::outcome::{Trap, TrapCode};
use crate::sandbox::{HostState, MemoryUse, Meter};
use crate::start::GlobalValue;

/// A loaded module, of which instances are made.
pub trait Instantiate: Send + Sync + Sized + 'static {
    /// What it makes.
    type Instance: Instance<Module = Self>;

    /// Whether a slot pays also for an instance that is used for one sandbox only.
    ///
    /// False for an engine that makes instances in a slot slowly: only an instance that can be used again then gets one, and
    /// a module that loses such instances often gets none for a while.
    const SLOT_FOR_ONE_SANDBOX: bool = true;

    /// Makes an instance, with the declared values in its globals and tables. Runs no guest code.
    ///
    /// `meter` bounds memory and tables, and has counted the bytes of `memory` already. The backend counts tables and all
    /// growth in it, and says by [`Instance::used`] what it counted.
    ///
    /// Called at most once for a sandbox, on the request path: must not block, and costs what a cold sandbox costs.
    fn make(&self, memory: MemorySource, meter: Meter) -> Result<Self::Instance>;
}

/// One instance with all that belongs to it alone: store, memory, globals, tables.
///
/// It keeps alive what its code needs. Methods that look something up get its module, so that an instance need not count
/// a reference on it: a count would be shared by calls on different processors.
pub trait Instance: Send + Sized + 'static {
    /// The module it was made of.
    type Module;

    /// A mutable global of the instance, looked up.
    type Global: Send;

    /// Whether a guest whose call may be suspended can be suspended between any two instructions, and not in a hostcall only: it
    /// is, when it is interrupted and [`HostState::must_yield`] is true.
    const YIELDS: bool = false;

    /// The memory that the guest exports as `memory`, all of it; empty if there is none. Called while no guest code runs.
    fn memory(&mut self) -> &mut [u8];

    /// The mutable global that is exported as `name`.
    fn find_global(&mut self, module: &Self::Module, name: &str) -> Option<Self::Global>;

    /// The value of a global; `None` for a reference.
    fn global(&mut self, global: &Self::Global) -> Option<GlobalValue>;

    /// Sets a global. `Err` if it has another type.
    fn set_global(&mut self, global: &Self::Global, value: GlobalValue) -> Result<()>;

    /// What tells the engine that this guest must stop, if something must: it is registered until the guest has ended, and
    /// may be called from another thread at any time until then. Called right before [`put`](Self::put). From here on the
    /// engine must not miss it.
    fn interrupt<'a>(&'a mut self, module: &'a Self::Module) -> Option<&'a Arc<dyn Interrupt>>;

    /// Takes the host state, for hostcalls to work on.
    fn put(&mut self, host: Box<HostState>);

    /// Gives back the host state. Called once after each [`put`](Self::put), also when [`enter`](Self::enter) has panicked.
    fn take(&mut self) -> Option<Box<HostState>>;

    /// Calls the export `entry`, of type `[] -> []`, and comes back when the guest has left it. Called for each entry of a
    /// job in turn, as long as they return.
    ///
    /// Must come back within about a millisecond of the deadline or the cancellation of the call, whatever the guest does.
    /// May panic: the runner catches it, and drops the instance.
    fn enter(&mut self, module: &Self::Module, entry: &str) -> Step;

    /// Goes on with a guest that waits, on any thread, and comes back as [`enter`](Self::enter) does. Called after
    /// [`put`](Self::put), with the reply in the host state: the hostcall that suspended the guest is called again.
    ///
    /// Between [`Step::Waiting`] and this call, only [`take`](Self::take), [`interrupt`](Self::interrupt) and
    /// [`put`](Self::put) are called, or the instance is dropped. The figures of memory are in the host state then.
    fn resume(&mut self, _: &Self::Module) -> Step {
        Step::fault("a bug: this backend suspends no guest".into())
    }

    /// What is counted of its memory and tables, with the bound.
    fn used(&self) -> MemoryUse;

    /// All mutable globals that it exports, for [`reset`](Self::reset). Needed by a backend with an instance pool, as are
    /// the methods below. Called once, before any guest code has run.
    fn globals(&mut self, _: &Self::Module) -> Vec<Self::Global> {
        Vec::new()
    }

    /// Makes the memory pristine again, with the length it had at first, and counts its slot as
    /// [waiting](Slot::set_waiting). The runner restores the globals. `Err`: it cannot be done, and the instance is dropped.
    ///
    /// Called after each sandbox that ended by returning or by `proc_exit`, when no reference into the memory is left.
    fn reset(&mut self) -> Result<()> {
        Err(Error::host("instances of this backend are not used again"))
    }

    /// Counts in `used` from now on, for another sandbox, and its slot as in use. Called once between two sandboxes.
    fn begin(&mut self, _: MemoryUse) {}
}

/// Where the memory of a new instance comes from.
#[derive(Debug)]
pub enum MemorySource {
    /// A slot that holds the image.
    Slot(Slot),
    /// The engine, for a sandbox without a slot. It has at least `bytes` bytes, or the declared minimum if that is more, and
    /// holds zeros and the module's own data segments: the runner fills in the image.
    Engine {
        /// Bytes that the image needs.
        bytes: u64,
    },
}

/// How the guest left an entry point, or why it pauses in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// It returned.
    Returned,
    /// The host stopped it, and noted the reason by [`HostState::stop`].
    Stopped,
    /// It trapped, or the engine failed.
    Trapped(Trap),
    /// A hostcall returned [`Stop::Waits`](crate::sandbox::Stop::Waits): the guest waits for the host in the middle of this
    /// entry point, and [`Instance::resume`] goes on with it.
    Waiting,
}

impl Step {
    /// A failure of the host or of the engine, not of the guest.
    #[must_use]
    pub fn fault(detail: String) -> Self {
        Self::Trapped(Trap::new(TrapCode::Host, detail))
    }
}
