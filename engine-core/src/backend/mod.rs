//! How an engine plugs in: the traits that the core calls, those that a backend writes, and the runner between them.
//!
//! ```text
//!   the core calls     Backend            Module                  Sandbox
//!                      one per process    one per deployment      one per request
//!                         │                 ▲                       ▲
//!                         │ load            │ provided by the runner, once for all backends
//!                         ▼                 │                       │
//!   a backend writes   Backend  ───────▶  Instantiate  ───────▶  Instance
//! ```
//!
//! The upper three are object-safe; dynamic dispatch was measured at 30-35 ns per call, twice per request. The lower two
//! are generic parameters of the [`Runner`], so that there is no other dynamic call on the path of a request.

mod instance;
pub mod instances;
mod runner;
mod slots;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

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

/// One engine behind the core trait. Made once, shared by every function that runs on it.
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// The name of this engine in configuration, labels and logs. The engines of one [`Engine`](crate::Engine) have different
    /// names.
    fn name(&self) -> &'static str;

    /// The optional wasm features it supports, beyond those that are always on. Read when an engine is made and when a
    /// function is deployed, never during a request.
    fn features(&self) -> Features;

    /// What else it can do. Read when a function is deployed, never during a request.
    fn capabilities(&self) -> Capabilities;

    /// Everything that decides whether an artifact made elsewhere fits: version, configuration, CPU features.
    fn fingerprint(&self) -> Fingerprint;

    /// Compiles a module that engine-core has validated. Slow (seconds for a Go module); never on the request path, and on
    /// a thread of its own with a large stack that has [stepped back](crate::priority), as have threads started here.
    ///
    /// Nothing can end it early, so a deployment may stop waiting for it. What bounds it is [`ModuleLimits`](crate::wasm::ModuleLimits),
    /// checked before, and how many threads of its own the backend gives it.
    fn compile(&self, wasm: &Wasm) -> Result<Artifact>;

    /// Loads an artifact and links it once, for all the sandboxes to come: most often as a [`Runner`]. Called once for a
    /// deployed module, on the thread that deploys; milliseconds for native code.
    ///
    /// # Safety
    /// `artifact` came unchanged from `compile` of a backend with this fingerprint: loading native code executes it.
    unsafe fn load(self: Arc<Self>, artifact: &Artifact) -> Result<Arc<dyn Module>>;
}

/// A loaded artifact: shareable, linked, cheap to instantiate. [`Runner`] is one for every [`Instantiate`].
pub trait Module: Send + Sync + 'static {
    /// Makes the sandbox of one request, and once for each deployment one that is dropped. Runs no guest code (start
    /// functions are entry points of the [`Job`]) and must not block: a request waits for it.
    ///
    /// `Err` means the host could not make it (no memory, a broken invariant): whatever depends on the module alone was
    /// found out when it was deployed.
    fn instantiate(
        &self,
        start: Start<'_>,
        limits: &SandboxLimits,
    ) -> Result<Box<dyn Sandbox + '_>>;
}

/// Store + instance for exactly one request. It borrows from its module: a call that counted a reference on it would wait for
/// the calls on other processors that do the same.
pub trait Sandbox: Send {
    /// Runs the job to its end, on the thread of the request, and gives the host state back. Consumes the sandbox: a used one
    /// cannot be used again.
    ///
    /// Must end within about a millisecond of the job's deadline or cancellation, whatever the guest does, and must
    /// never unwind.
    fn run(self: Box<Self>, job: Job) -> Finished;
}

/// What a backend can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capabilities {
    /// Whether an artifact is native code (worth a cache, and must be authenticated) or the module itself.
    pub native_artifact: bool,
    /// Whether an artifact that has a [file](Artifact::file) is loaded by mapping it: one copy less.
    pub maps_artifacts: bool,
    /// Whether sandboxes can live in the slots of [`crate::memory`]. Without, [`Start::slot`] is always `None`.
    pub slots: bool,
}

/// Part of every artifact's identity.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Fingerprint(pub String);

/// Compiled bytes of one backend. Private fields: only a backend's `compile` and the artifact cache make one.
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
    /// What `backend` compiled.
    pub fn new(backend: &dyn Backend, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self {
            backend: backend.name(),
            fingerprint: backend.fingerprint(),
            content: Content::Heap(bytes.into()),
        }
    }

    /// What a backend compiled once, as the cache has verified it.
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
                "the artifact was compiled by {} for {}, this is {name} for {}: compile the module again",
                self.backend, self.fingerprint.0, fingerprint.0
            ),
        ))
    }

    /// The compiled bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.content.bytes()
    }

    /// A file of exactly these bytes that nobody can change any more, if there is one: a memfd that is sealed.
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

/// Where a sandbox starts from, and the memory it gets.
pub struct Start<'a> {
    /// What all sandboxes of a function start from.
    pub point: Arc<StartState>,
    slots: Option<&'a dyn Slots>,
}

impl<'a> Start<'a> {
    /// A start at `point`, in a slot of `slots`.
    #[must_use]
    pub fn new(point: Arc<StartState>, slots: Option<&'a dyn Slots>) -> Self {
        Self { point, slots }
    }

    /// The plain start of a module with `image`, in memory that the engine makes.
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

    /// Memory for the sandbox, already holding the image: asked for at most once, when no pooled instance fits. `None`: the
    /// engine makes a memory, into which the image is copied.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        self.slots?.slot(self.image()?)
    }
}

impl From<StartState> for Start<'_> {
    /// The start of one sandbox, in memory that the engine makes.
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

/// What one sandbox is to do.
#[derive(Debug)]
pub struct Job {
    /// Exports to call in this order, each `[] -> []`: a start function, `_initialize`, then `_start` or `gojinn_handle`.
    /// The first that does not return normally ends the job.
    pub entries: Arc<[String]>,
    /// Everything the guest can reach on the host, this call's deadline among it.
    pub host: Box<HostState>,
    /// The exported mutable globals whose values are wanted at the end, together with the memory: for a run-up. `None`, as in
    /// every request: nothing is.
    pub capture: Option<Arc<[String]>>,
}

/// What came of a job.
#[derive(Debug)]
pub struct Finished {
    /// How the guest ended.
    pub exit: GuestExit,
    /// The host state, with output, log lines and memory figures.
    pub host: Box<HostState>,
    /// The guest's state as its end left it, if the job asked for it and it could be read, however the guest ended.
    pub captured: Option<Box<Captured>>,
}

/// A guest's state: all there is of it for a module without [hidden state](crate::wasm::hidden_state).
#[derive(Debug)]
pub struct Captured {
    /// All of its memory, whole wasm pages; empty if it exports none.
    pub memory: Vec<u8>,
    /// The globals that were asked for, in that order.
    pub globals: Vec<(String, GlobalValue)>,
}
