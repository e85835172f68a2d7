//! Compiles a module in a separate process, so that the engine goes on whatever happens to that process.
//!
//! ```text
//!   engine ── order and module: stdin, a file in memory ──▶ process: limits, then one compilation (worker.rs)
//!      ▲                                                      │
//!      ├── messages: stderr, a pipe; closed at its end ───────┤
//!      └── reply: stdout, a file in memory ───────────────────┘  sealed once the process has ended, then verified, then loaded
//! ```
//!
//! The process is started with `posix_spawn`, which does not copy the engine's memory, with an empty environment and
//! these three files. It gets a random key that no other process has, so a reply whose MAC was made with the key is
//! from this process. The thread that starts the process waits for its end; if that thread ends, for example because
//! the engine was killed, the kernel kills the process.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{self, select};

use super::wire::{Body, Key, Order, Subject, Trailer};
use super::worker::READY;
use crate::backend::{Artifact, Backend, Content};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::memory::{Sealed, file_in_memory, machine_memory};
use crate::wasm::{Wasm, most_expensive_function};

/// How many of the last bytes of a process's messages are kept. The reason for its end is in the last lines.
const KEPT_WORDS: usize = 4096;

/// How to start a process that compiles, and what it may use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CompileProcess {
    /// A program and its arguments. The program calls [`serve_compilation`](crate::serve_compilation) and exits with
    /// the code that this returns. `/proc/self/exe` is the program that contains the engine.
    pub command: Vec<OsString>,
    /// Bytes of memory that the process may use.
    pub memory: u64,
}

impl CompileProcess {
    /// A process that runs `command` and may use [the default amount of memory](Self::default_memory).
    pub fn new(command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            memory: Self::default_memory(),
        }
    }

    /// Half of the machine's memory (or of the control group's), at least 512 MiB, at most 2 GiB. Compiling Ruby (16
    /// MB) takes 600 MB, a small Go program (3.4 MB) 80 MB. If several processes together need more memory than there
    /// is, the kernel kills one of them before other processes of the machine.
    #[must_use]
    pub fn default_memory() -> u64 {
        (machine_memory() as u64 / 2).clamp(512 << 20, 2 << 30)
    }

    /// The smallest limit that can be set, 256 MiB. With less, most modules could not be compiled.
    pub const LEAST_MEMORY: u64 = 256 << 20;

    /// Refuses settings that cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        if self.command.is_empty() {
            return Err(Error::config(
                "compile_command is empty; it must name a program, or be left out to compile in this process",
            ));
        }
        if self.memory < Self::LEAST_MEMORY {
            return Err(Error::config(format!(
                "compile_memory is {} bytes; it must be at least {} (256 MiB)",
                self.memory,
                Self::LEAST_MEMORY
            )));
        }
        Ok(())
    }
}

/// Why there is no artifact.
#[derive(Debug)]
pub(super) enum Failure {
    /// The process ended before it began to compile, so the module is not the reason; it can be compiled in this process.
    NotStarted(String),
    /// The compilation was stopped.
    Stopped,
    /// The process ended without an artifact.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Starts a process as `process` says, which compiles `code` with the same backend as `backend`. It may use `cpu` of
/// CPU time, and is killed at `stop`.
pub(super) fn compile(
    process: &CompileProcess,
    backend: &dyn Backend,
    code: &Wasm,
    cpu: Duration,
    stop: &Cancel,
) -> Result<Artifact, Failure> {
    let key = Key::random().map_err(|error| not_started("has no key", &error))?;
    let order = Order {
        key,
        memory: process.memory,
        cpu_seconds: cpu.as_secs().max(1),
        parent: std::process::id(),
        backend: backend.name().to_owned(),
        features: code.features().names().join(","),
        module_len: code.bytes().len() as u64,
    };
    let begun = start(process, &order, code.bytes());
    let (mut child, reply) = begun.map_err(|error| {
        if is_exhaustion(&error) {
            let what = "the process that should compile the module cannot be started now; deploy it again later";
            return Error::host(what).because(error).into();
        }
        not_started("cannot be started", &error)
    })?;
    let end = child
        .wait(stop)
        .map_err(|error| not_started("cannot be waited for", &error))?;
    if stop.is_cancelled() && !end.status.success() {
        return Err(Failure::Stopped);
    }
    // If the process was killed, the machine probably had no memory left; then this process must not compile the module.
    if !end.was_ready && end.status.signal() != Some(libc::SIGKILL) {
        return Err(Failure::NotStarted(format!(
            "{}: {}",
            describe(end.status),
            end.words
        )));
    }
    if !end.status.success() {
        return Err(died(process, code, &end).into());
    }
    let fingerprint = backend.fingerprint();
    let subject = Subject {
        key: &key,
        backend: backend.name(),
        code_hash: code.sha256(),
        fingerprint: &fingerprint,
    };
    let (kind, body) = read_reply(reply, &subject)?;
    match kind {
        Body::Artifact => Ok(Artifact::from_cache(
            backend.name(),
            fingerprint,
            Content::Sealed(Arc::new(body)),
        )),
        Body::Refused(kind) => Err(Error::new(kind, String::from_utf8_lossy(body.bytes())).into()),
    }
}

/// Whether the machine had no resources left for another process. Later it may have some.
fn is_exhaustion(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE)
    )
}

