//! Cuts long bulk operations on memory into pieces, so that a deadline need not wait for a whole one.
//!
//! `memory.fill`, `memory.copy` and `memory.init` of more than a piece become calls of functions that are added at the end
//! of the module and work piece by piece. Engines look at the deadline when a function is entered and at each turn of a
//! loop, so that is all there is to do:
//!
//! ```text
//!   memory.fill(at, value, n)  becomes  if n <= PIECE { memory.fill(at, value, n) } else { fill(at, value, n) }
//!
//!   fill(at, value, n):
//!     if at + n > memory { memory.fill(at, value, n); return }   // out of bounds: traps before it writes
//!     loop { memory.fill(at, value, PIECE); at += PIECE; n -= PIECE; while n > PIECE }
//!     memory.fill(at, value, n)
//! ```
//!
//! What is known to be short stays: an operation whose length is a small constant, and a `memory.init` of a small
//! segment. Operations on tables stay too, because tables are small: a million elements at most by default.
//!
//! The length is kept in a local that is added to the function. So the offsets change in functions that have such an
//! operation, and in no others.

use std::ops::Range;

use wasm_encoder::{BlockType, Encode, Function, Instruction};
use wasmparser::{FunctionBody, FunctionSectionReader, Operator, TypeSectionReader};

use crate::wasm::sections::{self, Section};

/// Bytes between two looks at the deadline. On fresh memory that is 0.1 ms.
const PIECE: u32 = 256 << 10;

/// What becomes of the sections of a module.
pub(super) struct Cut {
    types: Vec<u8>,
    functions: Vec<u8>,
    code: Vec<u8>,
    /// How many functions were added.
    pub(super) added: u32,
}

impl Cut {
    /// The contents that a section gets.
    pub(super) fn section(&self, id: u8) -> Option<&[u8]> {
        match id {
            sections::TYPE => Some(&self.types),
            sections::FUNCTION => Some(&self.functions),
            sections::CODE => Some(&self.code),
            _ => None,
        }
    }
}

/// Cuts the operations of a valid module with the memory 0; `None`: it has none to be cut. `segments` has the size of
/// each data segment.
pub(super) fn cut(
    bytes: &[u8],
    sections: &[Section],
    segments: &[usize],
) -> wasmparser::Result<Option<Cut>> {
    let section = |id| sections.iter().find(move |section| section.id == id);
    let (Some(types), Some(functions), Some(code)) = (
        section(sections::TYPE),
        section(sections::FUNCTION),
        section(sections::CODE),
    ) else {
        return Ok(None);
    };
    let found = find(bytes, code, segments)?;
    if found.is_empty() {
        return Ok(None);
    }
    let mut kinds: Vec<Kind> = found.iter().map(|(_, kind)| *kind).collect();
    kinds.sort_unstable();
    kinds.dedup();

    let mut imported = 0;
    if let Some(imports) = section(sections::IMPORT) {
        // Only functions are imported.
        imported = imports.reader(bytes).read_var_u32()?;
    }
    let (own, first_type) = (
        functions.reader(bytes).read_var_u32()?,
        types.reader(bytes).read_var_u32()?,
    );
    let mut added_functions = Vec::new();
    let mut bodies = Vec::new();
    for kind in &kinds {
        first_type.encode(&mut added_functions);
        kind.body().encode(&mut bodies);
    }
    let index = |kind| {
        let at = kinds.partition_point(|other| *other < kind);
        imported + own + at as u32
    };
    let added = kinds.len() as u32;
    Ok(Some(Cut {
        types: appended(bytes, types, 2, TYPES)?,
        functions: appended(bytes, functions, added, &added_functions)?,
        code: Rewriter {
            bytes,
            parameters: parameters(bytes, types, functions)?,
            operands: first_type + 1,
            index: &index,
        }
        .rewrite(code, &found, (added, &bodies))?,
        added,
    }))
}

/// The types `[i32 i32 i32] -> []`, that of the functions, and `[i32 i32] -> []`, that of a block which gets all operands but
/// the length.
const TYPES: &[u8] = &[0x60, 3, 0x7f, 0x7f, 0x7f, 0, 0x60, 2, 0x7f, 0x7f, 0];

/// How many locals a function may have.
const LOCALS: u64 = 50_000;

/// An operation that is cut.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Copy,
    Fill,
    /// Of this segment.
    Init(u32),
}

