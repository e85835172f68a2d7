//! Gojinn's C ABI. It only translates between C and Rust. `docs/abi.md` documents what the signatures cannot express.
//!
//! Every exported function has a few lines: it checks the pointers, calls safe Rust inside the panic boundary, and
//! translates the result.

mod boundary;
mod codes;
mod config;
mod frame;
mod handles;
#[cfg(test)]
mod panics;

use std::ptr;

use engine_core::{CallId, Cancel, Engine};

use boundary::{attempt, bytes, give, give_text, guard};
pub use codes::{
    GOJINN_ABI_VERSION, GOJINN_BAD_CONFIG, GOJINN_BAD_FRAME, GOJINN_CANCELLED, GOJINN_COMPILE,
    GOJINN_HOST, GOJINN_INVALID_MODULE, GOJINN_LOAD, GOJINN_NULL_ARGUMENT, GOJINN_OK, GOJINN_PANIC,
    GOJINN_REJECTED, GOJINN_STALE_CALL, GOJINN_UNSUPPORTED, GOJINN_WAITING,
};
pub use frame::{gojinn_answer, gojinn_event};
pub use handles::{gojinn_cancel, gojinn_engine, gojinn_error, gojinn_function, gojinn_rest};

/// The version of the ABI that this library was built with. Compare it with `GOJINN_ABI_VERSION` of the header.
#[unsafe(no_mangle)]
pub extern "C" fn gojinn_abi_version() -> u32 {
    GOJINN_ABI_VERSION
}

/// Compiles one module for the engine that started this process with its `compile_command`, and returns the code to exit with.
/// To be called first thing: it closes every file but the first three, and confines the process for good.
#[unsafe(no_mangle)]
pub extern "C" fn gojinn_compile_process() -> i32 {
    guard(GOJINN_PANIC, handles::serve_compilation)
}

/// Makes an engine from a configuration in JSON (`{}` for the defaults).
///
/// # Safety
/// `config` is readable for `config_len` bytes; `engine` and `error` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_engine_new(
    config: *const u8,
    config_len: usize,
    engine: *mut *mut gojinn_engine,
    error: *mut *mut gojinn_error,
) -> i32 {
    // SAFETY: the caller's promise is passed on.
    let config = unsafe { bytes(config, config_len) };
    let made = || handles::new_engine(config.ok_or_else(codes::null_argument)?);
    // SAFETY: the caller's promise is passed on.
    unsafe { give(made, engine, error) }
}

/// Frees an engine. Its functions stay alive. Calls that are suspended are ended.
///
/// # Safety
/// `engine` is NULL or came from `gojinn_engine_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_engine_free(engine: *mut gojinn_engine) {
    guard((), || {
        // SAFETY: by the caller's promise `engine` is live, or NULL.
        if let Some(engine) = unsafe { engine.as_ref() } {
            engine.0.drop_suspended();
        }
        // SAFETY: by the caller's promise this is the one Box that `give` leaked.
        unsafe { handles::free(engine) };
    });
}

/// Describes the engine as JSON: its backends, the default one, the number of permits for calls, and why there is no
/// memory pool if there is none.
///
/// # Safety
/// `engine` is a live engine; `out` is writable for `out_cap` bytes; `len` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_engine_describe(
    engine: *const gojinn_engine,
    out: *mut u8,
    out_cap: usize,
    len: *mut usize,
) -> i32 {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        give_text(
            engine
                .as_ref()
                .map(|engine| || config::describe_engine(&engine.0)),
            out,
            out_cap,
            len,
        )
    }
}

/// Removes everything from the engine's artifact cache, and writes how much that was. Functions stay as they are.
/// `GOJINN_BAD_CONFIG` if there is no cache, `GOJINN_HOST` if something could not be removed.
///
/// # Safety
/// `engine` is a live engine; `entries`, `bytes` and `error` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_engine_purge_cache(
    engine: *const gojinn_engine,
    entries: *mut u64,
    bytes: *mut u64,
    error: *mut *mut gojinn_error,
) -> i32 {
    // SAFETY: by the caller's promise `engine` is live, or NULL.
    let Some(engine) = (unsafe { engine.as_ref() }) else {
        return GOJINN_NULL_ARGUMENT;
    };
    if entries.is_null() || bytes.is_null() {
        return GOJINN_NULL_ARGUMENT;
    }
    let purge = || {
        let purged = engine.0.purge_cache()?;
        // SAFETY: by the caller's promise both are writable, and neither is NULL.
        unsafe {
            entries.write(purged.entries);
            bytes.write(purged.bytes);
        }
        Ok(())
    };
    // SAFETY: the caller's promise is passed on.
    unsafe { attempt(purge, error) }
}

