//! Rewrites modules before wasmi gets them. No index changes, so the names of functions in traps stay correct.
//!
//! - Every `table.grow` and `memory.grow` is replaced by a call of a function that contains only this instruction; these
//!   functions are appended to the module. There are two reasons, both faults of wasmi 2.0:
//!   - When a guest's fuel is used up in a `table.grow`, wasmi pauses the guest without recording where it is, and resumes
//!     it at the last position that it did record. In a function that contains only the `table.grow`, that position is the
//!     beginning of the function, so the growth is repeated, which is correct.
//!   - Each instruction goes on to the next one by a tail call, but the compiler makes an ordinary call of it in these two
//!     (only in them, of 1 376: their handlers take the address of an error to format it). So each growth, also one by
//!     nothing or one that is refused, keeps 176 bytes of the thread's stack until the guest pauses. A guest could
//!     overflow the stack and end the process. As functions, the growths take fuel one by one, and [`crate::config`] makes
//!     them so dear that the guest pauses before there are many.
//! - The memory's declared maximum is removed, and our limiter enforces it. Wasmi does not ask the limiter about a growth
//!   beyond a declared maximum, so the engine could not report that such a guest ran out of memory.
//! - If instances are to be used again, the memory is imported, so that it can be in a slot.

use std::borrow::Cow;
use std::ops::Range;

use engine_core::{Error, PAGE, Result};
use wasm_encoder::{Encode, Function, HeapType, Instruction};
use wasmparser::{
    BinaryReader, CodeSectionReader, FunctionBody, MemorySectionReader, Operator, Parser, Payload,
    RefType, TypeRef,
};

/// A rewritten module.
pub(crate) struct Rewritten<'a> {
    pub(crate) wasm: Cow<'a, [u8]>,
    /// The declared maximum of the guest's memory, in bytes.
    pub(crate) memory_max: Option<u64>,
    /// The declared minimum of the memory that the module imports as [`IMPORTED`], in pages; `None`: it imports no
    /// memory.
    pub(crate) imported_pages: Option<u64>,
}

/// How many instructions an added function has that only take fuel, each as much as the growth: wasmi makes no code of a
/// `ref.null` that is dropped.
pub(crate) const DEAR: u64 = 3;

/// What an instruction grows.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Grown {
    /// The table with this index.
    Table(u32),
    Memory,
}

/// The name of the imported memory. It cannot clash with an import of the guest, since guests import only functions.
pub(crate) const IMPORTED: (&str, &str) = ("gojinn", "memory");

/// Rewrites a valid module. With `import_memory`, the result imports its memory, if it has one.
pub(crate) fn rewrite(wasm: &[u8], import_memory: bool) -> Result<Rewritten<'_>> {
    read(wasm)
        .and_then(|parts| parts.write(import_memory))
        .map_err(|error| {
            Error::host(
                "a bug in Gojinn: a module that passed validation cannot be read; please report it",
            )
            .because(error)
        })
}

/// The parts of a module that the rewriting needs.
struct Parts<'a> {
    wasm: &'a [u8],
    /// The id of each section, and the range of its contents.
    sections: Vec<(u8, Range<usize>)>,
    types: u32,
    functions: u32,
    /// The element type of each table.
    tables: Vec<RefType>,
    /// The range of each instruction that grows something, and what it grows.
    grows: Vec<(Range<usize>, Grown)>,
    /// The initial and the maximum pages of the memory.
    memory: Option<(u64, Option<u64>)>,
}

fn read(wasm: &[u8]) -> wasmparser::Result<Parts<'_>> {
    let mut parts = Parts {
        wasm,
        sections: Vec::new(),
        types: 0,
        functions: 0,
        tables: Vec::new(),
        grows: Vec::new(),
        memory: None,
    };
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let Some(section) = payload.as_section() {
            parts.sections.push(section);
        }
        match payload {
            Payload::TypeSection(types) => parts.types = types.count(),
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if matches!(import?.ty, TypeRef::Func(_)) {
                        parts.functions += 1;
                    }
                }
            }
            Payload::FunctionSection(functions) => parts.functions += functions.count(),
            Payload::TableSection(tables) => {
                for table in tables {
                    parts.tables.push(table?.ty.element_type);
                }
            }
            Payload::MemorySection(memories) => parts.memory = memory(memories)?,
            Payload::CodeSectionEntry(body) => parts.find_grows(&body)?,
            _ => {}
        }
    }
    Ok(parts)
}

