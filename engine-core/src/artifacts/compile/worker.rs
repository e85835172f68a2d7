//! The work of the process that compiles: it reads one order, confines itself, compiles, writes the reply, and ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::confine;
use super::wire::{Body, Order, Subject, write_reply};
use crate::backend::{Backend, Fingerprint};
use crate::error::{Error, ErrorKind, Result, panic_text};
use crate::priority::step_back;
use crate::threads::DEPLOY_STACK;
use crate::wasm::{Features, Wasm};

/// The first message of a process, written when it has its order and its limits. If the process dies after it, the
/// module is the reason.
pub(super) const READY: &[u8] = b"ready\n";

/// The exit code of a process that did not get an order on stdin.
const MISUSED: i32 = 2;

/// Compiles one module for the engine that started this process, and returns the code to exit with.
///
/// `backend` creates the backend with the given name, with the same settings as the engine's. Call this function before
/// the process does anything else: it closes all files but the first three, and limits the process until its end.
pub fn serve_compilation(backend: impl FnOnce(&str) -> Result<Arc<dyn Backend>> + Send) -> i32 {
    match serve(backend) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "this command is only for Gojinn's engine, which starts it to compile a module: {error}"
            );
            MISUSED
        }
    }
}

fn serve(backend: impl FnOnce(&str) -> Result<Arc<dyn Backend>> + Send) -> io::Result<()> {
    confine::close_other_files();
    // SAFETY: descriptors 0 and 1 are open as long as the process: neither this function (`ManuallyDrop`) nor the
    // function above closes them, and neither do std's handles.
    let (mut input, output) = unsafe {
        (
            ManuallyDrop::new(File::from_raw_fd(0)),
            ManuallyDrop::new(File::from_raw_fd(1)),
        )
    };
    let order = Order::read(&mut *input)?;
    confine::die_with_parent(order.parent)?;
    confine::limit(&order)?;
    io::stderr().write_all(READY)?;

    let mut module = Vec::new();
    let wanted = order.module_len;
    let read = (&mut *input).take(wanted).read_to_end(&mut module)?;
    if read as u64 != wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let features = Features::from_names(order.features.split(',').filter(|name| !name.is_empty()))
        .ok_or_else(|| io::Error::other("a feature is unknown"))?;
    let code = Wasm::of_code(module.into(), features);

    let compiled = on_large_stack(|| {
        step_back();
        let backend = backend(&order.backend)?;
        Ok((backend.compile(&code)?, backend.fingerprint()))
    });
    let none = Fingerprint(String::new());
    let (fingerprint, kind, body) = match &compiled {
        Ok((artifact, fingerprint)) => (fingerprint, Body::Artifact, artifact.bytes()),
        Err((kind, text)) => (&none, Body::Refused(*kind), text.as_bytes()),
    };
    let subject = Subject {
        key: &order.key,
        backend: &order.backend,
        code_hash: code.sha256(),
        fingerprint,
    };
    write_reply(&output, &subject, kind, body)
}

/// Runs a compilation on a thread with a stack as large as in the engine. An error is returned as its kind and its text.
fn on_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T, (ErrorKind, String)> {
    let result = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("gojinn-compile".into())
            .stack_size(DEPLOY_STACK)
            .spawn_scoped(scope, || {
                catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
                    Err(Error::host(format!(
                        "a bug in Gojinn: compiling panicked: {}; please report it",
                        panic_text(&*panic)
                    )))
                })
            })
            .map_err(|error| Error::host("cannot start a thread to compile on").because(error))?
            .join()
            .unwrap_or_else(|_| {
                Err(Error::host(
                    "a bug in Gojinn: the compiling thread panicked; please report it",
                ))
            })
    });
    result.map_err(|error| (error.kind(), error.to_string()))
}
