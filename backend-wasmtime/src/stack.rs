//! Native stacks: guests run on stacks of ours, which are as deep as other hosts give them.
//!
//! Wasmtime lets a guest use [`WASM_STACK`] bytes below the point of entry, whatever the thread
//! has: on a smaller stack a guest's recursion would run into the thread's guard page and end the process. So each thread
//! that runs guests gets a second stack, of which it keeps one for its next guest. Nothing depends on the size of the
//! thread's own stack (`ulimit -s`).
//!
//! ```text
//!   low                                                                                          high
//!   guard page │ room for wasmtime and hostcalls │ the guest: WASM_STACK                 │ WARM  │ ◀ entry
//!                                                  given back after a guest that used it   stays
//! ```

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use corosensei::stack::{DefaultStack, Stack as _};
use parking_lot::Mutex;
use wasmtime::{StackCreator, StackMemory};

use crate::config::WASM_STACK;

/// Room for wasmtime and the hostcalls, below the guest.
const HOST: usize = 256 * 1024;

/// The size of a stack.
pub(crate) const STACK: usize = WASM_STACK + HOST;

/// What stays resident of a stack between two guests, counted from its upper end. Few guests use more.
const WARM: usize = 128 * 1024;

/// So many bytes below [`WARM`] tell whether a guest has used more. Frames of up to this size cannot pass over them without
/// a trace: each holds its return address.
const MARK: usize = 512;

/// After so many guests what is below [`WARM`] is given back in any case: a guest with larger frames may leave no trace.
const USES: u32 = 256;

/// The most stacks that are kept for calls which may be suspended, and that no store has.
const SPARE: usize = 64;

thread_local! {
    /// The stack that this thread's next guest runs on.
    static KEPT: Cell<Option<GuestStack>> = const { Cell::new(None) };
    /// The stack that wasmtime got last on this thread.
    static MADE: Cell<Option<StoreStack>> = const { Cell::new(None) };
}

/// Runs `guest` on a stack with all the room that a guest may use. Fails only if there is no memory for a new one.
pub(crate) fn run<R>(guest: impl FnOnce() -> R) -> io::Result<R> {
    let mut stack = match KEPT.take() {
        Some(stack) => stack,
        None => GuestStack::new()?,
    };
    let result = corosensei::on_stack(&mut stack.stack, guest);
    stack.cool();
    KEPT.set(Some(stack));
    Ok(result)
}

struct GuestStack {
    stack: DefaultStack,
    /// Guests since what is below [`WARM`] was given back.
    uses: u32,
}

/// Makes the stacks of calls that may be suspended. Wasmtime switches to them by itself; a store keeps the stack of its last
/// call for the next one.
#[derive(Clone, Default)]
pub(crate) struct Stacks(Arc<Mutex<Vec<GuestStack>>>);

// SAFETY: each stack is `STACK` bytes long, which is what wasmtime is told to ask for; it is aligned to pages, with a guard page
// below it. It is not always zero, which wasmtime asks for by `zeroed` only, and the configuration does not.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        if size > STACK || zeroed {
            return Err(wasmtime::Error::msg("a bug: another stack than configured"));
        }
        let spare = self.0.lock().pop();
        let stack = match spare {
            Some(stack) => stack,
            None => GuestStack::new()?,
        };
        let (bottom, length) = stack.below_warm();
        MADE.set(Some(StoreStack {
            bottom: Bottom(bottom),
            length,
            uses: 0,
        }));
        Ok(Box::new(Borrowed {
            stack: Some(stack),
            home: self.clone(),
        }))
    }
}

/// A stack that wasmtime has. It comes back when it is dropped.
struct Borrowed {
    stack: Option<GuestStack>,
    home: Stacks,
}

impl Borrowed {
    fn stack(&self) -> &DefaultStack {
        match &self.stack {
            Some(stack) => &stack.stack,
            None => unreachable!("it is taken when this is dropped only"),
        }
    }
}

