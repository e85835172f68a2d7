//! A deployed function: its configuration, its parts, and the facts about it.

use std::sync::Arc;
use std::time::Duration;

use crate::contract::{self, Contract, Fields};
use crate::limits::SandboxLimits;
use crate::module::{CodeSource, Loaded, StartPlan};
use crate::per_cpu::PerCpu;
use crate::sandbox::Program;
use crate::sandbox::wasi::{MountSet, MountSpec};
use crate::snapshot::{SnapshotFacts, SnapshotMode, Warmup};
use crate::wasm::Form;

use super::shared::{BackendIndex, Shared};

/// How a module is deployed.
#[derive(Clone, Debug)]
pub struct FunctionConfig {
    /// The name in metrics and logs.
    pub name: String,
    /// `argv[0]`, usually the module's file name. If it is empty, `name` is used.
    pub program: String,
    /// The name of the backend to run on. `None`: the default backend.
    pub backend: Option<String>,
    /// Limits of each sandbox.
    pub limits: SandboxLimits,
    /// Environment, in order. A value of `None` is a *per-request value*: each call provides it.
    pub env: Vec<(String, Option<String>)>,
    /// Arguments after `argv[0]`. `None` is a per-request value.
    pub args: Vec<Option<String>>,
    /// Directories the guest sees.
    pub mounts: Vec<MountSpec>,
    /// Whether its sandboxes may start from a snapshot.
    pub snapshot: SnapshotMode,
    /// The requests that the guest serves before the snapshot is taken. `None`: it serves none, unless the module
    /// declares that it may be warmed up.
    pub warmup: Option<Warmup>,
    /// What requests and responses look like to the guest.
    pub contract: &'static dyn Contract,
    /// Which fields of a request the guest gets besides those that every guest gets.
    pub include: Fields,
    /// Bytes that the guest gets by the operation `deployment.data`: a program for an interpreter, say. They belong to the
    /// function as its module does, and functions with different data share the code of their module.
    pub data: Option<Arc<[u8]>>,
}

impl Default for FunctionConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            program: String::new(),
            backend: None,
            limits: SandboxLimits::default(),
            env: Vec::new(),
            args: Vec::new(),
            mounts: Vec::new(),
            snapshot: SnapshotMode::default(),
            warmup: None,
            contract: contract::default(),
            include: Fields::default(),
            data: None,
        }
    }
}

/// A deployed function: module, limits, environment, arguments and contract. Cheap to clone. A call keeps what it uses
/// alive.
#[derive(Clone, Debug)]
pub struct Function {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) config: FunctionConfig,
    pub(super) backend: BackendIndex,
    pub(super) loaded: Arc<Loaded>,
    /// How sandboxes start from a snapshot. `None`: they start as the module does.
    pub(super) snapshot: Option<StartPlan>,
    /// The program. Per-request values are empty in it.
    pub(super) programs: PerCpu<Arc<Program>>,
    pub(super) per_request_values: usize,
    pub(super) mounts: Option<MountSet>,
    pub(super) facts: FunctionFacts,
}

/// Facts about a deployed function.
#[derive(Clone, Debug)]
pub struct FunctionFacts {
    /// The backend it runs on.
    pub backend: &'static str,
    /// Whether a guest that waits costs no thread.
    pub suspends: bool,
    /// SHA-256 of the module.
    pub sha256: [u8; 32],
    /// Bytes of the module.
    pub module_bytes: usize,
    /// Bytes of initialised memory that all sandboxes share copy-on-write. `None`: they do not share it.
    pub image_bytes: Option<u64>,
    /// Why the sandboxes do not share their initialised memory, if they do not.
    pub plain_because: Option<String>,
    /// Where its code came from.
    pub source: CodeSource,
    /// How long it took until the code was ready. It was compiled and written to the cache; or read from the cache,
    /// verified and loaded; or it was in memory, and this deployment waited only until it could use it.
    pub loaded_in: Duration,
    /// How long the compilation took, also if another function or an earlier process caused it.
    pub compiled_in: Duration,
    /// Command, reactor or guest of http-wasm.
    pub form: Form,
    /// Whether its guests need the request's body.
    pub reads_body: bool,
    /// Whether its guests get requests and write responses in [frames](contract::frames).
    pub frames: bool,
    /// How its sandboxes start.
    pub snapshot: SnapshotFacts,
}

impl Function {
    /// The facts about it.
    #[must_use]
    pub fn facts(&self) -> &FunctionFacts {
        &self.inner.facts
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.config.name
    }

    /// How many per-request values each call must provide.
    #[must_use]
    pub fn per_request_values(&self) -> usize {
        self.inner.per_request_values
    }

    /// Problems that make the function slower but do not keep it from working, as texts for the log.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let facts = &self.inner.facts;
        let copied = facts.plain_because.as_ref().map(|why| {
            format!(
                "the module's memory is copied for every sandbox instead of mapped: {why}; the more initial memory the \
                 module has, the longer each request takes"
            )
        });
        copied.into_iter().collect()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.counters.gone(self.facts.snapshot.kind);
    }
}
