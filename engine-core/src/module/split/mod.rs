//! Splits a module into its code, which is compiled once, and its initial memory, which is mapped at every start.
//!
//! What changes in the code:
//! - Active data segments are removed. If the program refers to segments by index, they become empty instead.
//! - The start section becomes the export [`START_EXPORT`].
//! - Mutable globals and the loop of a Go command get reserved exports.
//! - The entry points of http-wasm get wrappers of the type `[] -> []`, behind all other functions.
//! - Custom sections are removed, except for the names.
//! - Long bulk operations on memory become calls of functions that are added at the end ([`bulk`]).
//!
//! Everything else is copied byte by byte. So function, type and table indices stay the same, and with them the offsets
//! within functions that traps report, unless the function has a bulk operation.

use std::sync::Arc;

use wasm_encoder::{Encode, ExportKind};
use wasmparser::{
    BinaryReader, ConstExpr, DataKind, DataSectionReader, ElementItems, ElementKind,
    ElementSectionReader, FunctionBody, Operator, TableSectionReader,
};

use crate::error::{Error, Result};
use crate::go::{self, GoCommand};
use crate::limits::PAGE;
use crate::memory::Image;
use crate::wasm::facts::{Facts, MutableGlobal};
use crate::wasm::sections::{self, Section};
use crate::wasm::{
    Form, RESERVED_PREFIX, RESUME_EXPORT, START_EXPORT, ValType, Wasm, hidden_state,
};

mod bulk;
mod http_handler;

/// The parts of a module.
#[derive(Clone, Debug)]
pub struct Split {
    /// What backends compile. Its [`Wasm::entries`] begin with the start function, if there is one.
    pub code: Wasm,
    /// The initialised memory. `None`: there is no memory, or `code` keeps its data segments.
    pub image: Option<Arc<Image>>,
    /// Why `code` keeps its data segments, as a text for the log.
    pub why_not: Option<String>,
    /// The exports under which `code` has its mutable globals, with their types: what a snapshot captures beside memory.
    pub globals: Vec<(String, ValType)>,
    /// The number of mutable globals that hold references. They cannot be captured: a module that has any is not
    /// snapshotted.
    pub reference_globals: u32,
    /// Why an instance of `code` can have state besides its memory and its exported globals, see [`hidden_state`].
    /// `None`: it cannot.
    pub hidden_state: Option<String>,
    /// The facts about a Go command, which can be resumed through the export [`RESUME_EXPORT`] of `code`. `Err`: why
    /// the module is not such a command, as a text for the log.
    pub(crate) go: Result<Arc<GoCommand>, String>,
}

impl Split {
    /// Splits the module into code and initial memory, so that making a sandbox runs no guest code and copies no data.
    /// Takes milliseconds. Fails for a module that can never be instantiated.
    pub fn of(wasm: &Wasm) -> Result<Self> {
        split(wasm)
    }
}

