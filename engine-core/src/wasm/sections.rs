//! Lists the sections of a module, without reading their contents.

use std::ops::Range;

use wasmparser::BinaryReader;

/// Bytes of the magic number and the version.
pub(crate) const HEADER: usize = 8;

pub(crate) const CUSTOM: u8 = 0;
pub(crate) const TYPE: u8 = 1;
pub(crate) const IMPORT: u8 = 2;
pub(crate) const FUNCTION: u8 = 3;
pub(crate) const TABLE: u8 = 4;
pub(crate) const MEMORY: u8 = 5;
pub(crate) const GLOBAL: u8 = 6;
pub(crate) const EXPORT: u8 = 7;
pub(crate) const START: u8 = 8;
pub(crate) const ELEMENT: u8 = 9;
pub(crate) const CODE: u8 = 10;
pub(crate) const DATA: u8 = 11;
pub(crate) const DATA_COUNT: u8 = 12;

/// One section: its id, and the range of its contents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Section {
    pub(crate) id: u8,
    pub(crate) range: Range<usize>,
}

impl Section {
    /// A reader of the contents. Its offsets are those in the whole file.
    pub(crate) fn reader<'a>(&self, bytes: &'a [u8]) -> BinaryReader<'a> {
        BinaryReader::new(&bytes[self.range.clone()], self.range.start)
    }
}

/// The error that the file ends before its last section does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Truncated {
    /// The section that is cut off; `None`: the file ends within the size of a section.
    pub(crate) id: Option<u8>,
    /// The number of bytes that are missing at least.
    pub(crate) missing: usize,
}

/// All sections in their order. Fails only for a file that is cut off. The validator finds all other faults.
pub(crate) fn sections(bytes: &[u8]) -> Result<Vec<Section>, Truncated> {
    let mut sections = Vec::new();
    let mut at = HEADER;
    while at < bytes.len() {
        let mut reader = BinaryReader::new(&bytes[at..], at);
        let (Ok(id), Ok(size)) = (reader.read_u8(), reader.read_var_u32()) else {
            return Err(Truncated {
                id: None,
                missing: 1,
            });
        };
        let start = reader.original_position();
        let end = start.saturating_add(size as usize);
        if end > bytes.len() {
            return Err(Truncated {
                id: Some(id),
                missing: end - bytes.len(),
            });
        }
        sections.push(Section {
            id,
            range: start..end,
        });
        at = end;
    }
    Ok(sections)
}

/// The name of a section.
pub(crate) fn name(id: u8) -> &'static str {
    match id {
        CUSTOM => "custom",
        TYPE => "type",
        IMPORT => "import",
        FUNCTION => "function",
        TABLE => "table",
        MEMORY => "memory",
        GLOBAL => "global",
        EXPORT => "export",
        START => "start",
        ELEMENT => "element",
        CODE => "code",
        DATA => "data",
        DATA_COUNT => "data count",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_in_order_and_a_cut_is_noticed_at_every_byte() {
        let bytes =
            wat::parse_str(r#"(module (memory 1) (export "memory" (memory 0)) (func))"#).unwrap();
        let whole = sections(&bytes).unwrap();
        let ids: Vec<u8> = whole.iter().map(|section| section.id).collect();
        assert_eq!(ids, [TYPE, FUNCTION, MEMORY, EXPORT, CODE]);
        assert_eq!(whole.last().unwrap().range.end, bytes.len());
        for cut in HEADER..bytes.len() {
            let clean = cut == HEADER || whole.iter().any(|section| section.range.end == cut);
            match sections(&bytes[..cut]) {
                Ok(_) => assert!(clean, "{cut}"),
                Err(truncated) => {
                    assert!(!clean, "{cut}");
                    assert!(truncated.missing >= 1 && truncated.missing <= bytes.len() - cut);
                }
            }
        }
    }
}
