//! What is put into modules before wasmer compiles them: a flag that stops guests, and a probe of their stack.
//!
//! **The flag.** Compiled code polls it at function entries and loop heads, and divides by zero when it is set: a trap of
//! the processor's, where `unreachable` would be a call (see below). It is reached through a memory of its own that
//! [`rewrite`] appends to the module (adding it in the middleware panics). The guest cannot name that memory: it was
//! validated before, with one memory at most. It is declared empty, so that to wasmer none of its bytes exist; that the
//! poll may read its first four bytes nevertheless rests on the memory style, which elides every bounds check (see
//! [`crate::memory::STYLE`]) and is checked whenever an instance is made. The load is atomic, so that cranelift cannot
//! move it out of a loop. It costs 9-10 % on small recursion and on tight loops (wasmer's own metering: 17-103 %).
//!
//! **The probe.** wasmer runs `unreachable` and the bulk operations on memory and tables as Rust functions on the guest's
//! own stack. When one of them traps, it takes a backtrace there, under a lock of the whole process (libgcc's unwinder).
//! A guest that has little stack left overflows it in the middle of that, which wasmer takes for the guest's own
//! overflow: it abandons the frames, the lock stays locked, and the next trap or panic of any thread waits for it for
//! ever (seen with wasmer 7.3.0; `tests/ends.rs` has the guest). So every such operation first calls a function with a
//! large frame, which calls itself a few times: too little stack is then found where it harms nobody.

use std::borrow::Cow;

use engine_core::{Error, Result};
use wasm_encoder::{Encode, Module, RawSection, SectionId};
use wasmer::LocalFunctionIndex;
use wasmer::sys::wasmparser::{BlockType, MemArg, Operator};
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmparser::{Parser, Payload};

/// Changes whenever the rewritten module or the polling code changes: part of the fingerprint.
pub(crate) const VERSION: u32 = 2;

/// Values that the probe keeps at the same time, each in eight bytes of its frame: 8 KiB. Cranelift takes 30 ms over them,
/// and half a second over four times as many.
const PROBE_VALUES: usize = 1024;

/// Frames of the probe, one calling the next: 16 KiB in all. One was enough to pass `tests/ends.rs`; eight, of half the
/// size, cost 36 ns an operation.
const PROBE_FRAMES: i32 = 2;

/// The entry of a type section for the probe: `[i32] -> []`.
const PROBE_TYPE: &[u8] = &[0x60, 1, 0x7f, 0];

/// The entry of a memory section for a memory of no pages at least and none at most.
const NO_PAGES: &[u8] = &[1, 0, 0];

/// Where things are in the rewritten module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Added {
    /// The flag's memory.
    pub(crate) flag: u32,
    /// The function that probes the stack. Means nothing in a module without functions.
    pub(crate) probe: u32,
}

/// Appends the flag's memory and the probe to a valid module whose imports are all functions.
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
            .ok_or_else(|| unreadable("a section reaches beyond its end"))?;
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
                return Err(unreadable("it has not as many functions as bodies"));
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

/// A memory section with the flag's memory alone.
fn flag_section() -> RawSection<'static> {
    RawSection {
        id: SectionId::Memory as u8,
        data: &[1, 1, 0, 0],
    }
}

/// A section's contents with one entry more, and how many there were.
fn append(data: &[u8], entry: &[u8]) -> Result<(Vec<u8>, u32)> {
    let (count, entries) = split_count(data)?;
    let mut out = Vec::with_capacity(data.len() + entry.len() + 1);
    (count + 1).encode(&mut out);
    out.extend_from_slice(entries);
    out.extend_from_slice(entry);
    Ok((out, count))
}

/// The number of entries that a section begins with, and what follows. Bounds on counts were checked: it is far from
/// overflowing.
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

/// The probe's entry in the code section: it calls itself as often as its parameter says. Its frame is what matters; the
/// rest of the body runs only when the flag is set, which the compiler cannot know, and then ends the guest as a poll does.
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
    // Atomic loads stay in order, before all the additions: the values are all alive at the last of them.
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

/// Whether a section with this id stands behind the memory section. Custom sections stand anywhere.
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

/// Puts polls and probes into every function.
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

/// Whether wasmer runs it as a Rust function that may trap on the guest's stack: those of wasmer-vm 7.3.0's `libcalls.rs`
/// that call `raise_lib_trap`, and that engine-core's features can reach.
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