fn split(wasm: &Wasm) -> Result<Split> {
    let broken = |error: wasmparser::Error| {
        Error::host("a bug in Gojinn: a valid module cannot be read; please report it")
            .because(error)
    };
    let facts = &*wasm.facts;
    if facts.is_split {
        return Err(Error::host(
            "the module is the code of a split, which cannot be split again; keep the `Split` instead",
        ));
    }
    // The wrappers know the number of functions of the module as it came, so they are added before all else.
    let bytes: &Arc<[u8]> = match &facts.http {
        Some(http) => &http_handler::wrap(wasm.bytes(), http)
            .map_err(broken)?
            .into(),
        None => wasm.bytes(),
    };
    // `Wasm::parse` has walked the sections already, so this does not fail.
    let sections = sections::sections(bytes).map_err(|cut| crate::wasm::sniff::truncated(&cut))?;

    check_element_segments(bytes, &sections).map_err(broken)??;
    let data = Data::read(bytes, &sections).map_err(broken)?;
    let (image, why_not) = image(facts, &data)?;
    let rewritten = match &image {
        Some(_) => Rewritten::of(&data, bytes, &sections).map_err(broken)?,
        None => Rewritten::Kept,
    };
    let go = match facts.form {
        Form::Command => go::recognise(bytes),
        Form::Reactor { .. } => Err("it is a reactor and not a command".to_owned()),
        Form::HttpHandler => Err("it is a guest of http-wasm".to_owned()),
    };
    let (exports, globals) = added_exports(facts, go.as_ref().ok());

    let cut = bulk::cut(bytes, &sections, &data.sizes()).map_err(broken)?;
    let code: Arc<[u8]> = encode(bytes, &sections, &rewritten, &exports, cut.as_ref())
        .map_err(broken)?
        .into();
    let go = go.and_then(|go| go.in_code(&code)).map(Arc::new);
    let mut code_facts = facts.clone();
    code_facts.is_split = true;
    code_facts.start = None;
    if facts.start.is_some() {
        code_facts.entries = std::iter::once(START_EXPORT.to_owned())
            .chain(facts.entries.iter().cloned())
            .collect();
    }
    code_facts.counts.exports += exports.len() as u32;
    if facts.http.is_some() {
        http_handler::count(&mut code_facts.counts);
    }
    if let Some(cut) = &cut {
        code_facts.counts.types += 2;
        code_facts.counts.functions += cut.added;
    }
    if let Rewritten::Removed = rewritten {
        code_facts.counts.data_segments = 0;
    }
    debug_assert!(
        wasmparser::Validator::new_with_features(wasm.features().to_wasmparser())
            .validate_all(&code)
            .is_ok(),
        "the code of a split is valid"
    );
    Ok(Split {
        hidden_state: hidden_state(&code)?,
        code: Wasm::assemble(code, wasm.features(), code_facts),
        image,
        why_not,
        reference_globals: facts
            .globals
            .iter()
            .filter(|global| global.ty.is_none())
            .count() as u32,
        globals,
        go,
    })
}

/// The contents of the data section.
#[derive(Default)]
struct Data<'a> {
    /// Active segments with constant offsets: the segment's index, its offset and bytes.
    active: Vec<(usize, u64, &'a [u8])>,
    /// The bytes of each segment as they are in the file; `None` for those in `active`.
    others: Vec<Option<&'a [u8]>>,
    /// The first active segment whose offset is not constant.
    not_constant: Option<usize>,
}

impl<'a> Data<'a> {
    /// The size of each segment of `others`, with the few bytes in front of it; those in `active` are empty when code runs.
    fn sizes(&self) -> Vec<usize> {
        let sizes = self.others.iter();
        sizes
            .map(|segment| segment.map_or(0, <[u8]>::len))
            .collect()
    }

    fn read(bytes: &'a [u8], sections: &[Section]) -> wasmparser::Result<Self> {
        let mut data = Self::default();
        for section in sections
            .iter()
            .filter(|section| section.id == sections::DATA)
        {
            for segment in DataSectionReader::new(section.reader(bytes))? {
                let segment = segment?;
                let index = data.others.len();
                let offset = match segment.kind {
                    DataKind::Passive => None,
                    DataKind::Active { offset_expr, .. } => {
                        let offset = constant(&offset_expr)?;
                        if offset.is_none() {
                            data.not_constant.get_or_insert(index);
                        }
                        offset
                    }
                };
                data.others.push(match offset {
                    Some(offset) => {
                        data.active.push((index, offset.into(), segment.data));
                        None
                    }
                    None => Some(&bytes[segment.range.clone()]),
                });
            }
        }
        Ok(data)
    }
}

/// The image made of the active segments; or `None`, and the reason.
fn image(facts: &Facts, data: &Data<'_>) -> Result<(Option<Arc<Image>>, Option<String>)> {
    let keep = |why: String| Ok((None, Some(why)));
    let Some(memory) = facts.memory else {
        return Ok((None, None));
    };
    let len = memory.min_pages * PAGE;
    for &(index, offset, bytes) in &data.active {
        if offset + bytes.len() as u64 > len {
            return Err(Error::invalid_module(format!(
                "the module can never be instantiated: data segment {index} ({} bytes at {offset:#x}) does not fit into \
                 its initial memory of {len} bytes; declare more initial memory",
                bytes.len()
            )));
        }
    }
    if let Some(index) = data.not_constant {
        return keep(format!(
            "the offset of data segment {index} is not a constant"
        ));
    }
    if !facts.memory_exported {
        return keep("its memory is not exported as \"memory\"".into());
    }
    let mut segments: Vec<_> = data
        .active
        .iter()
        .filter(|(.., bytes)| !bytes.is_empty())
        .copied()
        .collect();
    segments.sort_by_key(|&(_, offset, _)| offset);
    for pair in segments.windows(2) {
        let (first, offset, bytes) = pair[0];
        let (second, next, _) = pair[1];
        if offset + bytes.len() as u64 > next {
            return keep(format!(
                "its data segments {first} and {second} overlap at {next:#x}"
            ));
        }
    }
    let segments: Vec<(u64, &[u8])> = segments
        .into_iter()
        .map(|(_, offset, bytes)| (offset, bytes))
        .collect();
    Ok((Some(Arc::new(Image::new(len, &segments)?)), None))
}

