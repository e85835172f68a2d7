//! The pool of slots: which slot a sandbox gets, and what happens to the slot after the sandbox.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::free::{FreeList, Shard, Slots};
use super::image::Content;
use super::mapped::{Mapped, Reset, Retired};
use super::pagemap::Pagemap;
use super::reservation::{Reservation, page_size};
use super::stats::Counters;
use super::{Image, PoolConfig, PoolStats, RESERVED, ResetMode, Slot, machine};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::PAGE;

/// A bounded set of slots, shared by every function of an engine. Cloning it gives another handle to the same pool.
///
/// Everything is unmapped once the last handle and the last slot have been dropped.
#[derive(Clone)]
pub struct Pool {
    core: Arc<Core>,
}

impl Pool {
    /// A pool within the bounds of `config`. An `Unsupported` error says why this machine cannot have one; engines then
    /// have to allocate memory themselves.
    pub fn new(config: PoolConfig) -> Result<Self> {
        if config.slots == 0 {
            return Err(unavailable(
                "it may have 0 slots, either by its settings or because the address space is limited; raise `ulimit -v`",
            ));
        }
        if !(PAGE as usize).is_multiple_of(page_size()) {
            return Err(unavailable(
                "the pages of this machine are larger than 64 KiB, the unit in which guests grow their memory",
            ));
        }
        // Making the first slot now also shows whether a reservation works at all.
        let first = Reservation::new().map_err(|error| {
            unavailable(
                "a slot needs 6 GiB of address space, which the system refused; raise `ulimit -v`",
            )
            .because(error)
        })?;
        let (reset, scan_unavailable) = choose_reset(config.reset)?;
        let shared = Arc::new(Shared {
            config,
            reset,
            scan_unavailable,
            slots: Arc::new(Slots::new(config.slots)),
            resident: AtomicUsize::new(0),
        });
        let homes = (0..machine::shards()).map(|_| Home {
            counters: Counters::default(),
            shared: shared.clone(),
        });
        let list = FreeList::new(shared.slots.clone(), homes);
        if list.slots().try_add() {
            keep_cold(&list.shards()[list.home()], first);
        }
        Ok(Self {
            core: Arc::new_cyclic(|this| Core {
                list,
                shared,
                this: this.clone(),
            }),
        })
    }

    /// A slot that holds `image` and may grow to `max_bytes`. A `Rejected` error if every slot is busy.
    ///
    /// The first that exists is taken: a warm slot of this CPU, a warm slot of another CPU, a cold slot, a new slot,
    /// and last the slot that has been free longest with another image, which is unmapped and gets this one.
    pub fn slot(&self, image: &Image, max_bytes: u64) -> Result<Slot> {
        let content = image.content();
        let max = usize::try_from(max_bytes).unwrap_or(RESERVED).min(RESERVED);
        let max = max - max % PAGE as usize;
        if content.len() > max {
            return Err(Error::config(format!(
                "the module starts with {} bytes of memory, but its memory limit is {max_bytes} bytes; raise the limit",
                content.len()
            )));
        }
        let list = &self.core.list;
        let home = list.home();
        let mapped = match list.take_warm(home, content.id()) {
            Some(mapped) => mapped,
            None => self.core.map(home, content)?,
        };
        Ok(Slot::new(mapped, list.shards()[home].clone(), max))
    }

    /// How slots are reset. Never `Auto`: the pool has chosen one.
    #[must_use]
    pub fn reset_mode(&self) -> ResetMode {
        match self.core.shared.reset {
            Reset::Copy { .. } => ResetMode::Copy,
            Reset::Madvise => ResetMode::Madvise,
            Reset::Scan(_) => ResetMode::Scan,
        }
    }

    /// Why the page scan, the fastest reset, is not used although the settings do not exclude it. Worth a line in the
    /// log.
    #[must_use]
    pub fn scan_unavailable(&self) -> Option<&str> {
        self.core.shared.scan_unavailable.as_deref()
    }

    /// What the pool may use.
    #[must_use]
    pub fn config(&self) -> &PoolConfig {
        &self.core.shared.config
    }

