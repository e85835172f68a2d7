//! What a pool may use, and the one place where the defaults come from.

use super::machine;

/// Bounds of a [`Pool`](super::Pool). The default is derived from the machine alone, never from what is deployed on it: a
/// pool that depended on the set of functions would have to be made anew with every reload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolConfig {
    /// The most slots there are at any time, busy and free together.
    ///
    /// Default: 128 for each core, at least 512 and at most 4096: far more than run at once, because guests may wait. A slot
    /// that does not exist costs nothing, one that waits costs address space and what it keeps resident. Lowered to what
    /// half of the address space holds (`ulimit -v`, or a kernel with few address bits), and to what a quarter of
    /// `vm.max_map_count` allows at four mappings a slot. 0 if not even one fits.
    pub slots: usize,
    /// How many bytes of one slot's memory stay resident between two sandboxes; the rest is given back at every reset.
    ///
    /// Default: 2 MiB. What stays is copied at every reset (about 60 µs for 2 MiB), what does not is faulted in again (0.5 to
    /// 2 µs a page); a Go request from a snapshot dirties about 60 pages, a Rust one 16.
    pub keep_resident: usize,
    /// How many bytes all slots together may keep resident.
    ///
    /// Default: an eighth of the memory that this process may use (of the machine, or of its cgroup).
    pub keep_resident_total: usize,
    /// How slots are made pristine again. Default: [`ResetMode::Auto`].
    pub reset: ResetMode,
}

impl Default for PoolConfig {
    fn default() -> Self {
        let wanted = (128 * machine::cores()).clamp(512, 4096);
        Self {
            slots: wanted
                .min(machine::mappings() / 4 / MAPPINGS_PER_SLOT)
                .min(machine::slots_in_address_space(wanted)),
            keep_resident: 2 << 20,
            keep_resident_total: machine::memory() / 8,
            reset: ResetMode::Auto,
        }
    }
}

/// Image, zero and grown, inaccessible; and one more where neighbours do not merge.
const MAPPINGS_PER_SLOT: usize = 4;

/// How a slot is made pristine again.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ResetMode {
    /// `Scan` where the kernel has it, else `Copy` for images of up to 256 KiB and `Madvise` for larger ones.
    #[default]
    Auto,
    /// Copy the whole image back.
    Copy,
    /// Give every page back; the next sandbox faults them in again.
    Madvise,
    /// Ask the kernel which pages are dirty, and restore those in place.
    Scan,
}

impl ResetMode {
    /// Every way there is.
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

    /// The way with that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}
