//! Reads the facts about a valid module, and checks its imports and exports.

use std::sync::Arc;

use wasmparser::{
    Export, ExportSectionReader, ExternalKind, FuncType, FunctionSectionReader,
    GlobalSectionReader, ImportSectionReader, MemorySectionReader, TypeSectionReader,
};

use super::bounds::Counts;
use super::sections::{self, Section};
use super::{
    Form, HANDLE_REQUEST_EXPORT, HANDLE_RESPONSE_EXPORT, MemoryFacts, RESERVED_PREFIX, ValType,
    imports, quoted,
};
use crate::contract::frames::MARKER;
use crate::error::{Error, Result};

const COMMAND: &str = "_start";
const INITIALIZE: &str = "_initialize";
const HANDLE: &str = "gojinn_handle";
const HANDLE_REQUEST: &str = "handle_request";
const HANDLE_RESPONSE: &str = "handle_response";
const MEMORY: &str = "memory";

/// How many exports an error names.
const NAMED: usize = 8;

/// The facts about a valid module.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) form: Form,
    pub(crate) entries: Arc<[String]>,
    pub(crate) memory: Option<MemoryFacts>,
    /// Whether the memory is exported as `memory`, the name by which backends and hostcalls find it.
    pub(crate) memory_exported: bool,
    pub(crate) counts: Counts,
    /// The function of the start section.
    pub(crate) start: Option<u32>,
    pub(crate) globals: Vec<MutableGlobal>,
    /// Whether it is the code of a split.
    pub(crate) is_split: bool,
    pub(crate) waits: Waits,
    /// Whether its guests take frames.
    pub(crate) takes_frames: bool,
    /// For [`Form::HttpHandler`].
    pub(crate) http: Option<HttpHandler>,
}

/// What the split must know of a guest of http-wasm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpHandler {
    /// The function that is exported as `handle_request`.
    pub(crate) request: u32,
    /// The function that is exported as `handle_response`.
    pub(crate) response: u32,
    /// The numbers of all types, functions and globals.
    pub(crate) types: u32,
    pub(crate) functions: u32,
    pub(crate) globals: u32,
    /// Whether it can read bodies.
    pub(crate) reads_bodies: bool,
}

/// What a guest can wait for, by what its module imports.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Waits {
    /// It can call the host by `gojinn.call`.
    pub calls: bool,
    /// It can sleep, or it may answer with a stream: the word is in its data.
    pub may_pause: bool,
}

/// A mutable global.
#[derive(Clone, Debug)]
pub(crate) struct MutableGlobal {
    pub(crate) index: u32,
    /// `None`: it is a reference.
    pub(crate) ty: Option<ValType>,
    /// The first name under which it is exported.
    pub(crate) export: Option<String>,
}

impl Facts {
    /// The facts of code that is only compiled.
    pub(crate) fn unknown() -> Self {
        Self {
            form: Form::Command,
            entries: Arc::new([]),
            memory: None,
            memory_exported: false,
            counts: Counts::default(),
            start: None,
            globals: Vec::new(),
            is_split: true,
            waits: Waits::default(),
            takes_frames: false,
            http: None,
        }
    }

    /// Reads a valid module, so reading its sections does not fail.
    pub(crate) fn read(bytes: &[u8], sections: &[Section], counts: Counts) -> Result<Self> {
        let raw = Raw::read(bytes, sections).map_err(|error| {
            Error::host("a bug in Gojinn: a valid module cannot be read; please report it")
                .because(error)
        })?;
        let needs_memory = imports::check(&raw.imports, &raw.types)?;
        raw.check_memory(needs_memory.as_deref())?;
        raw.check_reserved()?;
        let http = raw.http_handler();
        let (form, entries) = raw.entries(http.is_some())?;
        let globals = raw
            .globals
            .iter()
            .map(|&(index, ty)| MutableGlobal {
                index,
                ty,
                export: raw.global_export(index),
            })
            .collect();
        Ok(Self {
            form,
            entries,
            memory: raw.memory,
            memory_exported: raw.memory_exported(),
            counts,
            start: raw.start,
            globals,
            is_split: false,
            waits: Waits {
                calls: raw.imports_function("gojinn", "call"),
                may_pause: raw.imports_function("wasi_snapshot_preview1", "poll_oneoff")
                    || mentions_stream(bytes, sections),
            },
            takes_frames: data(bytes, sections)
                .windows(MARKER.len())
                .any(|part| part == MARKER),
            http,
        })
    }
}

