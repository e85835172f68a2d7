//! The public error type: one machine word that holds a kind, whose fault it was, and a message that says what to do.
//!
//! There is one error type because callers act on two questions only: which family of problem it is ([`ErrorKind`]), and
//! which side has to change something ([`Fault`]). Wording and source types may change between versions.

use std::fmt;

/// A failure to build, deploy or start something. What a *guest* did is a [`GuestExit`](crate::GuestExit), never an
/// `Error`.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    fault: Fault,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`, blamed on `kind`'s usual [`Fault`].
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            fault: kind.usual_fault(),
            message: message.into(),
            source: None,
        }))
    }

    /// The caller asked for something malformed or contradictory.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// The module breaks a rule; the message names it.
    pub fn invalid_module(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidModule, message)
    }

    /// Something failed on the host's side.
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Host, message)
    }

    /// Blames `fault` instead of the kind's usual [`Fault`].
    #[must_use]
    pub fn blame(mut self, fault: Fault) -> Self {
        self.0.fault = fault;
        self
    }

    /// Attaches the underlying cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts `what: ` in front of the message: where the error happened.
    #[must_use]
    pub fn within(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// The family of the problem.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Which side has to change something.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.0.fault
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:?}): {self}", self.0.kind, self.0.fault)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Families of errors.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller cancelled the operation.
    Cancelled,
    /// A backend could not compile a module that is valid.
    Compile,
    /// A setting is malformed, out of bounds or contradictory.
    Config,
    /// The host failed: no memory, a system call, a bug.
    Host,
    /// The module breaks one of the rules of `docs/contract.md`.
    InvalidModule,
    /// A compiled artifact cannot be loaded.
    Load,
    /// Every permit for a running call or every memory slot is taken, or too many compilations run in the background.
    Rejected,
    /// The backend, or this build, cannot do what was asked.
    Unsupported,
}

impl ErrorKind {
    fn usual_fault(self) -> Fault {
        match self {
            Self::Cancelled | Self::Config | Self::Rejected | Self::Unsupported => Fault::Caller,
            Self::InvalidModule => Fault::Guest,
            Self::Compile | Self::Host | Self::Load => Fault::Host,
        }
    }
}

/// Which side has to change something for the error to go away.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// The caller: a setting or a request.
    Caller,
    /// The author of the guest.
    Guest,
    /// The machine, or Gojinn itself.
    Host,
}

/// The message of a panic, if it is a text.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }

    #[test]
    fn display_shows_all_causes() {
        let error = Error::host("the pool is gone")
            .because(std::io::Error::other("mmap failed"))
            .within("function hello");
        assert_eq!(
            error.to_string(),
            "function hello: the pool is gone: mmap failed"
        );
        assert_eq!(error.fault(), Fault::Host);
    }
}
