//! Converts wasmer's traps to engine-core's.

use std::fmt;

use engine_core::{Trap, TrapCode};
use wasmer::RuntimeError;
use wasmer::sys::vm;

/// How many frames of the guest are named in a trap's detail.
const FRAMES: usize = 4;

/// The error with which a hostcall unwinds the guest. The reason is in the host state, so raising this error allocates
/// nothing.
#[derive(Debug)]
pub(crate) struct Halt;

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ended by a hostcall")
    }
}

impl std::error::Error for Halt {}

/// The end of a guest that did not return.
pub(crate) enum End {
    /// By a hostcall.
    Halted,
    /// By a trap.
    Trapped(Trap),
}

impl End {
    /// The end of a guest without the entry point. This is a bug: engine-core enters only entry points that the module
    /// has.
    pub(crate) fn no_entry(name: &str) -> Self {
        Self::Trapped(Trap::new(
            TrapCode::Host,
            format!(
                "a bug in Gojinn: the module has no entry point {name} without parameters and results; please report it"
            ),
        ))
    }
}

impl From<vm::Trap> for End {
    fn from(trap: vm::Trap) -> Self {
        if trap.is::<Halt>() {
            return Self::Halted;
        }
        let error = RuntimeError::from(trap);
        let mut detail = error.message();
        for (index, frame) in error.trace().iter().take(FRAMES).enumerate() {
            detail.push_str(if index == 0 { " in " } else { " < " });
            match frame.function_name() {
                Some(name) => detail.push_str(name),
                None => detail.push_str(&format!("function {}", frame.func_index())),
            }
        }
        let code = error.to_trap().map_or(TrapCode::Other, convert);
        Self::Trapped(Trap::new(code, detail))
    }
}

fn convert(code: vm::TrapCode) -> TrapCode {
    match code {
        vm::TrapCode::StackOverflow => TrapCode::StackOverflow,
        vm::TrapCode::HeapAccessOutOfBounds => TrapCode::MemoryOutOfBounds,
        vm::TrapCode::TableAccessOutOfBounds => TrapCode::TableOutOfBounds,
        vm::TrapCode::IndirectCallToNull | vm::TrapCode::BadSignature => TrapCode::BadIndirectCall,
        vm::TrapCode::IntegerOverflow
        | vm::TrapCode::IntegerDivisionByZero
        | vm::TrapCode::BadConversionToInteger => TrapCode::Arithmetic,
        vm::TrapCode::UnreachableCodeReached => TrapCode::Unreachable,
        _ => TrapCode::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halt_is_told_from_a_trap() {
        assert!(matches!(
            End::from(vm::Trap::user(Box::new(Halt))),
            End::Halted
        ));
        let End::Trapped(trap) = End::from(vm::Trap::lib(vm::TrapCode::IntegerDivisionByZero))
        else {
            panic!("a trap is no halt");
        };
        assert_eq!(trap.code, TrapCode::Arithmetic);
        assert!(
            trap.detail.contains("integer divide by zero"),
            "{}",
            trap.detail
        );
    }
}
