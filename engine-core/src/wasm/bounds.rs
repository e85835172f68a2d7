//! Bounds on the size of a module and of its functions, which are checked before anything expensive is done with them.

use wasmparser::{KnownCustom, MemorySectionReader, Name, NameSectionReader, TableSectionReader};

use super::cost::{self, FunctionCost, Signatures};
use super::quoted;
use super::sections::{self, Section};
use crate::error::{Error, Result};

/// Bounds on a module. They keep a hostile or broken file from using up the machine's memory, or from being compiled
/// for hours. Real programs are far below them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModuleLimits {
    /// Size of the file in bytes. 64 MiB.
    pub module_bytes: usize,
    /// Function types. 10 000: each may need separate code.
    pub types: u32,
    /// Parameters and results of one function type. 500.
    pub type_values: u64,
    /// Imports of any kind. 1 000.
    pub imports: u32,
    /// Functions with code. 100 000: those in tables and exports take 10 KB each to compile.
    pub functions: u32,
    /// Parameters and results of all functions, imported ones too. A million.
    pub function_values: u64,
    /// Globals. 10 000 (each is 16 bytes in every sandbox).
    pub globals: u32,
    /// Exports. 50 000.
    pub exports: u32,
    /// Tables. 16.
    pub tables: u32,
    /// Initial elements of all tables together. Ten million; `SandboxLimits::table_elements` is usually lower.
    pub table_elements: u64,
    /// Segments of table elements. 10 000.
    pub element_segments: u32,
    /// Elements in all segments together. 100 000: a compiler makes code for each.
    pub element_items: u64,
    /// Data segments. 100 000: as many as Go's linker ever makes (a small Go program has 37 000).
    pub data_segments: u32,
    /// Initial memory in pages of 64 KiB. 32 768 (2 GiB); the `memory_limit` of a function is usually lower.
    pub memory_pages: u64,
    /// What one function may have.
    pub function: FunctionLimits,
    /// [Cells](FunctionCost::cells) of all functions together: a compiler may be at several functions at a time. 400
    /// million.
    pub cells: u64,
    /// [Steps](FunctionCost::steps) of all functions together. 100 billion, as many as five functions may have.
    pub steps: u64,
}

/// Bounds on one function. The time and memory that a compiler needs for some functions grow with the square of their
/// size, so that a module of a few kilobytes could take hours.
///
/// The largest function that was found in real programs (Ruby, PHP, CPython, SQLite, QuickJS, esbuild) has 40 % of the
/// steps and at most a fifth of everything else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FunctionLimits {
    /// Bytes of its body. 1 MiB.
    pub bytes: u64,
    /// Parameters and locals. 10 000.
    pub locals: u64,
    /// Blocks and branches. 100 000.
    pub branches: u64,
    /// Targets of all `br_table`. 100 000.
    pub targets: u64,
    /// Calls, and instructions that are compiled like calls. 20 000.
    pub calls: u64,
    /// Arguments and results of all calls. 200 000.
    pub operands: u64,
    /// `select`. 20 000.
    pub selects: u64,
    /// [Cells](FunctionCost::cells): locals and values of blocks, times branches. 200 million.
    pub cells: u64,
    /// [Steps](FunctionCost::steps): locals times the square of branches, and other products. 20 billion.
    pub steps: u64,
}

impl Default for FunctionLimits {
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            locals: 10_000,
            branches: 100_000,
            targets: 100_000,
            calls: 20_000,
            operands: 200_000,
            selects: 20_000,
            cells: 200_000_000,
            steps: 20_000_000_000,
        }
    }
}

