//! Native stacks: guests run on the calling thread's where there is room, on a pooled one where there is not.
//!
//! Wasmtime lets a guest use [`WASM_STACK`] bytes below the point of entry, whatever the thread
//! has: on a smaller stack a guest's recursion would run into the thread's guard page and end the process. So the bounds
//! of the thread's stack are looked up, once per thread, and compared with the stack pointer at each entry.

use std::cell::OnceCell;
use std::hint::black_box;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

use corosensei::stack::DefaultStack;
use parking_lot::Mutex;

use crate::config::WASM_STACK;

/// Stack that must be left where a guest is entered: its own, and 256 KiB for wasmtime and the hostcalls on top of it.
const NEEDED: usize = WASM_STACK + 256 * 1024;

/// Size of a pooled stack.
const SIZE: usize = 1 << 20;

/// Pooled stacks that are kept. Each holds what its deepest guest touched; beyond these they are unmapped after use.
const KEPT: usize = 64;

/// Free stacks for guests that are entered from small threads.
#[derive(Default)]
pub(crate) struct Stacks {
    free: Mutex<Vec<DefaultStack>>,
}

impl Stacks {
    /// Runs `guest` where it has room: here, or on a pooled stack. Fails only if there is no memory for a new one.
    pub(crate) fn run<R>(&self, guest: impl FnOnce() -> R) -> io::Result<R> {
        if left() >= NEEDED {
            return Ok(guest());
        }
        let mut stack = self.take()?;
        let result = corosensei::on_stack(&mut stack, guest);
        self.give(stack);
        Ok(result)
    }

    fn take(&self) -> io::Result<DefaultStack> {
        let free = self.free.lock().pop();
        free.map_or_else(|| DefaultStack::new(SIZE), Ok)
    }

    fn give(&self, stack: DefaultStack) {
        let mut free = self.free.lock();
        if free.len() < KEPT {
            free.push(stack);
        }
    }
}

impl std::fmt::Debug for Stacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stacks")
            .field("free", &self.free.lock().len())
            .finish()
    }
}

/// Bytes of stack below the caller. 0 if the thread's bounds are unknown or it runs on some other stack just now.
fn left() -> usize {
    thread_local! {
        static BOUNDS: OnceCell<Range<usize>> = const { OnceCell::new() };
    }

    let local = 0_u8;
    let pointer = ptr::from_ref(black_box(&local)).addr();
    BOUNDS.with(|bounds| {
        let bounds = bounds.get_or_init(|| bounds_of_this_thread().unwrap_or(0..0));
        if bounds.contains(&pointer) {
            pointer - bounds.start
        } else {
            0
        }
    })
}

/// The usable part of the calling thread's stack.
fn bounds_of_this_thread() -> Option<Range<usize>> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: `attributes` is only read after the call has filled it in.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let mut lowest = ptr::null_mut();
    let (mut size, mut guard) = (0, 0);
    // SAFETY: `attributes` was filled in, the others are locals; it is destroyed once, and not used afterwards.
    let known = unsafe {
        let attributes = attributes.as_mut_ptr();
        let known = libc::pthread_attr_getstack(attributes, &mut lowest, &mut size) == 0
            && libc::pthread_attr_getguardsize(attributes, &mut guard) == 0;
        libc::pthread_attr_destroy(attributes);
        known
    };
    // Whether the guard pages count as stack differs between C libraries; not counting them is right for both.
    let lowest = lowest.addr();
    known.then(|| lowest.saturating_add(guard)..lowest.saturating_add(size))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_room_on_a_thread_is_known() {
        for size in [128 << 10, 1 << 20, 8 << 20] {
            let left = on_thread(size, left);
            // glibc may hand out the stack of a thread that has ended, up to four times as large.
            assert!(
                left > size / 2 && left <= 4 * size + (64 << 10),
                "{left} of {size}"
            );
        }
    }

    #[test]
    fn a_small_thread_gets_a_pooled_stack_which_is_used_again() {
        let stacks = Stacks::default();
        for _ in 0..3 {
            assert_eq!(on_thread(128 << 10, || stacks.run(|| 7).unwrap()), 7);
            assert_eq!(stacks.free.lock().len(), 1);
        }
        // The pooled stack is not the thread's, so its bounds say nothing about it: an entry from there takes another.
        let foreign = on_thread(128 << 10, || stacks.run(left).unwrap());
        assert_eq!(foreign, 0);
    }

    #[test]
    fn a_large_thread_keeps_its_own() {
        let stacks = Stacks::default();
        assert!(on_thread(8 << 20, || stacks.run(left).unwrap()) > 7 << 20);
        assert_eq!(stacks.free.lock().len(), 0);
    }

    /// Uses all the stack that is needed, in a frame of its own.
    #[inline(never)]
    fn fill() -> usize {
        let mut room = [0_u8; NEEDED];
        black_box(&mut room).fill(1);
        room.iter().map(|&byte| usize::from(byte)).sum()
    }

    #[test]
    fn a_pooled_stack_has_all_the_room_that_is_needed() {
        const { assert!(SIZE >= NEEDED) };
        let filled = on_thread(64 << 10, || Stacks::default().run(fill).unwrap());
        assert_eq!(filled, NEEDED);
    }

    #[test]
    fn a_panic_comes_back_through_a_pooled_stack() {
        let caught = on_thread(64 << 10, || {
            std::panic::catch_unwind(|| {
                Stacks::default()
                    .run(|| std::panic::panic_any(7_u8))
                    .unwrap()
            })
        });
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&7_u8));
    }
}