impl Kind {
    /// The operation itself.
    fn instruction(self) -> Instruction<'static> {
        match self {
            Self::Copy => Instruction::MemoryCopy {
                src_mem: 0,
                dst_mem: 0,
            },
            Self::Fill => Instruction::MemoryFill(0),
            Self::Init(data_index) => Instruction::MemoryInit { mem: 0, data_index },
        }
    }

    /// The function that does it piece by piece.
    fn body(self) -> Function {
        let mut body = Body {
            function: Function::new([]),
            operation: self.instruction(),
        };
        body.out_of_bounds(TO);
        match self {
            Self::Fill => body.forward(false),
            Self::Init(_) => {
                body.out_of_segment();
                body.forward(true);
            }
            Self::Copy => {
                body.out_of_bounds(FROM);
                // What is written must not be read later: upwards if the target is below the source.
                body.emit(&[
                    Instruction::LocalGet(TO),
                    Instruction::LocalGet(FROM),
                    Instruction::I32LeU,
                    Instruction::If(BlockType::Empty),
                ]);
                body.forward(true);
                body.emit(&[Instruction::Return, Instruction::End]);
                body.backward();
            }
        }
        body.emit(&[Instruction::End]);
        body.function
    }
}

/// The parameters: where to, from where (or which byte), and how many bytes.
const TO: u32 = 0;
const FROM: u32 = 1;
const COUNT: u32 = 2;

struct Body {
    function: Function,
    operation: Instruction<'static>,
}

