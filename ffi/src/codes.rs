//! Result codes, in numbered families with gaps. A retired number stays reserved.

use engine_core::{Error, ErrorKind};

use crate::handles::gojinn_error;

/// The version of the ABI in this header. Every change that is not compatible with older callers increases it.
pub const GOJINN_ABI_VERSION: u32 = 4;

/// Success.
pub const GOJINN_OK: i32 = 0;
/// The guest waits, and the call is suspended: `gojinn_call_resume` goes on with it.
pub const GOJINN_WAITING: i32 = 1;
/// A pointer is NULL that must not be.
pub const GOJINN_NULL_ARGUMENT: i32 = 100;
/// The configuration is malformed, out of bounds or contradictory. The message says where.
pub const GOJINN_BAD_CONFIG: i32 = 101;
/// The head of a request is malformed, or the buffer is too small for a rest.
pub const GOJINN_BAD_FRAME: i32 = 102;
/// This build or the backend does not support what was asked for.
pub const GOJINN_UNSUPPORTED: i32 = 103;
/// The call id is stale, unknown or used already.
pub const GOJINN_STALE_CALL: i32 = 104;
/// Every permit for a running call is taken, or too many compilations of cancelled deployments are still running.
pub const GOJINN_REJECTED: i32 = 105;
/// The caller cancelled the deployment.
pub const GOJINN_CANCELLED: i32 = 106;
/// The module breaks a rule, which the message names.
pub const GOJINN_INVALID_MODULE: i32 = 200;
/// The host failed.
pub const GOJINN_HOST: i32 = 300;
/// A valid module could not be compiled.
pub const GOJINN_COMPILE: i32 = 301;
/// A compiled artifact could not be loaded.
pub const GOJINN_LOAD: i32 = 302;
/// A bug in Gojinn: the library panicked.
pub const GOJINN_PANIC: i32 = 399;

/// The code of an engine's error.
pub(crate) fn code(error: &Error) -> i32 {
    match error.kind() {
        ErrorKind::Cancelled => GOJINN_CANCELLED,
        ErrorKind::Compile => GOJINN_COMPILE,
        ErrorKind::Config => GOJINN_BAD_CONFIG,
        ErrorKind::InvalidModule => GOJINN_INVALID_MODULE,
        ErrorKind::Load => GOJINN_LOAD,
        ErrorKind::Rejected => GOJINN_REJECTED,
        ErrorKind::Unsupported => GOJINN_UNSUPPORTED,
        _ => GOJINN_HOST,
    }
}

/// The error for a pointer that must not be NULL.
pub(crate) fn null_argument() -> gojinn_error {
    gojinn_error {
        code: GOJINN_NULL_ARGUMENT,
        message: "an argument is NULL that must not be NULL; pass a valid pointer".into(),
    }
}

impl From<Error> for gojinn_error {
    fn from(error: Error) -> Self {
        Self {
            code: code(&error),
            message: error.to_string(),
        }
    }
}