/// Whether the word `stream` is in the data segments, in UTF-8 or UTF-16.
fn mentions_stream(bytes: &[u8], sections: &[Section]) -> bool {
    const WORD: &[u8; 6] = b"stream";
    const WIDE: &[u8; 12] = b"s\0t\0r\0e\0a\0m\0";
    let data = data(bytes, sections);
    data.windows(WORD.len()).any(|part| part == WORD)
        || data.windows(WIDE.len()).any(|part| part == WIDE)
}

/// The section with the data segments, or nothing.
fn data<'a>(bytes: &'a [u8], sections: &[Section]) -> &'a [u8] {
    let data = sections.iter().find(|section| section.id == sections::DATA);
    data.map_or(&[], |data| &bytes[data.range.clone()])
}

/// The contents of the sections that matter here.
#[derive(Default)]
struct Raw<'a> {
    types: Vec<FuncType>,
    imports: Vec<wasmparser::Import<'a>>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
    memory: Option<MemoryFacts>,
    globals: Vec<(u32, Option<ValType>)>,
    /// The number of all globals.
    all_globals: u32,
    exports: Vec<Export<'a>>,
    start: Option<u32>,
}

impl<'a> Raw<'a> {
    fn imports_function(&self, module: &str, name: &str) -> bool {
        let is_it =
            |import: &wasmparser::Import<'_>| import.module == module && import.name == name;
        self.imports.iter().any(is_it)
    }

    fn read(bytes: &'a [u8], sections: &[Section]) -> wasmparser::Result<Self> {
        let mut raw = Self::default();
        for section in sections {
            let mut reader = section.reader(bytes);
            match section.id {
                sections::TYPE => {
                    for ty in TypeSectionReader::new(reader)?.into_iter_err_on_gc_types() {
                        raw.types.push(ty?);
                    }
                }
                sections::IMPORT => {
                    for import in ImportSectionReader::new(reader)?.into_imports() {
                        let import = import?;
                        if let wasmparser::TypeRef::Func(ty) = import.ty {
                            raw.functions.push(ty);
                        }
                        raw.imports.push(import);
                    }
                }
                sections::FUNCTION => {
                    for ty in FunctionSectionReader::new(reader)? {
                        raw.functions.push(ty?);
                    }
                }
                sections::MEMORY => {
                    for memory in MemorySectionReader::new(reader)? {
                        let memory = memory?;
                        raw.memory = Some(MemoryFacts {
                            min_pages: memory.initial,
                            max_pages: memory.maximum,
                        });
                    }
                }
                // `imports::check` refuses imported globals, so indices begin at 0 here.
                sections::GLOBAL => {
                    for (index, global) in (0..).zip(GlobalSectionReader::new(reader)?) {
                        raw.all_globals = index + 1;
                        let ty = global?.ty;
                        if ty.mutable {
                            raw.globals
                                .push((index, ValType::from_wasmparser(ty.content_type)));
                        }
                    }
                }
                sections::EXPORT => {
                    for export in ExportSectionReader::new(reader)? {
                        raw.exports.push(export?);
                    }
                }
                sections::START => raw.start = Some(reader.read_var_u32()?),
                _ => {}
            }
        }
        Ok(raw)
    }

