//! Reads the calls on a goroutine's stack.

use std::collections::HashMap;

use super::{Goroutine, word};
use crate::go::{CallSite, GoCommand};

/// The maximum number of calls. A program that waits for its request is hardly ever deep in recursion.
const MOST_CALLS: usize = 100_000;

/// The maximum number of bytes of code that are read for one stack.
const MOST_CODE: usize = 64 << 20;

/// The size of the four empty words with which a goroutine's stack begins. Below them is the return address into
/// `goexit`.
const TOP: u64 = 32;

/// A call that has not returned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// The address of its return address.
    pub(super) at: u64,
    /// The return address.
    pub(super) pc: u64,
    /// The calling function, as a table index.
    pub(super) caller: u32,
    /// The call in its code. `None` for `goexit`, which has not really called.
    pub(super) site: Option<CallSite>,
}

/// The calls from the innermost, whose return address is at the stack pointer, to that of the goroutine's first
/// function, whose return address is in `goexit`. There are at least two.
pub(super) fn calls(
    go: &GoCommand,
    memory: &[u8],
    goroutine: &Goroutine,
) -> Result<Vec<Call>, String> {
    let strange = |at: u64, what: &str| {
        let depth = goroutine.hi - at;
        Err(format!(
            "its stack cannot be read: {what}, {depth} bytes below its end"
        ))
    };
    let first = goroutine.hi.saturating_sub(TOP + 8);
    let mut read = HashMap::new();
    let (mut calls, mut code, mut at) = (Vec::new(), 0, goroutine.sp);
    loop {
        if at > first {
            return strange(goroutine.hi.min(at), "it does not end at goexit");
        }
        let Some(pc) = word(memory, at) else {
            return strange(at, "it leaves memory");
        };
        let (Ok(caller), point) = (u32::try_from(pc >> 16), pc as u16) else {
            return strange(at, "there is no return address");
        };
        if calls.len() == MOST_CALLS || code > MOST_CODE {
            return strange(at, "it is too deep");
        }
        if at == first {
            // goexit only calls goexit1. No call returns to its first program counter.
            let is_goexit = point == 1
                && go.frame_size(caller) == Some(0)
                && go.call_site(caller, 2).is_some()
                && word(memory, first + 8) == Some(0);
            if !is_goexit || calls.is_empty() {
                return strange(at, "it does not begin with goexit");
            }
            calls.push(Call {
                at,
                pc,
                caller,
                site: None,
            });
            return Ok(calls);
        }
        let (site, frame) = *read.entry(pc).or_insert_with(|| {
            code += go.body_size(caller).unwrap_or(0);
            (go.call_site(caller, point), go.frame_size(caller))
        });
        let (Some(site), Some(frame)) = (site, frame) else {
            return strange(at, "there is no return address");
        };
        calls.push(Call {
            at,
            pc,
            caller,
            site: Some(site),
        });
        at += 8 + u64::from(frame);
    }
}
