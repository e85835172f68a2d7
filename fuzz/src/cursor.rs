//! Takes values from the front of an input. Missing bytes are zero, so that every input has a meaning.

/// The rest of an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// At most `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A byte with a length, and as many bytes.
    pub(crate) fn field(&mut self) -> &'a [u8] {
        let len = self.byte();
        self.take(len.into())
    }

    /// All remaining bytes.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_in_order_and_end_in_zeros() {
        let mut cursor = Cursor::new(b"\x02ab\x01\x02cdef");
        assert_eq!(cursor.field(), b"ab");
        assert_eq!(u16::from_le_bytes(cursor.array()), 0x0201);
        assert_eq!(cursor.take(2), b"cd");
        assert_eq!(cursor.rest(), b"ef");
        assert!(cursor.is_empty());
        assert_eq!((cursor.byte(), cursor.field()), (0, &b""[..]));
        assert_eq!(Cursor::new(b"\x09ab").field(), b"ab");
        assert_eq!(Cursor::new(b"\x01").array(), [1, 0, 0, 0]);
    }
}
