//! The things compared: one guest deployed on one backend in one mode, behind the same calls.

use std::collections::HashMap;
use std::sync::Arc;

use backend_wasmer::{Wasmer, WasmerConfig};
use backend_wasmi::{Wasmi, WasmiConfig};
use backend_wasmtime::{Wasmtime, WasmtimeConfig};
use engine_core::backend::Backend;
use engine_core::memory::{PoolConfig, ResetMode};
use engine_core::{
    Engine, EngineConfig, Error, Function, FunctionConfig, GuestExit, Result, SnapshotKind,
    SnapshotMode, Warmup,
};

use crate::guests::{Guest, request, stdin};
use crate::prepared::Prepared;
use crate::reused::Reused;
use crate::shipped;
use crate::stock::StockWasmer;

/// Where a sandbox's memory comes from, or which reference this is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mode {
    /// Engine-core's split, and memory that the backend allocates, with the image copied into it.
    NoPool,
    /// Slots, reset by copying the whole image.
    Copy,
    /// Slots, reset by giving all pages back to the kernel.
    Madvise,
    /// Slots, reset by the page scan.
    Scan,
    /// The engine as shipped: the whole module, and new memory for every sandbox. For wasmtime, with its copy-on-write
    /// images.
    Fresh,
    /// wasmtime's pooling allocator as shipped, with the whole module.
    Pooling,
    /// wasmtime's pooling allocator with its page scan, with the whole module.
    PoolingScan,
    /// wasmer as its documentation shows, without a deadline.
    Stock,
    /// One instance for all requests, never reset.
    Reused,
}

impl Mode {
    /// Our modes.
    pub const OURS: [Self; 4] = [Self::NoPool, Self::Copy, Self::Madvise, Self::Scan];

    /// The name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoPool => "no pool",
            Self::Copy => "copy",
            Self::Madvise => "madvise",
            Self::Scan => "scan",
            Self::Fresh => "on-demand, as shipped",
            Self::Pooling => "own pool, as shipped",
            Self::PoolingScan => "own pool, its page scan",
            Self::Stock => "default, as documented",
            Self::Reused => "reused, never reset",
        }
    }

    /// How slots are reset. `None`: the mode has no slots.
    fn reset(self) -> Option<ResetMode> {
        match self {
            Self::Copy => Some(ResetMode::Copy),
            Self::Madvise => Some(ResetMode::Madvise),
            Self::Scan => Some(ResetMode::Scan),
            _ => None,
        }
    }
}

/// What sandboxes start from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Beginning {
    /// The module's initial state: no snapshot.
    Plain,
    /// A snapshot in which the program waits for its first request.
    Parked,
    /// A snapshot that was taken after three warm-up requests.
    Warmed,
}

impl Beginning {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Parked, Self::Warmed];

    /// The number of warm-up requests, which are the default sample.
    const ROUNDS: u32 = 3;

    /// The name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Parked => "parked",
            Self::Warmed => "warmed",
        }
    }

    fn config(self) -> FunctionConfig {
        FunctionConfig {
            name: "bench".into(),
            snapshot: match self {
                Self::Plain => SnapshotMode::Off,
                Self::Parked | Self::Warmed => SnapshotMode::On,
            },
            warmup: (self == Self::Warmed).then_some(Warmup {
                rounds: Self::ROUNDS,
                sample: None,
            }),
            ..FunctionConfig::default()
        }
    }

    /// What the facts of a function must say.
    fn kind(self) -> SnapshotKind {
        match self {
            Self::Plain => SnapshotKind::None,
            Self::Parked => SnapshotKind::Parked,
            Self::Warmed => SnapshotKind::Warmed,
        }
    }
}

/// An engine that can be measured.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// wasmtime.
    Wasmtime,
    /// wasmer.
    Wasmer,
    /// wasmi.
    Wasmi,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Wasmtime, Self::Wasmer, Self::Wasmi];

    /// The name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasmtime => "wasmtime",
            Self::Wasmer => "wasmer",
            Self::Wasmi => "wasmi",
        }
    }

    /// The references for this engine.
    #[must_use]
    pub fn references(self) -> &'static [Mode] {
        match self {
            Self::Wasmtime => &[Mode::Fresh, Mode::Pooling, Mode::PoolingScan],
            Self::Wasmer => &[Mode::Fresh, Mode::Stock],
            Self::Wasmi => &[Mode::Fresh],
        }
    }
}

