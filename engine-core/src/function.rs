//! A deployed handler, and the path of a call through it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{BackendKind, Finished};
use crate::calls::Ticket;
use crate::cancel::Cancel;
use crate::contract::{Request, Response, json};
use crate::engine::{Buffers, Shared};
use crate::error::{Error, Result, panic_text};
use crate::host::{HostState, Program};
use crate::launch::{Launch, Loaded, per_lane};
use crate::limits::{Limits, PAGE};
use crate::memory::cpu;
use crate::outcome::{Outcome, TrapCode, Verdict};
use crate::snapshot::{self, SnapshotFacts, SnapshotMode, Wanted, Warmup};
use crate::wasi::{MountSet, MountSpec};
use crate::wasm::{Form, Wasm};

/// How a module is deployed.
#[derive(Clone, Debug, Default)]
pub struct FunctionConfig {
    /// Label of metrics and logs.
    pub name: String,
    /// `argv[0]`: the module's file name. Empty: the name.
    pub program: String,
    /// The engine to run on; `None`: the default one.
    pub backend: Option<BackendKind>,
    /// Bounds of each sandbox.
    pub limits: Limits,
    /// Environment, in order. A value of `None` is given by each call (a *late* value).
    pub env: Vec<(String, Option<String>)>,
    /// Arguments after `argv[0]`. `None` is given by each call.
    pub args: Vec<Option<String>>,
    /// Folders the guest sees.
    pub mounts: Vec<MountSpec>,
    /// Whether its sandboxes may start from a snapshot.
    pub snapshot: SnapshotMode,
    /// Requests to be served before the snapshot is taken; `None`: none, unless the module says that it may be warmed up.
    pub warmup: Option<Warmup>,
}

/// A deployed handler: module + limits + env/args + contract. Cheap to clone; a call keeps what it uses.
#[derive(Clone, Debug)]
pub struct Function {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    config: FunctionConfig,
    backend: BackendKind,
    loaded: Arc<Loaded>,
    /// Where sandboxes begin instead of at the module's own beginning.
    snapshot: Option<Launch>,
    /// The program with every late value empty, or complete if there are none.
    /// One for each lane, see [`per_lane`].
    programs: Box<[Arc<Program>]>,
    late_values: usize,
    mounts: Option<MountSet>,
    facts: FunctionFacts,
}

/// What is known about a deployed function.
#[derive(Clone, Debug)]
pub struct FunctionFacts {
    /// The backend it runs on.
    pub backend: BackendKind,
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

/// Where a function's code came from when it was deployed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CodeSource {
    /// It was compiled.
    Compiled,
    /// From the artifact cache on disk.
    Cache,
    /// Another function had it already.
    Memory,
}

impl CodeSource {
    /// The name used in logs and descriptions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Compiled => "compiled",
            Self::Cache => "cache",
            Self::Memory => "memory",
        }
    }
}

impl Function {
    pub(crate) fn deploy(
        shared: &Arc<Shared>,
        wasm: &[u8],
        mut config: FunctionConfig,
        cancel: &Cancel,
    ) -> Result<Self> {
        check_limits(&config.limits)?;
        let program = program(&mut config)?;
        let late_values = config
            .env
            .iter()
            .filter(|(_, value)| value.is_none())
            .count()
            + config.args.iter().filter(|value| value.is_none()).count();
        let mounts = match config.mounts.as_slice() {
            [] => None,
            specs => Some(MountSet::new(specs)?),
        };
        let backend = shared.backend(config.backend.unwrap_or(shared.default_backend()))?;
        let wasm = Wasm::parse(wasm, shared.features, &shared.bounds)?;
        wasm.check_limits(&config.limits)?;
        let (loaded, origin) = shared.module(backend, &wasm, &config.limits, cancel)?;
        let (snapshot, snapshot_facts) = snapshot::take(&Wanted {
            shared,
            loaded: &loaded,
            program: &program,
            late_values,
            mounts: mounts.as_ref(),
            limits: &config.limits,
            form: wasm.form(),
            mode: config.snapshot,
            warmup: config.warmup.as_ref(),
        })?;
        let facts = FunctionFacts {
            backend: backend.kind(),
            hash: *wasm.hash(),
            module_bytes: wasm.bytes().len(),
            image_bytes: loaded.split.image.as_ref().map(|image| image.len()),
            plain_because: loaded.split.why_not.clone(),
            source: origin.source,
            loaded_in: origin.loaded_in,
            compiled_in: loaded.compiled_in,
            form: wasm.form(),
            snapshot: snapshot_facts,
        };
        shared.metrics.deployed(facts.snapshot.kind);
        Ok(Self {
            inner: Arc::new(Inner {
                shared: Arc::clone(shared),
                backend: backend.kind(),
                config,
                loaded,
                snapshot,
                programs: per_lane(|| Arc::new(program.clone())),
                late_values,
                mounts,
                facts,
            }),
        })
    }

