//! What is done to the captured state of a Go command between two runs of its recording.
//!
//! ```text
//!   _start ──first read──▶ park ──▶ gojinn:resume ──exit 0──▶ rewind ──▶ gojinn:resume ──first read──▶ park ──▶ …
//!                           └─ main_frame: where main.main's frame begins
//! ```
//!
//! All of it works on the bytes of memory and the values of globals. Nothing is believed: each return address on the Go stack
//! must be one that a call in that function pushes, frames must lead from the stack pointer to the goroutine's first function,
//! a generator must hold the very block its seed gives. What is not exactly as Go leaves it is an error, in words for the log.

mod dates;
mod park;
mod random;
mod rewind;
mod stack;
mod stamps;
mod statics;

use std::ops::Range;

use crate::go::{G, GoCommand, PAUSE, SP};
use crate::start::GlobalValue;

pub(crate) use dates::{asked_for_date, keeps_date};
pub(crate) use park::{main_frame, park};
pub(crate) use random::generators;
pub(crate) use rewind::rewind;
use stamps::collector_stamps;

/// The values of a program's globals, in the order of their indices: all eight of a Go command are captured.
type Globals = [(String, GlobalValue)];

/// Offset of `stack.lo` in a `g`; `stack.hi` follows.
const G_STACK: u64 = 0;
/// Offsets of the innermost panic and deferred call.
const G_PANIC: u64 = 32;
const G_DEFER: u64 = 40;
/// Offset of `m` in a `g`.
const G_M: u64 = 48;
/// Offset of `g0` in an `m`.
const M_G0: u64 = 0;

/// The running goroutine.
#[derive(Clone, Copy, Debug)]
struct Goroutine {
    /// The address of its `g`.
    g: u64,
    sp: u64,
    /// The end of its stack: behind its highest address.
    hi: u64,
}

impl Goroutine {
    /// The goroutine in which a program was stopped.
    fn running(go: &GoCommand, memory: &[u8], globals: &Globals) -> Result<Self, String> {
        let strange = |what: &str| Err(format!("its state is not that of a Go program: {what}"));
        let (Some(sp), Some(g), Some(pause)) =
            (value(globals, SP), value(globals, G), value(globals, PAUSE))
        else {
            return strange("its globals are missing");
        };
        if globals.len() != 8 || pause != 0 {
            return strange("it pauses");
        }
        let (m0, g0) = (u64::from(go.m0), u64::from(go.g0));
        if word(memory, m0 + M_G0) != Some(g0) || word(memory, g0 + G_M) != Some(m0) {
            return strange("its thread is not set up");
        }
        if g == g0 {
            return strange("it runs on the scheduler's stack");
        }
        if g % 8 != 0 || word(memory, g.saturating_add(G_M)) != Some(m0) {
            return strange("its goroutine does not run on its thread");
        }
        let (Some(lo), Some(hi)) = (word(memory, g + G_STACK), word(memory, g + G_STACK + 8))
        else {
            return strange("its goroutine has no stack");
        };
        let aligned = sp % 8 == 0 && lo % 8 == 0 && hi % 8 == 0;
        if !aligned || lo < 8 || hi > memory.len() as u64 || sp >= hi || sp < lo.saturating_add(8) {
            return strange("its stack pointer is not in its goroutine's stack");
        }
        Ok(Self { g, sp, hi })
    }
}

/// The addresses below the stack pointer in the running goroutine's stack: what they hold is written before it is read again. Empty
/// if the state is not that of a Go program.
fn unused_stack(go: &GoCommand, memory: &[u8], globals: &Globals) -> Range<u64> {
    let found = Goroutine::running(go, memory, globals).ok();
    let lowest = found.and_then(|found| Some((word(memory, found.g + G_STACK)?, found.sp)));
    // The program counter at which it goes on is in the word below the stack pointer.
    lowest.map_or(0..0, |(lo, sp)| lo..sp.saturating_sub(8))
}

/// The value of the global with that index, zero-extended.
fn value(globals: &Globals, index: u32) -> Option<u64> {
    match globals.get(index as usize)?.1 {
        GlobalValue::I32(value) => Some(u64::from(value as u32)),
        GlobalValue::I64(value) => Some(value as u64),
        _ => None,
    }
}

/// Sets the global with that index, which is there.
fn set(globals: &mut Globals, index: u32, value: u64) {
    match globals.get_mut(index as usize).map(|(_, value)| value) {
        Some(GlobalValue::I32(old)) => *old = value as i32,
        Some(GlobalValue::I64(old)) => *old = value as i64,
        _ => {}
    }
}

/// The eight bytes at an address, if they are in memory.
fn word(memory: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let bytes = memory.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

/// The four bytes at an address, if they are in memory.
fn half_word(memory: &[u8], at: u64) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    let bytes = memory.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

/// Writes eight bytes.
fn write(memory: &mut [u8], at: u64, value: u64) -> Option<()> {
    let at = usize::try_from(at).ok()?;
    let bytes = memory.get_mut(at..)?.first_chunk_mut::<8>()?;
    *bytes = value.to_le_bytes();
    Some(())
}

#[cfg(test)]
mod tests;
