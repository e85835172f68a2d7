//! Linear memory of sandboxes: engine-core's slots, and a mapping if there is no slot.
//!
//! wasmtime asks its `MemoryCreator` for memory during an instantiation, but does not say for which sandbox. So the
//! memory is put into a thread-local variable of the instantiating thread, exactly for the time of the instantiation
//! ([`with`]).

use std::cell::Cell;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use engine_core::memory::{GUARD, RESERVED, Slot};
use parking_lot::Mutex;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

/// The address space of a heap for references. Only a module that uses `externref` has one. The host never makes a
/// reference, so nothing is ever allocated in it.
pub(crate) const GC_RESERVED: usize = 1 << 20;

/// The inaccessible bytes after [`GC_RESERVED`].
pub(crate) const GC_GUARD: usize = 64 * 1024;

/// The memory for the next instantiation.
#[derive(Debug)]
pub(crate) enum Ready {
    /// A slot of the pool, which holds its image already.
    Slot(Pooled),
    /// A mapping of at least this many bytes, into which an image is copied afterwards.
    Bytes(u64),
}

thread_local! {
    static READY: Cell<Option<Ready>> = const { Cell::new(None) };
}

/// Runs `instantiate`, which gets `ready` for the memory that it creates. The second result is false if it has created
/// no memory. `ready` is then dropped here, and also if `instantiate` panics, so that no other instantiation gets it.
pub(crate) fn with<R>(ready: Ready, instantiate: impl FnOnce() -> R) -> (R, bool) {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            drop(READY.take());
        }
    }

    let clear = Clear;
    drop(READY.replace(Some(ready)));
    let result = instantiate();
    let taken = match READY.take() {
        Some(left) => {
            drop(left);
            false
        }
        None => true,
    };
    drop(clear);
    (result, taken)
}

/// Makes the memories that wasmtime asks for.
#[derive(Debug)]
pub(crate) struct Memories;

// SAFETY: every memory made here is page-aligned. It has the requested reservation and guard after its base, both
// inaccessible beyond `byte_size`. It never moves, and belongs to the instance that it was made for until it is
// dropped.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let reserved = reserved.unwrap_or(RESERVED);
        if reserved == GC_RESERVED {
            return Mapping::boxed(minimum, reserved, guard);
        }
        if reserved > RESERVED || guard > GUARD {
            return Err(format!(
                "a bug in Gojinn: wasmtime needs {reserved} + {guard} bytes of address space, but a slot has {RESERVED} + \
                 {GUARD}; please report it"
            ));
        }
        let fits = |bytes: usize| {
            if bytes <= maximum.unwrap_or(RESERVED) {
                Ok(())
            } else {
                Err(format!(
                    "the image has {bytes} bytes, more than the maximum that the module declares"
                ))
            }
        };
        match READY.take() {
            Some(Ready::Slot(mut slot)) => {
                fits(slot.byte_size())?;
                slot.grow_to(minimum).map_err(|error| error.to_string())?;
                Ok(Box::new(slot))
            }
            Some(Ready::Bytes(bytes)) => {
                let bytes = usize::try_from(bytes).map_err(|error| error.to_string())?;
                fits(bytes)?;
                Mapping::boxed(bytes.max(minimum), reserved, guard)
            }
            None => Mapping::boxed(minimum, reserved, guard),
        }
    }
}

/// A slot that two owners share: wasmtime's memory, and the instance that resets it.
#[derive(Clone, Debug)]
pub(crate) struct Pooled(Arc<Mutex<Option<Slot>>>);

impl Pooled {
    pub(crate) fn new(slot: Slot) -> Self {
        Self(Arc::new(Mutex::new(Some(slot))))
    }

    /// Makes the memory pristine, with its initial length, and counts the slot as waiting. After an error there is no
    /// memory any more, and the store that uses it must be dropped.
    ///
    /// There must be no reference into the memory.
    pub(crate) fn reset(&self) -> engine_core::Result<()> {
        let mut slot = self.0.lock();
        let used = slot.take().ok_or_else(|| {
            engine_core::Error::host(
                "a bug in Gojinn: a slot was lost in an earlier reset; please report it",
            )
        })?;
        slot.insert(used.reset()?).set_waiting(true);
        Ok(())
    }

    /// Counts the slot as in use.
    pub(crate) fn in_use(&self) {
        if let Some(slot) = &mut *self.0.lock() {
            slot.set_waiting(false);
        }
    }
}

// SAFETY: as for `Memories`. The slot's address range has RESERVED + GUARD bytes, and a reset does not move it. After a
// failed reset wasmtime only drops this.
unsafe impl LinearMemory for Pooled {
    fn byte_size(&self) -> usize {
        self.0.lock().as_ref().map_or(0, Slot::len)
    }

    fn byte_capacity(&self) -> usize {
        RESERVED
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        match &mut *self.0.lock() {
            Some(slot) => slot.grow_to(bytes).map_err(wasmtime::Error::new),
            None => Err(wasmtime::Error::msg(
                "a bug in Gojinn: the slot is gone; please report it",
            )),
        }
    }

    fn as_ptr(&self) -> *mut u8 {
        let slot = self.0.lock();
        slot.as_ref().map_or_else(ptr::dangling_mut, Slot::base)
    }
}

/// A mapping for one memory.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
    reserved: usize,
    guard: usize,
}

