//! Parks a program that was stopped in a read, so that resuming it repeats that read.

use super::stack::{self, Call};
use super::{Globals, Goroutine, half_word, word, write};
use crate::go::{Callee, GoCommand};

/// Where the frame of `main.main` is, and where its caller continues.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct MainFrame {
    /// The table index of `main.main`.
    pub(super) function: u32,
    /// The address of the closure through which `runtime.main` calls it.
    pub(super) closure: u32,
    /// The address of the main goroutine's `g`.
    pub(super) g: u64,
    /// Its return address, in `runtime.main`.
    pub(super) return_address: u64,
    /// The distance from the return address to the end of the stack, in bytes.
    pub(super) distance: u64,
}

/// Writes the program counter at which [`RESUME_EXPORT`](crate::wasm::RESUME_EXPORT) continues: the read in which the
/// program was stopped, whose arguments are still on its stack.
pub(crate) fn park(go: &GoCommand, memory: &mut [u8], globals: &mut Globals) -> Result<(), String> {
    let goroutine = Goroutine::running(go, memory, globals)?;
    let calls = stack::calls(go, memory, &goroutine)?;
    in_read(go, memory, &goroutine, &calls)?;
    // Memory below the stack pointer is not in use, and there is room: the stack pointer is at least 8 above `lo`.
    write(memory, goroutine.sp - 8, u64::from(go.read) << 16)
        .ok_or_else(|| "its stack is outside of its memory".to_owned())
}

/// Finds the frame of `main.main` in a program that was stopped in a read. `Err` if it does not read in `main.main`,
/// but in another goroutine or before.
pub(crate) fn main_frame(
    go: &GoCommand,
    memory: &[u8],
    globals: &Globals,
) -> Result<MainFrame, String> {
    let goroutine = Goroutine::running(go, memory, globals)?;
    let calls = stack::calls(go, memory, &goroutine)?;
    in_read(go, memory, &goroutine, &calls)?;
    let elsewhere = || "it does not read its request in main.main".to_owned();
    // From the inside out: …, a call in main.main, the call of main.main in runtime.main, the call of runtime.main.
    let [.., inner, call, _] = &calls[..] else {
        return Err(elsewhere());
    };
    if entry(memory, go.main_pc) != Some(call.caller) {
        return Err(elsewhere());
    }
    // runtime.main also calls package initialisers, but not through a constant closure.
    let closure = call.site.and_then(|site| match site.callee {
        Callee::Indirect => site.closure,
        Callee::Direct(_) => None,
    });
    let function = closure.and_then(|closure| entry(memory, closure));
    match (closure, function) {
        (Some(closure), Some(function)) if function == inner.caller => Ok(MainFrame {
            function,
            closure,
            g: goroutine.g,
            return_address: call.pc,
            distance: goroutine.hi - call.at,
        }),
        _ => Err(elsewhere()),
    }
}

/// Checks that the program was stopped in a read of stdin.
fn in_read(
    go: &GoCommand,
    memory: &[u8],
    goroutine: &Goroutine,
    calls: &[Call],
) -> Result<(), String> {
    let callee = calls[0].site.map(|site| site.callee);
    if callee != Some(Callee::Direct(go.read)) {
        return Err("it was not stopped in a call of fd_read".to_owned());
    }
    // Above the return address: fd, iovs, iovs_len, nread.
    if half_word(memory, goroutine.sp + 8) != Some(0) {
        return Err("it was not stopped in a read of stdin".to_owned());
    }
    Ok(())
}

/// The function whose entry, a program counter, is at an address, such as that of a closure.
fn entry(memory: &[u8], at: u32) -> Option<u32> {
    let pc = word(memory, at.into())?;
    (pc & 0xffff == 0).then_some(())?;
    u32::try_from(pc >> 16).ok()
}