    /// Answers one request in a fresh sandbox, on the calling thread, and hands the answer to `sink` before the buffers it
    /// borrows from are used again.
    ///
    /// `late` has one value for each `None` of `env`, then of `args`. `Err` means that the caller made a mistake and nothing
    /// ran; whatever the guest or the host did wrong is an [`Answer`].
    pub fn call<R>(
        &self,
        ticket: Ticket,
        request: &Request<'_>,
        late: &[&[u8]],
        sink: impl FnOnce(&Answer<'_>) -> R,
    ) -> Result<R> {
        let inner = &*self.inner;
        let program = inner.program(late)?;
        if request.body.len() > inner.config.limits.body {
            drop(ticket);
            let reason = format!(
                "the request's body has {} bytes, more than max_body ({})",
                request.body.len(),
                inner.config.limits.body
            );
            return Ok(sink(&Answer::refused(Verdict::Rejected, 413, &reason)));
        }
        let mut buffers = inner.shared.take_buffers();
        json::write_request(&mut buffers.stdin, request);
        let run = inner.run(ticket, program, buffers);
        let finished = match run.end {
            Ok(finished) => finished,
            Err(error) => {
                let mut answer = Answer::refused(Verdict::Error, 500, &error);
                answer.duration = run.duration;
                inner.shared.metrics.called(inner.backend, answer.verdict);
                return Ok(sink(&answer));
            }
        };
        let Finished { outcome, host, .. } = finished;
        let (peak, refused) = (host.memory.peak(), host.memory.refused());
        let (buffers, logs, logs_dropped) = host.into_parts();
        let result = {
            let judged = judge(&outcome, refused, &buffers.stdout, &inner.config.limits);
            let (verdict, status, reason) = match &judged {
                Ok(response) => (Verdict::Ok, response.status, ""),
                Err(refusal) => (refusal.verdict, refusal.status, refusal.reason.as_str()),
            };
            inner.shared.metrics.called(inner.backend, verdict);
            sink(&Answer {
                verdict,
                status,
                response: judged.as_ref().ok(),
                reason,
                logs: &logs,
                logs_dropped,
                duration: run.duration,
                memory_peak: peak,
            })
        };
        inner.shared.give_buffers(buffers);
        Ok(result)
    }

    /// Runs one sandbox on a given stdin, without the contract: for tests, benches and oracles.
    pub fn run(&self, ticket: Ticket, stdin: Vec<u8>) -> Result<RawRun> {
        let inner = &*self.inner;
        let program = inner.program(&[])?;
        let mut buffers = inner.shared.take_buffers();
        buffers.stdin = stdin;
        let run = inner.run(ticket, program, buffers);
        let Finished { outcome, host, .. } = run.end.map_err(Error::host)?;
        let (memory_peak, memory_refused) = (host.memory.peak(), host.memory.refused());
        let (buffers, logs, _) = host.into_parts();
        Ok(RawRun {
            outcome,
            stdout: buffers.stdout,
            logs,
            duration: run.duration,
            memory_peak,
            memory_refused,
        })
    }

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

    /// How many late values each call must bring.
    #[must_use]
    pub fn late_values(&self) -> usize {
        self.inner.late_values
    }
}

/// What a call came to.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The row of the contract's table.
    pub verdict: Verdict,
    /// The HTTP status the client gets. For [`Verdict::Cancelled`], 499: nobody is there to read it.
    pub status: u16,
    /// The function's response; there for [`Verdict::Ok`] only.
    pub response: Option<&'a Response<'a>>,
    /// Which rule was broken, for the log. Empty for [`Verdict::Ok`].
    pub reason: &'a str,
    /// Packed log lines, see [`crate::logs`].
    pub logs: &'a [u8],
    /// Bytes of log lines beyond the limit.
    pub logs_dropped: u64,
    /// From the call's begin to the guest's end.
    pub duration: Duration,
    /// The most linear memory the guest had, in bytes.
    pub memory_peak: u64,
}

impl<'a> Answer<'a> {
    fn refused(verdict: Verdict, status: u16, reason: &'a str) -> Self {
        Self {
            verdict,
            status,
            response: None,
            reason,
            logs: &[],
            logs_dropped: 0,
            duration: Duration::ZERO,
            memory_peak: 0,
        }
    }
}

