//! What a pool may use.

/// Bounds of a [`Pool`](super::Pool). The default is derived from the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PoolConfig {
    /// The most slots there are at any time, busy and free together.
    pub slots: usize,
    /// How many bytes of one slot's memory stay resident between two sandboxes; the rest is given back at every reset.
    pub keep_resident: usize,
    /// How many bytes all free slots together may keep resident.
    pub keep_resident_total: usize,
    /// How slots are made pristine again.
    pub reset: ResetMode,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            slots: 1024,
            keep_resident: 2 << 20,
            keep_resident_total: 1 << 30,
            reset: ResetMode::Auto,
        }
    }
}

/// How a slot is made pristine again.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ResetMode {
    /// The page scan where the kernel has it, else a copy for small memories, else madvise.
    #[default]
    Auto,
    /// Copy the whole image back.
    Copy,
    /// Give every page back; the next sandbox faults them in again.
    Madvise,
    /// Ask the kernel which pages are dirty, and restore those in place.
    Scan,
}
