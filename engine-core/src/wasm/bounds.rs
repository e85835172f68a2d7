//! Bounds on the size of a module, which are checked before anything expensive is done with it.

use wasmparser::{MemorySectionReader, TableSectionReader};

use super::sections::{self, Section};
use crate::error::{Error, Result};

/// Bounds on a module. They keep a hostile or broken file from using up the machine's memory, or from being compiled
/// for hours. Real programs are far below them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Size of the file in bytes. 64 MiB.
    pub module_bytes: usize,
    /// Function types. 100 000.
    pub types: u32,
    /// Imports of any kind. 1 000.
    pub imports: u32,
    /// Functions with code. 200 000.
    pub functions: u32,
    /// Globals. 10 000 (each is 16 bytes in every sandbox).
    pub globals: u32,
    /// Exports. 50 000.
    pub exports: u32,
    /// Tables. 16.
    pub tables: u32,
    /// Initial elements of all tables together. Ten million; `Limits::table_elements` is usually lower.
    pub table_elements: u64,
    /// Segments of table elements. 10 000.
    pub element_segments: u32,
    /// Data segments. 100 000: as many as Go's linker ever makes (a small Go program has 37 000).
    pub data_segments: u32,
    /// Initial memory in pages of 64 KiB. 32 768 (2 GiB); the `memory_limit` of a function is usually lower.
    pub memory_pages: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            module_bytes: 64 << 20,
            types: 100_000,
            imports: 1_000,
            functions: 200_000,
            globals: 10_000,
            exports: 50_000,
            tables: 16,
            table_elements: 10_000_000,
            element_segments: 10_000,
            data_segments: 100_000,
            memory_pages: 32_768,
        }
    }
}

/// The numbers of a module's parts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Function types.
    pub types: u32,
    /// Imports.
    pub imports: u32,
    /// Functions with code.
    pub functions: u32,
    /// Globals.
    pub globals: u32,
    /// Exports.
    pub exports: u32,
    /// Tables.
    pub tables: u32,
    /// Initial elements of all tables together.
    pub table_elements: u64,
    /// Segments of table elements.
    pub element_segments: u32,
    /// Data segments.
    pub data_segments: u32,
}

impl Bounds {
    /// Checks the size of the file.
    pub(super) fn check_size(&self, bytes: usize) -> Result<()> {
        within(
            bytes as u64,
            self.module_bytes as u64,
            "bytes",
            "strip debug information (wasm-strip, wasm-opt --strip-debug; Go: -ldflags=\"-s -w\") or make the program smaller",
        )
    }

    /// Counts what the sections declare, and checks the numbers. The validator reports sections that cannot be read.
    pub(super) fn check_counts(&self, bytes: &[u8], sections: &[Section]) -> Result<Counts> {
        let mut counts = Counts::default();
        let mut pages = 0;
        for section in sections {
            let reader = section.reader(bytes);
            let Ok(count) = reader.clone().read_var_u32() else {
                continue;
            };
            match section.id {
                sections::TYPE => counts.types = count,
                sections::IMPORT => counts.imports = count,
                sections::FUNCTION => counts.functions = count,
                sections::TABLE => {
                    counts.tables = count;
                    if let Ok(tables) = TableSectionReader::new(reader) {
                        counts.table_elements = tables
                            .into_iter()
                            .map_while(Result::ok)
                            .fold(0, |sum: u64, table| sum.saturating_add(table.ty.initial));
                    }
                }
                sections::MEMORY => {
                    if let Ok(memories) = MemorySectionReader::new(reader) {
                        let initial = memories.into_iter().map_while(Result::ok);
                        pages = initial.map(|memory| memory.initial).max().unwrap_or(0);
                    }
                }
                sections::GLOBAL => counts.globals = count,
                sections::EXPORT => counts.exports = count,
                sections::ELEMENT => counts.element_segments = count,
                sections::DATA => counts.data_segments = count,
                _ => {}
            }
        }
        for (have, bound, what, advice) in [
            (counts.types, self.types, "function types", SMALLER),
            (
                counts.imports,
                self.imports,
                "imports",
                "link libraries into the program; only WASI and gojinn functions can be imported",
            ),
            (counts.functions, self.functions, "functions", SMALLER),
            (counts.globals, self.globals, "globals", SMALLER),
            (
                counts.exports,
                self.exports,
                "exports",
                "export only the entry points and the memory (drop --export-all)",
            ),
            (
                counts.tables,
                self.tables,
                "tables",
                "one table serves all indirect calls of a type",
            ),
            (
                counts.element_segments,
                self.element_segments,
                "element segments",
                SMALLER,
            ),
            (
                counts.data_segments,
                self.data_segments,
                "data segments",
                "merge neighbouring ones (wasm-opt --memory-packing or --limit-segments)",
            ),
        ] {
            within(have.into(), bound.into(), what, advice)?;
        }
        within(
            counts.table_elements,
            self.table_elements,
            "initial table elements",
            SMALLER,
        )?;
        within(
            pages,
            self.memory_pages,
            "pages (64 KiB each) of initial memory",
            "declare less (linker option --initial-memory) and let the program grow it when it needs to",
        )?;
        Ok(counts)
    }
}

const SMALLER: &str =
    "remove unused code (--gc-sections, wasm-opt -O) or split the program into several functions";

fn within(have: u64, bound: u64, what: &str, advice: &str) -> Result<()> {
    if have <= bound {
        return Ok(());
    }
    Err(Error::invalid_module(format!(
        "the module has {have} {what}, more than the {bound} allowed: {advice}"
    )))
}
