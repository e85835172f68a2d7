//! The interface of backends: the traits that the core calls, those that a backend implements, and the runner between
//! them.
//!
//! ```text
//!   the core uses      Backend            Module                  Sandbox
//!                      one per process    one per deployment      one per request
//!                         │                 ▲                       ▲
//!                         │ load            │ provided by the runner, once for all backends
//!                         ▼                 │                       │
//!   a backend writes   Backend  ───────▶  Instantiate  ───────▶  Instance
//! ```
//!
//! The core uses the upper three as trait objects: a dynamic call takes 30 to 35 ns (measured), and there are two for
//! each request. The lower two are generic parameters of the [`Runner`], so a request makes no other dynamic calls.
//!
//! Invariants:
//! - A sandbox is used for one request. A pooled instance is pristine before the next sandbox gets it.
//! - No backend orders the steps of a sandbox: the [`Runner`] does, for all of them.
//! - A panic of a backend or a hostcall does not leave the runner.

mod instance;
pub mod instances;
mod runner;
mod slots;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::budget::{Budget, Share};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::SandboxLimits;
use crate::memory::{Image, Sealed, Slot};
use crate::outcome::GuestExit;
use crate::sandbox::HostState;
use crate::start::{GlobalValue, StartState};
use crate::wasm::{Features, Wasm};

pub use instance::{Instance, Instantiate, MemorySource, Step};
pub use runner::Runner;
pub(crate) use slots::SlotSource;
pub use slots::Slots;

/// A WebAssembly engine. It is made once, and shared by all functions that run on it.
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// The name of this engine in configuration, labels and logs. The backends of one [`Engine`](crate::Engine) must
    /// have different names.
    fn name(&self) -> &'static str;

    /// The optional wasm features that it supports, beyond those that are always on. Read when an engine is made and
    /// when a function is deployed, never during a request.
    fn features(&self) -> Features;

    /// Its other capabilities. Read when a function is deployed, never during a request.
    fn capabilities(&self) -> Capabilities;

    /// Everything that decides whether it can load an artifact: version, configuration, CPU features.
    fn fingerprint(&self) -> Fingerprint;

    /// Compiles a module that engine-core has validated. Slow (seconds for a Go module), and never called during a
    /// request. It is called on a separate thread with a large stack and a [low priority](crate::priority), which the
    /// threads that it starts inherit.
    ///
    /// It cannot be cancelled, but a deployment may stop waiting for it. Its time is bounded by
    /// [`ModuleLimits`](crate::wasm::ModuleLimits), which are checked before, and by the number of threads that the
    /// backend uses.
    fn compile(&self, wasm: &Wasm) -> Result<Artifact>;

    /// Loads an artifact and links it, once for all its sandboxes. Most backends return a [`Runner`]. Called once for a
    /// deployed module, on the deploying thread. Takes milliseconds for native code.
    ///
    /// `suspends` says that calls of its guests may be suspended: a module whose calls may not need not pay for it.
    ///
    /// # Safety
    /// `artifact` must be unchanged from `compile` of a backend with this fingerprint: loading native code means
    /// executing it.
    unsafe fn load(self: Arc<Self>, artifact: &Artifact, suspends: bool)
    -> Result<Arc<dyn Module>>;
}

/// A loaded artifact: linked, shared, and cheap to instantiate. [`Runner`] implements it for every [`Instantiate`].
pub trait Module: Send + Sync + 'static {
    /// Makes the sandbox of one request; and, at each deployment, one that is only dropped. Runs no guest code (start
    /// functions are entry points of the [`Job`]). It must not block, because a request waits for it.
    ///
    /// `Err` means that the host could not make it (no memory, a broken invariant). Faults of the module alone have
    /// already failed the deployment.
    fn instantiate(
        &self,
        start: Start<'_>,
        limits: &SandboxLimits,
    ) -> Result<Box<dyn Sandbox + '_>>;
}

/// A store and an instance for exactly one request. It borrows from its module, and does not count a reference on it:
/// calls on different processors would all write to that counter.
pub trait Sandbox: Send {
    /// Runs the job until its guest has ended or waits, on the calling thread. Called once.
    ///
    /// Must come back within about a millisecond of the job's deadline or cancellation, whatever the guest does, and must
    /// never unwind.
    fn run(&mut self, job: Job) -> Progress;

    /// Goes on with a guest that waits, on any thread: as [`run`](Self::run). A sandbox that waits can be dropped instead, on
    /// any thread.
    fn resume(&mut self, host: Box<HostState>) -> Progress;
}

/// How far a job has come.
#[derive(Debug)]
pub enum Progress {
    /// The guest has ended. The sandbox is used up.
    Finished(Finished),
    /// The guest waits for what the host state says.
    Waiting(Box<HostState>),
}

/// What a backend can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capabilities {
    /// Whether an artifact is native code, which is worth caching and must be authenticated. Otherwise it is the module
    /// itself.
    pub native_artifact: bool,
    /// Whether an artifact with a [file](Artifact::file) is loaded by mapping the file, which saves a copy.
    pub maps_artifacts: bool,
    /// Whether sandboxes can use the slots of [`crate::memory`]. If not, [`Start::slot`] is always `None`.
    pub slots: bool,
    /// Whether a guest that is suspended costs no thread. Without, it keeps a thread that is blocked meanwhile.
    pub suspends: bool,
}

/// What an artifact depends on besides its module; a part of every artifact's identity.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Fingerprint(pub String);