// SAFETY: the ranges are those of one mapping, which lives as long as `self`.
unsafe impl StackMemory for Borrowed {
    fn top(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.stack().base().get())
    }

    fn range(&self) -> Range<usize> {
        let top = self.stack().base().get();
        top - STACK..top
    }

    fn guard_range(&self) -> Range<*mut u8> {
        let at = |address| std::ptr::with_exposed_provenance_mut(address);
        at(self.stack().limit().get())..at(self.range().start)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let Some(mut stack) = self.stack.take() else {
            return;
        };
        stack.uses = USES;
        stack.cool();
        let mut spare = self.home.0.lock();
        if spare.len() < SPARE {
            spare.push(stack);
        }
    }
}

/// The part below [`WARM`] of the stack that a store keeps.
#[derive(Debug)]
pub(crate) struct StoreStack {
    bottom: Bottom,
    length: usize,
    uses: u32,
}

#[derive(Clone, Copy, Debug)]
struct Bottom(*mut u8);

// SAFETY: it is an address, and used while its store is borrowed mutably only.
unsafe impl Send for Bottom {}

impl StoreStack {
    /// The stack that wasmtime got since the last time, on this thread.
    pub(crate) fn last_made() -> Option<Self> {
        MADE.take()
    }

    /// Gives back what the last guest used below [`WARM`]. The caller has the store, which keeps the stack, and no call is
    /// in it.
    pub(crate) fn cool(&mut self) {
        self.uses += 1;
        // SAFETY: the store keeps the stack, and no guest is on it: the caller's promise.
        unsafe { cool(self.bottom.0, self.length, &mut self.uses) };
    }
}

impl GuestStack {
    fn new() -> io::Result<Self> {
        let new = Self {
            stack: DefaultStack::new(STACK)?,
            uses: 0,
        };
        let (bottom, length) = new.below_warm();
        // A huge page would make 2 MiB of each stack resident. That a kernel has none is no error.
        // SAFETY: the range is part of the stack's mapping, and the advice changes none of its bytes.
        unsafe { libc::madvise(bottom.cast(), length + WARM, libc::MADV_NOHUGEPAGE) };
        Ok(new)
    }

    /// Gives back what the last guest used below [`WARM`].
    fn cool(&mut self) {
        self.uses += 1;
        let (bottom, length) = self.below_warm();
        // SAFETY: the range is part of the stack's mapping, and nothing is on the stack: `&mut self` is the only way to
        // run on it, and its guest has returned.
        unsafe { cool(bottom, length, &mut self.uses) };
    }

    /// The part of the stack below [`WARM`], without the guard page: where it begins, and its length.
    fn below_warm(&self) -> (*mut u8, usize) {
        let length = STACK - WARM;
        let bottom = self.stack.base().get() - WARM - length;
        (std::ptr::with_exposed_provenance_mut(bottom), length)
    }
}

/// Whether there are traces of a guest in the `length` bytes of a stack that are at `bottom`.
///
/// # Safety
/// As [`cool`].
unsafe fn was_deep(bottom: *const u8, length: usize) -> bool {
    // SAFETY: the bytes are the upper end of that part of the stack, which is readable, zero or written to by guests, and
    // aligned to a page as its ends are. Nothing writes there meanwhile, since nothing is on the stack.
    let mark = unsafe {
        let mark = bottom.add(length - MARK).cast::<u64>();
        std::slice::from_raw_parts(mark, MARK / size_of::<u64>())
    };
    // Without an early exit the compiler reads many words at a time.
    mark.iter().fold(0, |seen, word| seen | word) != 0
}

