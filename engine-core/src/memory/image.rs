//! A module's initialised memory.

use std::fmt;

use crate::error::{Error, Result};

/// A module's initialised memory, made once when it is deployed and shared by all its sandboxes.
pub struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// An image of `len` bytes (whole wasm pages), zero but for `segments`: (offset, bytes). Later segments overwrite
    /// earlier ones; one out of bounds is the module's fault.
    pub fn new(len: u64, segments: &[(u64, &[u8])]) -> Result<Self> {
        let mut bytes = vec![0; len as usize];
        for &(offset, segment) in segments {
            let end = offset.checked_add(segment.len() as u64);
            match end {
                Some(end) if end <= len => {
                    bytes[offset as usize..end as usize].copy_from_slice(segment);
                }
                _ => {
                    return Err(Error::invalid_module(
                        "a data segment lies outside of memory",
                    ));
                }
            }
        }
        Ok(Self { bytes })
    }

    /// An image of captured memory: a snapshot's.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::new(bytes.len() as u64, &[(0, bytes)])
    }

    /// The memory's initial length in bytes, a multiple of 64 KiB.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether the memory starts with no page at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the image over `memory`, which is all zero and at least `len()` long: copies what is not zero.
    ///
    /// # Panics
    /// If `memory` is shorter than the image.
    pub fn write_to(&self, memory: &mut [u8]) {
        memory[..self.bytes.len()].copy_from_slice(&self.bytes);
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