impl Body {
    fn emit(&mut self, instructions: &[Instruction<'_>]) {
        for instruction in instructions {
            self.function.instruction(instruction);
        }
    }

    /// The operation on all that is left.
    fn all(&mut self) {
        let operation = self.operation.clone();
        self.emit(&[
            Instruction::LocalGet(TO),
            Instruction::LocalGet(FROM),
            Instruction::LocalGet(COUNT),
            operation,
        ]);
    }

    /// Does all at once, and returns, if the condition on the stack holds.
    fn all_at_once(&mut self) {
        self.emit(&[Instruction::If(BlockType::Empty)]);
        self.all();
        self.emit(&[Instruction::Return, Instruction::End]);
    }

    /// `parameter + count`, which may be more than 32 bits.
    fn end_of(&mut self, parameter: u32) {
        self.emit(&[
            Instruction::LocalGet(parameter),
            Instruction::I64ExtendI32U,
            Instruction::LocalGet(COUNT),
            Instruction::I64ExtendI32U,
            Instruction::I64Add,
        ]);
    }

    /// Where memory ends too early, the operation as a whole traps, before it has written anything.
    fn out_of_bounds(&mut self, parameter: u32) {
        self.end_of(parameter);
        self.emit(&[
            Instruction::MemorySize(0),
            Instruction::I64ExtendI32U,
            Instruction::I64Const(16),
            Instruction::I64Shl,
            Instruction::I64GtU,
        ]);
        self.all_at_once();
    }

    /// The same for a segment. Its size cannot be asked for, and is 0 once it was dropped; but no bytes at the end of
    /// what is wanted can be had exactly if all before can.
    fn out_of_segment(&mut self) {
        self.end_of(FROM);
        self.emit(&[Instruction::I64Const(u32::MAX.into()), Instruction::I64GtU]);
        self.all_at_once();
        let operation = self.operation.clone();
        self.emit(&[
            Instruction::I32Const(0),
            Instruction::LocalGet(FROM),
            Instruction::LocalGet(COUNT),
            Instruction::I32Add,
            Instruction::I32Const(0),
            operation,
        ]);
    }

    /// Pieces from the front. The source moves along unless it is a byte.
    fn forward(&mut self, source_moves: bool) {
        let piece = Instruction::I32Const(PIECE.cast_signed());
        let operation = self.operation.clone();
        self.emit(&[
            Instruction::Loop(BlockType::Empty),
            Instruction::LocalGet(TO),
            Instruction::LocalGet(FROM),
            piece.clone(),
            operation,
        ]);
        let moving: &[u32] = if source_moves { &[TO, FROM] } else { &[TO] };
        for &parameter in moving {
            self.emit(&[
                Instruction::LocalGet(parameter),
                piece.clone(),
                Instruction::I32Add,
                Instruction::LocalSet(parameter),
            ]);
        }
        self.one_piece_less();
        self.emit(&[Instruction::BrIf(0), Instruction::End]);
        self.all();
    }

    /// Pieces from the back.
    fn backward(&mut self) {
        self.emit(&[Instruction::Loop(BlockType::Empty)]);
        self.one_piece_less();
        for parameter in [TO, FROM] {
            self.emit(&[
                Instruction::LocalGet(parameter),
                Instruction::LocalGet(COUNT),
                Instruction::I32Add,
            ]);
        }
        let operation = self.operation.clone();
        self.emit(&[
            Instruction::I32Const(PIECE.cast_signed()),
            operation,
            Instruction::BrIf(0),
            Instruction::End,
        ]);
        self.all();
    }

    /// Counts a piece, and leaves on the stack whether more than another one is left.
    fn one_piece_less(&mut self) {
        let piece = Instruction::I32Const(PIECE.cast_signed());
        self.emit(&[
            Instruction::LocalGet(COUNT),
            piece.clone(),
            Instruction::I32Sub,
            Instruction::LocalTee(COUNT),
            piece,
            Instruction::I32GtU,
        ]);
    }
}

/// The instructions to be replaced, in their order: where they are, and what they do.
fn find(
    bytes: &[u8],
    code: &Section,
    segments: &[usize],
) -> wasmparser::Result<Vec<(Range<usize>, Kind)>> {
    let mut found = Vec::new();
    let mut reader = code.reader(bytes);
    for _ in 0..reader.read_var_u32()? {
        let body = FunctionBody::new(reader.read_reader()?);
        // Decoding all code would take several times as long as the rest of the split. The three are 0xfc followed by 8, 10
        // or 11 as LEB128.
        let candidate = bytes[body.range()]
            .windows(2)
            .any(|pair| pair[0] == 0xfc && matches!(pair[1] & 0x7f, 8 | 10 | 11));
        if !candidate {
            continue;
        }
        let mut operators = body.get_operators_reader()?;
        let mut is_short = false;
        while !operators.eof() {
            let start = operators.original_position();
            let operator = operators.read()?;
            let kind = match operator {
                _ if is_short => None,
                Operator::MemoryCopy { .. } => Some(Kind::Copy),
                Operator::MemoryFill { .. } => Some(Kind::Fill),
                Operator::MemoryInit { data_index, .. } => segments
                    .get(data_index as usize)
                    .is_some_and(|&size| size > PIECE as usize)
                    .then_some(Kind::Init(data_index)),
                _ => None,
            };
            if let Some(kind) = kind {
                found.push((start..operators.original_position(), kind));
            }
            is_short =
                matches!(operator, Operator::I32Const { value } if value.cast_unsigned() <= PIECE);
        }
    }
    Ok(found)
}

/// How many parameters each function has that is not imported.
fn parameters(bytes: &[u8], types: &Section, functions: &Section) -> wasmparser::Result<Vec<u32>> {
    let types = TypeSectionReader::new(types.reader(bytes))?;
    let types: Vec<u32> = types
        .into_iter_err_on_gc_types()
        .map(|ty| Ok(ty?.params().len() as u32))
        .collect::<wasmparser::Result<_>>()?;
    let functions = FunctionSectionReader::new(functions.reader(bytes))?;
    functions
        .into_iter()
        .map(|ty| Ok(types.get(ty? as usize).copied().unwrap_or_default()))
        .collect()
}

/// Puts other code in place of operations.
struct Rewriter<'a> {
    bytes: &'a [u8],
    /// Of each function that is not imported.
    parameters: Vec<u32>,
    /// The number of the type `[i32 i32] -> []`.
    operands: u32,
    /// The function that does an operation piece by piece.
    index: &'a dyn Fn(Kind) -> u32,
}

