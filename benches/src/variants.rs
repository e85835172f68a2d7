//! Variants of a module, which differ in one function so that they share no compiled code.

/// `wasm` with one more function, which is never called and which differs for each `number`. `None` if `wasm` has no
/// code, or is not a module.
#[must_use]
pub fn variant(wasm: &[u8], number: u32) -> Option<Vec<u8>> {
    const FUNCTIONS: u8 = 3;
    const CODE: u8 = 10;
    // No locals; `i32.const number`, `drop`, `unreachable`, `end`: valid for every function type.
    let mut body = vec![0, 0x41];
    leb(&mut body, number & 0x3f);
    for part in [number >> 6, number >> 12] {
        body.extend([0x1a, 0x41]);
        leb(&mut body, part & 0x3f);
    }
    body.extend([0x1a, 0x00, 0x0b]);
    let mut entry = Vec::new();
    leb(&mut entry, u32::try_from(body.len()).ok()?);
    entry.extend(body);

    let mut out = wasm.get(..8)?.to_vec();
    let mut rest = wasm.get(8..)?;
    let mut grown = 0;
    while let Some((&id, after)) = rest.split_first() {
        let (len, after) = read_leb(after)?;
        let (payload, after) = after.split_at_checked(len as usize)?;
        rest = after;
        out.push(id);
        let added: &[u8] = match id {
            // It has the first type.
            FUNCTIONS => &[0],
            CODE => &entry,
            _ => {
                leb(&mut out, len);
                out.extend(payload);
                continue;
            }
        };
        let (count, items) = read_leb(payload)?;
        let mut section = Vec::with_capacity(payload.len() + added.len() + 5);
        leb(&mut section, count + 1);
        section.extend(items);
        section.extend(added);
        leb(&mut out, u32::try_from(section.len()).ok()?);
        out.extend(section);
        grown += 1;
    }
    (grown == 2).then_some(out)
}

/// Appends an unsigned number.
fn leb(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// An unsigned number, and the bytes after it.
fn read_leb(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0u32;
    for (index, &byte) in bytes.iter().enumerate().take(5) {
        number |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::guests;
    use engine_core::Split;
    use engine_core::wasm::{Features, ModuleLimits, Wasm};

    #[test]
    fn variants_are_valid_and_their_code_is_never_the_same() {
        let guest = guests::c_hello();
        let mut seen = HashSet::new();
        for number in [0, 1, 63, 64, 65, 4096, 100_000] {
            let bytes = variant(guest.wasm.bytes(), number).unwrap();
            let wasm = Wasm::parse(bytes, Features::ALL, &ModuleLimits::default()).unwrap();
            assert_eq!(wasm.counts().functions, guest.wasm.counts().functions + 1);
            assert!(
                seen.insert(*Split::of(&wasm).unwrap().code.sha256()),
                "{number}"
            );
        }
    }

    #[test]
    fn what_is_no_module_has_no_variants() {
        assert_eq!(variant(b"", 1), None);
        assert_eq!(variant(b"\0asm\x01\0\0\0", 1), None);
        assert_eq!(variant(b"\0asm\x01\0\0\0\x0a\xff", 1), None);
    }
}
