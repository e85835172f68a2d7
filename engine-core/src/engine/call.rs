//! A call of a function, from the request to the answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{Finished, Job, Progress, Sandbox};
use crate::calls::Permit;
use crate::contract::{Request, Response, Scan};
use crate::error::{Error, ErrorKind, Result, panic_text};
use crate::logs::Dropped;
use crate::module::StartPlan;
use crate::outcome::{GuestExit, Outcome};
use crate::sandbox::{Buffers, Event, HostReply, HostState, MEMORY_FULL, Output, Program, Stop};

use super::function::{Function, Inner};
use super::judge::judge;
use super::suspended::Suspended;

impl Function {
    /// Answers one request in a fresh sandbox, on the calling thread, which is blocked while the guest waits. `sink` gets the
    /// answer, which borrows from buffers that are reused afterwards.
    ///
    /// `per_request` has one value for each `None` of `env`, then of `args`. An `Err` means that the caller made a
    /// mistake and nothing ran; faults of the guest or the host are an [`Answer`].
    pub fn call<R>(
        &self,
        permit: Permit,
        request: &Request<'_>,
        per_request: &[&[u8]],
        sink: impl FnOnce(&Answer<'_>) -> R,
    ) -> Result<R> {
        self.start(
            permit,
            request,
            per_request,
            false,
            |reached| match reached {
                Reached::Answer(answer) => Ok(sink(answer)),
                Reached::Waiting(_) => Err(Error::host(
                    "a bug: a guest was suspended in a call that cannot be suspended",
                )),
            },
        )?
    }

    /// [`Function::call`] that returns when the guest waits: `sink` then gets an [`Event`], and the call goes on with
    /// [`Engine::resume`](super::Engine::resume). Until then it is suspended: it holds its permit and its sandbox, and on most
    /// backends no thread.
    pub fn begin<R>(
        &self,
        permit: Permit,
        request: &Request<'_>,
        per_request: &[&[u8]],
        sink: impl FnOnce(Reached<'_>) -> R,
    ) -> Result<R> {
        let suspends = self.inner.loaded.suspends;
        self.start(permit, request, per_request, suspends, sink)
    }

    fn start<R>(
        &self,
        permit: Permit,
        request: &Request<'_>,
        per_request: &[&[u8]],
        suspends: bool,
        sink: impl FnOnce(Reached<'_>) -> R,
    ) -> Result<R> {
        let inner = &*self.inner;
        let contract = inner.config.contract;
        let mut program = inner.program(per_request)?;
        if request.body.len() > inner.config.limits.body {
            drop(permit);
            let reason = format!(
                "the request's body has {} bytes, more than max_body ({})",
                request.body.len(),
                inner.config.limits.body
            );
            let answer = Answer::refused(Outcome::Rejected, 413, &reason);
            return Ok(sink(Reached::Answer(&answer)));
        }
        let mut buffers = inner.shared.buffers.take();
        if !buffers.share.take(inner.holds_at_first(request)) {
            drop(permit);
            inner.shared.buffers.give(buffers);
            inner
                .shared
                .counters
                .called(inner.backend, Outcome::Rejected);
            let answer = Answer::refused(Outcome::Rejected, 503, MEMORY_FULL);
            return Ok(sink(Reached::Answer(&answer)));
        }
        contract.write_request(&mut buffers.stdin, request, inner.config.include);
        let variables = contract.variables(request);
        if !variables.is_empty() {
            program = Arc::new(program.with_variables(variables));
        }
        let begun = Instant::now();
        let mut sandbox = None;
        let progress = caught(|| {
            let mut host = inner.host(permit, program, buffers, suspends)?;
            host.http = contract.exchange(request, &inner.config.limits);
            if suspends {
                host.stdin_follows = contract.body_follows(request);
            }
            let plan = inner.plan();
            let limits = &inner.config.limits;
            let made = inner.loaded.sandbox(&inner.shared.slots, plan, limits)?;
            let job = Job {
                entries: plan.entries(),
                host,
                capture: None,
            };
            Ok(sandbox.insert(made).run(job))
        });
        Ok(self.reached(sandbox, progress, begun, sink))
    }

    /// Goes on with a call that is suspended.
    pub(super) fn go_on<R>(
        suspended: Suspended,
        reply: HostReply,
        sink: impl FnOnce(Reached<'_>) -> R,
    ) -> R {
        let Suspended {
            mut sandbox,
            mut host,
            function,
            begun,
        } = suspended;
        let progress = caught(|| {
            if let Some(Event::Next { .. }) = host.waits_for {
                host.call.restart();
            }
            if let Some(why) = host.call().interruption() {
                return Ok(dropped(host, why.into()));
            }
            if let Err(full) = host.hold_reply(reply.bytes.len()) {
                return Ok(dropped(host, full));
            }
            host.take_back();
            // The guest has written to a stream: there is nothing to say to it but that it may go on.
            let hears = !matches!(host.waits_for.take(), Some(Event::Output));
            host.resumed_with = hears.then_some(reply);
            Ok(sandbox.resume(host))
        });
        function.reached(Some(sandbox), progress, begun, sink)
    }

    /// Gives `sink` the answer or the event, and keeps the sandbox of a call that is suspended.
    fn reached<R>(
        &self,
        sandbox: Option<Box<dyn Sandbox + '_>>,
        progress: Result<Progress>,
        begun: Instant,
        sink: impl FnOnce(Reached<'_>) -> R,
    ) -> R {
        let inner = &*self.inner;
        let progress = progress.map(|progress| match progress {
            Progress::Waiting(mut host) => match host.hold_event() {
                Ok(()) => Progress::Waiting(host),
                Err(full) => dropped(host, full),
            },
            finished @ Progress::Finished(_) => finished,
        });
        let finished = match (progress, sandbox) {
            (Ok(Progress::Waiting(mut host)), Some(sandbox)) => {
                host.call.flushed();
                if let Some(Event::Next { .. }) = host.waits_for {
                    // The next handler may take any time: its own limits count.
                    host.call.pause();
                }
                let HostState {
                    output,
                    stdout,
                    waits_for,
                    call,
                    ..
                } = &mut *host;
                // It was parsed when its end was found, so there is a head.
                let head = match output {
                    Output::Head { len, .. } => {
                        inner.config.contract.parse_response(&stdout[..*len]).ok()
                    }
                    _ => None,
                };
                let result = match waits_for {
                    Some(event) => sink(Reached::Waiting(&Waiting {
                        event,
                        deadline: call.deadline(),
                        head: head.as_ref(),
                        output: output.body(stdout).unwrap_or_default(),
                    })),
                    None => unreachable!("the runner has looked"),
                };
                drop(head);
                output.left(stdout);
                let suspended = Suspended::new(sandbox, host, self.clone(), begun);
                inner.shared.suspended.put(suspended);
                return result;
            }
            (Ok(Progress::Finished(finished)), sandbox) => {
                drop(sandbox);
                finished
            }
            (Ok(Progress::Waiting(_)), None) => unreachable!("no sandbox, no guest"),
            (Err(error), _) => {
                let text = error.to_string();
                let mut answer = match error.kind() {
                    ErrorKind::Rejected => Answer::refused(Outcome::Rejected, 503, MEMORY_FULL),
                    _ => Answer::refused(Outcome::Error, 500, &text),
                };
                answer.duration = begun.elapsed();
                inner.shared.counters.called(inner.backend, answer.outcome);
                return sink(Reached::Answer(&answer));
            }
        };
        let duration = begun.elapsed();
        let Finished { exit, mut host, .. } = finished;
        let used = host.memory;
        let exchange = host.http.take();
        // A call that is dropped where it waits still lends.
        host.take_back();
        let output = host.output;
        let (mut buffers, logs, logs_dropped) = host.into_parts();
        let contract = inner.config.contract;
        let result = {
            let copies = match (&exit, &exchange) {
                (GuestExit::Exit(0), Some(exchange)) => exchange.written_to_response() as u64,
                (GuestExit::Exit(0), None) => decoded_at_most(&buffers.stdout),
                _ => 0,
            };
            if copies > 0 {
                // The sandbox is gone. What is needed now is the body, decoded and as the caller's copy.
                buffers.share.give(inner.plan().bytes());
            }
            let room = buffers.share.take(copies);
            let exit = if room { exit } else { Stop::MemoryFull.exit() };
            let judged = judge(
                &exit,
                used,
                &buffers.stdout,
                exchange,
                output,
                contract,
                &inner.config.limits,
            );
            let body = judged.as_ref().map_or(0, |response| response.body.len());
            let held = if inner.shared.hold_answers && body > SHORT_ANSWER {
                buffers.share.leave_outside(body as u64)
            } else {
                0
            };
            let (outcome, status, reason) = match &judged {
                Ok(response) => (Outcome::Ok, response.status, ""),
                Err(refusal) => (refusal.outcome, refusal.status, refusal.reason.as_str()),
            };
            inner.shared.counters.called(inner.backend, outcome);
            sink(Reached::Answer(&Answer {
                outcome,
                status,
                response: judged.as_ref().ok(),
                is_rest: matches!(output, Output::Body { .. }),
                reason,
                logs: &logs,
                logs_dropped,
                duration,
                memory_peak: used.peak(),
                held,
            }))
        };
        inner.shared.buffers.give(buffers);
        result
    }

    /// Runs one sandbox with the given stdin, without the contract. For tests, benchmarks and comparisons.
    pub fn run(&self, permit: Permit, stdin: Vec<u8>) -> Result<RawRun> {
        let inner = &*self.inner;
        let program = inner.program(&[])?;
        let mut buffers = inner.shared.buffers.take();
        buffers.stdin = stdin;
        let begun = Instant::now();
        let finished = caught(|| {
            let host = inner.host(permit, program, buffers, false)?;
            let limits = &inner.config.limits;
            let slots = &inner.shared.slots;
            inner.loaded.run(slots, inner.plan(), limits, host, None)
        });
        let duration = begun.elapsed();
        let Finished { exit, host, .. } = finished?;
        let (memory_peak, memory_refused) = (host.memory.peak(), host.memory.refused());
        let (buffers, logs, _) = host.into_parts();
        Ok(RawRun {
            exit,
            stdout: buffers.stdout,
            logs,
            duration,
            memory_peak,
            memory_refused,
        })
    }
}

/// How far a call has come.
#[derive(Debug)]
pub enum Reached<'a> {
    /// The guest has ended.
    Answer(&'a Answer<'a>),
    /// The guest waits, and the call is suspended.
    Waiting(&'a Waiting<'a>),
}

/// A call that is suspended.
#[derive(Debug)]
pub struct Waiting<'a> {
    /// What the guest waits for.
    pub event: &'a Event,
    /// When the call must have ended. A call that is resumed later ends as a timeout.
    pub deadline: Instant,
    /// The response of a stream, without its body; with the first event after the guest has written it.
    pub head: Option<&'a Response<'a>>,
    /// What the guest has written to the body of its stream since the last event.
    pub output: &'a [u8],
}

/// The result of a call.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The row of the contract's table.
    pub outcome: Outcome,
    /// The HTTP status for the client. For [`Outcome::Cancelled`] it is 499, for logs only: the client has gone away.
    pub status: u16,
    /// The function's response, for [`Outcome::Ok`] only.
    pub response: Option<&'a Response<'a>>,
    /// Whether the head of the response, and a part of its body, came with an [`Event`] before: the response has the rest of the
    /// body then, and nothing else.
    pub is_rest: bool,
    /// Which rule was broken, for the log. Empty for [`Outcome::Ok`].
    pub reason: &'a str,
    /// Packed log lines, see [`crate::logs`].
    pub logs: &'a [u8],
    /// What the guest logged beyond the limit, which was dropped.
    pub logs_dropped: Dropped,
    /// From the beginning of the call to the guest's end.
    pub duration: Duration,
    /// The most linear memory the guest had, in bytes.
    pub memory_peak: u64,
    /// How many bytes of the engine's memory stay taken for this answer, if the engine
    /// [holds answers](super::EngineConfig::hold_answers) and it is long. The caller gives them back by
    /// [`Engine::give_memory`](super::Engine::give_memory) when it has let go of the answer.
    pub held: u64,
}

impl<'a> Answer<'a> {
    fn refused(outcome: Outcome, status: u16, reason: &'a str) -> Self {
        Self {
            outcome,
            status,
            response: None,
            is_rest: false,
            reason,
            logs: &[],
            logs_dropped: Dropped::default(),
            duration: Duration::ZERO,
            memory_peak: 0,
            held: 0,
        }
    }
}

/// The result of a run without the contract.
#[derive(Debug)]
pub struct RawRun {
    /// How the guest ended.
    pub exit: GuestExit,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// Packed log lines, see [`crate::logs`].
    pub logs: Vec<u8>,
    /// From the beginning of the call to the guest's end.
    pub duration: Duration,
    /// The most linear memory it had, in bytes.
    pub memory_peak: u64,
    /// How often it was refused memory or table elements.
    pub memory_refused: u32,
}

/// A body of at most this many bytes is not [held](Answer::held).
const SHORT_ANSWER: usize = 64 << 10;

/// Bytes of a call beside memory and bodies: its state, log lines, the buffers that are kept.
const BESIDE: u64 = 256 << 10;

/// Bytes that the decoded body of a response and its copy for the caller take at most.
fn decoded_at_most(stdout: &[u8]) -> u64 {
    match stdout.len() {
        ..=SHORT_ANSWER => 0,
        bytes => 2 * bytes as u64,
    }
}

impl Inner {
    /// How many bytes a call holds when its guest starts: the sandbox's first memory, and the request as the guest reads it,
    /// which has at most twice the bytes of its parts.
    fn holds_at_first(&self, request: &Request<'_>) -> u64 {
        let plan = self.snapshot.as_ref().unwrap_or(&self.loaded.plain);
        let headers = request
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let request = request.body.len() + headers.sum::<usize>();
        BESIDE + plan.bytes() + 2 * request as u64
    }

    /// The program of one call, with its per-request values.
    fn program(&self, per_request: &[&[u8]]) -> Result<Arc<Program>> {
        if per_request.len() != self.per_request_values {
            return Err(Error::config(format!(
                "function {} needs {} per-request values in each call, but {} were given",
                self.config.name,
                self.per_request_values,
                per_request.len()
            )));
        }
        if per_request.is_empty() {
            return Ok(Arc::clone(self.programs.here()));
        }
        let mut values = per_request.iter();
        let mut next = |what: &str| -> Result<Vec<u8>> {
            let value = values.next().copied().unwrap_or_default();
            if value.contains(&0) {
                return Err(Error::config(format!(
                    "the value of {what} contains a NUL byte"
                )));
            }
            Ok(value.to_vec())
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

    /// How its sandboxes start.
    fn plan(&self) -> &StartPlan {
        self.snapshot.as_ref().unwrap_or(&self.loaded.plain)
    }

    /// The host side of one call, which begins now.
    fn host(
        &self,
        permit: Permit,
        program: Arc<Program>,
        buffers: Buffers,
        suspends: bool,
    ) -> Result<Box<HostState>> {
        let mounts = match &self.mounts {
            Some(set) => Some(set.open()?),
            None => None,
        };
        let limits = &self.config.limits;
        let call = permit.begin(limits.timeout);
        let mut host = Box::new(HostState::new(
            call,
            program,
            mounts,
            self.config.contract,
            buffers,
            limits,
        ));
        host.suspends = suspends;
        if suspends {
            host.output = Output::Open(Scan::default());
        }
        self.plan().prepare(&mut host);
        Ok(host)
    }
}

/// The end of a guest that is dropped where it waits.
fn dropped(mut host: Box<HostState>, why: Stop) -> Progress {
    host.stop(why);
    Progress::Finished(Finished {
        exit: host.exit(None),
        host,
        captured: None,
    })
}

/// Runs a part of a call. A panic becomes an error.
fn caught<R>(part: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(part)).unwrap_or_else(|panic| {
        Err(Error::host(format!(
            "a bug in Gojinn: the call panicked: {}; please report it",
            panic_text(&*panic)
        )))
    })
}