impl Rewriter<'_> {
    /// The contents of the code section with other code in place of what was found, and with more functions.
    fn rewrite(
        &self,
        code: &Section,
        found: &[(Range<usize>, Kind)],
        (added, bodies): (u32, &[u8]),
    ) -> wasmparser::Result<Vec<u8>> {
        let mut reader = code.reader(self.bytes);
        let count = reader.read_var_u32()?;
        let mut contents = Vec::with_capacity(code.range.len() + bodies.len() + 16 * found.len());
        (count + added).encode(&mut contents);
        let mut found = found;
        for &parameters in &self.parameters {
            let body = FunctionBody::new(reader.read_reader()?);
            let range = body.range();
            let of_body = found.partition_point(|(replaced, _)| replaced.start < range.end);
            let (here, rest) = found.split_at(of_body);
            found = rest;
            if here.is_empty() {
                self.bytes[range].encode(&mut contents);
            } else {
                self.body(&body, parameters, here)?.encode(&mut contents);
            }
        }
        contents.extend_from_slice(bodies);
        Ok(contents)
    }

    /// A function's body with other code in place of what was found.
    fn body(
        &self,
        body: &FunctionBody<'_>,
        parameters: u32,
        found: &[(Range<usize>, Kind)],
    ) -> wasmparser::Result<Vec<u8>> {
        let range = body.range();
        let mut reader = body.get_binary_reader();
        let groups = reader.read_var_u32()?;
        let first_group = reader.original_position();
        let mut locals = body.get_locals_reader()?;
        let mut length = u64::from(parameters);
        for _ in 0..groups {
            length += u64::from(locals.read()?.0);
        }
        let mut at = locals.original_position();
        // The number of the local that is added, if there can be one more.
        let length = u32::try_from(length).ok().filter(|_| length < LOCALS);

        let mut out = Vec::with_capacity(range.len() + 16 * found.len());
        (groups + u32::from(length.is_some())).encode(&mut out);
        out.extend_from_slice(&self.bytes[first_group..at]);
        if length.is_some() {
            out.extend_from_slice(&[1, I32]);
        }
        for (replaced, kind) in found {
            out.extend_from_slice(&self.bytes[at..replaced.start]);
            self.operation(*kind, length, &mut out);
            at = replaced.end;
        }
        out.extend_from_slice(&self.bytes[at..range.end]);
        Ok(out)
    }

    /// What is in place of an operation.
    fn operation(&self, kind: Kind, length: Option<u32>, out: &mut Vec<u8>) {
        let call = Instruction::Call((self.index)(kind));
        let Some(length) = length else {
            call.encode(out);
            return;
        };
        for instruction in [
            Instruction::LocalTee(length),
            Instruction::I32Const(PIECE.cast_signed()),
            Instruction::I32LeU,
            Instruction::If(BlockType::FunctionType(self.operands)),
            Instruction::LocalGet(length),
            kind.instruction(),
            Instruction::Else,
            Instruction::LocalGet(length),
            call,
            Instruction::End,
        ] {
            instruction.encode(out);
        }
    }
}

/// The type `i32` of a local.
const I32: u8 = 0x7f;