impl Default for ModuleLimits {
    fn default() -> Self {
        Self {
            module_bytes: 64 << 20,
            types: 10_000,
            type_values: 500,
            imports: 1_000,
            functions: 100_000,
            function_values: 1_000_000,
            globals: 10_000,
            exports: 50_000,
            tables: 16,
            table_elements: 10_000_000,
            element_segments: 10_000,
            element_items: 100_000,
            data_segments: 100_000,
            memory_pages: 32_768,
            function: FunctionLimits::default(),
            cells: 400_000_000,
            steps: 100_000_000_000,
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

impl ModuleLimits {
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
        let mut element_items = 0;
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
                sections::ELEMENT => {
                    counts.element_segments = count;
                    element_items = cost::element_items(bytes, section);
                }
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
        within(
            element_items,
            self.element_items,
            "elements in segments",
            SMALLER,
        )?;
        self.check_functions(bytes, sections)?;
        Ok(counts)
    }

    /// Counts what each function has and checks it.
    fn check_functions(&self, bytes: &[u8], sections: &[Section]) -> Result<()> {
        let signatures = Signatures::read(bytes, sections);
        within(
            signatures.largest_type(),
            self.type_values,
            "parameters and results in one function type",
            "pass them in memory",
        )?;
        within(
            signatures.values(),
            self.function_values,
            "parameters and results of all functions",
            SMALLER,
        )?;
        let (mut steps, mut cells) = (0_u64, 0_u64);
        let mut worst = (0, FunctionCost::default());
        for code in sections
            .iter()
            .filter(|section| section.id == sections::CODE)
        {
            cost::for_each_function(bytes, code, &signatures, |index, cost| {
                self.function
                    .check(cost)
                    .map_err(|problem| refused(bytes, sections, index, &problem))?;
                steps = steps.saturating_add(cost.steps());
                cells = cells.saturating_add(cost.cells());
                if cost.steps() >= worst.1.steps() {
                    worst = (index, *cost);
                }
                Ok(())
            })?;
        }
        within(
            cells,
            self.cells,
            "locals and values of blocks times blocks and branches, of all functions together",
            SMALLER,
        )?;
        if steps <= self.steps {
            return Ok(());
        }
        let (index, cost) = worst;
        Err(Error::invalid_module(format!(
            "compiling the module would take up to {steps} steps, more than the {} allowed for all functions together, of which \
             {} takes {}: {SPLIT}",
            self.steps,
            function_name(bytes, sections, index),
            describe(&cost),
        )))
    }
}

impl FunctionLimits {
    /// Says what is too much in one function.
    fn check(&self, cost: &FunctionCost) -> std::result::Result<(), String> {
        for (have, bound, what, advice) in [
            (cost.bytes, self.bytes, "bytes of code", SPLIT),
            (cost.locals, self.locals, "parameters and locals", SPLIT),
            (cost.branches, self.branches, "blocks and branches", SPLIT),
            (
                cost.targets,
                self.targets,
                "targets of br_table",
                "split the switch over several functions",
            ),
            (
                cost.calls,
                self.calls,
                "calls and instructions on tables and whole stretches of memory",
                SPLIT,
            ),
            (
                cost.operands,
                self.operands,
                "arguments and results of calls",
                "pass them in memory",
            ),
            (cost.selects, self.selects, "select instructions", SPLIT),
        ] {
            if have > bound {
                return Err(format!(
                    "has {have} {what}, more than the {bound} allowed: {advice}"
                ));
            }
        }
        if cost.cells() > self.cells {
            return Err(format!(
                "has {} locals and {} values of blocks over {} blocks and branches: {} cells, more than the {} allowed, which take a \
                 compiler's memory: {SPLIT}",
                cost.locals,
                cost.block_values,
                cost.branches,
                cost.cells(),
                self.cells,
            ));
        }
        if cost.steps() > self.steps {
            return Err(format!(
                "would take up to {} to compile, more than the {} allowed: {SPLIT}",
                describe(cost),
                self.steps,
            ));
        }
        Ok(())
    }
}

/// The function of a valid module that takes most to compile, in words.
pub(crate) fn most_expensive_function(bytes: &[u8]) -> Option<String> {
    let sections = sections::sections(bytes).ok()?;
    let costs = cost::function_costs(bytes);
    let (index, cost) = costs.iter().max_by_key(|(_, cost)| cost.steps())?;
    Some(format!(
        "{}: {}",
        function_name(bytes, &sections, *index),
        describe(cost)
    ))
}

/// Where a function's steps come from.
fn describe(cost: &FunctionCost) -> String {
    format!(
        "{} steps ({} locals over {} blocks and branches, {} calls, {} values around loops, {} sets of locals, {} selects, {} bytes)",
        cost.steps(),
        cost.locals,
        cost.branches,
        cost.calls,
        cost.loop_values,
        cost.sets,
        cost.selects,
        cost.bytes,
    )
}

fn refused(bytes: &[u8], sections: &[Section], index: u32, problem: &str) -> Error {
    Error::invalid_module(format!(
        "{} {problem}",
        function_name(bytes, sections, index)
    ))
}

/// What a function is called in a message: by its number, as in `wasm-objdump`, and its name if the module has names.
fn function_name(bytes: &[u8], sections: &[Section], index: u32) -> String {
    match name_of(bytes, sections, index) {
        Some(name) => format!("function {index} {}", quoted(name)),
        None => format!("function {index}"),
    }
}

fn name_of<'a>(bytes: &'a [u8], sections: &[Section], index: u32) -> Option<&'a str> {
    let custom = sections
        .iter()
        .filter(|section| section.id == sections::CUSTOM);
    let readers = custom.filter_map(|section| {
        let reader = wasmparser::CustomSectionReader::new(section.reader(bytes)).ok()?;
        match reader.as_known() {
            KnownCustom::Name(names) => Some(names),
            _ => None,
        }
    });
    let subsections =
        readers.flat_map(|names: NameSectionReader<'_>| names.into_iter().map_while(Result::ok));
    let functions = subsections.filter_map(|names| match names {
        Name::Function(functions) => Some(functions),
        _ => None,
    });
    functions
        .flat_map(|names| names.into_iter().map_while(Result::ok))
        .find(|name| name.index == index)
        .map(|name| name.name)
}

const SPLIT: &str = "split the function into smaller ones, or build with less inlining (Rust: opt-level \"s\"; C: -Os)";

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