    /// What the pool has counted. Exact if no slot is taken or given back meanwhile.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let Shared {
            slots, resident, ..
        } = &*self.core.shared;
        let mut stats = PoolStats {
            slots_total: slots.existing() as u64,
            resident_bytes: resident.load(Ordering::Relaxed) as u64,
            ..PoolStats::default()
        };
        let mut cold = 0;
        for shard in self.core.list.shards() {
            stats.warm += shard.warm() as u64;
            cold += shard.cold() as u64;
            shard.own.counters.add_to(&mut stats);
        }
        stats.warm += stats.waiting;
        stats.busy = stats.slots_total.saturating_sub(stats.warm + cold);
        stats
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", self.config())
            .field("reset", &self.reset_mode())
            .field("stats", &self.stats())
            .finish()
    }
}

/// What all handles of a pool share.
pub(super) struct Core {
    list: FreeList<Mapped, Reservation, Home>,
    shared: Arc<Shared>,
    this: Weak<Self>,
}

impl Core {
    /// Makes the warm slots that hold the dropped image `id` cold.
    pub(super) fn forget(&self, id: u64) {
        let home = &self.list.shards()[self.list.home()].own;
        self.list.cool(id, |mapped| {
            self.shared.resident_changed(mapped.resident(), 0);
            mapped.unmap().map_err(|retired| home.retired(retired)).ok()
        });
    }

    /// Maps `content` into a slot. Called when no warm slot holds it.
    #[cold]
    fn map(&self, home: usize, content: &Arc<Content>) -> Result<Mapped> {
        content.used_by(&self.this);
        let mut no_new_slot = None;
        loop {
            if let Some(cold) = self.list.take_cold(home) {
                return self.map_into(cold, home, content);
            }
            if no_new_slot.is_none() && self.shared.slots.try_add() {
                match Reservation::new() {
                    Ok(new) => return self.map_into(new, home, content),
                    Err(error) => {
                        self.shared.slots.remove();
                        no_new_slot = Some(error);
                    }
                }
            }
            if let Some(oldest) = self.list.take_oldest() {
                if oldest.content().id() == content.id() {
                    // It was given back after `take_warm` had looked.
                    return Ok(oldest);
                }
                self.shared.resident_changed(oldest.resident(), 0);
                match oldest.unmap() {
                    Ok(cold) => return self.map_into(cold, home, content),
                    Err(retired) => {
                        self.list.shards()[home].own.retired(retired);
                        continue;
                    }
                }
            }
            if let Some(error) = no_new_slot {
                return Err(
                    Error::host("every memory slot is busy, and there is no room for another; raise `ulimit -v`")
                        .because(error),
                );
            }
            if self.list.is_exhausted() {
                return Err(Error::new(
                    ErrorKind::Rejected,
                    format!(
                        "all {} memory slots are busy; try again later, or allow more slots",
                        self.shared.config.slots
                    ),
                ));
            }
            // A slot was given back while we looked through the shards; retry.
            std::hint::spin_loop();
        }
    }

    fn map_into(&self, cold: Reservation, home: usize, content: &Arc<Content>) -> Result<Mapped> {
        Mapped::new(cold, content.clone()).map_err(|(cold, error)| {
            let shard = &self.list.shards()[home];
            match cold {
                Ok(cold) => keep_cold(shard, cold),
                Err(retired) => shard.own.retired(retired),
            }
            Error::host("cannot map a module's memory into a slot").because(error)
        })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // A busy slot is unmapped when it is given back: the closed list refuses it.
        let (warm, cold) = self.list.close();
        for mapped in warm {
            self.shared.resident_changed(mapped.resident(), 0);
            self.shared.gone(mapped.retire());
        }
        for cold in cold {
            self.shared.gone(Retired {
                unmapped: cold.retire(),
            });
        }
    }
}

/// The shard that a slot is given back to.
pub(super) type HomeShard = Shard<Mapped, Reservation, Home>;

/// Makes a used slot pristine. After an error the slot has been retired.
pub(super) fn reset(shard: &HomeShard, mapped: Mapped) -> io::Result<Mapped> {
    let keep = shard.own.shared.may_keep(mapped.resident());
    reset_within(shard, mapped, keep)
}

/// Makes a used slot pristine, and keeps no page resident.
pub(super) fn renew(shard: &HomeShard, mapped: Mapped) -> io::Result<Mapped> {
    reset_within(shard, mapped, 0)
}

