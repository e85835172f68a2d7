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

use corosensei::stack::{DefaultStack, Stack as _};

use crate::config::WASM_STACK;

/// Room for wasmtime and the hostcalls, below the guest.
const HOST: usize = 256 * 1024;

/// What stays resident of a stack between two guests, counted from its upper end. Few guests use more.
const WARM: usize = 128 * 1024;

/// So many bytes below [`WARM`] tell whether a guest has used more. Frames of up to this size cannot pass over them without
/// a trace: each holds its return address.
const MARK: usize = 512;

/// After so many guests what is below [`WARM`] is given back in any case: a guest with larger frames may leave no trace.
const USES: u32 = 256;

thread_local! {
    /// The stack that this thread's next guest runs on.
    static KEPT: Cell<Option<GuestStack>> = const { Cell::new(None) };
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

impl GuestStack {
    fn new() -> io::Result<Self> {
        let new = Self {
            stack: DefaultStack::new(WASM_STACK + HOST)?,
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
        if self.uses < USES && !self.was_deep() {
            return;
        }
        self.uses = 0;
        let (bottom, length) = self.below_warm();
        // If this fails the pages stay resident, and nothing else is different.
        // SAFETY: the range is part of the stack's mapping, and nothing is on the stack: `&mut self` is the only way to
        // run on it, and its guest has returned.
        unsafe { libc::madvise(bottom.cast(), length, libc::MADV_DONTNEED) };
    }

    /// Whether there are traces of a guest below [`WARM`].
    fn was_deep(&self) -> bool {
        let (bottom, length) = self.below_warm();
        // SAFETY: the bytes are the upper end of a part of the stack's mapping, which is readable, zero or written to by
        // guests, and aligned to a page as its ends are. Nothing writes there while `self` is borrowed.
        let mark = unsafe {
            let mark = bottom.add(length - MARK).cast::<u64>();
            std::slice::from_raw_parts(mark, MARK / size_of::<u64>())
        };
        // Without an early exit the compiler reads many words at a time.
        mark.iter().fold(0, |seen, word| seen | word) != 0
    }

    /// The part of the stack below [`WARM`], without the guard page: where it begins, and its length.
    fn below_warm(&self) -> (*mut u8, usize) {
        let length = WASM_STACK + HOST - WARM;
        let bottom = self.stack.base().get() - WARM - length;
        (std::ptr::with_exposed_provenance_mut(bottom), length)
    }
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
            assert!(!stack.was_deep());
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
