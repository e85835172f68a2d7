//! The opaque types of the ABI, and the safe Rust functions that use them.

use std::sync::Arc;

use engine_core::backend::Backend;
use engine_core::{CallId, Cancel, Engine, Error, ErrorKind, Function, HostReply, Reached};

use crate::codes::{self, GOJINN_BAD_FRAME, GOJINN_STALE_CALL};
use crate::config;
use crate::frame::{self, Head, gojinn_answer, gojinn_event};

/// An engine. It has one owner, who frees it with `gojinn_engine_free`.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_engine(pub(crate) Engine);

/// A handle that cancels deployments. It has one owner, who frees it with `gojinn_cancel_free`.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_cancel(pub(crate) Cancel);

/// A deployed function, which keeps its engine alive. It has one owner, who frees it with `gojinn_function_free`.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_function {
    pub(crate) function: Function,
    pub(crate) engine: Engine,
}

/// An error. It has one owner, who frees it with `gojinn_error_free`.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_error {
    pub(crate) code: i32,
    pub(crate) message: String,
}

/// A frame that did not fit into the caller's buffer. It has one owner, who frees it with `gojinn_rest_free`.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_rest(pub(crate) Vec<u8>);

/// Frees a handle. Does nothing for NULL.
///
/// # Safety
/// `handle` is NULL, or came from `Box::into_raw` and was not freed.
pub(crate) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: the caller guarantees that this is the only owner of the box.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// Makes an engine with all backends of this build.
pub(crate) fn new_engine(config: &[u8]) -> Result<gojinn_engine, gojinn_error> {
    let config = config::engine(config)?;
    Ok(gojinn_engine(Engine::new(config, backends()?)?))
}

/// Deploys a function on `engine`.
pub(crate) fn new_function(
    engine: &Engine,
    wasm: &[u8],
    config: &[u8],
    cancel: Option<&Cancel>,
) -> Result<gojinn_function, gojinn_error> {
    let config = config::function(config)?;
    let name = config.name.clone();
    let function = match cancel {
        Some(cancel) => engine.deploy_unless(cancel, wasm, config),
        None => engine.deploy(wasm, config),
    };
    let function = function.map_err(|error| error.within(format_args!("function {name}")))?;
    Ok(gojinn_function {
        function,
        engine: engine.clone(),
    })
}

/// How far a call has come. The frame is in the caller's buffer, or in the rest if it did not fit.
pub(crate) enum Filled {
    Answer(gojinn_answer, Option<gojinn_rest>),
    Event(gojinn_event, Option<gojinn_rest>),
}

impl Filled {
    fn new(reached: Reached<'_>, out: &mut [u8]) -> Self {
        match reached {
            Reached::Answer(answer) => {
                let (filled, rest) = frame::write(answer, out);
                Self::Answer(filled, rest)
            }
            Reached::Waiting(waiting) => {
                let (filled, rest) = frame::write_event(waiting, out);
                Self::Event(filled, rest)
            }
        }
    }
}

/// Begins one call, and runs its guest until it has ended or waits.
pub(crate) fn call(
    function: &gojinn_function,
    id: CallId,
    head: &[u8],
    body: &[u8],
    out: &mut [u8],
) -> Result<Filled, i32> {
    let permit = function.engine.claim(id).map_err(|_| GOJINN_STALE_CALL)?;
    let head = Head::parse(head).ok_or(GOJINN_BAD_FRAME)?;
    function
        .function
        .begin(permit, &head.request(body), &head.per_request, |reached| {
            Filled::new(reached, out)
        })
        .map_err(|error| match error.kind() {
            // The only mistakes that a request can make here: a wrong number of per-request values, or a NUL byte in one.
            ErrorKind::Config => GOJINN_BAD_FRAME,
            _ => codes::code(&error),
        })
}

/// Goes on with a suspended call, until its guest has ended or waits again.
pub(crate) fn resume(
    engine: &Engine,
    id: CallId,
    code: i32,
    reply: &[u8],
    out: &mut [u8],
) -> Result<Filled, i32> {
    let reply = HostReply {
        code,
        bytes: reply.to_vec(),
    };
    engine
        .resume(id, reply, |reached| Filled::new(reached, out))
        .map_err(|_| GOJINN_STALE_CALL)
}

/// Compiles what the engine that started this process wants compiled.
pub(crate) fn serve_compilation() -> i32 {
    engine_core::serve_compilation(|wanted| {
        match makers().into_iter().find(|(name, _)| *name == wanted) {
            Some((_, make)) => make(),
            None => Err(Error::new(
                ErrorKind::Unsupported,
                format!("backend {wanted} is not in the process that compiles"),
            )),
        }
    })
}

/// All backends of this build, the default one first.
pub(crate) fn backends() -> Result<Vec<Arc<dyn Backend>>, Error> {
    makers().into_iter().map(|(_, make)| make()).collect()
}

/// Makes a backend.
type Make = fn() -> Result<Arc<dyn Backend>, Error>;

/// The backends of this build by their names, the default one first. An engine's and those of the processes that compile for it
/// are set up alike.
fn makers() -> Vec<(&'static str, Make)> {
    vec![
        #[cfg(feature = "wasmtime")]
        ("wasmtime", || {
            Ok(Arc::new(backend_wasmtime::Wasmtime::new(
                Default::default(),
            )?))
        }),
        #[cfg(feature = "wasmer")]
        ("wasmer", || {
            Ok(Arc::new(backend_wasmer::Wasmer::new(Default::default())?))
        }),
        #[cfg(feature = "wasmi")]
        ("wasmi", || {
            Ok(Arc::new(backend_wasmi::Wasmi::new(Default::default())?))
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_made_by_the_names_they_have() {
        for (name, make) in makers() {
            assert_eq!(make().unwrap().name(), name);
        }
    }
}