fn memory(memories: MemorySectionReader<'_>) -> wasmparser::Result<Option<(u64, Option<u64>)>> {
    let memory = memories.into_iter().next().transpose()?;
    Ok(memory.map(|memory| (memory.initial, memory.maximum)))
}

impl<'a> Parts<'a> {
    /// Records each `table.grow` and `memory.grow` of a function.
    fn find_grows(&mut self, body: &FunctionBody<'_>) -> wasmparser::Result<()> {
        // Decoding all code would take long. The instructions are 0xfc followed by 15, and 0x40 followed by 0, both as
        // LEB128, so only functions that contain such bytes are decoded.
        let (tables, memory) = (!self.tables.is_empty(), self.memory.is_some());
        let candidate = self.wasm[body.range()].windows(2).any(|pair| {
            let second = pair[1] & 0x7f;
            tables && pair[0] == 0xfc && second == 15 || memory && pair[0] == 0x40 && second == 0
        });
        if !candidate {
            return Ok(());
        }
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (operator, start) = operators.read_with_offset()?;
            let grown = match operator {
                Operator::TableGrow { table } => Grown::Table(table),
                Operator::MemoryGrow { .. } => Grown::Memory,
                _ => continue,
            };
            self.grows
                .push((start..operators.original_position(), grown));
        }
        Ok(())
    }

    fn write(self, import_memory: bool) -> wasmparser::Result<Rewritten<'a>> {
        let maximum = self.memory.and_then(|(_, maximum)| maximum);
        let imported_pages = self
            .memory
            .filter(|_| import_memory)
            .map(|(initial, _)| initial);
        let mut rewritten = Rewritten {
            wasm: Cow::Borrowed(self.wasm),
            memory_max: maximum.map(|pages| pages.saturating_mul(PAGE)),
            imported_pages,
        };
        if self.grows.is_empty() && maximum.is_none() && imported_pages.is_none() {
            return Ok(rewritten);
        }
        let added = Added::of(&self);
        let mut import = imported_pages.map(memory_import);
        let mut wasm = Vec::with_capacity(self.wasm.len() + 256);
        wasm.extend_from_slice(&wasm_encoder::Module::HEADER);
        for (id, range) in &self.sections {
            // A module without imports gets an import section, at the position that the format requires.
            if *id > IMPORT
                && let Some(import) = import.take()
            {
                wasm.push(IMPORT);
                [&[1], &*import].concat().encode(&mut wasm);
            }
            let contents = match *id {
                TYPE => self.appended(range, &added.types)?,
                IMPORT => self.appended(range, import.take().as_slice())?,
                FUNCTION => self.appended(range, &added.functions)?,
                MEMORY if imported_pages.is_some() => continue,
                MEMORY => self.memory_without_maximum(),
                CODE if !self.grows.is_empty() => self.code(range, &added)?,
                _ => Cow::Borrowed(&self.wasm[range.clone()]),
            };
            wasm.push(*id);
            contents.encode(&mut wasm);
        }
        rewritten.wasm = Cow::Owned(wasm);
        Ok(rewritten)
    }

    /// The section's contents with `items` appended.
    fn appended(
        &self,
        section: &Range<usize>,
        items: &[Vec<u8>],
    ) -> wasmparser::Result<Cow<'a, [u8]>> {
        let contents = &self.wasm[section.clone()];
        if items.is_empty() {
            return Ok(Cow::Borrowed(contents));
        }
        let mut reader = BinaryReader::new(contents, section.start);
        let count = reader.read_var_u32()?;
        let rest = &contents[reader.original_position() - section.start..];
        let mut out = Vec::with_capacity(contents.len() + 64);
        (count + items.len() as u32).encode(&mut out);
        out.extend_from_slice(rest);
        out.extend(items.iter().flatten());
        Ok(Cow::Owned(out))
    }

    fn memory_without_maximum(&self) -> Cow<'a, [u8]> {
        let Some((initial, _)) = self.memory else {
            // A memory section without a memory.
            return Cow::Borrowed(&[0]);
        };
        // One memory, with no flags.
        let mut out = vec![1, 0];
        initial.encode(&mut out);
        Cow::Owned(out)
    }

    /// The code section with a call in place of each growth, and with the functions that these calls need.
    fn code(&self, section: &Range<usize>, added: &Added) -> wasmparser::Result<Cow<'a, [u8]>> {
        let bodies = CodeSectionReader::new(BinaryReader::new(
            &self.wasm[section.clone()],
            section.start,
        ))?;
        let mut out = Vec::with_capacity(section.len() + 64);
        (bodies.count() + added.bodies.len() as u32).encode(&mut out);
        let mut grows = self.grows.iter().peekable();
        for body in bodies {
            let range = body?.range();
            let mut at = range.start;
            let mut code = Vec::with_capacity(range.len());
            while let Some((instruction, grown)) =
                grows.next_if(|(instruction, _)| instruction.start < range.end)
            {
                code.extend_from_slice(&self.wasm[at..instruction.start]);
                Instruction::Call(added.function(*grown)).encode(&mut code);
                at = instruction.end;
            }
            code.extend_from_slice(&self.wasm[at..range.end]);
            code.encode(&mut out);
        }
        out.extend(added.bodies.iter().flatten());
        Ok(Cow::Owned(out))
    }
}

