//! Rewinds a program that has ended, so that it calls `main.main` again.

use super::park::MainFrame;
use super::{G_DEFER, G_PANIC, Globals, Goroutine, set, stack, word, write};
use crate::go::{CTXT, GoCommand, SP};

/// Sets a program that was stopped in `proc_exit(0)` back to where `runtime.main` calls `main.main`. The heap stays as
/// it is.
///
/// `main` is from an earlier read. `main.main` must have returned, or must have called `os.Exit` with nothing deferred.
pub(crate) fn rewind(
    go: &GoCommand,
    main: &MainFrame,
    memory: &mut [u8],
    globals: &mut Globals,
) -> Result<(), String> {
    let goroutine = Goroutine::running(go, memory, globals)?;
    if goroutine.g != main.g {
        return Err("it exits in another goroutine than that of main".to_owned());
    }
    let calls = stack::calls(go, memory, &goroutine)?;
    // The stack may have moved, but distances from its end stay the same.
    let [inner @ .., call, _] = &calls[..] else {
        return Err("it exits outside of main".to_owned());
    };
    if goroutine.hi - call.at != main.distance || call.caller != (main.return_address >> 16) as u32
    {
        return Err("it exits outside of main".to_owned());
    }
    match inner {
        // runtime.main has called exit: main.main has returned.
        [] => {}
        [.., inner] if inner.caller == main.function && call.pc == main.return_address => {}
        _ => return Err("it exits outside of main".to_owned()),
    }
    let pending = |at| word(memory, goroutine.g + at) != Some(0);
    if pending(G_PANIC) || pending(G_DEFER) {
        return Err("it exits while main has deferred calls that have not run".to_owned());
    }

    // As runtime.main does it: the closure, the return address, and below it the program counter to continue at.
    set(globals, CTXT, main.closure.into());
    set(globals, SP, call.at);
    write(memory, call.at, main.return_address)
        .and_then(|()| write(memory, call.at - 8, u64::from(main.function) << 16))
        .ok_or_else(|| "its stack is outside of its memory".to_owned())
}