/// Gives the `length` bytes of a stack back that are at `bottom`, if the last guest used them, or after [`USES`] guests.
///
/// # Safety
/// The bytes are all that is below [`WARM`] of a stack that is mapped, and nothing is on the stack.
unsafe fn cool(bottom: *mut u8, length: usize, uses: &mut u32) {
    // SAFETY: the caller's promise.
    if *uses < USES && !unsafe { was_deep(bottom, length) } {
        return;
    }
    *uses = 0;
    // If this fails the pages stay resident, and nothing else is different.
    // SAFETY: the range is part of the stack's mapping, and nothing is on the stack.
    unsafe { libc::madvise(bottom.cast(), length, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    fn on_thread<R: Send>(stack: usize, f: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(stack)
                .spawn_scoped(scope, f)
                .unwrap()
                .join()
                .unwrap()
        })
    }

    /// Where the calling function's frame is, about.
    #[inline(never)]
    fn here() -> usize {
        let local = 0_u8;
        std::ptr::from_ref(black_box(&local)).addr()
    }

    /// Uses so much stack, in small frames.
    #[inline(never)]
    fn recurse(bytes: usize, from: usize) -> u64 {
        let frame = black_box([bytes as u64; 16]);
        if from - here() >= bytes {
            return frame[3];
        }
        recurse(bytes, from) + frame[7]
    }

    /// The word at a depth of the kept stack.
    fn kept_word(depth: usize) -> u64 {
        let stack = KEPT.take().expect("a stack is kept");
        let (bottom, length) = stack.below_warm();
        // SAFETY: the depth is within the mapping, and no guest runs.
        let word = unsafe {
            bottom
                .add(length + WARM - depth)
                .cast::<u64>()
                .read_volatile()
        };
        KEPT.set(Some(stack));
        word
    }

    #[test]
    fn a_guest_has_all_its_room_on_any_thread() {
        for thread in [64 << 10, 256 << 10, 8 << 20] {
            for _ in 0..2 {
                let deep = || recurse(WASM_STACK + HOST / 2, here());
                assert!(on_thread(thread, || run(deep).unwrap()) > 0);
            }
        }
    }

    #[test]
    fn a_thread_keeps_its_stack() {
        on_thread(128 << 10, || {
            let first = run(here).unwrap();
            assert_eq!(run(here).unwrap(), first);
            let elsewhere = on_thread(128 << 10, || run(here).unwrap());
            assert_ne!(elsewhere, first);
            // A guest that calls back into a host which runs a guest gets a stack of that one's.
            let inner = run(|| run(here).unwrap()).unwrap();
            assert!(inner.abs_diff(first) > MARK, "{inner:x} {first:x}");
        });
    }

    #[test]
    fn what_a_deep_guest_used_is_given_back_and_the_rest_stays() {
        on_thread(128 << 10, || {
            run(|| recurse(4 << 20, here())).unwrap();
            for depth in [WARM + 4096, 1 << 20, 2 << 20, 4 << 20] {
                assert_eq!(kept_word(depth / 4096 * 4096), 0, "at {depth}");
            }
            run(|| recurse(WARM / 2, here())).unwrap();
            let stays = (4096..WARM / 2)
                .step_by(8)
                .filter(|&depth| kept_word(depth) != 0);
            assert!(stays.count() > 1000);
        });
    }

    #[test]
    fn what_left_no_trace_is_given_back_after_a_while() {
        on_thread(128 << 10, || {
            run(|| ()).unwrap();
            let mut stack = KEPT.take().unwrap();
            let (bottom, length) = stack.below_warm();
            // SAFETY: the byte is within the mapping, and no guest runs.
            unsafe { bottom.add(length / 2).write_volatile(1) };
            let (bottom, length) = stack.below_warm();
            // SAFETY: the range is that of a stack with nothing on it.
            assert!(!unsafe { was_deep(bottom, length) });
            stack.uses = 0;
            KEPT.set(Some(stack));
            for _ in 0..USES {
                run(|| ()).unwrap();
            }
            assert_eq!(kept_word(WARM + length / 2), 0);
        });
    }

    #[test]
    fn a_panic_comes_back_through_the_stack() {
        let caught = on_thread(64 << 10, || {
            std::panic::catch_unwind(|| run(|| std::panic::panic_any(7_u8)).unwrap())
        });
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&7_u8));
    }
}
