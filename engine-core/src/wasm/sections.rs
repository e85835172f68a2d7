//! Walks over the sections of a module, without reading into them.

use std::ops::Range;

use wasmparser::BinaryReader;

/// Bytes of the magic number and the version.
pub(super) const HEADER: usize = 8;

pub(super) const CUSTOM: u8 = 0;
pub(super) const TYPE: u8 = 1;
pub(super) const IMPORT: u8 = 2;
pub(super) const FUNCTION: u8 = 3;
pub(super) const TABLE: u8 = 4;
pub(super) const MEMORY: u8 = 5;
pub(super) const GLOBAL: u8 = 6;
pub(super) const EXPORT: u8 = 7;
pub(super) const START: u8 = 8;
pub(super) const ELEMENT: u8 = 9;
pub(super) const CODE: u8 = 10;
pub(super) const DATA: u8 = 11;
pub(super) const DATA_COUNT: u8 = 12;

/// One section: its id and where its contents are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Section {
    pub(super) id: u8,
    pub(super) range: Range<usize>,
}

impl Section {
    /// A reader of the contents, with offsets as in the whole file.
    pub(super) fn reader<'a>(&self, bytes: &'a [u8]) -> BinaryReader<'a> {
        BinaryReader::new(&bytes[self.range.clone()], self.range.start)
    }
}

/// The file ends before its last section does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Truncated {
    /// The section that is cut off; `None`: the file ends within the size of a section.
    pub(super) id: Option<u8>,
    /// Bytes that are missing, as far as it is known.
    pub(super) missing: usize,
}

/// All sections in their order. Fails only for a file that is cut off; anything else is the validator's to find.
pub(super) fn sections(bytes: &[u8]) -> Result<Vec<Section>, Truncated> {
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

/// What a section is called.
pub(super) fn name(id: u8) -> &'static str {
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
