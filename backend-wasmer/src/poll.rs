//! Adds two things to modules before wasmer compiles them: a poll of a flag that stops guests, and a probe of their
//! stack.
//!
//! **The flag.** Compiled code polls the flag at function entries and loop heads, and divides by zero when it is set.
//! (The division is a trap of the processor; `unreachable` would be a call of a Rust function, see below.) Compiled
//! code reads the flag as the first four bytes of an additional memory, which [`rewrite`] appends to the module; wasmer
//! panics if the middleware adds a memory. The guest cannot name that memory, because it was validated before, with one
//! memory at most. The memory is declared with no pages, so for wasmer none of its bytes exists. The poll may read the
//! first four bytes nevertheless because the memory style makes compiled code skip every bounds check (see
//! [`crate::memory::STYLE`]); the style is checked whenever an instance is made. The load is atomic, so that cranelift
//! cannot move it out of a loop. Polling costs 9-10 % in small recursive functions and in tight loops (wasmer's
//! metering costs 17-103 %).
//!
//! **The probe.** wasmer runs `unreachable` and the bulk operations on memory and tables as Rust functions on the guest's
//! stack. When one of them traps, it takes a backtrace there, while it holds a lock that the whole process shares (in
//! libgcc's unwinder). If the guest has little stack left, the stack overflows during the backtrace. wasmer treats this
//! like any overflow of a guest's stack and abandons the frames, so the lock is never unlocked, and the next trap or
//! panic of any thread waits for it forever (seen with wasmer 7.3.0; `tests/ends.rs` has such a guest). To prevent
//! this, a call of a function with a large frame, which calls itself a few times, is inserted before every such
//! operation: if the stack is too small, it overflows in that function, where no lock is held.

use std::borrow::Cow;

use engine_core::{Error, Result};
use wasm_encoder::{Encode, Module, RawSection, SectionId};
use wasmer::LocalFunctionIndex;
use wasmer::sys::wasmparser::{BlockType, MemArg, Operator};
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmparser::{Parser, Payload};

/// A part of the fingerprint. Increment it when the rewritten module or the polling code changes.
pub(crate) const VERSION: u32 = 2;

/// Values that the probe keeps at the same time, each in eight bytes of its frame: 8 KiB together. Cranelift compiles
/// the probe in 30 ms; with four times as many values it needs half a second.
const PROBE_VALUES: usize = 1024;

/// Nested calls of the probe: 16 KiB of frames together. One call was enough to pass `tests/ends.rs`; eight calls with
/// frames of half the size cost 36 ns for each operation.
const PROBE_FRAMES: i32 = 2;

/// The entry of a type section for the probe: `[i32] -> []`.
const PROBE_TYPE: &[u8] = &[0x60, 1, 0x7f, 0];

/// The entry of a memory section for a memory with a minimum and a maximum of zero pages.
const NO_PAGES: &[u8] = &[1, 0, 0];

/// The indices of what was added to a module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Added {
    /// The memory for the flag.
    pub(crate) flag: u32,
    /// The function that probes the stack. In a module without functions this index has no meaning.
    pub(crate) probe: u32,
}

/// Appends the memory for the flag and the probe to a valid module whose imports are all functions.
pub(crate) fn rewrite(wasm: &[u8]) -> Result<(Vec<u8>, Added)> {
    let mut out = Module::new();
    let (mut types, mut imports, mut functions, mut flag) = (0, 0, 0, None);
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(unreadable)?;
        if matches!(payload, Payload::CodeSectionEntry(_)) {
            continue;
        }
        let Some((id, range)) = payload.as_section() else {
            continue;
        };
        let data = wasm
            .get(range)
            .ok_or_else(|| unreadable("a section ends after the module's end"))?;
        if flag.is_none() && comes_after_memories(id) {
            out.section(&flag_section());
            flag = Some(0);
        }
        let data: Cow<'_, [u8]> = if id == SectionId::Type as u8 {
            let appended = append(data, PROBE_TYPE)?;
            types = appended.1;
            appended.0.into()
        } else if id == SectionId::Import as u8 {
            imports = split_count(data)?.0;
            data.into()
        } else if id == SectionId::Function as u8 {
            let mut entry = Vec::new();
            types.encode(&mut entry);
            let appended = append(data, &entry)?;
            functions = appended.1;
            appended.0.into()
        } else if id == SectionId::Memory as u8 {
            let appended = append(data, NO_PAGES)?;
            flag = Some(appended.1);
            appended.0.into()
        } else if id == SectionId::Code as u8 {
            let probe = probe(imports + functions, flag.unwrap_or_default());
            let appended = append(data, &probe)?;
            if appended.1 != functions {
                return Err(unreadable(
                    "the numbers of its functions and of their bodies differ",
                ));
            }
            appended.0.into()
        } else {
            data.into()
        };
        out.section(&RawSection { id, data: &data });
    }
    let flag = match flag {
        Some(flag) => flag,
        None => {
            out.section(&flag_section());
            0
        }
    };
    let probe = imports + functions;
    Ok((out.finish(), Added { flag, probe }))
}