/// The result of a compilation. Only a backend's `compile` and the artifact cache make one.
#[derive(Clone)]
pub struct Artifact {
    backend: &'static str,
    fingerprint: Fingerprint,
    content: Content,
}

/// Where an artifact's bytes are.
#[derive(Clone)]
pub(crate) enum Content {
    Heap(Arc<[u8]>),
    Read(Arc<Vec<u8>>),
    Sealed(Arc<Sealed>),
}

impl Content {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Read(bytes) => bytes,
            Self::Sealed(file) => file.bytes(),
        }
    }
}

impl Artifact {
    /// An artifact with the `bytes` that `backend` has compiled.
    pub fn new(backend: &dyn Backend, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self {
            backend: backend.name(),
            fingerprint: backend.fingerprint(),
            content: Content::Heap(bytes.into()),
        }
    }

    /// An artifact that a backend has compiled earlier, and that the cache has verified.
    pub(crate) fn from_cache(
        backend: &'static str,
        fingerprint: Fingerprint,
        content: Content,
    ) -> Self {
        Self {
            backend,
            fingerprint,
            content,
        }
    }

    /// The backend that made it.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.backend
    }

    /// The fingerprint of the backend that made it.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Refuses an artifact of another backend, or of this one in another version or configuration: for [`Backend::load`].
    pub fn check_made_by(&self, backend: &dyn Backend) -> Result<()> {
        let (name, fingerprint) = (backend.name(), backend.fingerprint());
        if self.backend == name && self.fingerprint == fingerprint {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Load,
            format!(
                "the artifact was compiled by {} for {}, but this is {name} for {}; compile the module again",
                self.backend, self.fingerprint.0, fingerprint.0
            ),
        ))
    }

    /// The compiled bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.content.bytes()
    }

    /// A file with exactly these bytes that can no longer change, if there is one: a sealed memfd.
    #[must_use]
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.content {
            Content::Heap(_) | Content::Read(_) => None,
            Content::Sealed(file) => Some(file.file()),
        }
    }
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact")
            .field("backend", &self.backend)
            .field("fingerprint", &self.fingerprint.0)
            .field("bytes", &self.bytes().len())
            .finish()
    }
}

/// The state from which a sandbox starts, and the memory that it gets.
pub struct Start<'a> {
    /// What all sandboxes of a function start from.
    pub point: Arc<StartState>,
    slots: Option<&'a dyn Slots>,
    budget: Option<&'a Budget>,
    /// Whether no instance may keep its slot for later sandboxes, because there are few.
    pub(crate) few_slots: bool,
}

impl<'a> Start<'a> {
    /// A start from `point`, in a slot of `slots`.
    #[must_use]
    pub fn new(point: Arc<StartState>, slots: Option<&'a dyn Slots>) -> Self {
        Self {
            point,
            slots,
            budget: None,
            few_slots: false,
        }
    }

    /// The same start of a sandbox that takes what it grows by from `budget`.
    #[must_use]
    pub fn within(self, budget: &'a Budget) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// An empty share of the budget. Without a budget it only counts.
    #[must_use]
    pub fn share(&self) -> Share {
        self.budget.map(Budget::share).unwrap_or_default()
    }

    /// The plain start of a module with `image`, in memory that the engine allocates.
    #[must_use]
    pub fn plain(image: Option<Arc<Image>>) -> Self {
        Self::from(StartState {
            image,
            ..StartState::default()
        })
    }

    /// The initialised memory.
    #[must_use]
    pub fn image(&self) -> Option<&Arc<Image>> {
        self.point.image.as_ref()
    }

    /// A slot for the sandbox's memory, which already holds the image. Called at most once, if no pooled instance fits.
    /// `None`: the engine allocates a memory, and the image is copied into it.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        self.slots?.slot(self.image()?)
    }
}

impl From<StartState> for Start<'_> {
    /// The start of one sandbox, in memory that the engine allocates.
    fn from(point: StartState) -> Self {
        Self::new(Arc::new(point), None)
    }
}

impl fmt::Debug for Start<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("point", &self.point)
            .field("slots", &self.slots.is_some())
            .finish()
    }
}

/// What one sandbox must do.
#[derive(Debug)]
pub struct Job {
    /// The exports to call in this order, each `[] -> []`: a start function, `_initialize`, then `_start` or
    /// `gojinn_handle`. The first one that does not return ends the job.
    pub entries: Arc<[String]>,
    /// Everything that the guest can reach on the host, and the call with its deadline.
    pub host: Box<HostState>,
    /// The exported mutable globals to capture at the end, together with the memory, while a snapshot is recorded.
    /// `None` in requests: nothing is captured.
    pub capture: Option<Arc<[String]>>,
}

/// The result of a job.
#[derive(Debug)]
pub struct Finished {
    /// How the guest ended.
    pub exit: GuestExit,
    /// The host state, with the output, log lines and stats of memory.
    pub host: Box<HostState>,
    /// The guest's state at its end, if the job asked for it and it could be read. It does not matter how the guest
    /// ended.
    pub captured: Option<Box<Captured>>,
}

/// A guest's captured state. It is complete if the module has no [hidden state](crate::wasm::hidden_state).
#[derive(Debug)]
pub struct Captured {
    /// Its whole memory, in whole wasm pages. Empty if it exports none.
    pub memory: Vec<u8>,
    /// The captured globals, in the order of the job.
    pub globals: Vec<(String, GlobalValue)>,
}
