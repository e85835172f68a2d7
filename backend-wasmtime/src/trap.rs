//! Converts wasmtime's errors that ended a guest to engine-core's traps.

use std::fmt::Write as _;

use engine_core::{Trap, TrapCode};
use wasmtime::{Config, Engine, Error, Result, Store, Trap as Code, WasmBacktrace};

/// Makes the errors that unwind a guest after a hostcall has returned a stop. They contain an empty backtrace.
///
/// For every error without a backtrace that ends a guest, wasmtime walks the guest's stack, which takes 1 to 2 µs for a
/// frame or two. This is useful for a trap, but not for a `proc_exit`. Only an engine without backtraces makes an empty
/// one.
pub(crate) struct Unwinder(Store<()>);

impl Unwinder {
    pub(crate) fn new() -> Result<Self> {
        let mut config = Config::new();
        config.enable_compiler(false);
        config.wasm_backtrace_max_frames(None);
        Ok(Self(Store::new(&Engine::new(&config)?, ())))
    }

    /// The error. It has no message, because the host state has the reason.
    pub(crate) fn error(&self) -> Error {
        Error::msg(WasmBacktrace::capture(&self.0))
    }
}

/// The trap for `error`, which ended a guest. Not for an error of [`Unwinder`].
pub(crate) fn of(error: &Error) -> Trap {
    let code = error
        .downcast_ref::<Code>()
        .map_or(TrapCode::Host, |trap| class(*trap));
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    // The trap itself is the innermost error. wasmtime adds the address of a fault as context, and then the backtrace.
    let causes: Vec<String> = error
        .chain()
        .skip(usize::from(backtrace.is_some()))
        .map(|cause| cause.to_string())
        .collect();
    let mut detail = String::new();
    for (at, cause) in causes.iter().rev().enumerate() {
        if at > 0 {
            detail.push_str(": ");
        }
        detail.push_str(cause.strip_prefix("wasm trap: ").unwrap_or(cause));
    }
    if let Some(backtrace) = backtrace {
        detail.push_str(&place(backtrace));
    }
    Trap::new(code, detail)
}

/// An error of wasmtime, as the cause of an error of engine-core.
pub(crate) fn boxed(error: Error) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{error:#}").into()
}

/// The class of a trap of wasmtime.
fn class(trap: Code) -> TrapCode {
    match trap {
        Code::StackOverflow => TrapCode::StackOverflow,
        Code::MemoryOutOfBounds => TrapCode::MemoryOutOfBounds,
        Code::TableOutOfBounds => TrapCode::TableOutOfBounds,
        Code::IndirectCallToNull | Code::BadSignature => TrapCode::BadIndirectCall,
        Code::IntegerOverflow | Code::IntegerDivisionByZero | Code::BadConversionToInteger => {
            TrapCode::Arithmetic
        }
        Code::UnreachableCodeReached => TrapCode::Unreachable,
        Code::Interrupt => TrapCode::Deadline,
        _ => TrapCode::Other,
    }
}

/// The functions in which the guest was, innermost first.
fn place(backtrace: &WasmBacktrace) -> String {
    let names = backtrace
        .frames()
        .iter()
        .map(|frame| match frame.func_name() {
            Some(name) => shown(name),
            None => format!("function {}", frame.func_index()),
        });
    joined(names)
}

/// Names as a chain of calls. Consecutive calls of the same function are shown once, with their number.
fn joined(names: impl Iterator<Item = String>) -> String {
    let mut runs: Vec<(String, usize)> = Vec::new();
    for name in names {
        match runs.last_mut() {
            Some((last, times)) if *last == name => *times += 1,
            _ => runs.push((name, 1)),
        }
    }
    let mut text = String::new();
    for (at, (name, times)) in runs.iter().enumerate() {
        text.push_str(if at == 0 { ", in " } else { " < " });
        text.push_str(name);
        if *times > 1 {
            let _ = write!(text, " ({times} times)");
        }
    }
    text
}

/// A guest's name of a function, prepared for a log line: without control characters, and cut to a bounded length.
fn shown(name: &str) -> String {
    const LONGEST: usize = 100;
    let mut shown = String::new();
    for (at, character) in name.chars().enumerate() {
        if at == LONGEST {
            shown.push('…');
            break;
        }
        shown.extend(character.escape_debug());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trap_of_a_core_module_has_its_class_and_wasmtimes_words() {
        let table = [
            (Code::StackOverflow, TrapCode::StackOverflow),
            (Code::MemoryOutOfBounds, TrapCode::MemoryOutOfBounds),
            (Code::TableOutOfBounds, TrapCode::TableOutOfBounds),
            (Code::IndirectCallToNull, TrapCode::BadIndirectCall),
            (Code::BadSignature, TrapCode::BadIndirectCall),
            (Code::IntegerOverflow, TrapCode::Arithmetic),
            (Code::IntegerDivisionByZero, TrapCode::Arithmetic),
            (Code::BadConversionToInteger, TrapCode::Arithmetic),
            (Code::UnreachableCodeReached, TrapCode::Unreachable),
            (Code::Interrupt, TrapCode::Deadline),
            (Code::HeapMisaligned, TrapCode::Other),
        ];
        for (code, class) in table {
            let trap = of(&Error::from(code));
            assert_eq!(trap.code, class, "{code}");
            assert_eq!(format!("wasm trap: {}", trap.detail), code.to_string());
        }
    }

    #[test]
    fn context_hides_no_trap() {
        let trap = of(&Error::from(Code::MemoryOutOfBounds).context("at address 7"));
        assert_eq!(trap.code, TrapCode::MemoryOutOfBounds);
        assert_eq!(trap.detail, "out of bounds memory access: at address 7");
    }

    #[test]
    fn an_error_that_is_not_a_trap_is_the_hosts_fault() {
        let trap = of(&Error::msg("what is this"));
        assert_eq!(trap.code, TrapCode::Host);
        assert_eq!(trap.detail, "what is this");
    }

    #[test]
    fn an_error_to_unwind_with_has_an_empty_backtrace() {
        let error = Unwinder::new().unwrap().error();
        assert!(
            error
                .downcast_ref::<WasmBacktrace>()
                .unwrap()
                .frames()
                .is_empty()
        );
    }

    #[test]
    fn a_chain_of_calls_is_short_and_safe_to_log() {
        let names = ["f", "f", "f", "g", "f"].map(String::from);
        assert_eq!(joined(names.into_iter()), ", in f (3 times) < g < f");
        assert_eq!(joined(std::iter::empty()), "");
        assert_eq!(shown("a\n\u{1b}[31m"), "a\\n\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), 101);
    }
}
