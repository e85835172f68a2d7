//! Instances that are used again: which may be, how they are made pristine, and where they wait.
//!
//! ```text
//!            Shelf::lease               run: returned or proc_exit, memory not grown
//!   (none) ───────────────▶ in use ───────────────────────────────────────────▶ restored, on the shelf
//!                           ▲    │                                                      │
//!                           │    └── any other end, or a failure: dropped               │
//!                           └───────────────────── Shelf::take ─────────────────────────┘
//! ```
//!
//! All that a guest can find changed is its memory (a slot, which is reset), its globals (set to what they were) and its
//! tables and segments. The latter cannot be restored, so modules whose code changes them have no shelf.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine_core::backend::{Start, StartPoint};
use engine_core::memory::Image;
use engine_core::{Error, Limits, Result};
use wasmi::{Extern, Global, Instance, Store, Val};

use crate::sandbox::Data;

/// An instance in a slot, as new.
pub(crate) struct Kept {
    pub(crate) store: Store<Data>,
    pub(crate) instance: Instance,
    pub(crate) origin: Origin,
}

impl Kept {
    /// Makes a used instance as new again. After an error it must be dropped.
    pub(crate) fn restore(&mut self) -> Result<()> {
        let memory = self.store.data().memory;
        let size = memory.map_or(0, |memory| memory.data_size(&self.store) as u64);
        if size != self.origin.image.len() {
            return Err(Error::host("a memory that has grown cannot shrink"));
        }
        // No reference into the memory is left: hostcalls borrow it from the store, and they are over.
        let slot = &mut self.store.data_mut().bound.slot;
        let used = slot
            .take()
            .ok_or_else(|| Error::host("a bug: an instance is kept without its slot"))?;
        *slot = Some(used.reset()?);
        for (global, value) in &self.origin.values {
            global
                .set(&mut self.store, value.clone())
                .map_err(|error| Error::host("a global cannot be restored").because(error))?;
        }
        Ok(())
    }
}

/// What an instance was made from.
pub(crate) struct Origin {
    image: Arc<Image>,
    /// With the values that globals were set to.
    point: Arc<StartPoint>,
    /// Each mutable global, with the value it started with.
    values: Vec<(Global, Val)>,
    /// Bytes that its memory can have.
    most: u64,
}

impl Origin {
    /// That of an `instance` that was made from `image` and `start`, and has not run.
    pub(crate) fn of(
        store: &Store<Data>,
        instance: Instance,
        image: &Arc<Image>,
        start: &Start,
        most: usize,
    ) -> Self {
        let values = instance
            .exports(store)
            .filter_map(|export| match export.into_extern() {
                Extern::Global(global) if global.ty(store).mutability().is_mut() => {
                    Some((global, global.get(store)))
                }
                _ => None,
            })
            .collect();
        Self {
            image: Arc::clone(image),
            point: Arc::clone(&start.point),
            values,
            most: most as u64,
        }
    }

    /// Whether a sandbox that is to begin with `start` can have it.
    fn fits(&self, start: &Start, limits: &Limits) -> bool {
        let same = Arc::ptr_eq(&self.point, &start.point)
            || start
                .image()
                .is_some_and(|image| Arc::ptr_eq(image, &self.image))
                && self.point.globals == start.point.globals;
        same && self.most >= limits.memory_bytes()
    }
}

/// Where the instances of one module wait.
pub(crate) struct Shelf {
    state: Mutex<State>,
    /// Instances in slots that the module may have.
    most: usize,
    /// All such instances, of every module.
    total: Arc<Total>,
}

#[derive(Default)]
struct State {
    kept: Vec<Kept>,
    in_use: usize,
    /// Sandboxes to come that get memory of their own.
    pause: u32,
    /// How long the next pause is.
    next_pause: u32,
}

/// The longest pause, in sandboxes.
const LONGEST_PAUSE: u32 = 1023;

