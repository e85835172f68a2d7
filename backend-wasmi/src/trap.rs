//! Converts wasmi's traps and errors to engine-core's.

use std::fmt;

use engine_core::backend::Step;
use engine_core::{Trap, TrapCode};
use wasmi::TrapCode as Code;
use wasmi::errors::HostError;

/// The error that unwinds a guest when the host stops it. It carries no data: the reason is in the host state.
#[derive(Debug)]
pub(crate) struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped by the host")
    }
}

impl HostError for Stopped {}

/// The error that suspends a guest. The host state has what it waits for.
#[derive(Debug)]
pub(crate) struct Waiting;

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("waiting for the host")
    }
}

impl HostError for Waiting {}

/// How `error` ended a guest.
pub(crate) fn of(error: &wasmi::Error) -> Step {
    if error.downcast_ref::<Stopped>().is_some() {
        return Step::Stopped;
    }
    let code = error.as_trap_code().map_or(TrapCode::Host, class);
    Step::Trapped(Trap::new(code, error.to_string()))
}

/// Converts the code of a wasmi trap.
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
        // The machine has no memory for a larger stack.
        Code::OutOfSystemMemory => TrapCode::Host,
        // Neither can end a guest: a guest without fuel is paused, and a refused growth returns -1. If one of them
        // occurs, it is a bug in Gojinn.
        Code::OutOfFuel | Code::GrowthOperationLimited => TrapCode::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trap(error: &wasmi::Error) -> Trap {
        match of(error) {
            Step::Trapped(trap) => trap,
            step => panic!("{step:?}"),
        }
    }

    #[test]
    fn every_trap_has_its_class() {
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
            (Code::OutOfSystemMemory, TrapCode::Host),
            (Code::OutOfFuel, TrapCode::Host),
            (Code::GrowthOperationLimited, TrapCode::Host),
        ];
        for (code, class) in table {
            let trap = trap(&wasmi::Error::from(code));
            assert_eq!(trap.code, class, "{code}");
            assert_eq!(trap.detail, code.to_string());
        }
    }

    #[test]
    fn a_stop_is_no_trap_and_an_unknown_error_is_the_hosts_fault() {
        assert_eq!(of(&wasmi::Error::host(Stopped)), Step::Stopped);
        let trap = trap(&wasmi::Error::new("what is this"));
        assert_eq!(trap.code, TrapCode::Host);
        assert!(trap.detail.contains("what is this"));
    }
}