fn not_started(what: &str, error: &std::io::Error) -> Failure {
    Failure::NotStarted(format!("{what}: {error}"))
}

/// Starts a process and gives it its order. The returned file will contain its reply.
fn start(
    process: &CompileProcess,
    order: &Order,
    module: &[u8],
) -> std::io::Result<(Started, File)> {
    let mut input = file_in_memory(c"gojinn-order")?;
    order.write(&mut input)?;
    input.write_all(module)?;
    input.rewind()?;
    let reply = file_in_memory(c"gojinn-code")?;
    let (program, args) = process
        .command
        .split_first()
        .ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .stdin(input)
        .stdout(reply.try_clone()?)
        .stderr(Stdio::piped())
        // The signals that a terminal sends to the engine are not meant for this process.
        .process_group(0);
    // Without this variable, a program that finds Gojinn's library by it would not start.
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", path);
    }
    Ok((Started(command.spawn()?), reply))
}

/// A process that was started. It is killed at the latest when this is dropped.
struct Started(Child);

/// How a process ended.
struct End {
    status: ExitStatus,
    /// Whether it began to compile.
    was_ready: bool,
    /// Its last messages.
    words: String,
}

impl Started {
    /// Waits until the process has ended, or kills it at `stop`.
    fn wait(&mut self, stop: &Cancel) -> std::io::Result<End> {
        let words = self.0.stderr.take();
        let (said, hears) = channel::bounded(1);
        let listener = std::thread::Builder::new()
            .name("gojinn-compile-log".into())
            .spawn(move || said.send(listen(words)))?;
        let heard = select! {
            recv(hears) -> heard => heard.ok(),
            recv(stop.happened()) -> _ => None,
        };
        // The process has closed its stderr, so it has ended or is about to; or `stop` was cancelled. Killing does
        // nothing to a process that has ended.
        self.0.kill()?;
        let status = self.0.wait()?;
        let heard = heard.or_else(|| hears.recv().ok());
        let _ = listener.join();
        let (was_ready, words) = heard.unwrap_or_default();
        Ok(End {
            status,
            was_ready,
            words,
        })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // If `wait` has returned before, both calls fail and do nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads the messages of a process to their end. Returns whether it began to compile, and the last messages.
fn listen(words: Option<impl Read>) -> (bool, String) {
    let mut kept = Vec::new();
    let mut ready = None;
    if let Some(mut words) = words {
        let mut buffer = [0; 1024];
        // An error ends the messages too.
        while let Ok(read @ 1..) = words.read(&mut buffer) {
            kept.extend_from_slice(&buffer[..read]);
            if ready.is_none() && kept.len() >= READY.len() {
                ready = Some(kept.starts_with(READY));
            }
            if kept.len() > KEPT_WORDS {
                kept.drain(..kept.len() - KEPT_WORDS);
            }
        }
    }
    let text = String::from_utf8_lossy(&kept);
    let text = text
        .strip_prefix(&*String::from_utf8_lossy(READY))
        .unwrap_or(&text);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (ready.unwrap_or_default(), line)
}

/// Reads the reply in `file`: seals the file, so that it cannot change, and then verifies it.
fn read_reply(file: File, subject: &Subject<'_>) -> Result<(Body, Sealed)> {
    let wrong = |why: &str| {
        Error::new(
            ErrorKind::Compile,
            format!(
                "the reply of the compiling process is not used: {why}; deploy the module again"
            ),
        )
    };
    let trailer = Trailer::read(&file).map_err(|why| wrong(&why))?;
    if trailer.len == 0 {
        return Err(wrong("it is empty"));
    }
    let body = Sealed::of_file(file, trailer.len)
        .map_err(|error| wrong("it cannot be sealed").because(error))?;
    let kind = trailer.verify(subject, body.bytes()).map_err(wrong)?;
    Ok((kind, body))
}

/// The error for a process that ended without a reply while it compiled `code`.
fn died(process: &CompileProcess, code: &Wasm, end: &End) -> Error {
    let memory = process.memory >> 20;
    let what = match end.status.signal() {
        _ if says_no_memory(&end.words) => format!(
            "compiling the module needed more than the {memory} MiB of memory that it may use (compile_memory)"
        ),
        Some(libc::SIGXCPU) => {
            "compiling the module took more CPU time than compile_timeout allows on all cores".into()
        }
        Some(libc::SIGKILL) => {
            "the process that compiled the module was killed, perhaps because the machine had no memory left".into()
        }
        _ => format!(
            "the process that compiled the module ended with {}: {}",
            describe(end.status),
            end.words
        ),
    };
    let worst = most_expensive_function(code.bytes())
        .map(|function| format!("; what takes most to compile is {function}"))
        .unwrap_or_default();
    Error::new(
        ErrorKind::Compile,
        format!("{what}{worst}; split it into smaller functions, or build with less inlining"),
    )
    .blame(Fault::Guest)
}

/// Whether a process ended because it got no more memory, from the messages that Rust and the C library write then.
fn says_no_memory(words: &str) -> bool {
    [
        "memory allocation of",
        "annot allocate memory",
        "out of memory",
    ]
    .iter()
    .any(|part| words.contains(part))
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "an unknown status".into(),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