// SAFETY: the mapping is owned, and does not belong to a thread.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` gives access to plain values only.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(len: usize, reserved: usize, guard: usize) -> io::Result<Self> {
        // SAFETY: makes a new mapping at an address that the kernel chooses; no existing mapping is touched.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                reserved + guard,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast())
            .ok_or_else(|| io::Error::other("the kernel mapped address 0"))?;
        let mut mapping = Self {
            base,
            len: 0,
            reserved,
            guard,
        };
        mapping.grow(len)?;
        Ok(mapping)
    }

    fn boxed(len: usize, reserved: usize, guard: usize) -> Result<Box<dyn LinearMemory>, String> {
        match Self::new(len, reserved, guard) {
            Ok(mapping) => Ok(Box::new(mapping)),
            Err(error) => Err(format!(
                "cannot map memory for a sandbox, which needs {} GiB of address space (`ulimit -v`): {error}",
                (reserved + guard) >> 30
            )),
        }
    }

    fn grow(&mut self, len: usize) -> io::Result<()> {
        if len > self.reserved {
            return Err(io::Error::other(format!(
                "{len} bytes are more than the {} reserved",
                self.reserved
            )));
        }
        if len > self.len {
            // SAFETY: the range is inside of this mapping, which we own.
            let done = unsafe {
                libc::mprotect(
                    self.base.as_ptr().cast(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                )
            };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
            self.len = len;
        }
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: unmaps the mapping made in `new`, to which nothing refers any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.reserved + self.guard) };
    }
}

// SAFETY: as for `Memories`.
unsafe impl LinearMemory for Mapping {
    fn byte_size(&self) -> usize {
        self.len
    }

    fn byte_capacity(&self) -> usize {
        self.reserved
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.grow(bytes).map_err(wasmtime::Error::new)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_core::memory::{Image, Pool, PoolConfig};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// A slot of a pool, and the pool, which counts the slot as busy until it is dropped.
    fn slot() -> (Ready, Pool) {
        let pool = Pool::new(PoolConfig::default()).unwrap();
        let image = Image::new(65_536, &[(7, b"image")]).unwrap();
        let slot = pool.slot(&image, 1 << 20).unwrap();
        (Ready::Slot(Pooled::new(slot)), pool)
    }

    fn ask(minimum: usize, maximum: Option<usize>) -> Result<Box<dyn LinearMemory>, String> {
        Memories.new_memory(
            MemoryType::new(1, None),
            minimum,
            maximum,
            Some(RESERVED),
            GUARD,
        )
    }

    fn bytes(memory: &dyn LinearMemory) -> &[u8] {
        // SAFETY: `byte_size` bytes from the base are readable, and nothing writes to them in these tests.
        unsafe { std::slice::from_raw_parts(memory.as_ptr(), memory.byte_size()) }
    }

    #[test]
    fn the_prepared_memory_is_used_once() {
        let (ready, pool) = slot();
        let ((first, second), taken) = with(ready, || {
            (ask(0, None).unwrap(), ask(65_536, None).unwrap())
        });
        assert!(taken);
        assert_eq!(&bytes(&*first)[7..12], b"image");
        assert!(bytes(&*second).iter().all(|&byte| byte == 0));
        drop(first);
        assert_eq!(pool.stats().busy, 0);
    }

    #[test]
    fn a_mapping_has_the_minimum_and_room_for_the_image() {
        for (wanted, minimum, len) in [(0, 65_536, 1), (65_536, 0, 1), (3 * 65_536, 65_536, 3)] {
            let (memory, taken) = with(Ready::Bytes(wanted), || ask(minimum, None).unwrap());
            assert!(taken);
            assert_eq!(bytes(&*memory), vec![0; len * 65_536]);
        }
    }

    #[test]
    fn unused_memory_is_dropped_and_not_used_by_another_instantiation() {
        let (ready, pool) = slot();
        let ((), taken) = with(ready, || ());
        assert!(!taken);
        assert_eq!(pool.stats().busy, 0);
        let memory = ask(65_536, None).unwrap();
        assert!(bytes(&*memory).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_panic_leaves_nothing_behind() {
        let (ready, pool) = slot();
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            with(ready, || panic!("expected by the test"))
        }));
        assert!(unwound.is_err());
        assert_eq!(pool.stats().busy, 0);
        assert!(READY.take().is_none());
    }

    #[test]
    fn another_thread_gets_nothing() {
        let (ready, _pool) = slot();
        let (memory, taken) = with(ready, || {
            std::thread::spawn(|| ask(65_536, None).unwrap())
                .join()
                .unwrap()
        });
        assert!(!taken);
        assert!(bytes(&*memory).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn an_image_beyond_the_maximum_is_refused() {
        for ready in [Ready::Bytes(65_536), slot().0] {
            let (memory, _) = with(ready, || ask(0, Some(0)));
            assert!(memory.err().unwrap().contains("maximum"));
        }
    }

    #[test]
    fn a_heap_for_references_does_not_take_the_guests_memory() {
        let (ready, _pool) = slot();
        let (heap, taken) = with(ready, || {
            Memories
                .new_memory(
                    MemoryType::new(1, None),
                    0,
                    None,
                    Some(GC_RESERVED),
                    GC_GUARD,
                )
                .unwrap()
        });
        assert!(!taken);
        assert_eq!(heap.byte_size(), 0);
        assert_eq!(heap.byte_capacity(), GC_RESERVED);
    }

    #[test]
    fn a_mapping_grows_in_place_and_not_beyond_its_reservation() {
        let mut memory = ask(65_536, None).unwrap();
        let base = memory.as_ptr();
        memory.grow_to(1 << 20).unwrap();
        assert_eq!((memory.as_ptr(), memory.byte_size()), (base, 1 << 20));
        assert!(bytes(&*memory).iter().all(|&byte| byte == 0));
        assert!(memory.grow_to(RESERVED + 65_536).is_err());
        assert_eq!(memory.byte_size(), 1 << 20);
    }
}
