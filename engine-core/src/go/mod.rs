//! Recognises a program made by Go's compiler and linker (`GOOS=wasip1`), which can be stopped and resumed at a call.
//!
//! Go keeps its stacks in linear memory and can enter each function at each of its calls, which is how goroutines switch:
//! `wasm_pc_f_loop` calls, again and again, the function whose program counter is below the stack pointer. So the whole
//! state of a Go program that waits in a hostcall is in its memory and its globals, and calling the loop resumes it.
//!
//! ```text
//!   _start:  SP = m0's stack; rt0_go(0); wasm_pc_f_loop()
//!   loop:    do { table[u32[SP-6]](u16[SP-8]) } while PAUSE == 0        a program counter: table index << 16 | resume point
//! ```
//!
//! A program is recognised by its structure, not by names: `-ldflags="-s -w"` removes them. The code is compared
//! instruction by instruction with what the linker writes (Go 1.21 to 1.26). So a module that another tool has changed,
//! or that only looks like Go, is not recognised.

mod code;
pub(crate) mod state;
mod unwind;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use wasmparser::{
    ConstExpr, ElementItems, ElementKind, ElementSectionReader, Export, ExportSectionReader,
    ExternalKind, FunctionBody, GlobalSectionReader, ImportSectionReader, Operator,
    TableSectionReader, TypeRef, ValType,
};

use crate::wasm::sections::{self, Section};
use code::Runtime;
pub(crate) use unwind::{CallSite, Callee};

/// The global that holds the stack pointer, an i32.
pub(crate) const SP: u32 = 0;
/// The global that holds the closure of the function that is entered, an i64.
pub(crate) const CTXT: u32 = 1;
/// The global that holds the address of the running goroutine's `g`, an i64.
pub(crate) const G: u32 = 2;
/// The global that ends the loop, an i32.
pub(crate) const PAUSE: u32 = 7;

/// The types of the linker's globals: SP, CTXT, g, RET0 to RET3, PAUSE.
const GLOBALS: [ValType; 8] = [
    ValType::I32,
    ValType::I64,
    ValType::I64,
    ValType::I64,
    ValType::I64,
    ValType::I64,
    ValType::I64,
    ValType::I32,
];

/// How many random bytes Go's runtime asks for when it starts, once: the seed of its generators.
pub(crate) const RUNTIME_SEED: u32 = 32;

/// The table index of the first function with code: `funcValueOffset` of Go's linker.
const FIRST: u32 = 0x1000;

/// A Go command: what of its structure a snapshot needs. Functions are named by their table indices, as in program
/// counters.
#[derive(Clone)]
pub(crate) struct GoCommand {
    /// The function index of `wasm_pc_f_loop`.
    pub(crate) resume: u32,
    /// What calls `fd_read`.
    pub(crate) read: u32,
    /// The address of `m0`, the only thread.
    pub(crate) m0: u32,
    /// The address of `g0`, the goroutine that schedules.
    pub(crate) g0: u32,
    /// The address, in read-only data, that holds the entry of `runtime.main`.
    pub(crate) main_pc: u32,
    /// The module's bytes, or its code's after a split.
    code: Arc<[u8]>,
    /// The range of each function's body in `code`.
    bodies: Box<[Range<u32>]>,
    /// How many functions are imported: the function index of the first body.
    imported: u32,
}

impl fmt::Debug for GoCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoCommand")
            .field("resume", &self.resume)
            .field("read", &self.read)
            .field("functions", &self.bodies.len())
            .finish_non_exhaustive()
    }
}

/// Recognises a Go command in a module that is valid and imports functions only. `Err` says why it is not one.
///
/// Takes 0.2 ms for a program of 3 MB.
pub(crate) fn recognise(module: &Arc<[u8]>) -> Result<GoCommand, String> {
    let sections = sections::sections(module).map_err(|_| unreadable())?;
    let of = |id| {
        let found = sections.iter().find(|section| section.id == id);
        found.ok_or_else(|| format!("it has no {} section", sections::name(id)))
    };
    globals(of(sections::GLOBAL)?, module)?;
    if of(sections::START).is_ok() {
        return Err("it has a start section, which no Go program has".to_owned());
    }
    let imports = Imports::read(of(sections::IMPORT)?, module)?;
    let bodies = bodies(of(sections::CODE)?, module).map_err(|_| unreadable())?;
    table(
        of(sections::TABLE)?,
        of(sections::ELEMENT)?,
        module,
        imports.functions,
        bodies.len() as u32,
    )?;
    let start = start(of(sections::EXPORT)?, module)?;

    let mut go = GoCommand {
        resume: 0,
        read: 0,
        m0: 0,
        g0: 0,
        main_pc: 0,
        code: Arc::clone(module),
        bodies,
        imported: imports.functions,
    };
    let Runtime {
        resume,
        m0,
        g0,
        main_pc,
    } = code::runtime(&go, start)?;
    (go.resume, go.m0, go.g0, go.main_pc) = (resume, m0, g0, main_pc);
    go.read = code::wrapper(&go, imports.read)?;
    Ok(go)
}

impl GoCommand {
    /// Whether it has code that steps the runtime's cheap generator, if its state were at that offset of an `m`.
    pub(crate) fn steps_cheaprand(&self, offset: u32) -> bool {
        let (Some(first), Some(last)) = (self.bodies.first(), self.bodies.last()) else {
            return false;
        };
        code::steps_xorshift(&self.code[first.start as usize..last.end as usize], offset)
    }

