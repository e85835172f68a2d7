//! Compiling, off to the side: once for all who wait for it, and not for longer than they will wait.
//!
//! ```text
//!   deployments ──wait──▶ compilation: a thread of its own, behind those that serve ──▶ artifact ─▶ cache
//!        └─ too long, or cancelled: they give up, and it goes on alone: no engine can be interrupted
//! ```
//!
//! What comes of a compilation that nobody waits for any more goes to the cache, where there is one, or to a deployment that
//! asks for the same code before it has ended. Only a few may go on like that: beyond it, nothing is compiled.

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, Sender, bounded, select};
use parking_lot::{Mutex, MutexGuard};

use crate::artifacts::cache::Cache;
use crate::backend::{Artifact, Backend};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Fault, Result, panic_text};
use crate::priority::step_back;
use crate::threads::DEPLOY_STACK;
use crate::wasm::Wasm;

/// Compilations that may go on with nobody waiting for them. A module that compiles for ever costs a thread and memory, and
/// each attempt to deploy it may cost them again.
const ABANDONED: usize = 4;

/// How long a deployment waits for its code where the configuration does not say: this long, and
const LEAST_TIMEOUT: Duration = Duration::from_secs(60);
/// this much longer for each MiB of the module. Ten times what wasmtime takes on an idle core.
const TIMEOUT_PER_MIB: Duration = Duration::from_secs(10);

/// How often somebody who waits for a lock looks whether to go on waiting.
const GLANCE: Duration = Duration::from_millis(20);

/// The compilations of one engine.
pub(crate) struct Compiler {
    timeout: Option<Duration>,
    cache: Option<Arc<Cache>>,
    running: Arc<Mutex<HashMap<Key, Running>>>,
    stats: Arc<Stats>,
}

/// The backend, and the hash of the code.
type Key = (&'static str, [u8; 32]);

/// What came of a compilation.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) artifact: Artifact,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Counts, over the life of an engine.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Compilations that succeeded, and the milliseconds they took, by backend.
    compiled: Mutex<HashMap<&'static str, (u64, u64)>>,
    /// Deployments that stopped waiting.
    given_up: AtomicU64,
}

struct Running {
    compilation: Arc<Compilation>,
    /// Deployments that wait for it.
    waiting: usize,
}

struct Compilation {
    result: OnceLock<Result<Compiled, Refusal>>,
    /// Disconnected once the result is there.
    done: Receiver<Infallible>,
}

/// An error that several can have.
struct Refusal(ErrorKind, Fault, String);

impl Compiler {
    /// Deployments wait for `timeout`; `None`: for a time in proportion to their module.
    pub(crate) fn new(timeout: Option<Duration>, cache: Option<Arc<Cache>>) -> Self {
        Self {
            timeout,
            cache,
            running: Arc::default(),
            stats: Arc::default(),
        }
    }

    /// How long a deployment that begins now waits for a module of `bytes`.
    pub(crate) fn patience<'a>(&self, bytes: usize, cancel: &'a Cancel) -> Patience<'a> {
        let timeout = self.timeout.unwrap_or_else(|| {
            let mib = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
            LEAST_TIMEOUT.saturating_add(TIMEOUT_PER_MIB.saturating_mul(mib))
        });
        Patience {
            timeout,
            deadline: Instant::now().checked_add(timeout),
            cancel,
        }
    }

    /// Compiles `code`, or waits for whoever does. What was compiled is in the cache when this returns.
    pub(crate) fn compile(
        &self,
        backend: &Arc<dyn Backend>,
        code: &Wasm,
        patience: &Patience<'_>,
    ) -> Result<Compiled> {
        let waiter = self.join(backend, code)?;
        patience.wait(&waiter.compilation.done).inspect_err(|_| {
            self.stats.given_up.fetch_add(1, Ordering::Relaxed);
        })?;
        match waiter.compilation.result.get() {
            Some(Ok(compiled)) => Ok(compiled.clone()),
            Some(Err(Refusal(kind, fault, text))) => Err(Error::new(*kind, text).blame(*fault)),
            None => Err(Error::host("a bug: a compilation ended without a result")),
        }
    }

    /// Compilations so far on `backend`, and the milliseconds they took.
    pub(crate) fn compiled(&self, backend: &'static str) -> (u64, u64) {
        let compiled = self.stats.compiled.lock();
        compiled.get(&backend).copied().unwrap_or_default()
    }

    /// Deployments that stopped waiting.
    pub(crate) fn given_up(&self) -> u64 {
        self.stats.given_up.load(Ordering::Relaxed)
    }

    /// Compilations that go on with nobody waiting for them.
    pub(crate) fn abandoned(&self) -> usize {
        abandoned(&self.running.lock())
    }

    /// Becomes one of those who wait for `code`, beginning to compile it if nobody does.
    fn join(&self, backend: &Arc<dyn Backend>, code: &Wasm) -> Result<Waiter> {
        let key = (backend.name(), *code.hash());
        let mut running = self.running.lock();
        if let Some(one) = running.get_mut(&key) {
            one.waiting += 1;
            return Ok(self.waiter(key, &one.compilation));
        }
        if abandoned(&running) >= ABANDONED {
            return Err(Error::new(
                ErrorKind::Rejected,
                format!(
                    "{ABANDONED} compilations that took too long still go on in the background, and no other is begun \
                     before one of them has ended: wait, or restart the process and leave their modules out",
                ),
            ));
        }
        let (end, done) = bounded(0);
        let compilation = Arc::new(Compilation {
            result: OnceLock::new(),
            done,
        });
        let task = Task {
            key,
            backend: Arc::clone(backend),
            code: code.clone(),
            cache: self.cache.clone(),
            running: Arc::clone(&self.running),
            stats: Arc::clone(&self.stats),
            compilation: Arc::clone(&compilation),
            end,
        };
        std::thread::Builder::new()
            .name("gojinn-compile".into())
            .stack_size(DEPLOY_STACK)
            .spawn(move || task.run())
            .map_err(|error| Error::host("cannot start a thread to compile on").because(error))?;
        let waiter = self.waiter(key, &compilation);
        // The thread takes itself off the list when it ends, for which it needs the lock that is held here.
        running.insert(
            key,
            Running {
                compilation,
                waiting: 1,
            },
        );
        Ok(waiter)
    }

    fn waiter(&self, key: Key, compilation: &Arc<Compilation>) -> Waiter {
        Waiter {
            key,
            compilation: Arc::clone(compilation),
            running: Arc::clone(&self.running),
        }
    }
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler")
            .field("timeout", &self.timeout)
            .field("running", &self.running.lock().len())
            .field("figures", &self.stats)
            .finish_non_exhaustive()
    }
}