/// Makes subjects; keeps backends and compiled modules.
#[derive(Default)]
pub struct Workshop {
    backends: HashMap<(Kind, Mode), Arc<dyn Backend>>,
    modules: HashMap<(Kind, Mode, [u8; 32]), Prepared>,
}

impl Workshop {
    /// The backend of `kind` for `mode`.
    pub fn backend(&mut self, kind: Kind, mode: Mode) -> Result<Arc<dyn Backend>> {
        let variant = match (kind, mode) {
            (Kind::Wasmtime, Mode::Fresh | Mode::Pooling | Mode::PoolingScan) => mode,
            _ => Mode::Scan,
        };
        if let Some(backend) = self.backends.get(&(kind, variant)) {
            return Ok(Arc::clone(backend));
        }
        let backend: Arc<dyn Backend> = match kind {
            Kind::Wasmtime => Arc::new(match variant {
                Mode::Fresh => shipped::on_demand()?,
                Mode::Pooling => shipped::pooling(false)?,
                Mode::PoolingScan => shipped::pooling(true)?,
                _ => Wasmtime::new(WasmtimeConfig::default())?,
            }),
            Kind::Wasmer => Arc::new(Wasmer::new(WasmerConfig::default())?),
            Kind::Wasmi => Arc::new(Wasmi::new(WasmiConfig::default())?),
        };
        self.backends.insert((kind, variant), Arc::clone(&backend));
        Ok(backend)
    }

    /// `guest`, compiled for `kind` in `mode`. It is compiled once.
    pub fn prepared(&mut self, kind: Kind, mode: Mode, guest: &Guest) -> Result<Prepared> {
        let whole = matches!(mode, Mode::Fresh | Mode::Pooling | Mode::PoolingScan);
        let variant = if whole { mode } else { Mode::Scan };
        let key = (kind, variant, *guest.wasm.sha256());
        if let Some(prepared) = self.modules.get(&key) {
            return Ok(prepared.clone());
        }
        let backend = self.backend(kind, mode)?;
        let prepared = if whole {
            Prepared::whole(backend, &guest.wasm)?
        } else {
            Prepared::split(backend, &guest.wasm)?
        };
        self.modules.insert(key, prepared.clone());
        Ok(prepared)
    }

    /// Drops the compiled modules.
    pub fn forget(&mut self) {
        self.modules.clear();
    }

    /// Those of our modes that `kind` supports.
    pub fn ours(&mut self, kind: Kind) -> Result<&'static [Mode]> {
        let slots = self.backend(kind, Mode::Scan)?.capabilities().slots;
        Ok(if slots { &Mode::OURS } else { &Mode::OURS[..1] })
    }

    /// The mode that a server uses.
    pub fn served(&mut self, kind: Kind) -> Result<Mode> {
        Ok(*self.ours(kind)?.last().expect("there is at least one"))
    }

    /// `guest` on `kind` in `mode`, deployed on a separate engine.
    ///
    /// Its module is loaded separately, so that it shares no pooled instances with other subjects.
    pub fn subject(&mut self, kind: Kind, mode: Mode, guest: &Arc<Guest>) -> Result<Subject> {
        let backend: Arc<dyn Backend> = match mode {
            Mode::Reused => {
                let backend = Reused::new()?;
                let subject = Subject::deploy(Arc::new(backend.clone()), kind, mode, guest)?;
                let pages = backend.put_back(|| subject.works());
                println!(
                    "reused instance: {pages} pages of libc's state are restored before each run"
                );
                return Ok(subject);
            }
            Mode::Stock => Arc::new(StockWasmer::new(guest.wasm.clone())),
            _ => Arc::new(self.prepared(kind, mode, guest)?.reloaded()?),
        };
        Subject::deploy(backend, kind, mode, guest)
    }

    /// `guest` on `kind` as a server runs it, with sandboxes that start from `beginning`.
    pub fn beginning(
        &mut self,
        kind: Kind,
        guest: &Arc<Guest>,
        beginning: Beginning,
    ) -> Result<Subject> {
        let mode = self.served(kind)?;
        let backend = Arc::new(self.prepared(kind, mode, guest)?.reloaded()?);
        Subject::start(backend, kind, mode, guest, beginning)
    }

    /// The same, with sandboxes that are made and reset but run nothing. Also returns the module, which measures that.
    pub fn idle(
        &mut self,
        kind: Kind,
        guest: &Arc<Guest>,
        beginning: Beginning,
    ) -> Result<(Subject, Prepared)> {
        let mode = self.served(kind)?;
        let prepared = self.prepared(kind, mode, guest)?.reloaded()?;
        let subject = Subject::start(Arc::new(prepared.clone()), kind, mode, guest, beginning)?;
        prepared.idle();
        Ok((subject, prepared))
    }
}

