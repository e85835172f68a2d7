//! Compilations: each module is compiled once for all deployments that wait for it, until the last one stops waiting.
//!
//! ```text
//!   deployments ──wait──▶ a thread of low priority ──▶ a process that compiles, or this one ──▶ artifact ─▶ cache
//!        └─ the last one stops waiting (timeout, or cancelled): the process is killed
//! ```
//!
//! A [process] has limits of memory and CPU time, and can be killed. Without one, a compilation runs in this process, and
//! no engine's compiler can be interrupted: it continues when the last deployment has stopped waiting. Its artifact then
//! goes to the cache, if there is one, or to a deployment that asks for the same code in the meantime. Only a few
//! compilations may continue like that; if there are that many, no other is begun.

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

/// Compilations that may be abandoned at a time. A module that compiles forever takes a thread and memory, and each
/// attempt to deploy it may take them again.
const ABANDONED: usize = 4;

/// The first part of the default timeout of a compilation: the time for a module of any size.
const LEAST_TIMEOUT: Duration = Duration::from_secs(60);
/// The second part of the default timeout: the time for each MiB of the module. It is ten times as long as wasmtime
/// takes on an idle processor.
const TIMEOUT_PER_MIB: Duration = Duration::from_secs(10);

/// The interval at which a deployment that waits for a lock checks its timeout and whether it was cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Processes that may compile at a time. Each may take as much memory as the configuration allows for one process. With
/// more of them the modules would not be compiled faster; with only one, a module that compiles until its timeout would
/// delay all others.
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
    /// Why a process could not be started, the first time, so that the module was compiled in this process.
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

/// A permit for one process, returned when it is dropped.
struct ProcessPermit<'a>(&'a Sender<()>);

impl Drop for ProcessPermit<'_> {
    fn drop(&mut self) {
        // The channel has room for all permits, so this cannot fail.
        let _ = self.0.try_send(());
    }
}

/// What identifies a compilation: the backend, and the hash of the code.
type Key = (&'static str, [u8; 32]);

/// The result of a compilation.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) artifact: Artifact,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Counts since the engine was created.
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
    /// Ends it when no deployment waits any more; `None`: it runs in this process and cannot be ended.
    stop: Option<Cancel>,
}

struct Compilation {
    result: OnceLock<Result<Compiled, Refusal>>,
    /// This channel is disconnected when the result is set.
    done: Receiver<Infallible>,
}

/// An error as parts that can be copied, for all deployments that waited.
struct Refusal(ErrorKind, Fault, String);

impl Compiler {
    /// A compiler without compilations. Deployments wait for `timeout`, or, if it is `None`, for a time that grows with
    /// the size of their module. Modules are compiled in a `process`, or, if it is `None`, in this process.
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

    /// Compiles `code`, or waits for the compilation of the same code that runs already. When this returns, the
    /// artifact is in the cache.
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
            None => Err(Error::host(
                "a bug in Gojinn: a compilation ended without a result; please report it",
            )),
        }
    }

    /// The number of compilations on `backend` so far, and the milliseconds they took.
    pub(crate) fn compiled(&self, backend: &'static str) -> (u64, u64) {
        let compiled = self.stats.compiled.lock();
        compiled.get(&backend).copied().unwrap_or_default()
    }

    /// Deployments that stopped waiting.
    pub(crate) fn given_up(&self) -> u64 {
        self.stats.given_up.load(Ordering::Relaxed)
    }

    /// Compilations that continue although no deployment waits for them.
    pub(crate) fn abandoned(&self) -> usize {
        abandoned(&self.running.lock())
    }

    /// Processes that compile now.
    #[cfg(test)]
    fn processes_in_use(&self) -> usize {
        let processes = self.processes.as_ref();
        processes.map_or(0, |processes| PROCESSES - processes.permits.1.len())
    }

    /// Compilations that run, or wait for a permit.
    #[cfg(test)]
    fn running(&self) -> usize {
        self.running.lock().len()
    }

    /// Why a module was compiled in this process although another process should have compiled it; `None`: no module
    /// was, so far.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.processes.as_ref()?.problem.get().map(String::as_str)
    }

    /// Joins the deployments that wait for `code`. If there is none, this begins its compilation.
    fn join(&self, backend: &Arc<dyn Backend>, code: &Wasm, timeout: Duration) -> Result<Waiter> {
        let key = (backend.name(), *code.sha256());
        let mut running = self.running.lock();
        if let Some(one) = running.get_mut(&key) {
            one.waiting += 1;
            return Ok(self.waiter(key, &one.compilation));
        }
        if abandoned(&running) >= ABANDONED {
            return Err(Error::new(
                ErrorKind::Rejected,
                format!(
                    "{ABANDONED} compilations that took too long still run in the background, and no other is begun \
                     before one of them has ended: wait, or restart the server without the modules that they compile",
                ),
            ));
        }
        let (end, done) = bounded(0);
        let compilation = Arc::new(Compilation {
            result: OnceLock::new(),
            done,
        });
        // If the artifact is not native code, it is the module itself, so there is nothing to compile in a process.
        let native = backend.capabilities().native_artifact;
        let processes = self.processes.clone().filter(|_| native);
        let stop = processes.as_ref().map(|_| Cancel::new());
        let task = Task {
            key,
            processes: processes.zip(stop.clone()),
            // Normally deployments end a process by their timeouts. This limit is for a process that no deployment can
            // end any more, such as one whose engine was killed.
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
        // The thread removes its entry from the list when it ends. It needs the lock that is held here for that, so the
        // entry is inserted before.
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
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

fn abandoned(running: &HashMap<Key, Running>) -> usize {
    running.values().filter(|one| one.waiting == 0).count()
}

/// How long one deployment waits: until its timeout, or until it is cancelled.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    timeout: Duration,
    /// `None`: so late that the clock cannot represent it.
    deadline: Option<Instant>,
    /// Whether the compilation continues when the deployment gives up.
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
            "the compilation continues in the background at low priority; if there is an artifact cache, a later deployment finds the result there"
        } else {
            "the compilation was ended"
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
        "the deployment was cancelled before its module was compiled",
    )
}

/// A deployment that waits for a compilation, until this is dropped.
struct Waiter {
    key: Key,
    compilation: Arc<Compilation>,
    running: Arc<Mutex<HashMap<Key, Running>>>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        // The compilation may have ended, and another one of the same code may have begun.
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
            // The next deployment of this code must not wait for the compilation that is ended here.
            running.remove(&self.key);
            stop.cancel();
        }
    }
}

/// The data of the compiling thread. It has no reference to the engine, so that the engine can be dropped meanwhile.
struct Task {
    key: Key,
    /// If it is compiled in a process: the processes, and what ends the process.
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
                "a bug in Gojinn: compiling panicked: {}; please report it",
                panic_text(&*panic)
            )))
        });
        let result =
            result.map_err(|error| Refusal(error.kind(), error.fault(), error.to_string()));
        // This is the only place that sets it, so this cannot fail.
        let _ = self.compilation.result.set(result);
        let mut running = self.running.lock();
        if self.is_running(&running) {
            running.remove(&self.key);
        }
        drop(running);
        drop(self.end);
    }

    /// Whether this compilation is still in the list: it is removed when it is ended.
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

    /// Compiles in a process, or in this process if no other can be started.
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
                // From here on the compilation cannot be ended.
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