/// A run without the contract.
#[derive(Debug)]
pub struct RawRun {
    /// How the guest ended.
    pub outcome: Outcome,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// Packed log lines, see [`crate::logs`].
    pub logs: Vec<u8>,
    /// From the call's begin to the guest's end.
    pub duration: Duration,
    /// The most linear memory it had, in bytes.
    pub memory_peak: u64,
    /// How often it was refused memory or table elements.
    pub memory_refused: u32,
}

impl Inner {
    /// The program of one call.
    fn program(&self, late: &[&[u8]]) -> Result<Arc<Program>> {
        if late.len() != self.late_values {
            return Err(Error::config(format!(
                "function {} takes {} late values per call, {} were given",
                self.config.name,
                self.late_values,
                late.len()
            )));
        }
        if late.is_empty() {
            return Ok(Arc::clone(&self.programs[cpu() % self.programs.len()]));
        }
        let mut late = late.iter();
        let mut next = |what: &str| -> Result<String> {
            let value = late.next().copied().unwrap_or_default();
            if value.contains(&0) {
                return Err(Error::config(format!(
                    "the value of {what} contains a NUL byte"
                )));
            }
            Ok(String::from_utf8_lossy(value).into_owned())
        };
        let mut program = Program::clone(&self.programs[0]);
        for (pair, (name, value)) in program.env.iter_mut().zip(&self.config.env) {
            if value.is_none() {
                pair.1 = next(name)?;
            }
        }
        // argv[0] is the program's name.
        for (arg, value) in program.args.iter_mut().skip(1).zip(&self.config.args) {
            if value.is_none() {
                *arg = next("an argument")?;
            }
        }
        Ok(Arc::new(program))
    }

    fn run(&self, ticket: Ticket, program: Arc<Program>, buffers: Buffers) -> Run {
        let limits = &self.config.limits;
        let begun = Instant::now();
        let end = catch_unwind(AssertUnwindSafe(|| {
            let mounts = match &self.mounts {
                Some(set) => Some(set.open()?),
                None => None,
            };
            let call = ticket.begin(limits.timeout);
            let Buffers { stdin, stdout } = buffers;
            let mut host = Box::new(HostState::new(call, program, mounts, stdin, stdout, limits));
            let launch = self.snapshot.as_ref().unwrap_or(&self.loaded.plain);
            launch.prepare(&mut host);
            self.loaded.run(&self.shared, launch, limits, host, None)
        }));
        let end = match end {
            Ok(Ok(finished)) => Ok(finished),
            Ok(Err(error)) => Err(Error::to_string(&error)),
            Err(panic) => Err(format!("a bug: the call panicked: {}", panic_text(&*panic))),
        };
        Run {
            end,
            duration: begun.elapsed(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.metrics.gone(self.facts.snapshot.kind);
    }
}

struct Run {
    end: Result<Finished, String>,
    duration: Duration,
}

/// Why there is no response of the function's.
struct Refusal {
    verdict: Verdict,
    status: u16,
    reason: String,
}

/// The contract's table: what an outcome means to the client.
fn judge<'a>(
    outcome: &Outcome,
    refused: u32,
    stdout: &'a [u8],
    limits: &Limits,
) -> Result<Response<'a>, Refusal> {
    let refusal = |verdict, status, reason| {
        Err(Refusal {
            verdict,
            status,
            reason,
        })
    };
    let out_of_memory = |what: &str| {
        format!(
            "the guest ended with {what} after it was refused memory beyond memory_limit ({} bytes)",
            limits.memory_bytes()
        )
    };
    match outcome {
        Outcome::Exit(0) => json::parse_response(stdout)
            .or_else(|bad| refusal(Verdict::BadOutput, 502, bad.to_string())),
        Outcome::Exit(code) if refused > 0 => refusal(
            Verdict::Oom,
            502,
            out_of_memory(&format!("exit code {code}")),
        ),
        Outcome::Exit(code) => refusal(
            Verdict::Trap,
            502,
            format!(
                "the guest ended with exit code {code}; a response counts only with exit code 0"
            ),
        ),
        Outcome::Trap(trap) => match trap.code {
            TrapCode::Deadline => refusal(
                Verdict::Timeout,
                504,
                format!(
                    "the guest did not end within its timeout of {:?}",
                    limits.timeout
                ),
            ),
            TrapCode::Cancelled => refusal(
                Verdict::Cancelled,
                499,
                "the call was cancelled: its client went away".into(),
            ),
            TrapCode::OutputLimit => refusal(
                Verdict::BadOutput,
                502,
                format!(
                    "the guest wrote more than max_output ({} bytes) to stdout",
                    limits.output
                ),
            ),
            TrapCode::Host => refusal(Verdict::Error, 500, trap.to_string()),
            _ if refused > 0 => refusal(Verdict::Oom, 502, out_of_memory(&trap.to_string())),
            _ => refusal(Verdict::Trap, 502, format!("the guest trapped: {trap}")),
        },
    }
}

