//! Adds wrappers of the type `[] -> []` to a guest of http-wasm, so that its entry points are called as those of all others.
//!
//! ```text
//!   (global $context (export "gojinn:context") (mut i64) (i64.const 0))
//!   (func (export "gojinn:handle_request")  (global.set $context (call $handle_request)))
//!   (func (export "gojinn:handle_response") (call $handle_response (upper half of $context) (lower half of $context)))
//! ```
//!
//! Types, functions and globals are added behind all others, so no index changes.

use wasm_encoder::{ConstExpr, Encode, ExportKind, Function, GlobalType, Instruction, ValType};

use crate::wasm::facts::HttpHandler;
use crate::wasm::sections;
use crate::wasm::{CONTEXT_EXPORT, Counts, HANDLE_REQUEST_EXPORT, HANDLE_RESPONSE_EXPORT};

/// The code with the wrappers. It is valid, so reading its sections does not fail.
pub(super) fn wrap(code: &[u8], http: &HttpHandler) -> wasmparser::Result<Vec<u8>> {
    let Ok(sections) = sections::sections(code) else {
        return Ok(code.to_vec());
    };
    let mut global = Vec::new();
    let ty = GlobalType {
        val_type: ValType::I64,
        mutable: true,
        shared: false,
    };
    ty.encode(&mut global);
    ConstExpr::i64_const(0).encode(&mut global);

    let mut wrapped = Vec::with_capacity(code.len() + 256);
    wrapped.extend_from_slice(&code[..sections::HEADER]);
    let mut has_global = false;
    for section in &sections {
        let added: Option<(u32, Vec<u8>)> = match section.id {
            // A function without parameters and results.
            sections::TYPE => Some((1, vec![0x60, 0, 0])),
            sections::FUNCTION => {
                let mut types = Vec::new();
                http.types.encode(&mut types);
                http.types.encode(&mut types);
                Some((2, types))
            }
            sections::GLOBAL => {
                has_global = true;
                Some((1, global.clone()))
            }
            sections::EXPORT => {
                if !has_global {
                    let mut contents = vec![1];
                    contents.extend_from_slice(&global);
                    append(&mut wrapped, sections::GLOBAL, &contents);
                }
                Some((3, exports(http)))
            }
            sections::CODE => Some((2, bodies(http))),
            _ => None,
        };
        let contents = &code[section.range.clone()];
        match added {
            None => append(&mut wrapped, section.id, contents),
            Some((more, added)) => {
                let mut reader = section.reader(code);
                let count = reader.read_var_u32()?;
                let mut extended = Vec::with_capacity(contents.len() + added.len() + 5);
                (count + more).encode(&mut extended);
                extended.extend_from_slice(reader.read_bytes(reader.bytes_remaining())?);
                extended.extend_from_slice(&added);
                append(&mut wrapped, section.id, &extended);
            }
        }
    }
    Ok(wrapped)
}

/// Counts what [`wrap`] adds.
pub(super) fn count(counts: &mut Counts) {
    counts.types += 1;
    counts.functions += 2;
    counts.globals += 1;
    counts.exports += 3;
}

fn exports(http: &HttpHandler) -> Vec<u8> {
    let mut exports = Vec::new();
    for (name, kind, index) in [
        (CONTEXT_EXPORT, ExportKind::Global, http.globals),
        (HANDLE_REQUEST_EXPORT, ExportKind::Func, http.functions),
        (HANDLE_RESPONSE_EXPORT, ExportKind::Func, http.functions + 1),
    ] {
        name.encode(&mut exports);
        kind.encode(&mut exports);
        index.encode(&mut exports);
    }
    exports
}

fn bodies(http: &HttpHandler) -> Vec<u8> {
    let context = http.globals;
    let mut request = Function::new([]);
    request
        .instruction(&Instruction::Call(http.request))
        .instruction(&Instruction::GlobalSet(context))
        .instruction(&Instruction::End);
    let mut response = Function::new([]);
    response
        .instruction(&Instruction::GlobalGet(context))
        .instruction(&Instruction::I64Const(32))
        .instruction(&Instruction::I64ShrU)
        .instruction(&Instruction::I32WrapI64)
        .instruction(&Instruction::GlobalGet(context))
        .instruction(&Instruction::I32WrapI64)
        .instruction(&Instruction::Call(http.response))
        .instruction(&Instruction::End);
    let mut bodies = Vec::new();
    request.encode(&mut bodies);
    response.encode(&mut bodies);
    bodies
}

fn append(code: &mut Vec<u8>, id: u8, contents: &[u8]) {
    code.push(id);
    contents.encode(code);
}