/// What the split does with the data section.
enum Rewritten {
    /// It is copied.
    Kept,
    /// It is removed, and the data count section with it.
    Removed,
    /// It is replaced by these contents.
    Replaced(Vec<u8>),
}

impl Rewritten {
    /// An active segment counts as dropped once it has been written, and an empty passive segment behaves like a
    /// dropped one. So if the code refers to segments, empty ones replace the active ones and keep the indices. If it
    /// does not, no segment is needed.
    fn of(data: &Data<'_>, bytes: &[u8], sections: &[Section]) -> wasmparser::Result<Self> {
        if !refers_to_segments(bytes, sections)? {
            return Ok(Self::Removed);
        }
        let mut contents = Vec::new();
        (data.others.len() as u32).encode(&mut contents);
        for segment in &data.others {
            // 1: passive, 0: of length 0.
            contents.extend_from_slice(segment.unwrap_or(&[1, 0]));
        }
        Ok(Self::Replaced(contents))
    }
}

/// Whether any function has a `memory.init` or `data.drop`.
fn refers_to_segments(bytes: &[u8], sections: &[Section]) -> wasmparser::Result<bool> {
    // A valid module with one of these instructions has a data count section.
    if !sections
        .iter()
        .any(|section| section.id == sections::DATA_COUNT)
    {
        return Ok(false);
    }
    for section in sections
        .iter()
        .filter(|section| section.id == sections::CODE)
    {
        let mut reader = section.reader(bytes);
        for _ in 0..reader.read_var_u32()? {
            let body = FunctionBody::new(reader.read_reader()?);
            // Decoding all code would cost more than the rest of the split. Both instructions are 0xfc followed by 8
            // or 9 as LEB128, so only functions in which such bytes occur are decoded.
            let candidate = bytes[body.range()]
                .windows(2)
                .any(|pair| pair[0] == 0xfc && matches!(pair[1] & 0x7f, 8 | 9));
            if !candidate {
                continue;
            }
            for operator in body.get_operators_reader()? {
                if let Operator::MemoryInit { .. } | Operator::DataDrop { .. } = operator? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Finds an active element segment that is out of bounds now, and not at the first request.
fn check_element_segments(bytes: &[u8], sections: &[Section]) -> wasmparser::Result<Result<()>> {
    let mut tables = Vec::new();
    for section in sections {
        match section.id {
            sections::TABLE => {
                for table in TableSectionReader::new(section.reader(bytes))? {
                    tables.push(table?.ty.initial);
                }
            }
            sections::ELEMENT => {
                let segments = ElementSectionReader::new(section.reader(bytes))?;
                for (index, segment) in segments.into_iter().enumerate() {
                    let segment = segment?;
                    let ElementKind::Active {
                        table_index,
                        offset_expr,
                    } = segment.kind
                    else {
                        continue;
                    };
                    let count: u64 = match segment.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    }
                    .into();
                    let table = table_index.unwrap_or(0);
                    let size = tables.get(table as usize).copied().unwrap_or(0);
                    let Some(offset) = constant(&offset_expr)? else {
                        continue;
                    };
                    if u64::from(offset) + count > size {
                        return Ok(Err(Error::invalid_module(format!(
                            "the module can never be instantiated: element segment {index} ({count} elements at {offset}) \
                             does not fit into table {table} of {size} elements; declare a larger table"
                        ))));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Ok(()))
}

/// The value of a constant expression of type i32. `None` if it depends on a global.
fn constant(expression: &ConstExpr<'_>) -> wasmparser::Result<Option<u32>> {
    let mut stack: Vec<u32> = Vec::new();
    let mut operators = expression.get_operators_reader();
    loop {
        let combine: fn(u32, u32) -> u32 = match operators.read()? {
            Operator::I32Const { value } => {
                stack.push(value as u32);
                continue;
            }
            Operator::I32Add => u32::wrapping_add,
            Operator::I32Sub => u32::wrapping_sub,
            Operator::I32Mul => u32::wrapping_mul,
            Operator::End => return Ok(stack.pop()),
            _ => return Ok(None),
        };
        let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else {
            return Ok(None);
        };
        stack.push(combine(left, right));
    }
}

/// An export that the split adds to the code.
struct Export {
    name: String,
    kind: ExportKind,
    index: u32,
}

/// The exports to add, and the names under which all mutable globals are then exported.
///
/// All mutable globals are exported even if no snapshot is wanted, so that there is one code for both. This costs
/// nothing: wasmtime puts exported globals into one alias region, but a Go program of sorting, maps and JSON took 315
/// ms with them and 317 ms without (p50 of 21), and compiling took as long.
fn added_exports(facts: &Facts, go: Option<&GoCommand>) -> (Vec<Export>, Vec<(String, ValType)>) {
    let mut exports = Vec::new();
    let mut globals = Vec::new();
    if let Some(index) = facts.start {
        exports.push(Export {
            name: START_EXPORT.to_owned(),
            kind: ExportKind::Func,
            index,
        });
    }
    if let Some(go) = go {
        exports.push(Export {
            name: RESUME_EXPORT.to_owned(),
            kind: ExportKind::Func,
            index: go.resume,
        });
    }
    for MutableGlobal { index, ty, export } in &facts.globals {
        let Some(ty) = *ty else { continue };
        let name = export.clone().unwrap_or_else(|| {
            let name = format!("{RESERVED_PREFIX}global:{index}");
            exports.push(Export {
                name: name.clone(),
                kind: ExportKind::Global,
                index: *index,
            });
            name
        });
        globals.push((name, ty));
    }
    (exports, globals)
}

fn encode(
    bytes: &[u8],
    sections: &[Section],
    data: &Rewritten,
    exports: &[Export],
    cut: Option<&bulk::Cut>,
) -> wasmparser::Result<Vec<u8>> {
    let mut code = Vec::with_capacity(bytes.len());
    code.extend_from_slice(&bytes[..sections::HEADER]);
    for section in sections {
        let contents = &bytes[section.range.clone()];
        match (section.id, data) {
            (sections::CUSTOM, _) if !is_names(section.reader(bytes)) => {}
            (sections::START, _) | (sections::DATA | sections::DATA_COUNT, Rewritten::Removed) => {}
            (sections::DATA, Rewritten::Replaced(contents)) => {
                append(&mut code, section.id, contents);
            }
            (sections::EXPORT, _) => {
                let extended = extend_exports(section.reader(bytes), exports)?;
                append(&mut code, section.id, &extended);
            }
            (id, _) if let Some(contents) = cut.and_then(|cut| cut.section(id)) => {
                append(&mut code, id, contents);
            }
            _ => append(&mut code, section.id, contents),
        }
    }
    Ok(code)
}

fn append(code: &mut Vec<u8>, id: u8, contents: &[u8]) {
    code.push(id);
    contents.encode(code);
}

/// Whether a custom section holds the names of functions, which are used when traps are reported.
fn is_names(mut reader: BinaryReader<'_>) -> bool {
    reader.read_string().is_ok_and(|name| name == "name")
}

/// The contents of the export section with `added` at its end.
fn extend_exports(mut reader: BinaryReader<'_>, added: &[Export]) -> wasmparser::Result<Vec<u8>> {
    let count = reader.read_var_u32()?;
    let mut contents = Vec::new();
    (count + added.len() as u32).encode(&mut contents);
    contents.extend_from_slice(reader.read_bytes(reader.bytes_remaining())?);
    for export in added {
        export.name.encode(&mut contents);
        export.kind.encode(&mut contents);
        export.index.encode(&mut contents);
    }
    Ok(contents)
}

#[cfg(test)]
mod tests;