    /// The same program in other bytes, of which only sections other than that of the code differ.
    pub(super) fn in_code(self, code: &Arc<[u8]>) -> Result<Self, String> {
        let sections = sections::sections(code).map_err(|_| unreadable())?;
        let section = sections
            .iter()
            .find(|section| section.id == sections::CODE)
            .ok_or_else(unreadable)?;
        let bodies = bodies(section, code).map_err(|_| unreadable())?;
        Ok(Self {
            bodies,
            code: Arc::clone(code),
            ..self
        })
    }

    /// The table index of a function, which must have code.
    fn table_index(&self, function: u32) -> Option<u32> {
        let own = function.checked_sub(self.imported)?;
        ((own as usize) < self.bodies.len()).then(|| own + FIRST)
    }

    /// How many bytes the body of the function with that table index has, if there is one: how long it takes to read.
    pub(crate) fn body_size(&self, function: u32) -> Option<usize> {
        self.body(function).map(|body| body.as_bytes().len())
    }

    /// The body of the function with that table index.
    fn body(&self, function: u32) -> Option<FunctionBody<'_>> {
        let own = function.checked_sub(FIRST)?;
        let range = self.bodies.get(own as usize)?;
        let range = range.start as usize..range.end as usize;
        let reader = wasmparser::BinaryReader::new(&self.code[range.clone()], range.start);
        Some(FunctionBody::new(reader))
    }
}

fn unreadable() -> String {
    "it cannot be read".to_owned()
}

/// The globals are the linker's registers.
fn globals(section: &Section, module: &[u8]) -> Result<(), String> {
    let globals = GlobalSectionReader::new(section.reader(module)).map_err(|_| unreadable())?;
    let mut types = Vec::new();
    for global in globals.into_iter().take(GLOBALS.len() + 1) {
        let global = global.map_err(|_| unreadable())?;
        let zero = matches!(
            sole(&global.init_expr),
            Some(Operator::I32Const { value: 0 } | Operator::I64Const { value: 0 })
        );
        if !global.ty.mutable || !zero {
            break;
        }
        types.push(global.ty.content_type);
    }
    if types != GLOBALS {
        return Err("its globals are not those of a Go program".to_owned());
    }
    Ok(())
}

/// The imported functions.
struct Imports {
    functions: u32,
    /// The function index of `fd_read`.
    read: u32,
}

impl Imports {
    fn read(section: &Section, module: &[u8]) -> Result<Self, String> {
        let reader = ImportSectionReader::new(section.reader(module)).map_err(|_| unreadable())?;
        let (mut functions, mut reads) = (0, Vec::new());
        for import in reader.into_imports() {
            let import = import.map_err(|_| unreadable())?;
            let TypeRef::Func(_) = import.ty else {
                return Err("it imports something else than functions".to_owned());
            };
            if (import.module, import.name) == ("wasi_snapshot_preview1", "fd_read") {
                reads.push(functions);
            }
            functions += 1;
        }
        match reads[..] {
            [read] => Ok(Self { functions, read }),
            [] => Err("it never reads stdin".to_owned()),
            _ => Err("it imports fd_read more than once".to_owned()),
        }
    }
}

/// The ranges of the bodies of functions.
fn bodies(section: &Section, module: &[u8]) -> wasmparser::Result<Box<[Range<u32>]>> {
    let mut reader = section.reader(module);
    let count = reader.read_var_u32()?;
    // The number was checked when the module was parsed.
    let mut bodies = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let body = reader.read_reader()?.range();
        bodies.push(body.start as u32..body.end as u32);
    }
    Ok(bodies.into_boxed_slice())
}

/// The only table holds each function with code once, in order, from [`FIRST`] on.
fn table(
    table: &Section,
    elements: &Section,
    module: &[u8],
    imported: u32,
    functions: u32,
) -> Result<(), String> {
    let strange = || "its table is not that of a Go program".to_owned();
    let tables = TableSectionReader::new(table.reader(module)).map_err(|_| unreadable())?;
    let (1, Some(Ok(table))) = (tables.count(), tables.into_iter().next()) else {
        return Err(strange());
    };
    let segments = ElementSectionReader::new(elements.reader(module)).map_err(|_| unreadable())?;
    let (1, Some(Ok(segment))) = (segments.count(), segments.into_iter().next()) else {
        return Err(strange());
    };
    let (
        ElementKind::Active {
            table_index: None | Some(0),
            offset_expr,
        },
        ElementItems::Functions(items),
    ) = (segment.kind, segment.items)
    else {
        return Err(strange());
    };
    let first =
        matches!(sole(&offset_expr), Some(Operator::I32Const { value }) if value as u32 == FIRST);
    let size = u64::from(FIRST) + u64::from(functions);
    if !first || table.ty.initial != size || items.count() != functions {
        return Err(strange());
    }
    for (index, item) in (imported..).zip(items) {
        if item.ok() != Some(index) {
            return Err(strange());
        }
    }
    Ok(())
}

/// The function index of `_start`.
fn start(section: &Section, module: &[u8]) -> Result<u32, String> {
    let exports = ExportSectionReader::new(section.reader(module)).map_err(|_| unreadable())?;
    for export in exports {
        let Export { name, kind, index } = export.map_err(|_| unreadable())?;
        if name == "_start" && kind == ExternalKind::Func {
            return Ok(index);
        }
    }
    Err("it has no _start".to_owned())
}

/// The only instruction of a constant expression.
fn sole<'a>(expression: &ConstExpr<'a>) -> Option<Operator<'a>> {
    let mut operators = expression.get_operators_reader();
    let only = operators.read().ok()?;
    matches!(operators.read(), Ok(Operator::End)).then_some(only)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