fn abandoned(running: &HashMap<Key, Running>) -> usize {
    running.values().filter(|one| one.waiting == 0).count()
}

/// How long one deployment waits, whatever for.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    timeout: Duration,
    /// `None`: beyond what the clock can say.
    deadline: Option<Instant>,
    cancel: &'a Cancel,
}

impl Patience<'_> {
    /// Takes a lock that may be held for as long as a compilation takes.
    pub(crate) fn lock<'m, T>(&self, lock: &'m Mutex<T>) -> Result<MutexGuard<'m, T>> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(cancelled());
            }
            if let Some(guard) = lock.try_lock_for(GLANCE) {
                return Ok(guard);
            }
            if self.deadline.is_some_and(|end| Instant::now() >= end) {
                return Err(self.too_long());
            }
        }
    }

    /// Waits until `done` is disconnected.
    fn wait(&self, done: &Receiver<Infallible>) -> Result<()> {
        let late = self.deadline.map_or_else(channel::never, channel::at);
        select! {
            recv(done) -> _ => Ok(()),
            recv(self.cancel.happened()) -> _ => Err(cancelled()),
            recv(late) -> _ => Err(self.too_long()),
        }
    }

    fn too_long(&self) -> Error {
        Error::new(
            ErrorKind::Compile,
            format!(
                "compiling the module took longer than {:?}: raise compile_timeout, or make the module smaller; it goes on in \
                 the background, at a low priority, and with an artifact cache another deployment later finds it compiled",
                self.timeout
            ),
        )
    }
}

fn cancelled() -> Error {
    Error::new(
        ErrorKind::Cancelled,
        "the deployment was given up before its module was compiled",
    )
}

/// One who waits, until dropped.
struct Waiter {
    key: Key,
    compilation: Arc<Compilation>,
    running: Arc<Mutex<HashMap<Key, Running>>>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // Once it has ended, another of the same code may have begun.
        if let Some(one) = self.running.lock().get_mut(&self.key)
            && Arc::ptr_eq(&one.compilation, &self.compilation)
        {
            one.waiting -= 1;
        }
    }
}

/// What the compiling thread has. It keeps no engine alive.
struct Task {
    key: Key,
    backend: Arc<dyn Backend>,
    code: Wasm,
    cache: Option<Arc<Cache>>,
    running: Arc<Mutex<HashMap<Key, Running>>>,
    stats: Arc<Stats>,
    compilation: Arc<Compilation>,
    end: Sender<Infallible>,
}

impl Task {
    fn run(self) {
        step_back();
        let result = catch_unwind(AssertUnwindSafe(|| self.compile())).unwrap_or_else(|panic| {
            Err(Error::host(format!(
                "a bug: compiling panicked: {}",
                panic_text(&*panic)
            )))
        });
        let result =
            result.map_err(|error| Refusal(error.kind(), error.fault(), error.to_string()));
        // Nobody else sets it.
        let _ = self.compilation.result.set(result);
        self.running.lock().remove(&self.key);
        drop(self.end);
    }

    fn compile(&self) -> Result<Compiled> {
        let begun = Instant::now();
        let artifact = self.backend.compile(&self.code)?;
        let took = begun.elapsed();
        {
            let mut compiled = self.stats.compiled.lock();
            let (count, millis) = compiled.entry(self.key.0).or_default();
            *count += 1;
            *millis += u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        }
        if let Some(cache) = &self.cache
            && self.backend.capabilities().native_artifact
        {
            cache.keep(&*self.backend, &self.code, &artifact, took);
        }
        Ok(Compiled { artifact, took })
    }
}

#[cfg(test)]
mod tests;
