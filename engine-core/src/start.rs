//! What all sandboxes of a function start from: memory, globals, and what is different in each of them.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::memory::Image;

/// What all sandboxes of a function start from: a module's own beginning, or a snapshot.
///
/// A backend makes memory what the image says, sets the globals, and then [patches](StartState::patch) the memory, in every
/// sandbox and before any guest code runs: one that cannot do all three must refuse the start.
#[derive(Debug, Default)]
pub struct StartState {
    /// The initialised memory, where the split took it out of the code or a snapshot captured it; `None`: the module keeps its
    /// segments (or has no memory), and instantiation writes them.
    pub image: Option<Arc<Image>>,
    /// Values for exported mutable globals. Empty for a plain start.
    pub globals: Vec<(String, GlobalValue)>,
    /// What is different in each sandbox. Empty for a plain start.
    pub patches: Vec<Patch>,
    /// Whether memory and the exported mutable globals are all that a guest can leave changed, so that an instance can be used
    /// again once these are restored: the module has no [hidden state](crate::wasm::hidden_state).
    pub is_restorable: bool,
}

impl StartState {
    /// Another one: for another processor, see [`StartPlan`](crate::module::StartPlan).
    pub(crate) fn copy(&self) -> Self {
        Self {
            image: self.image.clone(),
            globals: self.globals.clone(),
            patches: self.patches.clone(),
            is_restorable: self.is_restorable,
        }
    }

    /// Writes the patches over `memory`, the guest's, which already holds the image.
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

/// Bytes to be written over the captured memory at each start, so that nothing is frozen that must be fresh.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Patch {
    /// Fresh random bytes.
    Random {
        /// Offset in memory.
        at: u64,
        /// How many.
        len: u32,
    },
    /// The same bytes each time.
    Bytes {
        /// Offset in memory.
        at: u64,
        /// What to write there.
        bytes: Box<[u8]>,
    },
}

impl Patch {
    /// The most random bytes of one patch: two keys of the generators there are.
    pub const MOST_RANDOM: u32 = 64;

    /// Writes all of `patches` over `memory`.
    pub(crate) fn apply(patches: &[Self], memory: &mut [u8]) -> Result<()> {
        // One call of the system for all, which is most of what patches cost.
        let mut buffer = [0; 4 * Self::MOST_RANDOM as usize];
        let wanted = patches.iter().map(Self::random_bytes).sum();
        let Some(mut random) = buffer.get_mut(..wanted) else {
            return Err(Error::host(format!(
                "a bug: a snapshot's patches want {wanted} random bytes"
            )));
        };
        getrandom::fill(random).map_err(|error| {
            Error::host("the system gives no random bytes").because(error.to_string())
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

    /// Whether it can be written to a memory of `len` bytes.
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
                "a bug: a snapshot's patch {self:?} does not fit in a memory of {len} bytes"
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
