//! The panic boundary, and the ways bytes and handles cross the ABI.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::codes::{GOJINN_NULL_ARGUMENT, GOJINN_OK, GOJINN_PANIC};
use crate::handles::gojinn_error;

/// Runs the body of an exported function; a panic becomes `fallback`.
pub(crate) fn guard<R>(fallback: R, body: impl FnOnce() -> R) -> R {
    // Nothing of the body's is looked at after a panic but what the engine itself keeps consistent (it unlocks and frees in
    // `Drop`), so unwinding past it leaves nothing half done.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(fallback)
}

/// A slice of the caller's. `None` for NULL with a length.
///
/// # Safety
/// `pointer` is NULL, or readable for `len` bytes for as long as the exported function runs.
pub(crate) unsafe fn bytes<'a>(pointer: *const u8, len: usize) -> Option<&'a [u8]> {
    if len == 0 {
        return Some(&[]);
    }
    if pointer.is_null() || len > isize::MAX as usize {
        return None;
    }
    // SAFETY: not NULL, and readable for `len` bytes by the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// A buffer of the caller's. `None` for NULL with a length.
///
/// # Safety
/// `pointer` is NULL, or writable for `len` bytes and aliased by nobody for as long as the exported function runs.
pub(crate) unsafe fn bytes_mut<'a>(pointer: *mut u8, len: usize) -> Option<&'a mut [u8]> {
    if len == 0 {
        return Some(&mut []);
    }
    if pointer.is_null() || len > isize::MAX as usize {
        return None;
    }
    // SAFETY: not NULL, writable for `len` bytes and unaliased by the caller's promise.
    Some(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}

/// Copies as much of `from` as fits.
pub(crate) fn copy_prefix(from: &[u8], to: &mut [u8]) {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
}

/// Makes a handle and gives it to the caller, or an error in its place.
///
/// # Safety
/// `out` and `error` are NULL or writable.
pub(crate) unsafe fn give<T>(
    make: impl FnOnce() -> Result<T, gojinn_error>,
    out: *mut *mut T,
    error: *mut *mut gojinn_error,
) -> i32 {
    if out.is_null() {
        return GOJINN_NULL_ARGUMENT;
    }
    let work = || {
        let made = make()?;
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { out.write(Box::into_raw(Box::new(made))) };
        Ok(())
    };
    // SAFETY: the caller's promise is passed on.
    unsafe { attempt(work, error) }
}

/// Does something that gives nothing but an error.
///
/// # Safety
/// `error` is NULL or writable.
pub(crate) unsafe fn attempt(
    work: impl FnOnce() -> Result<(), gojinn_error>,
    error: *mut *mut gojinn_error,
) -> i32 {
    if error.is_null() {
        return GOJINN_NULL_ARGUMENT;
    }
    let problem = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return GOJINN_OK,
        Ok(Err(problem)) => problem,
        Err(_) => gojinn_error {
            code: GOJINN_PANIC,
            message: "a bug: the library panicked".into(),
        },
    };
    let code = problem.code;
    // SAFETY: not NULL, so writable by the caller's promise.
    unsafe { error.write(Box::into_raw(Box::new(problem))) };
    code
}

/// Gives as much of a text as fits, and its whole length. `text` is `None` when its object was NULL.
///
/// # Safety
/// `out` is NULL or writable for `out_cap` bytes and aliased by nobody; `len` is NULL or writable.
pub(crate) unsafe fn give_text(
    text: Option<impl FnOnce() -> String>,
    out: *mut u8,
    out_cap: usize,
    len: *mut usize,
) -> i32 {
    // SAFETY: the caller's promise is passed on.
    let out = unsafe { bytes_mut(out, out_cap) };
    let (Some(text), Some(out), false) = (text, out, len.is_null()) else {
        return GOJINN_NULL_ARGUMENT;
    };
    guard(GOJINN_PANIC, || {
        let text = text();
        copy_prefix(text.as_bytes(), out);
        // SAFETY: not NULL, so writable by the caller's promise.
        unsafe { len.write(text.len()) };
        GOJINN_OK
    })
}
