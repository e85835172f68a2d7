//! Checked access to the guest's memory. An access outside of it is EFAULT.

use std::ops::Range;

use super::errno::Errno;

/// The maximum number of scatter/gather vectors of one call (Linux's IOV_MAX).
const IOVECS_MAX: u32 = 1024;

/// Bytes of one `iovec`: a pointer and a length.
const IOVEC: u64 = 8;

/// The range of the `len` bytes at `ptr`, if they are inside of memory.
#[inline]
pub(super) fn range(memory: &[u8], ptr: i32, len: u32) -> Result<Range<usize>, Errno> {
    let start = u64::from(ptr.cast_unsigned());
    // The sum of two u32 does not overflow a u64.
    let end = start + u64::from(len);
    if end > memory.len() as u64 {
        return Err(Errno::FAULT);
    }
    // Both are at most memory.len().
    Ok(start as usize..end as usize)
}

/// The `len` bytes at `ptr`.
#[inline]
pub(crate) fn bytes(memory: &[u8], ptr: i32, len: i32) -> Result<&[u8], Errno> {
    Ok(&memory[range(memory, ptr, len.cast_unsigned())?])
}

/// The `len` bytes at `ptr`, to be written.
#[inline]
pub(crate) fn bytes_mut(memory: &mut [u8], ptr: i32, len: i32) -> Result<&mut [u8], Errno> {
    let range = range(memory, ptr, len.cast_unsigned())?;
    Ok(&mut memory[range])
}

/// Checks that a result can be written, before anything is done.
#[inline]
pub(super) fn check(memory: &[u8], ptr: i32, len: u32) -> Result<(), Errno> {
    range(memory, ptr, len).map(drop)
}

/// Reads an array of `N` bytes: a number in little-endian form.
#[inline]
pub(super) fn read<const N: usize>(memory: &[u8], ptr: i32) -> Result<[u8; N], Errno> {
    let range = range(memory, ptr, N as u32)?;
    memory[range].try_into().map_err(|_| Errno::FAULT)
}

/// Writes an array of `N` bytes: a number in little-endian form.
#[inline]
pub(super) fn write<const N: usize>(
    memory: &mut [u8],
    ptr: i32,
    value: [u8; N],
) -> Result<(), Errno> {
    let range = range(memory, ptr, N as u32)?;
    memory[range].copy_from_slice(&value);
    Ok(())
}

/// The scatter/gather vectors of one call, which stay in the guest's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Iovecs {
    base: u32,
    count: u32,
}

impl Iovecs {
    /// `count` vectors at `ptr`, and the number of bytes in all of them. Checks that each of them is in memory at this
    /// moment.
    #[inline]
    pub(super) fn new(memory: &[u8], ptr: i32, count: i32) -> Result<(Self, u64), Errno> {
        let count = count.cast_unsigned();
        if count > IOVECS_MAX {
            return Err(Errno::INVAL);
        }
        check(memory, ptr, count * IOVEC as u32)?;
        let vectors = Self {
            base: ptr.cast_unsigned(),
            count,
        };
        let mut total = 0;
        for index in 0..count {
            total += vectors.get(memory, index)?.len() as u64;
        }
        Ok((vectors, total))
    }

    /// The number of vectors.
    #[inline]
    pub(super) fn count(self) -> u32 {
        self.count
    }

    /// The bytes of vector `index`. Checked each time, because a read into an earlier vector may have changed this one.
    #[inline]
    pub(super) fn get(self, memory: &[u8], index: u32) -> Result<Range<usize>, Errno> {
        let at = u64::from(self.base) + u64::from(index) * IOVEC;
        let at = u32::try_from(at).map_err(|_| Errno::FAULT)?;
        let [a, b, c, d, e, f, g, h] = read(memory, at.cast_signed())?;
        let ptr = i32::from_le_bytes([a, b, c, d]);
        range(memory, ptr, u32::from_le_bytes([e, f, g, h]))
    }
}
