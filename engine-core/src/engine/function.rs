//! A deployed handler: what it is made of, and what is known about it.

use std::sync::Arc;
use std::time::Duration;

use crate::contract::{self, Contract};
use crate::limits::Limits;
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
    /// Label of metrics and logs.
    pub name: String,
    /// `argv[0]`: the module's file name. Empty: the name.
    pub program: String,
    /// The name of the backend to run on; `None`: the default one.
    pub backend: Option<String>,
    /// Bounds of each sandbox.
    pub limits: Limits,
    /// Environment, in order. A value of `None` is given by each call (a *per-request* value).
    pub env: Vec<(String, Option<String>)>,
    /// Arguments after `argv[0]`. `None` is given by each call.
    pub args: Vec<Option<String>>,
    /// Directories the guest sees.
    pub mounts: Vec<MountSpec>,
    /// Whether its sandboxes may start from a snapshot.
    pub snapshot: SnapshotMode,
    /// Requests to be served before the snapshot is taken; `None`: none, unless the module says that it may be warmed up.
    pub warmup: Option<Warmup>,
    /// What requests and responses look like to the guest.
    pub contract: &'static dyn Contract,
}

impl Default for FunctionConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            program: String::new(),
            backend: None,
            limits: Limits::default(),
            env: Vec::new(),
            args: Vec::new(),
            mounts: Vec::new(),
            snapshot: SnapshotMode::default(),
            warmup: None,
            contract: contract::default(),
        }
    }
}

/// A deployed handler: module + limits + env/args + contract. Cheap to clone; a call keeps what it uses.
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
    /// How sandboxes start where it is not at the module's own beginning.
    pub(super) snapshot: Option<StartPlan>,
    /// The program with every per-request value empty, or complete if there are none.
    pub(super) programs: PerCpu<Arc<Program>>,
    pub(super) per_request_values: usize,
    pub(super) mounts: Option<MountSet>,
    pub(super) facts: FunctionFacts,
}

/// What is known about a deployed function.
#[derive(Clone, Debug)]
pub struct FunctionFacts {
    /// The backend it runs on.
    pub backend: &'static str,
    /// Content hash of the module (BLAKE3).
    pub hash: [u8; 32],
    /// Bytes of the module.
    pub module_bytes: usize,
    /// Bytes of initialised memory that every sandbox starts with, where they are shared copy-on-write.
    pub image_bytes: Option<u64>,
    /// Why the memory is not shared, where it is not.
    pub plain_because: Option<String>,
    /// Where its code came from.
    pub source: CodeSource,
    /// How long it took to have the code ready: compiled (and written to the cache), or read, verified and loaded; where it
    /// was in memory, how long this deployment waited for it.
    pub loaded_in: Duration,
    /// How long the compilation took, whoever caused it; that of an earlier process where the code came from the cache.
    pub compiled_in: Duration,
    /// Command or reactor.
    pub form: Form,
    /// How its sandboxes start.
    pub snapshot: SnapshotFacts,
}

impl Function {
    /// What is known about it.
    #[must_use]
    pub fn facts(&self) -> &FunctionFacts {
        &self.inner.facts
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.config.name
    }

    /// How many per-request values each call must bring.
    #[must_use]
    pub fn per_request_values(&self) -> usize {
        self.inner.per_request_values
    }

    /// What is not as good as it could be, in words for the log: the function works all the same.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let facts = &self.inner.facts;
        let copied = facts.plain_because.as_ref().map(|why| {
            format!(
                "the module's memory is copied for every sandbox and not mapped: {why}; requests take longer, in proportion \
                 to the module's initial memory"
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