/// All metrics of the engine in the text format of Prometheus.
///
/// # Safety
/// `engine` is a live engine; `out` is writable for `out_cap` bytes; `len` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_engine_metrics(
    engine: *const gojinn_engine,
    out: *mut u8,
    out_cap: usize,
    len: *mut usize,
) -> i32 {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        give_text(
            engine.as_ref().map(|engine| || engine.0.render_metrics()),
            out,
            out_cap,
            len,
        )
    }
}

/// Makes a handle that cancels deployments.
#[unsafe(no_mangle)]
pub extern "C" fn gojinn_cancel_new() -> *mut gojinn_cancel {
    guard(ptr::null_mut(), || {
        Box::into_raw(Box::new(gojinn_cancel(Cancel::new())))
    })
}

/// Cancels the deployments that `cancel` was or will be passed to, from any thread and at any time. The second time does
/// nothing.
///
/// # Safety
/// `cancel` is NULL or came from `gojinn_cancel_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_cancel_set(cancel: *const gojinn_cancel) {
    // SAFETY: by the caller's promise `cancel` is live, or NULL.
    let cancel = unsafe { cancel.as_ref() };
    guard((), || {
        if let Some(cancel) = cancel {
            cancel.0.cancel();
        }
    });
}

/// Frees a cancel handle. Deployments that it was passed to go on.
///
/// # Safety
/// `cancel` is NULL or came from `gojinn_cancel_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_cancel_free(cancel: *mut gojinn_cancel) {
    // SAFETY: by the caller's promise this is the one Box that `gojinn_cancel_new` leaked.
    guard((), || unsafe { handles::free(cancel) });
}

/// Deploys a module. Takes seconds for a large module that is new. It waits for the compilation for the engine's
/// `compile_timeout` at most. `cancel` may be NULL. A deployment that it cancels returns `GOJINN_CANCELLED` soon.
///
/// # Safety
/// `engine` is a live engine; `wasm` and `config` are readable for their lengths; `cancel` is NULL, or live until this
/// returns; `function` and `error` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_function_new(
    engine: *const gojinn_engine,
    wasm: *const u8,
    wasm_len: usize,
    config: *const u8,
    config_len: usize,
    cancel: *const gojinn_cancel,
    function: *mut *mut gojinn_function,
    error: *mut *mut gojinn_error,
) -> i32 {
    // SAFETY: the caller's promise is passed on.
    let (engine, wasm, config, cancel) = unsafe {
        (
            engine.as_ref(),
            bytes(wasm, wasm_len),
            bytes(config, config_len),
            cancel.as_ref(),
        )
    };
    let made = || {
        let (Some(engine), Some(wasm), Some(config)) = (engine, wasm, config) else {
            return Err(codes::null_argument());
        };
        handles::new_function(&engine.0, wasm, config, cancel.map(|cancel| &cancel.0))
    };
    // SAFETY: the caller's promise is passed on.
    unsafe { give(made, function, error) }
}

/// Frees a function. Running calls keep what they use alive.
///
/// # Safety
/// `function` is NULL or came from `gojinn_function_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_function_free(function: *mut gojinn_function) {
    // SAFETY: by the caller's promise this is the one Box that `give` leaked.
    guard((), || unsafe { handles::free(function) });
}

/// Describes a function as JSON: its backend, hash, sizes, form, and how long its compilation took.
///
/// # Safety
/// `function` is a live function; `out` is writable for `out_cap` bytes; `len` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_function_describe(
    function: *const gojinn_function,
    out: *mut u8,
    out_cap: usize,
    len: *mut usize,
) -> i32 {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        give_text(
            function
                .as_ref()
                .map(|function| || config::describe_function(&function.function)),
            out,
            out_cap,
            len,
        )
    }
}

/// Takes a permit for a call and writes the call's id, which is never 0. `GOJINN_REJECTED` if every permit is taken.
///
/// # Safety
/// `engine` is a live engine; `call` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_call_new(engine: *const gojinn_engine, call: *mut u64) -> i32 {
    // SAFETY: by the caller's promise `engine` is live, or NULL.
    let Some(engine) = (unsafe { engine.as_ref() }) else {
        return GOJINN_NULL_ARGUMENT;
    };
    if call.is_null() {
        return GOJINN_NULL_ARGUMENT;
    }
    guard(GOJINN_PANIC, || match engine.0.reserve_id() {
        Ok(id) => {
            // SAFETY: by the caller's promise `call` is writable, and it is not NULL.
            unsafe { call.write(id.0) };
            GOJINN_OK
        }
        Err(error) => codes::code(&error),
    })
}