/// One guest on one backend in one mode.
#[derive(Clone)]
pub struct Subject {
    /// The engine it runs on.
    pub kind: Kind,
    /// Its mode.
    pub mode: Mode,
    /// What runs.
    pub guest: Arc<Guest>,
    /// The part that may be called from several threads.
    pub shared: Arc<Deployed>,
}

/// A deployed function with its engine.
#[derive(Debug)]
pub struct Deployed {
    /// The engine, for its permits and the pool's stats.
    pub engine: Engine,
    function: Function,
    stdin: Vec<u8>,
}

impl Subject {
    /// Deploys `guest` on an engine that has only `backend`, without a snapshot.
    pub fn deploy(
        backend: Arc<dyn Backend>,
        kind: Kind,
        mode: Mode,
        guest: &Arc<Guest>,
    ) -> Result<Self> {
        Self::start(backend, kind, mode, guest, Beginning::Plain)
    }

    /// The same, with sandboxes that start from `beginning`.
    fn start(
        backend: Arc<dyn Backend>,
        kind: Kind,
        mode: Mode,
        guest: &Arc<Guest>,
        beginning: Beginning,
    ) -> Result<Self> {
        let config = EngineConfig {
            pool: mode.reset().map(|reset| PoolConfig {
                reset,
                keep_resident: if mode == Mode::Copy {
                    // Large enough that the whole image is copied, and nothing is given back instead.
                    64 << 20
                } else {
                    PoolConfig::default().keep_resident
                },
                ..PoolConfig::default()
            }),
            ..EngineConfig::default()
        };
        let engine = Engine::new(config, vec![backend])?;
        let function = engine.deploy(guest.wasm.bytes(), beginning.config())?;
        let facts = function.facts();
        assert!(
            mode.reset().is_none() || facts.plain_because.is_none(),
            "guest {} is not split: {:?}",
            guest.name,
            facts.plain_because
        );
        // A row must measure what its name says.
        if facts.snapshot.kind != beginning.kind() {
            return Err(Error::host(format!(
                "guest {} on {} must be {}, but is {:?}: {}",
                guest.name,
                kind.name(),
                beginning.name(),
                facts.snapshot.kind,
                facts
                    .snapshot
                    .why_not
                    .as_deref()
                    .unwrap_or("no reason is given")
            )));
        }
        Ok(Self {
            kind,
            mode,
            guest: Arc::clone(guest),
            shared: Arc::new(Deployed {
                engine,
                function,
                stdin: stdin(),
            }),
        })
    }

    /// Makes one whole request, and checks its answer.
    pub fn request(&self) {
        self.shared.request(&self.guest);
    }

    /// Makes one request, and returns whether its answer is right.
    fn works(&self) -> bool {
        let Deployed {
            engine, function, ..
        } = &*self.shared;
        let permit = engine.reserve().expect("permits are free");
        function
            .call(permit, &request(), &[], |answer| {
                answer.response.is_some_and(|response| {
                    self.guest.check(answer.status, &response.body, "");
                    true
                })
            })
            .expect("the call is well-formed")
    }
}

impl Deployed {
    /// One whole request, its answer checked.
    ///
    /// # Panics
    /// If the answer is not what the guest must answer.
    pub fn request(&self, guest: &Guest) {
        let permit = self.engine.reserve().expect("permits are free");
        self.function
            .call(permit, &request(), &[], |answer| {
                let body = answer
                    .response
                    .map_or(&[][..], |response| response.body.as_ref());
                guest.check(answer.status, body, answer.reason);
            })
            .expect("the call is well-formed");
    }

    /// One sandbox: created, run, reset. Without the contract; that the guest ended well is checked.
    ///
    /// # Panics
    /// If it did not.
    pub fn sandbox(&self) {
        let permit = self.engine.reserve().expect("permits are free");
        let run = self
            .function
            .run(permit, self.stdin.clone())
            .expect("the call is well-formed");
        assert!(
            matches!(run.exit, GuestExit::Exit(0)),
            "the guest ended with {:?}",
            run.exit
        );
    }
}