/// Settings that no module can satisfy.
fn check_limits(limits: &Limits) -> Result<()> {
    if limits.timeout.is_zero() {
        return Err(Error::config("timeout is 0; it must be longer"));
    }
    if limits.memory < PAGE || limits.memory > 4 << 30 {
        return Err(Error::config(format!(
            "memory_limit is {} bytes; it must be between 64 KiB (one page) and 4 GiB",
            limits.memory
        )));
    }
    Ok(())
}

/// The program with empty late values; also fills in `config.program`.
fn program(config: &mut FunctionConfig) -> Result<Program> {
    if config.program.is_empty() {
        config.program.clone_from(&config.name);
    }
    let mut args = vec![config.program.clone()];
    args.extend(
        config
            .args
            .iter()
            .map(|arg| arg.clone().unwrap_or_default()),
    );
    let env: Vec<_> = config
        .env
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().unwrap_or_default()))
        .collect();
    for (name, value) in &env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Error::config(format!(
                "env name {name:?} is empty or contains = or NUL"
            )));
        }
        if value.contains('\0') {
            return Err(Error::config(format!(
                "the value of env {name} contains a NUL byte"
            )));
        }
    }
    if let Some(arg) = args.iter().find(|arg| arg.contains('\0')) {
        return Err(Error::config(format!(
            "argument {arg:?} contains a NUL byte"
        )));
    }
    Ok(Program { args, env })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Trap;

    fn verdict(outcome: Outcome, refused: u32) -> (Verdict, u16) {
        match judge(&outcome, refused, b"{}", &Limits::default()) {
            Ok(response) => (Verdict::Ok, response.status),
            Err(refusal) => (refusal.verdict, refusal.status),
        }
    }

    fn trap(code: TrapCode) -> Outcome {
        Outcome::Trap(Trap::new(code, ""))
    }

    #[test]
    fn the_table_of_the_contract() {
        assert_eq!(verdict(Outcome::Exit(0), 0), (Verdict::Ok, 200));
        assert_eq!(verdict(Outcome::Exit(0), 3), (Verdict::Ok, 200));
        assert_eq!(verdict(Outcome::Exit(2), 0), (Verdict::Trap, 502));
        assert_eq!(verdict(Outcome::Exit(2), 1), (Verdict::Oom, 502));
        assert_eq!(
            verdict(trap(TrapCode::Unreachable), 0),
            (Verdict::Trap, 502)
        );
        assert_eq!(verdict(trap(TrapCode::Unreachable), 1), (Verdict::Oom, 502));
        assert_eq!(
            verdict(trap(TrapCode::StackOverflow), 0),
            (Verdict::Trap, 502)
        );
        assert_eq!(
            verdict(trap(TrapCode::Deadline), 1),
            (Verdict::Timeout, 504)
        );
        assert_eq!(
            verdict(trap(TrapCode::Cancelled), 0),
            (Verdict::Cancelled, 499)
        );
        assert_eq!(
            verdict(trap(TrapCode::OutputLimit), 0),
            (Verdict::BadOutput, 502)
        );
        assert_eq!(verdict(trap(TrapCode::Host), 0), (Verdict::Error, 500));
    }

    #[test]
    fn a_program_is_checked() {
        let mut config = FunctionConfig {
            name: "hello".into(),
            env: vec![("A=B".into(), Some("1".into()))],
            ..FunctionConfig::default()
        };
        assert!(
            program(&mut config)
                .unwrap_err()
                .to_string()
                .contains("A=B")
        );
        config.env = vec![("A".into(), Some("1\0".into()))];
        assert!(
            program(&mut config)
                .unwrap_err()
                .to_string()
                .contains("NUL")
        );
        config.env = vec![("A".into(), None)];
        config.args = vec![Some("--verbose".into()), None];
        let program = program(&mut config).unwrap();
        assert_eq!(program.args, ["hello", "--verbose", ""]);
        assert_eq!(program.env, [("A".to_string(), String::new())]);
    }
}
