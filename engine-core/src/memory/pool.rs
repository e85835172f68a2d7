//! The pool of slots: who gets which, and what becomes of it afterwards.

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
/// The pool is gone, and everything unmapped, with the last handle and the last slot.
#[derive(Clone)]
pub struct Pool {
    core: Arc<Core>,
}

impl Pool {
    /// A pool within `config`. An `Unsupported` error says why this machine cannot have one: let engines use memory of their
    /// own then.
    pub fn new(config: PoolConfig) -> Result<Self> {
        if config.slots == 0 {
            return Err(unavailable(
                "its bound is 0 slots, from the settings or because address space is limited (`ulimit -v`)",
            ));
        }
        if !(PAGE as usize).is_multiple_of(page_size()) {
            return Err(unavailable("a page of this machine is larger than 64 KiB"));
        }
        // The first slot is also the proof that a reservation works at all.
        let first = Reservation::new().map_err(|error| {
            unavailable(
                "a slot takes 6 GiB of address space, which the system refused; raise `ulimit -v` or lower the load",
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

    /// A slot that holds `image` and may grow to `max_bytes`. `Rejected` when every slot is busy.
    ///
    /// A warm slot of this CPU is taken first, then one of another CPU, then a cold slot, then a new one; at last the slot
    /// that has waited longest with another image is taken from it.
    pub fn slot(&self, image: &Image, max_bytes: u64) -> Result<Slot> {
        let content = image.content();
        let max = usize::try_from(max_bytes).unwrap_or(RESERVED).min(RESERVED);
        let max = max - max % PAGE as usize;
        if content.len() > max {
            return Err(Error::config(format!(
                "the module starts with {} bytes of memory, its limit is {max_bytes}; raise the limit",
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

    /// How slots are reset: `Auto` resolved.
    #[must_use]
    pub fn reset_mode(&self) -> ResetMode {
        match self.core.shared.reset {
            Reset::Copy { .. } => ResetMode::Copy,
            Reset::Madvise => ResetMode::Madvise,
            Reset::Scan(_) => ResetMode::Scan,
        }
    }

    /// Why the page scan, the fastest reset, is not used although nothing else was asked for. Worth a line in the log.
    #[must_use]
    pub fn scan_unavailable(&self) -> Option<&str> {
        self.core.shared.scan_unavailable.as_deref()
    }

    /// What the pool may use.
    #[must_use]
    pub fn config(&self) -> &PoolConfig {
        &self.core.shared.config
    }

    /// What the pool has counted. Exact when nothing happens meanwhile.
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
            .field("figures", &self.stats())
            .finish()
    }
}

/// A pool, as its handles share it.
pub(super) struct Core {
    list: FreeList<Mapped, Reservation, Home>,
    shared: Arc<Shared>,
    this: Weak<Self>,
}

impl Core {
    /// Lets the slots with the dropped image `id` go cold.
    pub(super) fn forget(&self, id: u64) {
        let home = &self.list.shards()[self.list.home()].own;
        self.list.cool(id, |mapped| {
            self.shared.resident_changed(mapped.resident(), 0);
            mapped.unmap().map_err(|retired| home.retired(retired)).ok()
        });
    }

    /// A slot newly mapped with `content`, for there is no warm one.
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
                    // Given back just now.
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
                    Error::host("every slot is busy, and there is no room for another")
                        .because(error),
                );
            }
            if self.list.is_exhausted() {
                return Err(Error::new(
                    ErrorKind::Rejected,
                    format!(
                        "all {} memory slots are busy; try again, or allow more",
                        self.shared.config.slots
                    ),
                ));
            }
            // Somebody gave a slot back while the shards were asked: ask again.
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
        // What is busy is unmapped when it is given back.
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

/// Makes a used slot pristine. After an error it is out of use.
pub(super) fn reset(shard: &HomeShard, mapped: Mapped) -> io::Result<Mapped> {
    let keep = shard.own.shared.may_keep(mapped.resident());
    reset_within(shard, mapped, keep)
}

/// The same, with no page that stays resident.
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

/// Counts a slot as one in which an instance waits, or no longer.
pub(super) fn waits(shard: &HomeShard, waits: bool) {
    shard.own.counters.waits(waits);
}

/// Resets a slot whose sandbox is gone, and gives it back.
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
    /// A slot had to be taken out of use.
    fn retired(&self, retired: Retired) {
        self.counters.retired();
        self.shared.gone(retired);
    }
}

/// What slots need of their pool, also when its last handle is gone.
pub(super) struct Shared {
    config: PoolConfig,
    reset: Reset,
    scan_unavailable: Option<String>,
    slots: Arc<Slots>,
    /// Bytes that slots keep resident.
    resident: AtomicUsize,
}

impl Shared {
    /// How many bytes a slot that has kept `before` until now may keep.
    fn may_keep(&self, before: usize) -> usize {
        let others = self.resident.load(Ordering::Relaxed).saturating_sub(before);
        self.config
            .keep_resident
            .min(self.config.keep_resident_total.saturating_sub(others))
    }

    fn resident_changed(&self, before: usize, now: usize) {
        // Mostly nothing changes, and then no cache line moves.
        if before != now {
            self.resident
                .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// A slot is out of use. One that could not be unmapped still counts: its address space is not free.
    fn gone(&self, retired: Retired) {
        if retired.unmapped {
            self.slots.remove();
        }
    }
}

/// The reset to use, and why it is not the page scan if that was wanted.
fn choose_reset(mode: ResetMode) -> Result<(Reset, Option<String>)> {
    let error = match mode {
        ResetMode::Copy => return Ok((Reset::Copy { up_to: usize::MAX }, None)),
        ResetMode::Madvise => return Ok((Reset::Madvise, None)),
        ResetMode::Auto | ResetMode::Scan => match Pagemap::open() {
            Ok(pagemap) => return Ok((Reset::Scan(pagemap), None)),
            Err(error) => error,
        },
    };
    const NEEDS: &str = "the page scan needs Linux 6.7 and a readable /proc/self/pagemap";
    if mode == ResetMode::Scan {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{NEEDS}; use reset mode auto"),
        )
        .because(error));
    }
    Ok((
        Reset::Copy { up_to: COPY_UP_TO },
        Some(format!("{NEEDS}: {error}")),
    ))
}

/// Without the page scan, an image of up to so many bytes is copied as a whole: about as fast as giving 16 dirty pages back
/// and faulting them in again (25 µs).
const COPY_UP_TO: usize = 256 << 10;

fn unavailable(why: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("no copy-on-write memory pool: {why}"),
    )
}
