//! What a pool may use, and its default values, which are defined here only.

use super::machine;

/// Bounds of a [`Pool`](super::Pool). The default depends on the machine alone, never on the deployed functions: a pool
/// that depended on the set of functions would have to be replaced at every reload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolConfig {
    /// The maximum number of slots, busy and free together.
    ///
    /// Default: 8192. That is far more than run at once, because guests may wait. Slots are made when they are needed: one
    /// that was never needed costs nothing, a free one costs address space and the pages that it keeps resident.
    ///
    /// The default is lowered to what fits into half of the address space (`ulimit -v`, or a kernel with few address
    /// bits), but to one if only one fits, and to what half of `vm.max_map_count` allows at six mappings for each slot. It
    /// is 0 if not even one slot fits.
    pub slots: usize,
    /// How many bytes of one slot's memory stay resident between two sandboxes. Every reset gives the rest back to the
    /// kernel.
    ///
    /// Default: 2 MiB. A reset copies the image over the pages that stay (about 60 µs for 2 MiB). The next sandbox
    /// faults in the pages that were given back (0.5 to 2 µs each). A Go request from a snapshot dirties about 60
    /// pages, a Rust one 16.
    pub keep_resident: usize,
    /// How many bytes all slots together may keep resident.
    ///
    /// Default: an eighth of the memory that this process may use (the machine's, or its cgroup's limit).
    pub keep_resident_total: usize,
    /// How slots are made pristine again. Default: [`ResetMode::Auto`].
    pub reset: ResetMode,
}

impl Default for PoolConfig {
    fn default() -> Self {
        let wanted = 8192;
        Self {
            slots: wanted
                .min(machine::mappings() / 2 / MAPPINGS_PER_SLOT)
                .min(machine::slots_in_address_space(wanted)),
            keep_resident: 2 << 20,
            keep_resident_total: machine::memory() / 8,
            reset: ResetMode::Auto,
        }
    }
}

/// The zero memory in front of the image, up to three of the image, the zero and grown memory behind it, and the
/// inaccessible rest; and one more where the kernel does not merge neighbours. Half of the limit is left, so six will do.
const MAPPINGS_PER_SLOT: usize = 6;

/// How a slot is made pristine again.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ResetMode {
    /// `Scan` where the kernel has it, otherwise `Copy` for images of up to 256 KiB and `Madvise` for larger ones.
    #[default]
    Auto,
    /// Copy the whole image over the memory.
    Copy,
    /// Give every page back to the kernel; the next sandbox faults them in again.
    Madvise,
    /// Ask the kernel which pages are dirty, and copy the image over those.
    Scan,
}

impl ResetMode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Copy, Self::Madvise, Self::Scan];

    /// The name used in configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Copy => "copy",
            Self::Madvise => "madvise",
            Self::Scan => "scan",
        }
    }

    /// The mode with that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}
