//! Compiling, off to the side: once for all deployments that wait for it, and not for longer than they will wait.
//!
//! ```text
//!   deployments ──wait──▶ a thread, behind those that serve ──▶ a process that compiles, or this one ──▶ artifact ─▶ cache
//!        └─ the last one gives up (too long, or cancelled): the process is killed
//! ```
//!
//! In a [process] a compilation has its own memory and its own end. Without one it runs in this process, where no engine
//! can be interrupted: when the last deployment gives up, it goes on alone. Its artifact then goes to the cache, where there is one,
//! or to a deployment that asks for the same code before it has ended. Only a few may go on like that: beyond it, nothing is
//! compiled.

mod confine;
mod process;
mod wire;
mod worker;

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;
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

pub use process::CompileProcess;
pub use worker::serve_compilation;

use process::Failure;

/// Compilations that may go on with nobody waiting for them. A module that compiles for ever costs a thread and memory, and
/// each attempt to deploy it may cost them again.
const ABANDONED: usize = 4;

/// How long a deployment waits for its code where the configuration does not say: this long, and
const LEAST_TIMEOUT: Duration = Duration::from_secs(60);
/// this much longer for each MiB of the module. Ten times what wasmtime takes on an idle core.
const TIMEOUT_PER_MIB: Duration = Duration::from_secs(10);

/// How often somebody who waits for a lock looks whether to go on waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Processes that may compile at a time: each may take as much memory as one is allowed. More would not compile faster, but one that
/// takes as long as it may should not hold up the others.
const PROCESSES: usize = 4;

/// The compilations of one engine.
pub(crate) struct Compiler {
    timeout: Option<Duration>,
    cache: Option<Arc<Cache>>,
    processes: Option<Arc<Processes>>,
    running: Arc<Mutex<HashMap<Key, Running>>>,
    stats: Arc<Stats>,
}

/// The processes that compile for one engine.
struct Processes {
    how: CompileProcess,
    /// One permit for each process that may be started.
    permits: (Sender<()>, Receiver<()>),
    /// Why modules were compiled in this process all the same, the first time.
    problem: OnceLock<String>,
}

impl Processes {
    fn new(how: CompileProcess) -> Self {
        let permits = bounded(PROCESSES);
        for _ in 0..PROCESSES {
            let _ = permits.0.try_send(());
        }
        Self {
            how,
            permits,
            problem: OnceLock::new(),
        }
    }

    fn compile(
        &self,
        backend: &dyn Backend,
        code: &Wasm,
        cpu: Duration,
        stop: &Cancel,
    ) -> Result<Artifact, Failure> {
        select! {
            recv(self.permits.1) -> _ => {}
            recv(stop.happened()) -> _ => return Err(Failure::Stopped),
        }
        let _permit = ProcessPermit(&self.permits.0);
        process::compile(&self.how, backend, code, cpu, stop)
    }
}

/// The right to have one process, until dropped.
struct ProcessPermit<'a>(&'a Sender<()>);

impl Drop for ProcessPermit<'_> {
    fn drop(&mut self) {
        // There is room for as many as there are.
        let _ = self.0.try_send(());
    }
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
    /// Ends it when no deployment waits any more; `None` where it runs in this process and goes on.
    stop: Option<Cancel>,
}

struct Compilation {
    result: OnceLock<Result<Compiled, Refusal>>,
    /// Disconnected once the result is there.
    done: Receiver<Infallible>,
}

/// An error that several can have.
struct Refusal(ErrorKind, Fault, String);

impl Compiler {
    /// Deployments wait for `timeout`; `None`: for a time in proportion to their module. `process`: how to compile in a process for
    /// that; `None`: in this one.
    pub(crate) fn new(
        timeout: Option<Duration>,
        process: Option<CompileProcess>,
        cache: Option<Arc<Cache>>,
    ) -> Self {
        Self {
            timeout,
            cache,
            processes: process.map(Processes::new).map(Arc::new),
            running: Arc::default(),
            stats: Arc::default(),
        }
    }

