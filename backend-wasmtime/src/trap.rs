//! What ended a guest, in engine-core's terms.

use engine_core::{Trap, TrapCode};
use wasmtime::Trap as Code;

/// The error that unwinds a guest whose hostcall said stop. The reason stands in the host state; this carries nothing.
#[derive(Debug)]
pub(crate) struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped by the host")
    }
}

impl std::error::Error for Stopped {}

/// The trap that `error`, which ended a guest, stands for. `None`: a hostcall ended it, and the host state knows why.
pub(crate) fn of(error: &wasmtime::Error) -> Option<Trap> {
    if error.is::<Stopped>() {
        return None;
    }
    let code = error
        .downcast_ref::<Code>()
        .map_or(TrapCode::Host, |trap| class(*trap));
    Some(Trap::new(code, format!("{error:#}")))
}

/// An error of wasmtime's as the cause of one of engine-core's.
pub(crate) fn boxed(error: wasmtime::Error) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{error:#}").into()
}

/// The class of one of wasmtime's traps.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trap_of_a_core_module_has_its_class() {
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
            let trap = of(&wasmtime::Error::from(code)).unwrap();
            assert_eq!(trap.code, class, "{code}");
            assert!(trap.detail.contains(&code.to_string()), "{}", trap.detail);
        }
    }

    #[test]
    fn context_hides_no_trap() {
        let error = wasmtime::Error::from(Code::MemoryOutOfBounds).context("at address 7");
        let trap = of(&error).unwrap();
        assert_eq!(trap.code, TrapCode::MemoryOutOfBounds);
        assert!(trap.detail.contains("at address 7"));
    }

    #[test]
    fn a_stop_is_no_trap_and_a_stranger_is_the_hosts_fault() {
        assert_eq!(of(&wasmtime::Error::new(Stopped)), None);
        let trap = of(&wasmtime::Error::msg("what is this")).unwrap();
        assert_eq!(trap.code, TrapCode::Host);
        assert!(trap.detail.contains("what is this"));
    }
}
