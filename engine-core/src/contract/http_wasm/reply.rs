//! Reads what the host says of the next handler's response.
//!
//! Every number is an unsigned 32-bit little-endian integer; a *string* is its length and its bytes. First the status, then the
//! number of headers and two strings for each (name, value), then the trailers in the same way; the rest is the body.

/// A pair of name and value.
type Field<'a> = (&'a [u8], &'a [u8]);

/// The response of the next handler.
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    pub(super) headers: Vec<Field<'a>>,
    pub(super) trailers: Vec<Field<'a>>,
    pub(super) body: &'a [u8],
}

impl<'a> Reply<'a> {
    /// `None` if anything is missing or out of bounds.
    pub(super) fn read(mut bytes: &'a [u8]) -> Option<Self> {
        let status = u16::try_from(number(&mut bytes)?).ok()?;
        Some(Self {
            status,
            headers: fields(&mut bytes)?,
            trailers: fields(&mut bytes)?,
            body: bytes,
        })
    }
}

fn number(bytes: &mut &[u8]) -> Option<usize> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number) as usize)
}

fn string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = number(bytes)?;
    let (string, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(string)
}

fn fields<'a>(bytes: &mut &'a [u8]) -> Option<Vec<Field<'a>>> {
    // Each pair takes eight bytes at least, so a wrong count cannot make us allocate much.
    let count = number(bytes).filter(|count| count.saturating_mul(8) <= bytes.len())?;
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        fields.push((string(bytes)?, string(bytes)?));
    }
    Some(fields)
}
