//! A backend for the tests of this crate: it runs a Rust closure instead of wasm, and counts how it is used.
//!
//! Its artifacts contain the hash of their code and a checksum, so a test sees if an engine loads an artifact that it
//! must not load.

mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::backend::{
    Artifact, Backend, Capabilities, Fingerprint, Finished, Job, Module, Progress, Sandbox, Start,
};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::SandboxLimits;
use crate::outcome::Trap;
use crate::sandbox::HostState;
use crate::wasm::{Features, Wasm};

/// What every sandbox does. Gets the hash of the loaded code, and returns how the guest ended.
pub(crate) type Script = dyn Fn(&mut HostState, &[u8; 32]) -> Option<Trap> + Send + Sync;

/// The backend. Set it up before it is shared.
pub(crate) struct Fake {
    pub(crate) script: Box<Script>,
    pub(crate) fingerprint: String,
    pub(crate) native: bool,
    /// Whether artifacts from the cache come as sealed files.
    pub(crate) maps: bool,
    /// The number of loaded artifacts that were sealed files.
    pub(crate) mapped: AtomicU32,
    /// Bytes of every artifact, beyond 64.
    pub(crate) padding: usize,
    pub(crate) compiles: AtomicU32,
    pub(crate) loads: AtomicU32,
    /// The number of artifacts that were loaded but that this backend has not compiled.
    pub(crate) garbage: AtomicU32,
    /// The number of next loads that fail.
    pub(crate) refuse_loads: AtomicU32,
    pub(crate) refuse_sandboxes: AtomicBool,
    pub(crate) panic_compiling: AtomicBool,
    /// Held while compiling. A test that holds it makes the compilation wait.
    pub(crate) gate: Mutex<()>,
}

impl Fake {
    /// A backend whose guests answer with the hash of their code.
    pub(crate) fn new() -> Self {
        Self::with(|host, code| {
            let hash = blake3::Hash::from_bytes(*code).to_hex();
            let response = format!("{{\"status\":200,\"body\":\"{hash}\"}}");
            host.stdout.extend_from_slice(response.as_bytes());
            None
        })
    }

    /// A backend whose guests do as `script` does.
    pub(crate) fn with(
        script: impl Fn(&mut HostState, &[u8; 32]) -> Option<Trap> + Send + Sync + 'static,
    ) -> Self {
        Self {
            script: Box::new(script),
            fingerprint: "fake 1".into(),
            native: true,
            maps: true,
            mapped: AtomicU32::new(0),
            padding: 2000,
            compiles: AtomicU32::new(0),
            loads: AtomicU32::new(0),
            garbage: AtomicU32::new(0),
            refuse_loads: AtomicU32::new(0),
            refuse_sandboxes: AtomicBool::new(false),
            panic_compiling: AtomicBool::new(false),
            gate: Mutex::new(()),
        }
    }

    pub(crate) fn compiled(&self) -> u32 {
        self.compiles.load(Ordering::SeqCst)
    }
}

impl Backend for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn features(&self) -> Features {
        Features::ALL
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            native_artifact: self.native,
            maps_artifacts: self.maps,
            slots: false,
            suspends: true,
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.fingerprint.clone())
    }

    fn compile(&self, wasm: &Wasm) -> Result<Artifact> {
        let _gate = self.gate.lock();
        self.compiles.fetch_add(1, Ordering::SeqCst);
        assert!(
            !self.panic_compiling.load(Ordering::SeqCst),
            "the compiler fell over"
        );
        let mut bytes = wasm.sha256().to_vec();
        bytes.extend((0..self.padding).map(|index| (index % 251) as u8));
        let sum = *blake3::hash(&bytes).as_bytes();
        bytes.extend_from_slice(&sum);
        Ok(Artifact::new(self, bytes))
    }

    unsafe fn load(self: Arc<Self>, artifact: &Artifact, _: bool) -> Result<Arc<dyn Module>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        if artifact.file().is_some() {
            self.mapped.fetch_add(1, Ordering::SeqCst);
        }
        let ours =
            artifact.backend() == self.name() && *artifact.fingerprint() == self.fingerprint();
        let intact = artifact
            .bytes()
            .split_last_chunk::<32>()
            .filter(|(bytes, sum)| ours && blake3::hash(bytes).as_bytes() == *sum)
            .and_then(|(bytes, _)| bytes.first_chunk::<32>());
        let Some(&code) = intact else {
            self.garbage.fetch_add(1, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Load, "garbage was loaded"));
        };
        let refused = self
            .refuse_loads
            .try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if refused.is_ok() {
            return Err(Error::new(ErrorKind::Load, "not today"));
        }
        Ok(Arc::new(Code {
            backend: self,
            code,
        }))
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

struct Code {
    backend: Arc<Fake>,
    code: [u8; 32],
}

impl Module for Code {
    fn instantiate(&self, _: Start<'_>, _: &SandboxLimits) -> Result<Box<dyn Sandbox + '_>> {
        if self.backend.refuse_sandboxes.load(Ordering::SeqCst) {
            return Err(Error::host("no sandbox to be had"));
        }
        Ok(Box::new(Guest(self)))
    }
}

struct Guest<'a>(&'a Code);

impl Sandbox for Guest<'_> {
    fn run(&mut self, job: Job) -> Progress {
        let mut host = job.host;
        let trap = (self.0.backend.script)(&mut host, &self.0.code);
        Progress::Finished(Finished {
            exit: host.exit(trap),
            host,
            captured: None,
        })
    }

    fn resume(&mut self, _: Box<HostState>) -> Progress {
        unreachable!("no script waits")
    }
}

/// A command, which differs for each `number`.
pub(crate) fn module(number: u32) -> Vec<u8> {
    let text = format!(
        "(module (memory (export \"memory\") 1) (func (export \"_start\") (drop (i32.const {number}))))"
    );
    wat::parse_str(text).expect("the text of a module")
}
