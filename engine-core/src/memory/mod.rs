//! The copy-on-write memory pool: images, and the slots that sandboxes get their linear memory from.
//!
//! A *slot* is 6 GiB of address space, of which one sandbox's memory takes the front:
//!
//! ```text
//! base            span              image.len()          len()                    RESERVED           + GUARD
//!  |  image        |  zero           |  grown             |  inaccessible          |  guard             |
//!  |  private map  |  anonymous,     |  anonymous, made   |  PROT_NONE: a guest    |  PROT_NONE: for    |
//!  |  of a sealed  |  accessible     |  accessible by     |  touching it traps     |  the constant      |
//!  |  memfd        |  from the start |  memory.grow       |                        |  offsets of loads  |
//!  +---------------+-----------------+--------------------+------------------------+--------------------+
//!   a page is clean while it still is the file's (image), the zero page or nothing (zero, grown);
//!   the first store gives the slot a private page: dirty. A reset makes dirty pages hold the image again.
//! ```
//!
//! Up to `span` (the image's last byte that is not zero, rounded up to a page) the kernel shares the image's pages among
//! all slots until they are written. What a guest grew is made inaccessible again by the reset, so a slot that holds an
//! image always starts with exactly `image.len()` bytes.
//!
//! ```text
//!            map an image             take                     drop: reset
//!   cold ───────────────────▶ warm ◀─────────▶ busy (a `Slot`) ───────────▶ warm again
//!    ▲                          │                 │
//!    └──────────────────────────┘                 └── the reset failed: retired (unmapped, counted, never used again)
//!      evicted for another image,
//!      or the image was dropped
//! ```
//!
//! Cold is `reservation::Reservation`, warm is `mapped::Mapped` on a free list, busy is [`Slot`]: different types, so a
//! memory that has run cannot be taken for a clean one. A reset asks the kernel which pages are dirty
//! (`pagemap`, `PAGEMAP_SCAN`) and copies those back: no page fault in the next sandbox, and 3 µs where giving the pages
//! back costs 25 (16 dirty pages, Linux 6.18, 2 vCPU).

mod config;
mod free;
mod image;
mod machine;
mod mapped;
#[cfg_attr(not(target_os = "linux"), path = "memfd_missing.rs")]
mod memfd;
#[cfg_attr(not(target_os = "linux"), path = "pagemap_missing.rs")]
mod pagemap;
#[cfg(target_os = "linux")]
mod pagemap_trial;
mod pool;
mod reservation;
mod slot;
mod stats;
mod sync;
#[cfg(test)]
mod tests;

pub use config::{PoolConfig, ResetMode};
pub use image::Image;
pub(crate) use memfd::Sealed;
pub use pool::Pool;
pub use slot::Slot;
pub use stats::PoolStats;

/// Bytes of address space from a slot's base that a 32-bit memory can ever address: 4 GiB.
pub const RESERVED: usize = 4 << 30;

/// Bytes of address space behind [`RESERVED`] that stay inaccessible, for the constant offsets of loads and stores: 2 GiB.
pub const GUARD: usize = 2 << 30;