impl Shelf {
    pub(crate) fn new(most: usize, total: Arc<Total>) -> Self {
        Self {
            state: Mutex::default(),
            most,
            total,
        }
    }

    /// Whether a slot would help the next sandbox.
    pub(crate) fn wants_slot(&self, start: &Start, limits: &Limits) -> bool {
        let state = self.state();
        let fits = |kept: &Kept| kept.origin.fits(start, limits);
        // One that waits and does not fit is given up for it.
        let has_place = !state.kept.is_empty() || state.in_use < self.most && self.total.has_room();
        state.pause == 0 && has_place && !state.kept.iter().any(fits)
    }

    /// An instance that fits, if one waits.
    pub(crate) fn take(self: &Arc<Self>, start: &Start, limits: &Limits) -> Option<(Kept, Lease)> {
        let mut state = self.state();
        let fits = |kept: &Kept| kept.origin.fits(start, limits);
        let Some(at) = state.kept.iter().rposition(fits) else {
            state.pause = state.pause.saturating_sub(1);
            return None;
        };
        state.in_use += 1;
        Some((state.kept.remove(at), self.leased()))
    }

    /// Leave to make one more, for `start`: in a place of its own, or in that of the instance that has waited longest among
    /// those that do not fit. A module has several starts (plain, run-ups, snapshots), most of which are never seen again.
    pub(crate) fn lease(self: &Arc<Self>, start: &Start, limits: &Limits) -> Option<Lease> {
        let mut state = self.state();
        let has_place = state.in_use + state.kept.len() < self.most && self.total.add();
        let given_up = if has_place {
            None
        } else {
            let misfit = |kept: &Kept| !kept.origin.fits(start, limits);
            let at = state.kept.iter().position(misfit)?;
            Some(state.kept.remove(at))
        };
        state.in_use += 1;
        drop(state);
        // Its memory is reset, which takes a while.
        drop(given_up);
        Some(self.leased())
    }

    fn leased(self: &Arc<Self>) -> Lease {
        Lease {
            shelf: Arc::clone(self),
            is_kept: false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.total.remove(state.kept.len());
    }
}

/// A place among those of a shelf, for an instance in use. Dropping it gives the place up, and the instance with it.
pub(crate) struct Lease {
    shelf: Arc<Shelf>,
    is_kept: bool,
}

impl Lease {
    /// Puts the instance, which is as new, on the shelf.
    pub(crate) fn keep(mut self, kept: Kept) {
        let mut state = self.shelf.state();
        state.in_use -= 1;
        state.next_pause /= 2;
        state.kept.push(kept);
        drop(state);
        self.is_kept = true;
    }

