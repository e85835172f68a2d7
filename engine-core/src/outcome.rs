//! How a guest ended, and what that means to the client.

use std::fmt;

/// A guest's result. A trap is a result of the guest and never an `Err` of the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GuestExit {
    /// It returned (code 0) or called `proc_exit`.
    Exit(i32),
    /// It was stopped before its end.
    Trap(Trap),
}

/// Why a guest was stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trap {
    /// The class of the trap, the same on every backend.
    pub code: TrapCode,
    /// The backend's description, for the log. May be empty.
    pub detail: String,
}

impl Trap {
    /// A trap with the backend's description of it.
    pub fn new(code: TrapCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.describe())?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

/// Classes of traps, the same on every backend.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TrapCode {
    /// `call_indirect` through a null or wrongly typed element.
    BadIndirectCall,
    /// The call was cancelled: its client went away.
    Cancelled,
    /// The deadline passed.
    Deadline,
    /// Integer division by zero, overflow, or a float that fits no integer.
    Arithmetic,
    /// The host failed while serving the guest.
    Host,
    /// Access outside of linear memory.
    MemoryOutOfBounds,
    /// More stdout than `max_output`.
    OutputLimit,
    /// The memory of the engine was full when the host had to keep more for the guest.
    MemoryFull,
    /// Anything else; the detail says what.
    Other,
    /// Recursion too deep.
    StackOverflow,
    /// Access outside of a table.
    TableOutOfBounds,
    /// A hostcall that the contract does not allow; the detail says what.
    Violation,
    /// An `unreachable` instruction: a panic or abort in most languages.
    Unreachable,
}

impl TrapCode {
    /// One phrase for logs.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::BadIndirectCall => "indirect call to a wrong or missing function",
            Self::Cancelled => "cancelled",
            Self::Deadline => "the deadline passed",
            Self::Arithmetic => "integer division by zero, overflow or invalid conversion",
            Self::Host => "host fault",
            Self::MemoryOutOfBounds => "out-of-bounds memory access",
            Self::MemoryFull => "the engine's memory is full",
            Self::OutputLimit => "more output than max_output",
            Self::Other => "trap",
            Self::StackOverflow => "stack overflow",
            Self::TableOutOfBounds => "out-of-bounds table access",
            Self::Unreachable => "unreachable executed",
            Self::Violation => "a hostcall that is not allowed",
        }
    }
}

/// The result of a call, as the client and the metrics see it: the table at the end of `docs/contract.md`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u32)]
pub enum Outcome {
    /// The function answered.
    Ok = 0,
    /// The deadline passed: 504.
    Timeout = 1,
    /// A trap or a non-zero exit: 502.
    Trap = 2,
    /// Growth of memory was refused, and the guest then failed: 502; 503 if the engine's memory was full.
    Oom = 3,
    /// Output that is not a valid response: 502.
    BadOutput = 4,
    /// No permit was free, the engine's memory was full, or the body is larger than `max_body`: 503 or 413.
    Rejected = 5,
    /// The client went away: 499.
    Cancelled = 6,
    /// A host fault: 500.
    Error = 7,
}

impl Outcome {
    /// The value of the label `outcome`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Timeout => "timeout",
            Self::Trap => "trap",
            Self::Oom => "oom",
            Self::BadOutput => "bad_output",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Error => "error",
        }
    }
}