    /// How long a deployment that begins now waits for a module of `bytes`.
    pub(crate) fn wait<'a>(&self, bytes: usize, cancel: &'a Cancel) -> Wait<'a> {
        let timeout = self.timeout.unwrap_or_else(|| {
            let mib = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
            LEAST_TIMEOUT.saturating_add(TIMEOUT_PER_MIB.saturating_mul(mib))
        });
        Wait {
            timeout,
            deadline: Instant::now().checked_add(timeout),
            goes_on: self.processes.is_none(),
            cancel,
        }
    }

    /// Compiles `code`, or waits for whoever does. What was compiled is in the cache when this returns.
    pub(crate) fn compile(
        &self,
        backend: &Arc<dyn Backend>,
        code: &Wasm,
        wait: &Wait<'_>,
    ) -> Result<Compiled> {
        let waiter = self.join(backend, code, wait.timeout)?;
        wait.wait(&waiter.compilation.done).inspect_err(|_| {
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

    /// Compilations that go on although no deployment waits for them.
    pub(crate) fn abandoned(&self) -> usize {
        abandoned(&self.running.lock())
    }

    /// Processes that compile now.
    #[cfg(test)]
    fn processes_in_use(&self) -> usize {
        let processes = self.processes.as_ref();
        processes.map_or(0, |processes| PROCESSES - processes.permits.1.len())
    }

    /// Compilations that run, or wait to.
    #[cfg(test)]
    fn running(&self) -> usize {
        self.running.lock().len()
    }

    /// Why modules are compiled in this process although they should be in another; `None`: they are not, as far as is known.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.processes.as_ref()?.problem.get().map(String::as_str)
    }

    /// Becomes one of those who wait for `code`, beginning to compile it if nobody does.
    fn join(&self, backend: &Arc<dyn Backend>, code: &Wasm, timeout: Duration) -> Result<Waiter> {
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
        // What is not native code is the module itself: there is nothing to compile.
        let native = backend.capabilities().native_artifact;
        let processes = self.processes.clone().filter(|_| native);
        let stop = processes.as_ref().map(|_| Cancel::new());
        let task = Task {
            key,
            processes: processes.zip(stop.clone()),
            // What a process may take is a matter of deployments; this is for one that no deployment can end any more.
            cpu: timeout
                .saturating_mul(2)
                .saturating_mul(available_parallelism().map_or(1, |cores| cores.get() as u32)),
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
                stop,
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
pub(crate) struct Wait<'a> {
    timeout: Duration,
    /// `None`: beyond what the clock can say.
    deadline: Option<Instant>,
    /// Whether the compilation goes on when the deployment gives up.
    goes_on: bool,
    cancel: &'a Cancel,
}

impl Wait<'_> {
    /// Takes a lock that may be held for as long as a compilation takes.
    pub(crate) fn lock<'m, T>(&self, lock: &'m Mutex<T>) -> Result<MutexGuard<'m, T>> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(cancelled());
            }
            if let Some(guard) = lock.try_lock_for(POLL_INTERVAL) {
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
        let then = if self.goes_on {
            "it goes on in the background, at a low priority, and with an artifact cache another deployment later finds it compiled"
        } else {
            "it was ended"
        };
        Error::new(
            ErrorKind::Compile,
            format!(
                "compiling the module took longer than {:?}: raise compile_timeout, or make the module smaller; {then}",
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
        let mut running = self.running.lock();
        // Once it has ended, another of the same code may have begun.
        let Some(one) = running.get_mut(&self.key) else {
            return;
        };
        if !Arc::ptr_eq(&one.compilation, &self.compilation) {
            return;
        }
        one.waiting -= 1;
        if one.waiting == 0
            && let Some(stop) = one.stop.take()
        {
            // The next deployment must not wait for what is ended here.
            running.remove(&self.key);
            stop.cancel();
        }
    }
}

/// What the compiling thread has. It keeps no engine alive.
struct Task {
    key: Key,
    /// Where it is compiled in a process, and what ends that.
    processes: Option<(Arc<Processes>, Cancel)>,
    /// CPU time that the process may take.
    cpu: Duration,
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
        // It is set here only.
        let _ = self.compilation.result.set(result);
        let mut running = self.running.lock();
        if self.is_running(&running) {
            running.remove(&self.key);
        }
        drop(running);
        drop(self.end);
    }

    /// Whether the list still has this compilation: it is off where it was ended.
    fn is_running(&self, running: &HashMap<Key, Running>) -> bool {
        running
            .get(&self.key)
            .is_some_and(|one| Arc::ptr_eq(&one.compilation, &self.compilation))
    }

    fn compile(&self) -> Result<Compiled> {
        let begun = Instant::now();
        let artifact = match &self.processes {
            Some((processes, stop)) => self.compile_in_process(processes, stop)?,
            None => self.backend.compile(&self.code)?,
        };
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

    /// Compiles in a process, or in this one where there can be none.
    fn compile_in_process(&self, processes: &Processes, stop: &Cancel) -> Result<Artifact> {
        match processes.compile(&*self.backend, &self.code, self.cpu, stop) {
            Ok(artifact) => Ok(artifact),
            Err(Failure::Stopped) => Err(cancelled()),
            Err(Failure::Failed(error)) => Err(error),
            Err(Failure::NotStarted(why)) => {
                processes.problem.get_or_init(|| {
                    let text = format!(
                        "modules are compiled in the server's own process, where one that takes too much memory takes the server with \
                         it: the process that should compile {why}"
                    );
                    if let Some(cache) = &self.cache {
                        cache.warn_of_process(&text);
                    }
                    text
                });
                let mut running = self.running.lock();
                if !self.is_running(&running) {
                    return Err(cancelled());
                }
                // It cannot be ended from here on.
                if let Some(one) = running.get_mut(&self.key) {
                    one.stop = None;
                }
                drop(running);
                self.backend.compile(&self.code)
            }
        }
    }
}

#[cfg(test)]
mod tests;