    /// Notes that the instance cannot be kept. To make one in a slot takes about three times as long as one in memory of its
    /// own, so a module that loses them often is given a pause, longer each time.
    pub(crate) fn lost(self) {
        let mut state = self.shelf.state();
        state.next_pause = (2 * state.next_pause + 1).min(LONGEST_PAUSE);
        state.pause = state.next_pause;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_kept {
            self.shelf.state().in_use -= 1;
            self.shelf.total.remove(1);
        }
    }
}

/// The bound on the instances in slots of all modules of a backend.
#[derive(Debug)]
pub(crate) struct Total {
    now: AtomicUsize,
    most: usize,
}

impl Total {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            now: AtomicUsize::new(0),
            most,
        }
    }

    fn has_room(&self) -> bool {
        self.now.load(Ordering::Relaxed) < self.most
    }

    /// Counts one more, unless there are as many as may be.
    fn add(&self) -> bool {
        self.now
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                (now < self.most).then_some(now + 1)
            })
            .is_ok()
    }

    fn remove(&self, count: usize) {
        self.now.fetch_sub(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Bound;
    use engine_core::MemoryUse;

    fn wants_slot(shelf: &Shelf) -> bool {
        shelf.wants_slot(&Start::plain(None), &Limits::default())
    }

    fn lease(shelf: &Arc<Shelf>) -> Option<Lease> {
        shelf.lease(&Start::plain(None), &Limits::default())
    }

    /// An instance of an empty module, made from `image`.
    fn kept(image: &Arc<Image>) -> Kept {
        let engine = wasmi::Engine::default();
        let limits = Limits::default();
        let data = Data {
            host: None,
            memory: None,
            bound: Bound::new(MemoryUse::new(&limits), None),
            slice: 10,
        };
        let mut store = Store::new(&engine, data);
        let module = wasmi::Module::new(&engine, b"\0asm\x01\0\0\0").unwrap();
        let linker = wasmi::Linker::new(&engine);
        let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
        let start = Start::plain(Some(Arc::clone(image)));
        let most = usize::try_from(limits.memory_bytes()).unwrap();
        let origin = Origin::of(&store, instance, image, &start, most);
        Kept {
            store,
            instance,
            origin,
        }
    }

    fn shelf(most: usize, total: &Arc<Total>) -> Arc<Shelf> {
        Arc::new(Shelf::new(most, Arc::clone(total)))
    }

    #[test]
    fn leases_are_bounded_by_the_shelf_and_by_all_shelves_together() {
        let total = Arc::new(Total::new(3));
        let (one, two) = (shelf(2, &total), shelf(2, &total));
        let first = lease(&one).unwrap();
        let second = lease(&one).unwrap();
        assert!(lease(&one).is_none() && !wants_slot(&one));
        let third = lease(&two).unwrap();
        assert!(lease(&two).is_none() && !wants_slot(&two));
        drop(second);
        let fourth = lease(&two).unwrap();
        assert!(lease(&one).is_none());
        for lease in [first, third, fourth] {
            drop(lease);
        }
        assert_eq!(total.now.load(Ordering::Relaxed), 0);
        assert!(wants_slot(&one) && wants_slot(&two));
    }

    #[test]
    fn what_does_not_fit_makes_room_for_what_is_wanted() {
        let total = Arc::new(Total::new(2));
        let shelf = shelf(2, &total);
        let limits = Limits::default();
        let image = || Arc::new(Image::from_bytes(&[1; 65_536]).unwrap());
        let start = |image: &Arc<Image>| Start::plain(Some(Arc::clone(image)));
        let images = [image(), image(), image()];
        for image in &images {
            assert!(shelf.wants_slot(&start(image), &limits));
            let lease = shelf.lease(&start(image), &limits).unwrap();
            lease.keep(kept(image));
        }
        let [oldest, older, newest] = &images;
        assert!(shelf.take(&start(oldest), &limits).is_none(), "given up");
        for image in [older, newest] {
            assert!(!shelf.wants_slot(&start(image), &limits), "one waits");
        }
        let (older, of_older) = shelf.take(&start(older), &limits).unwrap();
        let (_newest, of_newest) = shelf.take(&start(newest), &limits).unwrap();
        // What is in use is never given up.
        assert!(!shelf.wants_slot(&start(oldest), &limits));
        assert!(shelf.lease(&start(oldest), &limits).is_none());
        of_older.keep(older);
        drop(of_newest);
        assert_eq!(total.now.load(Ordering::Relaxed), 1);
        drop(shelf);
        assert_eq!(total.now.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn each_loss_makes_the_pause_longer() {
        let shelf = shelf(2, &Arc::new(Total::new(2)));
        let limits = Limits::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            lease(&shelf).unwrap().lost();
            let mut pause = 0;
            while !wants_slot(&shelf) {
                assert!(shelf.take(&Start::plain(None), &limits).is_none());
                pause += 1;
            }
            pauses.push(pause);
        }
        assert_eq!(pauses[..4], [1, 3, 7, 15]);
        assert_eq!(pauses[9..], [1023, 1023, 1023]);
        // A lease that came to nothing is no loss.
        drop(lease(&shelf));
        assert!(wants_slot(&shelf));
    }
}