/// The contents of a section, which is a list, with more items.
fn appended(
    bytes: &[u8],
    section: &Section,
    more: u32,
    items: &[u8],
) -> wasmparser::Result<Vec<u8>> {
    let mut reader = section.reader(bytes);
    let count = reader.read_var_u32()?;
    let mut contents = Vec::with_capacity(section.range.len() + items.len() + 4);
    (count + more).encode(&mut contents);
    contents.extend_from_slice(reader.read_bytes(reader.bytes_remaining())?);
    contents.extend_from_slice(items);
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use wasmparser::CodeSectionReader;

    use super::*;

    /// The module with its operations cut, which is valid, or the same module.
    fn cut_module(text: &str) -> Vec<u8> {
        let bytes = wat::parse_str(text).expect(text);
        let sections = sections::sections(&bytes).expect("whole");
        let Some(cut) = cut(&bytes, &sections, &[PIECE as usize + 1, 9]).expect("it is read")
        else {
            return bytes;
        };
        let mut out = bytes[..sections::HEADER].to_vec();
        for section in &sections {
            out.push(section.id);
            let same = &bytes[section.range.clone()];
            cut.section(section.id).unwrap_or(same).encode(&mut out);
        }
        wasmparser::validate(&out).expect(text);
        out
    }

    /// Of each function, its calls and its bulk operations.
    fn operations(module: &[u8]) -> Vec<Vec<String>> {
        let sections = sections::sections(module).expect("whole");
        let code = sections.iter().find(|section| section.id == sections::CODE);
        let code = code.expect("code").reader(module);
        let bodies = CodeSectionReader::new(code).expect("code");
        let of = |body: FunctionBody<'_>| {
            let operators = body.get_operators_reader().expect("code");
            let named = operators
                .into_iter()
                .map(|operator| format!("{:?}", operator.unwrap()));
            named
                .filter(|name| name.starts_with("Call") || name.starts_with("Memory"))
                .collect()
        };
        bodies
            .into_iter()
            .map(|body| of(body.expect("a body")))
            .collect()
    }

    const FIELDS: &str = r#"(import "gojinn" "ready" (func (result i32))) (memory (export "memory") 9)
        (data $large "x") (data $small "y")"#;

    #[test]
    fn long_operations_become_calls_and_short_ones_stay() {
        let module = cut_module(&format!(
            r#"(module {FIELDS}
                (func (param i32) (memory.fill (local.get 0) (local.get 0) (local.get 0)))
                (func (param i32)
                    (memory.fill (local.get 0) (local.get 0) (i32.const 262144))
                    (memory.copy (local.get 0) (local.get 0) (i32.const 0))
                    (memory.init $large (local.get 0) (local.get 0) (i32.const 1))
                    (memory.init $small (local.get 0) (local.get 0) (local.get 0)))
                (func (param i32)
                    (memory.fill (local.get 0) (local.get 0) (i32.const 262145))
                    (memory.copy (local.get 0) (local.get 0) (i32.const -1))
                    (memory.init $large (local.get 0) (local.get 0) (local.get 0))
                    (memory.copy (local.get 0) (i32.const 1) (local.get 0))))"#
        ));
        let found = operations(&module);
        let call = |index| format!("Call {{ function_index: {index} }}");
        // Each has the operation itself, for a short one, and the call.
        let cut = |name: &str, index| [name.to_owned(), call(index)];
        let names = |function: &[String]| -> Vec<String> {
            let short = |name: &String| name.split(' ').next().unwrap_or_default().to_owned();
            function
                .iter()
                .map(|name| {
                    if name.starts_with("Call") {
                        name.clone()
                    } else {
                        short(name)
                    }
                })
                .collect()
        };
        assert_eq!(names(&found[0]), cut("MemoryFill", 5));
        assert!(found[1].iter().all(|name| name.starts_with("Memory")) && found[1].len() == 4);
        let expected = [
            cut("MemoryFill", 5),
            cut("MemoryCopy", 4),
            cut("MemoryInit", 6),
            cut("MemoryCopy", 4),
        ];
        assert_eq!(names(&found[2]), expected.concat());
        // The functions that were added do what their names say.
        assert_eq!(found.len(), 6);
        for (function, name) in found[3..]
            .iter()
            .zip(["MemoryCopy", "MemoryFill", "MemoryInit"])
        {
            let others = function
                .iter()
                .filter(|other| !other.starts_with("MemorySize"));
            assert!(others.clone().count() >= 3);
            assert!(
                others.clone().all(|other| other.starts_with(name)),
                "{function:?}"
            );
        }
    }

    #[test]
    fn what_has_nothing_to_cut_stays_as_it_is() {
        for text in [
            "(module)".to_owned(),
            format!("(module {FIELDS} (func (drop (i64.const 0xbfc))))"),
            format!(
                "(module {FIELDS} (func (memory.fill (i32.const 0) (i32.const 1) (i32.const 9))))"
            ),
        ] {
            assert_eq!(cut_module(&text), wat::parse_str(&text).expect("wat"));
        }
    }

    /// Locals of all kinds stay what they were, and a function with as many locals as there may be gets only the call.
    #[test]
    fn locals_keep_their_numbers() {
        for locals in ["", "(local i64 i64 f32)", "(local v128) (local i32 i32)"] {
            let module = cut_module(&format!(
                "(module {FIELDS} (func (param i32 i64) (result i32) {locals}
                    (memory.fill (local.get 0) (i32.const 1) (local.get 0))
                    (memory.copy (i32.const 1) (i32.const 1) (i32.load (local.get 0)))
                    (local.get 0)))"
            ));
            assert_eq!(operations(&module)[0].len(), 4, "{locals}");
        }
        let many = " i32".repeat(LOCALS as usize - 1);
        for (parameters, calls) in [("", 2), ("(param i32)", 1)] {
            let module = cut_module(&format!(
                "(module {FIELDS} (func {parameters} (local{many})
                    (memory.fill (i32.const 0) (i32.const 1) (local.get 0))))"
            ));
            assert_eq!(operations(&module)[0].len(), calls, "{parameters}");
        }
    }
}