/// The import entry for a memory of at least `pages` pages.
fn memory_import(pages: u64) -> Vec<u8> {
    let mut import = Vec::new();
    IMPORTED.0.encode(&mut import);
    IMPORTED.1.encode(&mut import);
    // A memory, with no flags.
    import.extend_from_slice(&[2, 0]);
    pages.encode(&mut import);
    import
}

/// The added functions, one for the memory and for each table that the guest grows: their types, function section entries
/// and code.
struct Added {
    grown: Vec<Grown>,
    /// Index of the first one.
    first: u32,
    types: Vec<Vec<u8>>,
    functions: Vec<Vec<u8>>,
    bodies: Vec<Vec<u8>>,
}

impl Added {
    fn of(parts: &Parts<'_>) -> Self {
        let mut grown: Vec<Grown> = parts.grows.iter().map(|&(_, grown)| grown).collect();
        grown.sort_unstable();
        grown.dedup();
        let mut added = Self {
            first: parts.functions,
            types: Vec::new(),
            functions: Vec::new(),
            bodies: Vec::new(),
            grown,
        };
        for (at, &grown) in added.grown.iter().enumerate() {
            // The parameters are the instruction's operands; the result is an i32.
            let (parameters, instruction) = match grown {
                Grown::Memory => (vec![I32], Instruction::MemoryGrow(0)),
                Grown::Table(table) => {
                    let reference = match parts.tables.get(table as usize) {
                        Some(&RefType::EXTERNREF) => EXTERNREF,
                        _ => FUNCREF,
                    };
                    (vec![reference, I32], Instruction::TableGrow(table))
                }
            };
            let mut ty = vec![0x60];
            parameters.encode(&mut ty);
            ty.extend([1, I32]);
            added.types.push(ty);
            let mut function = Vec::new();
            (parts.types + at as u32).encode(&mut function);
            added.functions.push(function);
            let mut code = Function::new([]);
            for _ in 0..DEAR {
                code.instruction(&Instruction::RefNull(HeapType::FUNC));
                code.instruction(&Instruction::Drop);
            }
            for parameter in 0..parameters.len() {
                code.instruction(&Instruction::LocalGet(parameter as u32));
            }
            code.instruction(&instruction);
            code.instruction(&Instruction::End);
            let mut body = Vec::new();
            code.encode(&mut body);
            added.bodies.push(body);
        }
        added
    }

    /// The function that grows this.
    fn function(&self, grown: Grown) -> u32 {
        let at = self.grown.partition_point(|&other| other < grown);
        self.first + at as u32
    }
}

const TYPE: u8 = 1;
const IMPORT: u8 = 2;
const FUNCTION: u8 = 3;
const MEMORY: u8 = 5;
const CODE: u8 = 10;

