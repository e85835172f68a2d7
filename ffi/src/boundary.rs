//! The panic boundary of the ABI, and how bytes and handles cross it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::codes::{GOJINN_NULL_ARGUMENT, GOJINN_OK, GOJINN_PANIC};
use crate::handles::gojinn_error;

/// Runs the body of an exported function; a panic becomes `fallback`.
pub(crate) fn guard<R>(fallback: R, body: impl FnOnce() -> R) -> R {
    // AssertUnwindSafe: after a panic only the engine's own state is used again, and the engine keeps it consistent
    // while it unwinds (it unlocks and frees in `Drop`).
    catch_unwind(AssertUnwindSafe(|| {
        fault();
        body()
    }))
    .unwrap_or(fallback)
}

#[cfg(test)]
thread_local! {
    static PANICS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Makes the next exported function on this thread panic inside the boundary, before it does anything.
#[cfg(test)]
pub(crate) fn panic_next() {
    PANICS.set(true);
}

/// Panics if a test has asked for it.
fn fault() {
    #[cfg(test)]
    assert!(!PANICS.replace(false), "a test has asked for a panic");
}

/// The caller's bytes as a slice. `None` if `pointer` is NULL and `len` is not 0.
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
    // SAFETY: not NULL, and the caller guarantees that it is readable for `len` bytes.
    Some(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// The caller's buffer as a slice. `None` if `pointer` is NULL and `len` is not 0.
///
/// # Safety
/// `pointer` is NULL, or writable for `len` bytes, which nothing else accesses for as long as the exported function runs.
pub(crate) unsafe fn bytes_mut<'a>(pointer: *mut u8, len: usize) -> Option<&'a mut [u8]> {
    if len == 0 {
        return Some(&mut []);
    }
    if pointer.is_null() || len > isize::MAX as usize {
        return None;
    }
    // SAFETY: not NULL, and the caller guarantees that it is writable for `len` bytes and not aliased.
    Some(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}

/// Copies as much of `from` as fits into `to`.
pub(crate) fn copy_prefix(from: &[u8], to: &mut [u8]) {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
}

/// Makes a handle and writes it to `out`, or an error to `error`. Returns the code.
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
        // SAFETY: not NULL, so the caller guarantees that it is writable.
        unsafe { out.write(Box::into_raw(Box::new(made))) };
        Ok(())
    };
    // SAFETY: the same precondition, which the caller guarantees.
    unsafe { attempt(work, error) }
}

/// Runs `work`, and writes its error to `error` if it fails. Returns the code.
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
    let work = || {
        fault();
        work()
    };
    let problem = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return GOJINN_OK,
        Ok(Err(problem)) => problem,
        Err(_) => gojinn_error {
            code: GOJINN_PANIC,
            message: "a bug in Gojinn: the library panicked; please report it".into(),
        },
    };
    let code = problem.code;
    // SAFETY: not NULL, so the caller guarantees that it is writable.
    unsafe { error.write(Box::into_raw(Box::new(problem))) };
    code
}

/// Writes as much of a text as fits to `out`, and its whole length to `len`. `text` is `None` if the handle was NULL.
///
/// # Safety
/// `out` is NULL, or writable for `out_cap` bytes, which nothing else accesses meanwhile; `len` is NULL or writable.
pub(crate) unsafe fn give_text(
    text: Option<impl FnOnce() -> String>,
    out: *mut u8,
    out_cap: usize,
    len: *mut usize,
) -> i32 {
    // SAFETY: the same precondition, which the caller guarantees.
    let out = unsafe { bytes_mut(out, out_cap) };
    let (Some(text), Some(out), false) = (text, out, len.is_null()) else {
        return GOJINN_NULL_ARGUMENT;
    };
    guard(GOJINN_PANIC, || {
        let text = text();
        copy_prefix(text.as_bytes(), out);
        // SAFETY: not NULL, so the caller guarantees that it is writable.
        unsafe { len.write(text.len()) };
        GOJINN_OK
    })
}