    fn export(&self, name: &str) -> Option<Export<'a>> {
        self.exports
            .iter()
            .find(|export| export.name == name)
            .copied()
    }

    fn memory_exported(&self) -> bool {
        self.export(MEMORY)
            .is_some_and(|export| export.kind == ExternalKind::Memory)
    }

    fn global_export(&self, index: u32) -> Option<String> {
        self.exports
            .iter()
            .find(|export| export.kind == ExternalKind::Global && export.index == index)
            .map(|export| export.name.to_owned())
    }

    /// Checks that the memory is exported, if hostcalls need it.
    fn check_memory(&self, needed_by: Option<&str>) -> Result<()> {
        let Some(import) = needed_by.filter(|_| !self.memory_exported()) else {
            return Ok(());
        };
        let found = if self.memory.is_none() {
            "has no memory".to_owned()
        } else if let Some(export) = self
            .exports
            .iter()
            .find(|export| export.kind == ExternalKind::Memory)
        {
            format!("exports its memory as {}", quoted(export.name))
        } else {
            "does not export its memory".to_owned()
        };
        Err(Error::invalid_module(format!(
            "the module imports {import}, which works on the memory exported as \"memory\", but it {found}: export the \
             memory under that name (wasm-ld does unless told not to)"
        )))
    }

    fn check_reserved(&self) -> Result<()> {
        match self
            .exports
            .iter()
            .find(|export| export.name.starts_with(RESERVED_PREFIX))
        {
            None => Ok(()),
            Some(export) => Err(Error::invalid_module(format!(
                "the module exports {}, but names that begin with {RESERVED_PREFIX:?} are reserved: rename the export",
                quoted(export.name)
            ))),
        }
    }

    /// The form, and the exports to call. `_start` has precedence over `gojinn_handle`: a module with a `main` is a
    /// program.
    fn entries(&self, http_handler: bool) -> Result<(Form, Arc<[String]>)> {
        if http_handler {
            let mut entries = Vec::new();
            for name in [COMMAND, INITIALIZE] {
                if self.entry(name)? {
                    entries.push(name.to_owned());
                    break;
                }
            }
            entries.push(HANDLE_REQUEST_EXPORT.to_owned());
            entries.push(HANDLE_RESPONSE_EXPORT.to_owned());
            return Ok((Form::HttpHandler, entries.into()));
        }
        if self.entry(COMMAND)? {
            return Ok((Form::Command, [COMMAND.to_owned()].into()));
        }
        if self.entry(HANDLE)? {
            let initialize = self.entry(INITIALIZE)?;
            let mut entries = Vec::new();
            if initialize {
                entries.push(INITIALIZE.to_owned());
            }
            entries.push(HANDLE.to_owned());
            return Ok((Form::Reactor { initialize }, entries.into()));
        }
        let advice = if self.export(INITIALIZE).is_some() {
            "it is a library (reactor) without a handler: export gojinn_handle (Go: //go:wasmexport gojinn_handle), or \
             build a program with a main function"
        } else {
            "build a program with a main function for wasm32-wasip1 (Go: GOOS=wasip1 GOARCH=wasm; Rust: a [[bin]], not \
             a cdylib), or export gojinn_handle"
        };
        Err(Error::invalid_module(format!(
            "the module has no entry point: it exports neither _start nor gojinn_handle, but {}; {advice}",
            self.exports_for_message()
        )))
    }

    /// The two entry points of http-wasm, if the module has both.
    fn http_handler(&self) -> Option<HttpHandler> {
        let function = |name, params: &[wasmparser::ValType], results: &[wasmparser::ValType]| {
            let export = self.export(name)?;
            let ty = *self.functions.get(export.index as usize)?;
            let ty = self.types.get(ty as usize)?;
            let fits = ty.params() == params && ty.results() == results;
            (export.kind == ExternalKind::Func && fits).then_some(export.index)
        };
        let i32 = wasmparser::ValType::I32;
        Some(HttpHandler {
            request: function(HANDLE_REQUEST, &[], &[wasmparser::ValType::I64])?,
            response: function(HANDLE_RESPONSE, &[i32, i32], &[])?,
            types: self.types.len() as u32,
            functions: self.functions.len() as u32,
            globals: self.all_globals,
            reads_bodies: self.imports_function("http_handler", "read_body"),
        })
    }

    /// Whether there is an entry point with that name. An error if it is not a function `[] -> []`.
    fn entry(&self, name: &str) -> Result<bool> {
        let Some(export) = self.export(name) else {
            return Ok(false);
        };
        let found = if export.kind == ExternalKind::Func {
            let ty = self
                .functions
                .get(export.index as usize)
                .and_then(|&ty| self.types.get(ty as usize));
            match ty {
                Some(ty) if ty.params().is_empty() && ty.results().is_empty() => return Ok(true),
                Some(ty) => format!("a function {}", imports::signature(ty)),
                None => "a function of unknown type".to_owned(),
            }
        } else {
            format!("a {}", kind(export.kind))
        };
        Err(Error::invalid_module(format!(
            "the entry point {name} must be a function [] -> [], but is {found}: it takes the request from stdin and \
             writes the response to stdout"
        )))
    }

    fn exports_for_message(&self) -> String {
        if self.exports.is_empty() {
            return "nothing at all".to_owned();
        }
        let names: Vec<String> = self
            .exports
            .iter()
            .take(NAMED)
            .map(|export| format!("{} {}", kind(export.kind), quoted(export.name)))
            .collect();
        let more = match self.exports.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        names.join(", ") + &more
    }
}

fn kind(kind: ExternalKind) -> &'static str {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => "function",
        ExternalKind::Table => "table",
        ExternalKind::Memory => "memory",
        ExternalKind::Global => "global",
        ExternalKind::Tag => "tag",
    }
}