const EXTERNREF: u8 = 0x6f;
const FUNCREF: u8 = 0x70;
const I32: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    fn wasm(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    /// The functions, by index, that contain a growth.
    fn growing(wasm: &[u8]) -> Vec<u32> {
        let mut found = Vec::new();
        let mut index = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.unwrap() {
                Payload::ImportSection(imports) => index += imports.into_imports().count() as u32,
                Payload::CodeSectionEntry(body) => {
                    let operators = body.get_operators_reader().unwrap();
                    if operators.into_iter().any(|operator| {
                        let operator = operator.unwrap();
                        matches!(
                            operator,
                            Operator::TableGrow { .. } | Operator::MemoryGrow { .. }
                        )
                    }) {
                        found.push(index);
                    }
                    index += 1;
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn most_modules_stay_as_they_are() {
        for text in [
            "(module)",
            r#"(module (memory (export "memory") 1) (func (export "_start")) (data (i32.const 0) "x"))"#,
            // The bytes of a table.grow as a constant, with a table and without.
            "(module (table 1 funcref) (func (drop (i64.const 0x7fc))))",
            "(module (func (drop (i64.const 0x7fc))))",
            // Those of a memory.grow as a constant, and as a block that begins with what cannot be reached.
            "(module (memory 1) (func (drop (i32.const 64)) (block unreachable)))",
            "(module (func (block unreachable)))",
        ] {
            let wasm = wasm(text);
            let rewritten = rewrite(&wasm, false).unwrap();
            assert!(
                matches!(rewritten.wasm, Cow::Borrowed(same) if same == wasm),
                "{text}"
            );
            assert_eq!(rewritten.memory_max, None);
        }
    }

    #[test]
    fn a_declared_maximum_is_taken_out() {
        let with = wasm(r#"(module (memory (export "memory") 2 300) (func (export "_start")))"#);
        let without = wasm(r#"(module (memory (export "memory") 2) (func (export "_start")))"#);
        let rewritten = rewrite(&with, false).unwrap();
        assert_eq!(*rewritten.wasm, *without);
        assert_eq!(rewritten.memory_max, Some(300 * PAGE));
    }

    #[test]
    fn memory_and_each_table_that_grows_get_one_function_at_the_end() {
        let before = wasm(
            r#"(module
                (import "gojinn" "host_log" (func (param i32 i32 i32)))
                (table $a 1 funcref) (table $b 2 externref) (table $c 3 9 funcref)
                (memory 1 4)
                (func $one (export "one") (result i32)
                    (drop (table.grow $c (ref.null func) (i32.const 1)))
                    (block (result i32) (table.grow $a (ref.func $two) (i32.const 2))))
                (func $two (export "two") (param i32) (result i32) (local.get 0))
                (func (export "grows memory") (param i32) (result i32)
                    (drop (memory.grow (i32.const 0)))
                    (memory.grow (memory.grow (local.get 0))))
                (func (export "three") (param externref i32) (result i32)
                    (if (result i32) (local.get 1)
                        (then (table.grow $b (local.get 0) (local.get 1)))
                        (else (table.grow $c (ref.func $two) (i32.const 70000)))))
                (elem (table $a) (i32.const 0) func $two)
                (elem declare func $two))"#,
        );
        assert_eq!(growing(&before), [1, 3, 4]);
        let rewritten = rewrite(&before, false).unwrap();
        assert_eq!(rewritten.memory_max, Some(4 * PAGE));
        wasmparser::validate(&rewritten.wasm).unwrap();
        assert_eq!(growing(&rewritten.wasm), [5, 6, 7, 8]);
        let exports = |wasm: &[u8]| -> Vec<(String, u32)> {
            Parser::new(0)
                .parse_all(wasm)
                .filter_map(|payload| match payload.unwrap() {
                    Payload::ExportSection(exports) => Some(exports),
                    _ => None,
                })
                .flatten()
                .map(|export| export.unwrap())
                .map(|export| (export.name.to_owned(), export.index))
                .collect()
        };
        assert_eq!(exports(&rewritten.wasm), exports(&before));
    }

    #[test]
    fn a_memory_is_imported_behind_all_functions() {
        for (imports, memory) in [
            ("", "(memory (export \"memory\") 3 9)"),
            (
                r#"(import "gojinn" "host_log" (func (param i32 i32 i32)))"#,
                "(memory (export \"memory\") 3)",
            ),
        ] {
            let functions = r#"(table 4 funcref) (table 2 externref) (func (export "_start") (drop (i32.load (i32.const 0))))"#;
            let before = wasm(&format!("(module {imports} {memory} {functions})"));
            let after = wasm(&format!(
                r#"(module {imports} (import "gojinn" "memory" (memory 3)) (export "memory" (memory 0)) {functions})"#
            ));
            let rewritten = rewrite(&before, true).unwrap();
            wasmparser::validate(&rewritten.wasm).unwrap();
            assert_eq!(*rewritten.wasm, *after);
            assert_eq!(rewritten.imported_pages, Some(3));
            assert_eq!(
                rewritten.memory_max,
                memory.contains('9').then_some(9 * PAGE)
            );
        }
        let without = wasm(r#"(module (func (export "_start")))"#);
        let rewritten = rewrite(&without, true).unwrap();
        assert_eq!(
            (&*rewritten.wasm, rewritten.imported_pages),
            (&*without, None)
        );
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert!(rewrite(b"\0asm\x01\0\0\0\x0a\x05", false).is_err());
    }
}