fn reset_within(shard: &HomeShard, mut mapped: Mapped, keep: usize) -> io::Result<Mapped> {
    let Home { counters, shared } = &*shard.own;
    let before = mapped.resident();
    match mapped.reset(&shared.reset, keep) {
        Ok(by) => counters.reset(by),
        Err(error) => {
            counters.reset_failed();
            shared.resident_changed(before, 0);
            shard.own.retired(mapped.retire());
            return Err(error);
        }
    }
    shared.resident_changed(before, mapped.resident());
    Ok(mapped)
}

/// Counts a slot as one in which an instance waits for its next sandbox, or as one no longer.
pub(super) fn waits(shard: &HomeShard, waits: bool) {
    shard.own.counters.waits(waits);
}

/// Resets a slot whose sandbox has ended, and puts it on the free list.
pub(super) fn give_back(shard: &HomeShard, mapped: Mapped) {
    let Ok(mapped) = reset(shard, mapped) else {
        return;
    };
    let shared = &shard.own.shared;
    let resident = mapped.resident();
    let content = mapped.content().clone();
    let Err(mapped) = shard.put_warm(content.id(), mapped, || content.is_dropped()) else {
        return;
    };
    shared.resident_changed(resident, 0);
    match mapped.unmap() {
        Ok(cold) => keep_cold(shard, cold),
        Err(retired) => shard.own.retired(retired),
    }
}

fn keep_cold(shard: &HomeShard, cold: Reservation) {
    if let Err(cold) = shard.put_cold(cold) {
        shard.own.shared.gone(Retired {
            unmapped: cold.retire(),
        });
    }
}

/// What a pool has for each CPU.
pub(super) struct Home {
    counters: Counters,
    shared: Arc<Shared>,
}

impl Home {
    /// Counts a slot that had to be taken out of use.
    fn retired(&self, retired: Retired) {
        self.counters.retired();
        self.shared.gone(retired);
    }
}

/// The part of a pool that slots need even after its last handle was dropped.
pub(super) struct Shared {
    config: PoolConfig,
    reset: Reset,
    scan_unavailable: Option<String>,
    slots: Arc<Slots>,
    /// Bytes that slots keep resident.
    resident: AtomicUsize,
}

impl Shared {
    /// How many bytes a slot may keep resident that has kept `before` bytes until now.
    fn may_keep(&self, before: usize) -> usize {
        let others = self.resident.load(Ordering::Relaxed).saturating_sub(before);
        self.config
            .keep_resident
            .min(self.config.keep_resident_total.saturating_sub(others))
    }

    fn resident_changed(&self, before: usize, now: usize) {
        // Mostly nothing changes, and then the shared cache line is not written to.
        if before != now {
            self.resident
                .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// Counts a slot that is out of use. One that could not be unmapped still counts as existing: it occupies address
    /// space.
    fn gone(&self, retired: Retired) {
        if retired.unmapped {
            self.slots.remove();
        }
    }
}

/// The reset to use; and, if `Auto` did not get the page scan, the reason.
fn choose_reset(mode: ResetMode) -> Result<(Reset, Option<String>)> {
    let error = match mode {
        ResetMode::Copy => return Ok((Reset::Copy { up_to: usize::MAX }, None)),
        ResetMode::Madvise => return Ok((Reset::Madvise, None)),
        ResetMode::Auto | ResetMode::Scan => match Pagemap::open() {
            Ok(pagemap) => return Ok((Reset::Scan(pagemap), None)),
            Err(error) => error,
        },
    };
    const NEEDS: &str = "the page scan needs Linux 6.7 or newer and a readable /proc/self/pagemap";
    if mode == ResetMode::Scan {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{NEEDS}; use reset mode `auto`"),
        )
        .because(error));
    }
    Ok((
        Reset::Copy { up_to: COPY_UP_TO },
        Some(format!("{NEEDS}: {error}")),
    ))
}

/// Without the page scan, an image of up to this many bytes is copied as a whole. That takes about as long as giving 16
/// dirty pages back and faulting them in again (25 µs).
const COPY_UP_TO: usize = 256 << 10;

fn unavailable(why: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("no copy-on-write memory pool: {why}"),
    )
}