/// Gives back the permit of a call that was not used. Does nothing for a stale id.
///
/// # Safety
/// `engine` is NULL or a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_call_free(engine: *const gojinn_engine, call: u64) {
    // SAFETY: by the caller's promise `engine` is live, or NULL.
    let engine: Option<&Engine> = unsafe { engine.as_ref() }.map(|engine| &engine.0);
    guard((), || {
        drop(engine.map(|engine| engine.claim(CallId(call))));
    });
}

/// Cancels a call, from any thread and at any time. Does nothing for a stale id.
///
/// # Safety
/// `engine` is NULL or a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_call_cancel(engine: *const gojinn_engine, call: u64) {
    // SAFETY: by the caller's promise `engine` is live, or NULL.
    let engine: Option<&Engine> = unsafe { engine.as_ref() }.map(|engine| &engine.0);
    guard((), || {
        engine.map(|engine| engine.cancel(CallId(call)));
    });
}

/// Takes bytes of the memory that all calls may hold together (`max_memory`), for what the caller keeps of requests and
/// answers. `GOJINN_REJECTED` if it is full; nothing was taken then.
///
/// # Safety
/// `engine` is a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_memory_take(engine: *const gojinn_engine, bytes: u64) -> i32 {
    // SAFETY: by the caller's promise `engine` is live, or NULL.
    let Some(engine) = (unsafe { engine.as_ref() }) else {
        return GOJINN_NULL_ARGUMENT;
    };
    guard(GOJINN_PANIC, || {
        if engine.0.take_memory(bytes) {
            GOJINN_OK
        } else {
            GOJINN_REJECTED
        }
    })
}

/// Gives back what `gojinn_memory_take` took, or what was `held` for an answer. More than that has no effect.
///
/// # Safety
/// `engine` is NULL or a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_memory_give(engine: *const gojinn_engine, bytes: u64) {
    // SAFETY: by the caller's promise `engine` is live, or NULL.
    let engine: Option<&Engine> = unsafe { engine.as_ref() }.map(|engine| &engine.0);
    guard((), || {
        if let Some(engine) = engine {
            engine.give_memory(bytes);
        }
    });
}

/// Answers one request in a fresh sandbox, on the calling thread. `GOJINN_OK`: the guest has ended, and `answer` is filled.
/// `GOJINN_WAITING`: the guest waits for what `event` says, and `gojinn_call_resume` goes on with the call; `answer` is not
/// written then, and `event` not otherwise. The call's id is stale afterwards, unless the guest waits.
///
/// # Safety
/// `function` is a live function; `head` and `body` are readable for their lengths; `out` is writable for `out_cap` bytes
/// and overlaps with neither of them; `answer`, `event` and `rest` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_function_call(
    function: *const gojinn_function,
    call: u64,
    head: *const u8,
    head_len: usize,
    body: *const u8,
    body_len: usize,
    out: *mut u8,
    out_cap: usize,
    answer: *mut gojinn_answer,
    event: *mut gojinn_event,
    rest: *mut *mut gojinn_rest,
) -> i32 {
    // SAFETY: the caller's promise is passed on.
    let (function, head, body, out) = unsafe {
        (
            function.as_ref(),
            bytes(head, head_len),
            bytes(body, body_len),
            boundary::bytes_mut(out, out_cap),
        )
    };
    let (Some(function), Some(head), Some(body), Some(out)) = (function, head, body, out) else {
        return GOJINN_NULL_ARGUMENT;
    };
    if answer.is_null() || event.is_null() || rest.is_null() {
        return GOJINN_NULL_ARGUMENT;
    }
    guard(GOJINN_PANIC, || {
        let filled = handles::call(function, CallId(call), head, body, out);
        // SAFETY: by the caller's promise all three are writable, and none is NULL.
        unsafe { give_filled(filled, answer, event, rest) }
    })
}

/// Goes on with a suspended call, on the calling thread, with the reply to its event: `code` is 0 or the negative code of a
/// host call, and `reply` its bytes. It returns as `gojinn_function_call` does. A call that was cancelled or whose deadline has
/// passed ends here, and `answer` says so. `GOJINN_STALE_CALL` if the call is not suspended.
///
/// # Safety
/// `engine` is a live engine; `reply` is readable for its length; `out` is writable for `out_cap` bytes and does not overlap with
/// it; `answer`, `event` and `rest` are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_call_resume(
    engine: *const gojinn_engine,
    call: u64,
    code: i32,
    reply: *const u8,
    reply_len: usize,
    out: *mut u8,
    out_cap: usize,
    answer: *mut gojinn_answer,
    event: *mut gojinn_event,
    rest: *mut *mut gojinn_rest,
) -> i32 {
    // SAFETY: the caller's promise is passed on.
    let (engine, reply, out) = unsafe {
        (
            engine.as_ref(),
            bytes(reply, reply_len),
            boundary::bytes_mut(out, out_cap),
        )
    };
    let (Some(engine), Some(reply), Some(out)) = (engine, reply, out) else {
        return GOJINN_NULL_ARGUMENT;
    };
    if answer.is_null() || event.is_null() || rest.is_null() {
        return GOJINN_NULL_ARGUMENT;
    }
    guard(GOJINN_PANIC, || {
        let filled = handles::resume(&engine.0, CallId(call), code, reply, out);
        // SAFETY: by the caller's promise all three are writable, and none is NULL.
        unsafe { give_filled(filled, answer, event, rest) }
    })
}

