//! The copy-on-write memory pool: images, and the slots that sandboxes get their linear memory from.
//!
//! A *slot* is 6 GiB of address space. One sandbox's memory is at its front:
//!
//! ```text
//! base           nonzero          image.len()      len()            RESERVED        + GUARD
//!  |  zero        |  image         |  zero          |  grown         |  inaccessible  |  guard         |
//!  |  anonymous,  |  private maps  |  as in front   |  anonymous,    |  PROT_NONE: a  |  PROT_NONE:    |
//!  |  accessible  |  of sealed     |                |  accessible by |  guest traps   |  for constant  |
//!  |  from start  |  memfds        |                |  memory.grow   |  that uses it  |  offsets       |
//!  +--------------+----------------+----------------+----------------+----------------+----------------+
//!   a page is clean while it is the file's page (image), the zero page, or not there at all (zero, grown);
//!   the first store to it gives the slot a private copy: dirty. A reset makes dirty pages hold the image again.
//! ```
//!
//! `nonzero` is from the image's first byte that is not zero to its last, in whole pages. There the kernel shares the
//! image's pages among all slots until a slot writes to them. A snapshot's image has two files: its own, and that of the
//! module's initial memory, mapped where the snapshot has the same bytes ([`Image::from_bytes_over`]). The reset makes
//! the memory that a guest has grown inaccessible again, so a slot that holds an image always starts with exactly
//! `image.len()` bytes.
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
//! The three states are three types, so that the compiler tells used memory from clean memory: cold is
//! `reservation::Reservation`, warm is `mapped::Mapped` on a free list, busy is [`Slot`].
//!
//! A reset asks the kernel which pages are dirty (`pagemap`, `PAGEMAP_SCAN`) and copies the image over those. The next
//! sandbox then has no page faults. For 16 dirty pages this takes 3 µs; giving the pages back to the kernel and
//! faulting them in again takes 25 µs (Linux 6.18, 2 vCPU).
//!
//! Invariants:
//! - A slot on the free list holds exactly its image: a reset either restores every page, or the slot is retired.
//! - Only `reservation.rs` changes what is mapped in a slot, and only inside that slot's own address range.
//! - The number of slots, busy and free together, never exceeds [`PoolConfig::slots`].

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
mod private;
mod reservation;
mod slot;
mod stats;
mod sync;
#[cfg(test)]
mod tests;

pub use config::{PoolConfig, ResetMode};
pub use image::Image;
pub(crate) use machine::{
    REST, address_space, address_space_left, memory as machine_memory, slots_in_address_space,
};
pub(crate) use memfd::{Sealed, file_in_memory};
pub use pool::Pool;
pub(crate) use private::private_bytes;
pub use slot::Slot;
pub use stats::PoolStats;

/// Bytes of address space from a slot's base that a 32-bit memory can address: 4 GiB.
pub const RESERVED: usize = 4 << 30;

/// Bytes of address space behind [`RESERVED`] that stay inaccessible: 2 GiB. A load or store adds a constant offset to
/// its 32-bit address; engines check no bound for offsets that end in here, because the access traps.
pub const GUARD: usize = 2 << 30;
