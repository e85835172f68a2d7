//! The state that all sandboxes of a function start from: memory, globals, and the bytes that differ in each sandbox.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::memory::Image;

/// What all sandboxes of a function start from: the module's initial state, or a snapshot.
///
/// In every sandbox, before any guest code runs, a backend fills the memory with the image, sets the globals, and then
/// [patches](StartState::patch) the memory. A backend that cannot do all three must refuse the start.
#[derive(Debug, Default)]
pub struct StartState {
    /// The initialised memory, which the split took out of the code or a snapshot captured. `None`: the module has no
    /// memory, or it keeps its data segments, and instantiation writes them.
    pub image: Option<Arc<Image>>,
    /// Values for exported mutable globals. Empty for a plain start.
    pub globals: Vec<(String, GlobalValue)>,
    /// What is written over the memory of each sandbox. Empty for a plain start.
    pub patches: Vec<Patch>,
    /// Whether a guest can change nothing but memory and the exported mutable globals: the module has no
    /// [hidden state](crate::wasm::hidden_state). An instance can then be used again once these are restored.
    pub is_restorable: bool,
}

impl StartState {
    /// A copy for another processor, see [`StartPlan`](crate::module::StartPlan).
    pub(crate) fn copy(&self) -> Self {
        Self {
            image: self.image.clone(),
            globals: self.globals.clone(),
            patches: self.patches.clone(),
            is_restorable: self.is_restorable,
        }
    }

    /// Writes the patches to the guest's `memory`, which already holds the image.
    #[inline]
    pub fn patch(&self, memory: &mut [u8]) -> Result<()> {
        if self.patches.is_empty() {
            return Ok(());
        }
        Patch::apply(&self.patches, memory)
    }
}

/// A value for a mutable global. References are never captured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GlobalValue {
    /// `f32`, as its bits.
    F32(u32),
    /// `f64`, as its bits.
    F64(u64),
    /// `i32`.
    I32(i32),
    /// `i64`.
    I64(i64),
    /// `v128`.
    V128(u128),
}

/// Bytes that are written over the captured memory at each start: those that must not be the same in every sandbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Patch {
    /// Fresh random bytes.
    Random {
        /// Offset in memory.
        at: u64,
        /// The number of bytes.
        len: u32,
    },
    /// The same bytes in each sandbox.
    Bytes {
        /// Offset in memory.
        at: u64,
        /// The bytes to write.
        bytes: Box<[u8]>,
    },
}

impl Patch {
    /// The maximum length of a random patch: two keys of the known generators.
    pub const MOST_RANDOM: u32 = 64;

    /// Writes all of `patches` over `memory`.
    pub(crate) fn apply(patches: &[Self], memory: &mut [u8]) -> Result<()> {
        // One system call for all patches: it is most of what patches cost.
        let mut buffer = [0; 4 * Self::MOST_RANDOM as usize];
        let wanted = patches.iter().map(Self::random_bytes).sum();
        let Some(mut random) = buffer.get_mut(..wanted) else {
            return Err(Error::host(format!(
                "a bug in Gojinn: a snapshot's patches need {wanted} random bytes, more than fit; please report it"
            )));
        };
        getrandom::fill(random).map_err(|error| {
            Error::host("the system provides no random bytes").because(error.to_string())
        })?;
        for patch in patches {
            let mine = random
                .split_off_mut(..patch.random_bytes())
                .unwrap_or_default();
            patch.write(memory, mine)?;
        }
        Ok(())
    }

    fn random_bytes(&self) -> usize {
        match self {
            Self::Random { len, .. } => *len as usize,
            Self::Bytes { .. } => 0,
        }
    }

    /// Whether the patch can be written to a memory of `len` bytes.
    pub(crate) fn fits(&self, len: u64) -> bool {
        let (at, bytes) = match self {
            Self::Random { at, len } if *len <= Self::MOST_RANDOM => (*at, u64::from(*len)),
            Self::Random { .. } => return false,
            Self::Bytes { at, bytes } => (*at, bytes.len() as u64),
        };
        at.checked_add(bytes).is_some_and(|end| end <= len)
    }

    fn write(&self, memory: &mut [u8], random: &[u8]) -> Result<()> {
        let len = memory.len() as u64;
        if !self.fits(len) {
            return Err(Error::host(format!(
                "a bug in Gojinn: a snapshot's patch {self:?} does not fit in a memory of {len} bytes; please report it"
            )));
        }
        match self {
            Self::Random { at, len } => {
                memory[*at as usize..][..*len as usize].copy_from_slice(random);
            }
            Self::Bytes { at, bytes } => {
                memory[*at as usize..][..bytes.len()].copy_from_slice(bytes);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_differ_and_fixed_ones_do_not() {
        let patches = [
            Patch::Random { at: 8, len: 32 },
            Patch::Bytes {
                at: 60,
                bytes: Box::new([1, 2, 3, 4]),
            },
        ];
        let (mut one, mut other) = ([0u8; 64], [0u8; 64]);
        Patch::apply(&patches, &mut one).unwrap();
        Patch::apply(&patches, &mut other).unwrap();
        assert_ne!(one[8..40], other[8..40]);
        for memory in [one, other] {
            assert_eq!(memory[60..], [1, 2, 3, 4]);
            assert_eq!((&memory[..8], &memory[40..60]), (&[0; 8][..], &[0; 20][..]));
        }
    }

    #[test]
    fn a_patch_beyond_memory_is_refused_whole() {
        for patch in [
            Patch::Random { at: 33, len: 32 },
            Patch::Random { at: 0, len: 65 },
            Patch::Random {
                at: u64::MAX,
                len: 1,
            },
            Patch::Bytes {
                at: 61,
                bytes: Box::new([1; 4]),
            },
        ] {
            let mut memory = [0u8; 64];
            assert!(!patch.fits(64));
            let refused = Patch::apply(std::slice::from_ref(&patch), &mut memory).unwrap_err();
            assert!(refused.to_string().contains("does not fit"), "{refused}");
            assert_eq!(memory, [0; 64]);
        }
    }
}