/// Ends a suspended call without an answer, on the calling thread. Does nothing for a stale id, or for a call that runs.
///
/// # Safety
/// `engine` is NULL or a live engine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_call_drop(engine: *const gojinn_engine, call: u64) {
    // SAFETY: by the caller's promise `engine` is live, or NULL.
    let engine: Option<&Engine> = unsafe { engine.as_ref() }.map(|engine| &engine.0);
    guard((), || {
        engine.map(|engine| engine.drop_call(CallId(call)));
    });
}

/// Writes how far a call has come, and returns its code.
///
/// # Safety
/// `answer`, `event` and `rest` are writable.
unsafe fn give_filled(
    filled: Result<handles::Filled, i32>,
    answer: *mut gojinn_answer,
    event: *mut gojinn_event,
    rest: *mut *mut gojinn_rest,
) -> i32 {
    let (code, left) = match filled {
        Ok(handles::Filled::Answer(filled, left)) => {
            // SAFETY: the caller's promise.
            unsafe { answer.write(filled) };
            (GOJINN_OK, left)
        }
        Ok(handles::Filled::Event(filled, left)) => {
            // SAFETY: the caller's promise.
            unsafe { event.write(filled) };
            (GOJINN_WAITING, left)
        }
        Err(code) => return code,
    };
    let left = left.map_or(ptr::null_mut(), |left| Box::into_raw(Box::new(left)));
    // SAFETY: the caller's promise.
    unsafe { rest.write(left) };
    code
}

/// Copies a whole frame that did not fit into the buffer of the call. `GOJINN_BAD_FRAME` if `out_cap` is less than its
/// length.
///
/// # Safety
/// `rest` is a live rest; `out` is writable for `out_cap` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_rest_read(
    rest: *const gojinn_rest,
    out: *mut u8,
    out_cap: usize,
) -> i32 {
    // SAFETY: the caller's promise is passed on.
    let (Some(rest), Some(out)) = (unsafe { (rest.as_ref(), boundary::bytes_mut(out, out_cap)) })
    else {
        return GOJINN_NULL_ARGUMENT;
    };
    match out.get_mut(..rest.0.len()) {
        Some(out) => {
            out.copy_from_slice(&rest.0);
            GOJINN_OK
        }
        None => GOJINN_BAD_FRAME,
    }
}

/// Frees a rest.
///
/// # Safety
/// `rest` is NULL or came from `gojinn_function_call` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_rest_free(rest: *mut gojinn_rest) {
    // SAFETY: by the caller's promise this is the one Box that `gojinn_function_call` leaked.
    guard((), || unsafe { handles::free(rest) });
}

/// The code of an error; `GOJINN_NULL_ARGUMENT` for NULL.
///
/// # Safety
/// `error` is NULL or a live error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_error_code(error: *const gojinn_error) -> i32 {
    // SAFETY: by the caller's promise `error` is live, or NULL.
    unsafe { error.as_ref() }.map_or(GOJINN_NULL_ARGUMENT, |error| error.code)
}

/// Copies as much of an error's message (UTF-8, without NUL at its end) as fits, and returns its whole length.
///
/// # Safety
/// `error` is NULL or a live error; `out` is writable for `out_cap` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_error_message(
    error: *const gojinn_error,
    out: *mut u8,
    out_cap: usize,
) -> usize {
    // SAFETY: the caller's promise is passed on.
    let (error, out) = unsafe { (error.as_ref(), boundary::bytes_mut(out, out_cap)) };
    let (Some(error), Some(out)) = (error, out) else {
        return 0;
    };
    boundary::copy_prefix(error.message.as_bytes(), out);
    error.message.len()
}

/// Frees an error.
///
/// # Safety
/// `error` is NULL or came from one of the functions above and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gojinn_error_free(error: *mut gojinn_error) {
    // SAFETY: by the caller's promise this is the one Box that `give` leaked.
    guard((), || unsafe { handles::free(error) });
}
