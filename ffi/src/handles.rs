//! The opaque types of the ABI and what is done with them, in plain Rust.

use std::sync::Arc;

use engine_core::backend::Backend;
use engine_core::{CallId, Cancel, Engine, Error, ErrorKind, Function};

use crate::codes::{self, GOJINN_BAD_FRAME, GOJINN_STALE_CALL};
use crate::config;
use crate::frame::{self, Head, gojinn_answer};

/// An engine. A box of one owner; freed by `gojinn_engine_free`.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_engine(pub(crate) Engine);

/// What deployments are cancelled with. A box of one owner; freed by `gojinn_cancel_free`.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_cancel(pub(crate) Cancel);

/// A deployed function. A box of one owner that holds its engine too; freed by `gojinn_function_free`.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_function {
    pub(crate) function: Function,
    pub(crate) engine: Engine,
}

/// An error. A box of one owner; freed by `gojinn_error_free`.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_error {
    pub(crate) code: i32,
    pub(crate) message: String,
}

/// A frame that did not fit into the caller's buffer. A box of one owner; freed by `gojinn_rest_free`.
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct gojinn_rest(pub(crate) Vec<u8>);

/// Frees a handle; NULL is nothing to do.
///
/// # Safety
/// `handle` is NULL, or came from `Box::into_raw` and was not freed.
pub(crate) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: by the caller's promise this is the one owner of the box.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// An engine with every backend of this build.
pub(crate) fn new_engine(config: &[u8]) -> Result<gojinn_engine, gojinn_error> {
    let config = config::engine(config)?;
    Ok(gojinn_engine(Engine::new(config, backends()?)?))
}

/// A function on `engine`.
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

/// One call. The frame is in `out`, or in the rest where it did not fit.
pub(crate) fn call(
    function: &gojinn_function,
    id: CallId,
    head: &[u8],
    body: &[u8],
    out: &mut [u8],
) -> Result<(gojinn_answer, Option<gojinn_rest>), i32> {
    let permit = function.engine.claim(id).map_err(|_| GOJINN_STALE_CALL)?;
    let head = Head::parse(head).ok_or(GOJINN_BAD_FRAME)?;
    function
        .function
        .call(permit, &head.request(body), &head.late, |answer| {
            frame::write(answer, out)
        })
        .map_err(|error| match error.kind() {
            // What a request can get wrong here is the number of per-request values or a NUL in one.
            ErrorKind::Config => GOJINN_BAD_FRAME,
            _ => codes::code(&error),
        })
}

/// Every backend of this build, the default one first.
fn backends() -> Result<Vec<Arc<dyn Backend>>, Error> {
    Ok(vec![
        #[cfg(feature = "wasmtime")]
        Arc::new(backend_wasmtime::Wasmtime::new(Default::default())?),
        #[cfg(feature = "wasmer")]
        Arc::new(backend_wasmer::Wasmer::new(Default::default())?),
        #[cfg(feature = "wasmi")]
        Arc::new(backend_wasmi::Wasmi::new(Default::default())?),
    ])
}