/// A memory section with only the memory for the flag.
fn flag_section() -> RawSection<'static> {
    RawSection {
        id: SectionId::Memory as u8,
        data: &[1, 1, 0, 0],
    }
}

/// Appends an entry to the contents of a section. Returns the new contents, and the number of entries before.
fn append(data: &[u8], entry: &[u8]) -> Result<(Vec<u8>, u32)> {
    let (count, entries) = split_count(data)?;
    let mut out = Vec::with_capacity(data.len() + entry.len() + 1);
    (count + 1).encode(&mut out);
    out.extend_from_slice(entries);
    out.extend_from_slice(entry);
    Ok((out, count))
}

/// The number of entries, which is at the beginning of a section, and the bytes after it. The number cannot overflow:
/// engine-core has checked that it is far below the maximum.
fn split_count(data: &[u8]) -> Result<(u32, &[u8])> {
    let mut count = 0u32;
    for (index, byte) in data.iter().take(5).enumerate() {
        count |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((count, &data[index + 1..]));
        }
    }
    Err(unreadable("a section does not begin with a count"))
}

/// The probe's entry in the code section. The probe calls itself as often as its parameter says; only its large frame
/// matters. The rest of the body, which makes the frame large, runs only if the flag is set, and then it ends the guest
/// like a poll. (The compiler cannot know that the flag is rarely set, so it reserves the frame in every call.)
fn probe(itself: u32, flag: u32) -> Vec<u8> {
    use wasm_encoder::{BlockType, Instruction, MemArg};
    let load = [
        Instruction::I32Const(0),
        Instruction::I32AtomicLoad(MemArg {
            offset: 0,
            align: 2,
            memory_index: flag,
        }),
    ];
    let mut function = wasm_encoder::Function::new([]);
    let mut put = |instructions: &[Instruction<'_>]| {
        for instruction in instructions {
            function.instruction(instruction);
        }
    };
    put(&[
        Instruction::LocalGet(0),
        Instruction::If(BlockType::Empty),
        Instruction::LocalGet(0),
        Instruction::I32Const(1),
        Instruction::I32Sub,
        Instruction::Call(itself),
        Instruction::End,
    ]);
    put(&load);
    put(&[Instruction::If(BlockType::Empty)]);
    // The compiler keeps the order of atomic loads, and all of them are before the additions. So after the last load
    // all the values are in use at the same time, and need a place in the frame.
    (0..PROBE_VALUES).for_each(|_| put(&load));
    (1..PROBE_VALUES).for_each(|_| put(&[Instruction::I32Add]));
    put(&[
        Instruction::I32Const(0),
        Instruction::I32DivU,
        Instruction::Drop,
        Instruction::End,
        Instruction::End,
    ]);
    let mut entry = Vec::new();
    function.encode(&mut entry);
    entry
}

/// Whether a section with this id comes after the memory section. A custom section may be anywhere.
fn comes_after_memories(id: u8) -> bool {
    let not_after = [
        SectionId::Custom,
        SectionId::Type,
        SectionId::Import,
        SectionId::Function,
        SectionId::Table,
        SectionId::Memory,
    ];
    !not_after.iter().any(|&section| section as u8 == id)
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::invalid_module(format!(
        "the module cannot be read again after validation: {error}"
    ))
}

/// The middleware that adds polls and probes to every function.
#[derive(Debug)]
pub(crate) struct Polls(pub(crate) Added);

impl ModuleMiddleware for Polls {
    fn generate_function_middleware<'a>(
        &self,
        _: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        Box::new(FunctionPolls {
            added: self.0,
            entered: false,
        })
    }
}

#[derive(Debug)]
struct FunctionPolls {
    added: Added,
    entered: bool,
}

impl<'a> FunctionMiddleware<'a> for FunctionPolls {
    fn feed(
        &mut self,
        operator: Operator<'a>,
        state: &mut MiddlewareReaderState<'a>,
    ) -> Result<(), MiddlewareError> {
        if !self.entered {
            self.entered = true;
            state.extend(&poll(self.added.flag));
        }
        if traps_in_rust(&operator) {
            state.push_operator(Operator::I32Const {
                value: PROBE_FRAMES - 1,
            });
            state.push_operator(Operator::Call {
                function_index: self.added.probe,
            });
        }
        let head = matches!(operator, Operator::Loop { .. });
        state.push_operator(operator);
        if head {
            state.extend(&poll(self.added.flag));
        }
        Ok(())
    }
}

