//! How a running guest is stopped: compiled code polls a flag, and executes `unreachable` when it is set.
//!
//! The flag is reached through a memory of its own that [`add_memory`] appends to the module before wasmer sees it (adding
//! it in the middleware panics). The guest cannot name that memory: it was validated before, with one memory at most.
//! It is declared empty, so that to wasmer none of its bytes exist; that the poll may read its first four bytes
//! nevertheless rests on the memory style, which elides every bounds check (see [`crate::memory::STYLE`]) and is checked
//! whenever an instance is made. The load is atomic, so that cranelift cannot move it out of a loop.
//!
//! Measured (docs of the project): 2-16 % on cranelift code, against 17-103 % for wasmer's own metering.

use engine_core::{Error, Result};
use wasm_encoder::{MemorySection, MemoryType, Module, RawSection, SectionId};
use wasmer::LocalFunctionIndex;
use wasmer::sys::wasmparser::{BlockType, MemArg, Operator};
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmparser::{Parser, Payload};

/// Changes whenever the rewritten module or the polling code changes: part of the fingerprint.
pub(crate) const VERSION: u32 = 1;

/// The flag's memory: empty, and it stays so.
const FLAG: MemoryType = MemoryType {
    minimum: 0,
    maximum: Some(0),
    memory64: false,
    shared: false,
    page_size_log2: None,
};

/// Appends the flag's memory to a valid module; also says which memory it is.
pub(crate) fn add_memory(wasm: &[u8]) -> Result<(Vec<u8>, u32)> {
    let mut out = Module::new();
    let mut flag = None;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(unreadable)?;
        if let Payload::MemorySection(reader) = payload {
            let mut section = MemorySection::new();
            let mut count = 0;
            for memory in reader {
                section.memory(convert(memory.map_err(unreadable)?));
                count += 1;
            }
            section.memory(FLAG);
            out.section(&section);
            flag = Some(count);
        } else if let Some((id, range)) = payload.as_section() {
            if flag.is_none() && comes_after_memories(id) {
                out.section(MemorySection::new().memory(FLAG));
                flag = Some(0);
            }
            let data = wasm
                .get(range)
                .ok_or_else(|| Error::invalid_module("a section reaches beyond the module"))?;
            out.section(&RawSection { id, data });
        }
    }
    let flag = flag.unwrap_or_else(|| {
        out.section(MemorySection::new().memory(FLAG));
        0
    });
    Ok((out.finish(), flag))
}

fn convert(memory: wasmparser::MemoryType) -> MemoryType {
    MemoryType {
        minimum: memory.initial,
        maximum: memory.maximum,
        memory64: memory.memory64,
        shared: memory.shared,
        page_size_log2: memory.page_size_log2,
    }
}

/// Whether a section with this id stands behind the memory section. Custom sections stand anywhere.
fn comes_after_memories(id: u8) -> bool {
    let before = [
        SectionId::Custom,
        SectionId::Type,
        SectionId::Import,
        SectionId::Function,
        SectionId::Table,
    ];
    !before.iter().any(|&section| section as u8 == id)
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::invalid_module(format!(
        "the module cannot be read again after validation: {error}"
    ))
}

/// Puts the poll into every function.
#[derive(Debug)]
pub(crate) struct Polls {
    /// The flag's memory.
    pub(crate) memory: u32,
}

impl ModuleMiddleware for Polls {
    fn generate_function_middleware<'a>(
        &self,
        _: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        Box::new(FunctionPolls {
            memory: self.memory,
            entered: false,
        })
    }
}

#[derive(Debug)]
struct FunctionPolls {
    memory: u32,
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
            state.extend(&poll(self.memory));
        }
        let head = matches!(operator, Operator::Loop { .. });
        state.push_operator(operator);
        if head {
            state.extend(&poll(self.memory));
        }
        Ok(())
    }
}

fn poll<'a>(memory: u32) -> [Operator<'a>; 5] {
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
        Operator::Unreachable,
        Operator::End,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Validator, WasmFeatures};

    fn rewritten(wat: &str) -> (Vec<u8>, u32) {
        let wasm = wat::parse_str(wat).expect("the test's wat is valid");
        let (out, flag) = add_memory(&wasm).expect("a valid module can be rewritten");
        Validator::new_with_features(WasmFeatures::all())
            .validate_all(&out)
            .expect("the rewritten module is valid");
        (out, flag)
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
        let (wasm, flag) = rewritten(
            r#"(module
                (memory (export "memory") 2 5)
                (global $g (mut i32) (i32.const 7))
                (func (export "_start") (drop (i32.load (global.get $g)))))"#,
        );
        assert_eq!(flag, 1);
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
            let (wasm, flag) = rewritten(wat);
            assert_eq!(flag, 0, "{wat}");
            assert_eq!(memories(&wasm), [(0, Some(0))], "{wat}");
        }
    }

    #[test]
    fn every_other_section_stays_as_it_was() {
        let wat = r#"(module
            (memory 1)
            (func $f (param i64) (result i64) (local.get 0))
            (export "f" (func $f))
            (data "passive"))"#;
        let wasm = wat::parse_str(wat).expect("valid");
        let (out, _) = add_memory(&wasm).expect("valid");
        let sections = |wasm: &[u8]| -> Vec<(u8, Vec<u8>)> {
            Parser::new(0)
                .parse_all(wasm)
                .filter_map(|payload| payload.expect("valid").as_section())
                .filter(|(id, _)| *id != SectionId::Memory as u8)
                .map(|(id, range)| (id, wasm[range].to_vec()))
                .collect()
        };
        assert_eq!(sections(&wasm), sections(&out));
        assert!(sections(&out).len() >= 5);
    }

    #[test]
    fn foreign_bytes_are_an_error() {
        assert!(add_memory(b"\0asm\x01\0\0\0\x05\x7f").is_err());
        assert!(add_memory(b"not wasm").is_err());
    }
}
