//! Checks that a module imports only functions that Gojinn provides, and explains what is wrong with other imports.

use wasmparser::{FuncType, Import, TypeRef, ValType};

use super::quoted;
use crate::error::{Error, Result};
use crate::sandbox::hostcalls::{self, ParamType};

/// How many imports an error names.
const NAMED: usize = 5;

const WASI: &str = "wasi_snapshot_preview1";
const GOJINN: &str = "gojinn";

/// Functions that take no pointer, so that they work without a memory.
const WITHOUT_MEMORY: &[&str] = &[
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_renumber",
    "fd_sync",
    "proc_exit",
    "proc_raise",
    "sched_yield",
    "sock_shutdown",
];

/// Checks all imports. Returns the first that needs a memory, as `module.name`.
pub(super) fn check(imports: &[Import<'_>], types: &[FuncType]) -> Result<Option<String>> {
    let mut unknown: Vec<&Import<'_>> = Vec::new();
    let mut mistyped = Vec::new();
    let mut needs_memory = None;
    for import in imports {
        let ty = match import.ty {
            TypeRef::Func(ty) => types.get(ty as usize),
            _ => None,
        };
        let provided = hostcalls::find(import.module, import.name);
        let (Some(ty), Some(provided)) = (ty, provided) else {
            unknown.push(import);
            continue;
        };
        if !fits(ty, provided) {
            mistyped.push(format!(
                "{}.{} is imported as {}, but is {}",
                provided.module,
                provided.name,
                signature(ty),
                provided_signature(provided)
            ));
        }
        if needs_memory.is_none() && !WITHOUT_MEMORY.contains(&provided.name) {
            needs_memory = Some(format!("{}.{}", provided.module, provided.name));
        }
    }
    if !unknown.is_empty() {
        return Err(unprovided(&unknown, types));
    }
    if !mistyped.is_empty() {
        let more = more(&mut mistyped);
        return Err(Error::invalid_module(format!(
            "the module imports functions with other types than they have: {}{more}; correct their declarations to those \
             of WASI preview 1 (or does the program have a function with the name of one of WASI's?)",
            mistyped.join(", ")
        )));
    }
    Ok(needs_memory)
}

/// A function type as it is usually written: `[i32 i32] -> [i32]`.
pub(super) fn signature(ty: &FuncType) -> String {
    let list = |types: &[ValType]| {
        let names: Vec<String> = types.iter().map(ToString::to_string).collect();
        names.join(" ")
    };
    format!("[{}] -> [{}]", list(ty.params()), list(ty.results()))
}

fn fits(ty: &FuncType, provided: &hostcalls::Import) -> bool {
    ty.results().iter().copied().eq(provided.result.map(param))
        && ty
            .params()
            .iter()
            .copied()
            .eq(provided.params.iter().copied().map(param))
}

fn param(ty: ParamType) -> ValType {
    match ty {
        ParamType::I32 => ValType::I32,
        ParamType::I64 => ValType::I64,
    }
}

fn provided_signature(provided: &hostcalls::Import) -> String {
    let params: Vec<String> = provided
        .params
        .iter()
        .map(|&ty| param(ty).to_string())
        .collect();
    let result = provided.result.map(|ty| param(ty).to_string());
    let result = result.unwrap_or_default();
    format!("[{}] -> [{result}]", params.join(" "))
}

/// The error that names the imports that are not provided, with a hint for each module that they are imported from.
fn unprovided(unknown: &[&Import<'_>], types: &[FuncType]) -> Error {
    let mut named: Vec<String> = Vec::new();
    for import in unknown {
        // A Go program imports a function once for each declaration.
        let text = describe(import, types);
        if !named.contains(&text) {
            named.push(text);
        }
    }
    let more = more(&mut named);
    let mut hints: Vec<String> = Vec::new();
    for import in unknown {
        let hint = hint(import);
        if !hints.contains(&hint) && hints.len() < NAMED {
            hints.push(hint);
        }
    }
    Error::invalid_module(format!(
        "the module imports what Gojinn does not provide: {}{more}; {}",
        named.join(", "),
        hints.join("; ")
    ))
}

fn describe(import: &Import<'_>, types: &[FuncType]) -> String {
    let name = format!("{}.{}", quoted(import.module), quoted(import.name));
    match import.ty {
        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
            let ty = types.get(ty as usize).map(signature).unwrap_or_default();
            format!("function {name} {ty}")
        }
        TypeRef::Table(_) => format!("table {name}"),
        TypeRef::Memory(_) => format!("memory {name}"),
        TypeRef::Global(_) => format!("global {name}"),
        TypeRef::Tag(_) => format!("tag {name}"),
    }
}

/// What to do about an import that is not provided: its name tells how the module was built.
fn hint(import: &Import<'_>) -> String {
    match import.ty {
        TypeRef::Memory(_) => {
            return "the memory must be the module's own, exported as \"memory\" (wasm-ld: drop --import-memory)".into();
        }
        TypeRef::Table(_) | TypeRef::Global(_) | TypeRef::Tag(_) => {
            return "tables and globals must be the module's own: link a whole program (not a shared library, -shared or \
                    -sSIDE_MODULE; drop --import-table)"
                .into();
        }
        TypeRef::Func(_) | TypeRef::FuncExact(_) => {}
    }
    match import.module {
        "http_handler" => "http_handler is the ABI of http-wasm: docs/http-wasm.md lists the functions that there are".into(),
        WASI | GOJINN => format!(
            "{} has no such function: docs/contract.md lists those that there are",
            import.module
        ),
        "env" | "a" => "\"env\" means symbols that the linker left unresolved, or a browser as host: link the library \
                        that defines them; with Emscripten build with -sSTANDALONE_WASM"
            .into(),
        "wasi_unstable" => "\"wasi_unstable\" is WASI before preview 1: build with a newer compiler or wasi-sdk".into(),
        "wasi" => "\"wasi\" is WASI threads; a function runs on one thread: build for wasm32-wasip1 without threads".into(),
        "go" | "gojs" => "\"gojs\" is Go for browsers (GOOS=js): build with GOOS=wasip1 GOARCH=wasm".into(),
        "wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__" => {
            "wasm-bindgen is for browsers: build with --target wasm32-wasip1 and without it".into()
        }
        module if module.starts_with("wasi:") => {
            "\"wasi:\" imports belong to components (WASI preview 2), which are not supported: build for preview 1 \
             (Rust: wasm32-wasip1, TinyGo: -target=wasip1)"
                .into()
        }
        module if module.starts_with("wasix_") => {
            "WASIX is not supported: build for wasm32-wasip1".into()
        }
        module if module.starts_with("extism:") => {
            "this is an Extism plug-in; write a program that reads the request from stdin instead".into()
        }
        _ => format!(
            "only functions of {WASI} and {GOJINN} can be imported: build a program for wasm32-wasip1"
        ),
    }
}

/// Keeps the first few of `named`, and returns a text about how many were left out.
fn more(named: &mut Vec<String>) -> String {
    let left = named.len().saturating_sub(NAMED);
    named.truncate(NAMED);
    match left {
        0 => String::new(),
        left => format!(" and {left} more"),
    }
}