/// Whether wasmer runs the operator as a Rust function that may trap on the guest's stack. These are the functions in
/// `libcalls.rs` of wasmer-vm 7.3.0 that call `raise_lib_trap`, for operators of the features that engine-core allows.
fn traps_in_rust(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryInit { .. }
            | Operator::TableCopy { .. }
            | Operator::TableFill { .. }
            | Operator::TableGet { .. }
            | Operator::TableInit { .. }
            | Operator::TableSet { .. }
            | Operator::Unreachable
    )
}

fn poll<'a>(memory: u32) -> [Operator<'a>; 8] {
    let memarg = MemArg {
        align: 2,
        max_align: 2,
        offset: 0,
        memory,
    };
    [
        Operator::I32Const { value: 0 },
        Operator::I32AtomicLoad { memarg },
        Operator::If {
            blockty: BlockType::Empty,
        },
        Operator::I32Const { value: 0 },
        Operator::I32Const { value: 0 },
        Operator::I32DivU,
        Operator::Drop,
        Operator::End,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Validator, WasmFeatures};

    fn rewritten(wat: &str) -> (Vec<u8>, Added) {
        let wasm = wat::parse_str(wat).expect("the test's wat is valid");
        let (out, added) = rewrite(&wasm).expect("a valid module can be rewritten");
        Validator::new_with_features(WasmFeatures::all())
            .validate_all(&out)
            .expect("the rewritten module is valid");
        (out, added)
    }

    fn memories(wasm: &[u8]) -> Vec<(u64, Option<u64>)> {
        let mut found = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            if let Payload::MemorySection(reader) = payload.expect("valid") {
                found.extend(reader.into_iter().map(|memory| {
                    let memory = memory.expect("valid");
                    (memory.initial, memory.maximum)
                }));
            }
        }
        found
    }

    #[test]
    fn the_flag_comes_behind_the_guests_memory() {
        let (wasm, added) = rewritten(
            r#"(module
                (memory (export "memory") 2 5)
                (global $g (mut i32) (i32.const 7))
                (func (export "_start") (drop (i32.load (global.get $g)))))"#,
        );
        assert_eq!(added, Added { flag: 1, probe: 1 });
        assert_eq!(memories(&wasm), [(2, Some(5)), (0, Some(0))]);
    }

    #[test]
    fn a_module_without_memory_gets_the_flag_in_the_right_place() {
        for wat in [
            "(module)",
            "(module (func) (global i32 (i32.const 1)))",
            "(module (table 1 funcref) (func) (elem (i32.const 0) 0))",
            r#"(module (import "gojinn" "host_log" (func (param i32 i32 i32))) (export "f" (func 0)))"#,
            "(module (@custom \"one\" (after last) \"x\") (func))",
            "(module (type (func)))",
        ] {
            let (wasm, added) = rewritten(wat);
            assert_eq!(added.flag, 0, "{wat}");
            assert_eq!(memories(&wasm), [(0, Some(0))], "{wat}");
        }
    }

    #[test]
    fn every_other_section_stays_as_it_was() {
        let wat = r#"(module
            (import "gojinn" "host_log" (func (param i32 i32 i32)))
            (memory 1)
            (func $f (param i64) (result i64) (local.get 0))
            (export "f" (func $f))
            (data "passive"))"#;
        let wasm = wat::parse_str(wat).expect("valid");
        let (out, added) = rewrite(&wasm).expect("valid");
        assert_eq!(added, Added { flag: 1, probe: 2 });
        let sections = |wasm: &[u8]| -> Vec<(u8, Vec<u8>)> {
            Parser::new(0)
                .parse_all(wasm)
                .filter_map(|payload| payload.expect("valid").as_section())
                .map(|(id, range)| (id, wasm[range].to_vec()))
                .collect()
        };
        let changed = [
            SectionId::Type,
            SectionId::Function,
            SectionId::Memory,
            SectionId::Code,
        ];
        for ((id, before), (id_after, after)) in sections(&wasm).into_iter().zip(sections(&out)) {
            assert_eq!(id, id_after);
            if changed.iter().any(|&section| section as u8 == id) {
                assert_eq!(after[0], before[0] + 1, "one entry more in section {id}");
                assert_eq!(after[1..before.len()], before[1..]);
            } else {
                assert_eq!(before, after);
            }
        }
    }

    #[test]
    fn foreign_bytes_are_an_error() {
        assert!(rewrite(b"\0asm\x01\0\0\0\x05\x7f").is_err());
        assert!(rewrite(b"not wasm").is_err());
    }
}
