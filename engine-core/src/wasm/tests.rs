//! Tests of every rule of `docs/contract.md` about modules, and of the errors for modules that break it.

use super::*;
use crate::error::ErrorKind;
use crate::module::Split;

fn parse(text: &str) -> Result<Wasm> {
    parse_bytes(wat::parse_str(text).expect(text))
}

fn parse_bytes(bytes: Vec<u8>) -> Result<Wasm> {
    Wasm::parse(bytes, Features::ALL, &ModuleLimits::default())
}

/// Checks that the module `text` is refused, with a message that contains each of `expected`.
#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let error = parse(text).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::InvalidModule);
    assert_says(&error, expected);
}

#[track_caller]
fn assert_says(error: &Error, expected: &[&str]) {
    let message = error.to_string();
    for part in expected {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    assert!(!message.contains('\n'), "{message:?} is not one line");
}

#[test]
fn a_command_is_accepted_with_its_facts() {
    let wasm = parse(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (import "gojinn" "host_log" (func (param i32 i32 i32)))
            (memory (export "memory") 2 5)
            (table 7 funcref)
            (table 3 externref)
            (func (export "_start")))"#,
    )
    .unwrap();
    assert_eq!(wasm.form(), Form::Command);
    assert_eq!(*wasm.entries(), ["_start".to_owned()]);
    assert_eq!(
        wasm.memory(),
        Some(MemoryFacts {
            min_pages: 2,
            max_pages: Some(5)
        })
    );
    assert_eq!(wasm.table_elements(), 10);
    assert_eq!(wasm.counts().imports, 3);
    assert_eq!(wasm.counts().functions, 1);
    assert_eq!(wasm.counts().tables, 2);
    assert_eq!(wasm.features(), Features::ALL);
}

#[test]
fn the_hash_is_what_sha256sum_prints() {
    let bytes: Arc<[u8]> = (*b"\0asm\x01\0\0\0").into();
    let empty = Wasm::of_code(bytes, Features::ALL);
    let hex: String = empty
        .sha256()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476"
    );
}

#[test]
fn a_reactor_is_a_module_with_a_handler_and_without_start() {
    let wasm = parse(r#"(module (func (export "gojinn_handle")))"#).unwrap();
    assert_eq!(wasm.form(), Form::Reactor { initialize: false });
    assert_eq!(*wasm.entries(), ["gojinn_handle".to_owned()]);
    assert_eq!(wasm.memory(), None);

    let wasm =
        parse(r#"(module (func (export "gojinn_handle")) (func (export "_initialize")))"#).unwrap();
    assert_eq!(wasm.form(), Form::Reactor { initialize: true });
    assert_eq!(
        *wasm.entries(),
        ["_initialize".to_owned(), "gojinn_handle".to_owned()]
    );

    let both =
        parse(r#"(module (func (export "gojinn_handle")) (func (export "_start")))"#).unwrap();
    assert_eq!(both.form(), Form::Command);
    assert_eq!(*both.entries(), ["_start".to_owned()]);
}

#[test]
fn a_missing_or_wrong_entry_point_is_explained() {
    refused(
        "(module)",
        &[
            "no entry point",
            "_start",
            "gojinn_handle",
            "nothing at all",
        ],
    );
    refused(
        r#"(module (func (export "main")) (memory (export "memory") 1))"#,
        &[
            "no entry point",
            r#"function "main""#,
            r#"memory "memory""#,
            "wasm32-wasip1",
        ],
    );
    refused(
        r#"(module (func (export "_initialize")))"#,
        &["library (reactor)", "//go:wasmexport gojinn_handle"],
    );
    refused(
        r#"(module (func (export "_start") (param i32) (result i64) (i64.const 0)))"#,
        &["_start must be a function [] -> []", "[i32] -> [i64]"],
    );
    refused(
        r#"(module (memory (export "gojinn_handle") 1))"#,
        &["gojinn_handle must be a function", "is a memory"],
    );
    refused(
        r#"(module (func (export "gojinn_handle")) (func (export "_initialize") (param i32)))"#,
        &["_initialize must be"],
    );
    let many: String = (0..20)
        .map(|i| format!(r#"(export "f{i}" (func 0))"#))
        .collect();
    refused(
        &format!("(module (func) {many})"),
        &[r#""f7""#, "and 12 more"],
    );
}

#[test]
fn files_that_are_no_modules_are_named() {
    for (bytes, expected) in [
        (&b""[..], "is empty"),
        (b"(module)", "wat2wasm"),
        (b"\0asm\x0d\0\x01\0", "GOOS=wasip1"),
        (b"\0asm\x0d\0\x01\0", "wasm32-wasip1"),
    ] {
        assert_says(&parse_bytes(bytes.to_vec()).unwrap_err(), &[expected]);
    }
}

#[test]
fn a_file_that_is_cut_off_says_where() {
    let whole = wat::parse_str(
        r#"(module (func (export "_start")) (memory 1) (data (i32.const 0) "hello"))"#,
    )
    .unwrap();
    let ends: Vec<usize> = sections::sections(&whole)
        .unwrap()
        .iter()
        .map(|section| section.range.end)
        .collect();
    for cut in 0..whole.len() {
        match parse_bytes(whole[..cut].to_vec()) {
            // A file that is cut between two sections looks like a smaller module.
            Ok(_) => assert!(ends.contains(&cut), "{cut}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidModule, "{cut}"),
        }
    }
    let error = parse_bytes(whole[..whole.len() - 3].to_vec()).unwrap_err();
    assert_says(
        &error,
        &["cut off", "in the middle of its data section", "3 bytes"],
    );
}

#[test]
fn an_invalid_module_is_refused_with_the_offset() {
    let mut bytes =
        wat::parse_str(r#"(module (func (export "_start") (drop (i32.const 1))))"#).unwrap();
    let at = bytes.iter().position(|&byte| byte == 0x1a).unwrap();
    bytes[at] = 0xff;
    let error = parse_bytes(bytes).unwrap_err();
    assert_says(
        &error,
        &[
            "not a valid WebAssembly module",
            &format!("at offset {at:#x}"),
        ],
    );
    // Also if a feature seems to be missing: the module is not valid with that feature either.
    refused(
        "(module (memory 1 1 shared) (func (result i32)))",
        &["not a valid WebAssembly module"],
    );
}

#[test]
fn a_feature_that_is_off_is_named() {
    let start = r#"(func (export "_start"))"#;
    for (text, name) in [
        ("(memory i64 1)", "memory64"),
        ("(memory 1 1 shared)", "threads"),
        (
            "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))",
            "threads",
        ),
        ("(memory 1) (memory 1)", "multi-memory"),
        (
            "(tag) (func (throw 0))",
            "exception handling (build without",
        ),
        (
            "(func try nop catch_all nop end)",
            "legacy exception handling",
        ),
        (
            "(type (struct (field i32))) (func (param (ref null 0)))",
            "GC",
        ),
        (
            "(type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))",
            "typed function references",
        ),
        (
            "(func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
            "relaxed SIMD",
        ),
        ("(memory 1 (pagesize 1))", "custom page sizes"),
        (
            "(func (param i64) (i64.add128 (local.get 0) (local.get 0) (local.get 0) (local.get 0)) drop drop)",
            "wide arithmetic",
        ),
    ] {
        refused(
            &format!("(module {text} {start})"),
            &["needs a WebAssembly feature that is off", name, "offset 0x"],
        );
    }
}

#[test]
fn an_optional_feature_is_refused_only_where_it_is_off() {
    let start = r#"(func (export "_start"))"#;
    for (text, name) in [
        ("(func (drop (i32x4.splat (i32.const 1))))", "SIMD"),
        ("(func $f (return_call $f))", "tail calls"),
        (
            "(global i32 (i32.add (i32.const 1) (i32.const 2)))",
            "extended const",
        ),
    ] {
        let bytes = wat::parse_str(format!("(module {text} {start})")).unwrap();
        assert!(Wasm::parse(bytes.clone(), Features::ALL, &ModuleLimits::default()).is_ok());
        let error = Wasm::parse(bytes, Features::NONE, &ModuleLimits::default()).unwrap_err();
        assert_says(&error, &[name, "use a backend that has it"]);
    }
}

#[test]
fn the_core_features_are_always_on() {
    let bytes = wat::parse_str(
        r#"(module
            (memory 1) (table 1 externref)
            (global (export "g") (mut f64) (f64.const 0))
            (func (export "_start"))
            (func (result i32 i32) (i32.const 1) (i32.const 2))
            (func (drop (i32.trunc_sat_f32_s (f32.const 1))))
            (func (drop (i32.extend8_s (i32.const 1))))
            (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))
            (func (param externref) (table.set 0 (i32.const 0) (local.get 0)))
            (data "passive"))"#,
    )
    .unwrap();
    assert!(Wasm::parse(bytes, Features::NONE, &ModuleLimits::default()).is_ok());
}

#[test]
fn imports_that_are_not_provided_are_all_named_with_a_hint() {
    let start = r#"(func (export "_start"))"#;
    for (import, expected) in [
        (
            r#"(import "env" "puts" (func (param i32) (result i32)))"#,
            &[
                r#"function "env"."puts" [i32] -> [i32]"#,
                "unresolved",
                "-sSTANDALONE_WASM",
            ][..],
        ),
        (
            r#"(import "wasi_unstable" "fd_write" (func))"#,
            &["before preview 1"],
        ),
        (
            r#"(import "wasi:cli/run@0.2.0" "run" (func))"#,
            &["components"],
        ),
        (
            r#"(import "gojs" "runtime.wasmExit" (func (param i32)))"#,
            &["GOOS=js", "GOOS=wasip1"],
        ),
        (
            r#"(import "go" "debug" (func (param i32)))"#,
            &["GOOS=wasip1"],
        ),
        (
            r#"(import "wasi" "thread-spawn" (func (param i32) (result i32)))"#,
            &["WASI threads"],
        ),
        (r#"(import "wasix_32v1" "fd_dup" (func))"#, &["WASIX"]),
        (r#"(import "wbg" "__wbg_log" (func))"#, &["wasm-bindgen"]),
        (
            r#"(import "wasi_snapshot_preview1" "fd_fancy" (func))"#,
            &["has no such function"],
        ),
        (
            r#"(import "gojinn" "nothing" (func))"#,
            &["has no such function"],
        ),
        (r#"(import "other" "f" (func))"#, &["can be imported"]),
        (
            r#"(import "env" "memory" (memory 1))"#,
            &[r#"memory "env"."memory""#, "--import-memory"],
        ),
        (
            r#"(import "env" "t" (table 1 funcref))"#,
            &[r#"table "env"."t""#, "shared library"],
        ),
        (
            r#"(import "env" "g" (global i32))"#,
            &[r#"global "env"."g""#],
        ),
    ] {
        refused(&format!("(module {import} {start})"), expected);
    }
    let many: String = (0..7)
        .map(|i| format!(r#"(import "env" "f{i}" (func))"#))
        .collect();
    refused(
        &format!(r#"(module {many} (import "other" "x" (func)) {start})"#),
        &[r#""f4""#, "and 3 more", "\"env\" means", "can be imported"],
    );
}

#[test]
fn a_known_import_of_another_type_is_refused() {
    refused(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32) (result i32)))
            (func (export "_start")))"#,
        &["fd_write is imported as [i32] -> [i32], but is [i32 i32 i32 i32] -> [i32]"],
    );
    refused(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32) (result i32)))
            (func (export "_start")))"#,
        &["proc_exit is imported as [i32] -> [i32], but is [i32] -> []"],
    );
    refused(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (memory 1)) (func (export "_start")))"#,
        &[r#"memory "wasi_snapshot_preview1"."proc_exit""#],
    );
}

#[test]
fn names_from_the_module_cannot_disturb_the_message() {
    let name = "a\\nb".repeat(100);
    refused(
        &format!(r#"(module (import "env" "{name}" (func)) (func (export "_start")))"#),
        &["a\\nba\\nb", "…"],
    );
}

#[test]
fn the_memory_must_be_exported_where_hostcalls_need_it() {
    let import = r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#;
    let start = r#"(func (export "_start"))"#;
    refused(
        &format!("(module {import} {start})"),
        &["fd_write", "has no memory"],
    );
    refused(
        &format!("(module {import} (memory 1) {start})"),
        &["does not export its memory"],
    );
    refused(
        &format!(r#"(module {import} (memory (export "mem") 1) {start})"#),
        &[r#"exports its memory as "mem""#],
    );
    assert!(
        parse(&format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) {start})"#
        ))
        .is_ok()
    );
}

#[test]
fn reserved_exports_are_refused() {
    refused(
        r#"(module (func (export "_start")) (func (export "gojinn:start")))"#,
        &[r#""gojinn:start""#, "reserved"],
    );
}

#[test]
fn what_a_function_may_have_is_bounded_and_the_error_names_it() {
    let module = |text: &str| {
        wat::parse_str(format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (type $wide (func (param i32 i32 i32) (result i32 i32 i32))) (table 1 funcref) (memory 1)
                (func (export "_start")) {text})"#
        ))
        .unwrap()
    };
    let none = FunctionLimits::default();
    let loops = "(loop ".repeat(9) + "(local.set 0 (i32.const 1))" + &")".repeat(9);
    for (function, bounds, expected) in [
        (
            "(func $a (nop))",
            FunctionLimits {
                bytes: 2,
                ..none.clone()
            },
            &[
                "function 2 \"a\" has 3 bytes of code, more than the 2 allowed",
                "smaller ones",
            ][..],
        ),
        (
            "(func (param i32) (local i64 f32 f32))",
            FunctionLimits {
                locals: 3,
                ..none.clone()
            },
            &["function 2 has 4 parameters and locals"],
        ),
        (
            "(func $b (if (i32.const 1) (then (return)) (else (block (br_if 0 (i32.const 1))))))",
            FunctionLimits {
                branches: 4,
                ..none.clone()
            },
            &["function 2 \"b\" has 5 blocks and branches"],
        ),
        (
            "(func (br_table 0 0 0 0 (i32.const 1)))",
            FunctionLimits {
                targets: 2,
                ..none.clone()
            },
            &["function 2 has 3 targets of br_table"],
        ),
        (
            "(func (call $exit (i32.const 1)) (drop (table.get 0 (i32.const 0))) (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))",
            FunctionLimits {
                calls: 2,
                ..none.clone()
            },
            &["function 2 has 3 calls"],
        ),
        (
            "(func (param i32) (call_indirect (type $wide) (i32.const 1) (i32.const 1) (i32.const 1) (i32.const 0)) (drop) (drop) (drop))",
            FunctionLimits {
                operands: 5,
                ..none.clone()
            },
            &["function 2 has 6 arguments and results of calls"],
        ),
        (
            "(func (drop (select (i32.const 1) (i32.const 2) (i32.const 3))))",
            FunctionLimits {
                selects: 0,
                ..none.clone()
            },
            &["function 2 has 1 select instructions"],
        ),
        (
            "(func (local i32 i32) (drop (block (result i32) (i32.const 1))) (block))",
            FunctionLimits {
                cells: 5,
                ..none.clone()
            },
            &[
                "function 2 has 2 locals and 1 values of blocks over 2 blocks and branches: 6 cells, more than the 5",
            ],
        ),
        (
            &format!("(func $deep (local i32) {loops})"),
            FunctionLimits {
                steps: 80,
                ..none.clone()
            },
            &[
                "function 2 \"deep\" would take up to",
                "9 values around loops",
                "more than the 80 allowed",
            ],
        ),
    ] {
        let bytes = module(function);
        let bounds = ModuleLimits {
            function: bounds,
            ..ModuleLimits::default()
        };
        let error = Wasm::parse(bytes.clone(), Features::ALL, &bounds).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModule);
        assert_says(&error, expected);
        Wasm::parse(bytes, Features::ALL, &ModuleLimits::default()).unwrap();
    }
}

#[test]
fn the_page_names_every_bound_and_what_they_amount_to() {
    let page = include_str!("../../../docs/compiling.md");
    let ModuleLimits {
        module_bytes,
        types,
        type_values,
        imports: _,
        functions,
        function_values,
        globals: _,
        exports: _,
        tables: _,
        table_elements: _,
        element_segments: _,
        element_items,
        data_segments: _,
        memory_pages: _,
        function,
        cells,
        steps,
    } = ModuleLimits::default();
    for (row, bound) in [
        ("bytes of code", function.bytes),
        ("parameters and locals", function.locals),
        ("blocks and branches", function.branches),
        ("targets of `br_table`", function.targets),
        (
            "calls, and instructions on tables and whole stretches of memory",
            function.calls,
        ),
        ("arguments and results of calls", function.operands),
        ("`select`", function.selects),
        (
            "cells: (locals + values that blocks hand over) × (blocks and branches)",
            function.cells,
        ),
        ("steps, see below", function.steps),
        ("bytes", module_bytes as u64),
        ("functions", functions.into()),
        ("function types", types.into()),
        ("parameters and results of one type", type_values),
        ("parameters and results of all functions", function_values),
        ("elements in segments", element_items),
        ("cells of all functions", cells),
        ("steps of all functions", steps),
    ] {
        let row = format!("\n| {row} | {bound} |");
        assert!(page.contains(&row), "docs/compiling.md lacks {row}");
    }
    // What the page says that a module within the bounds costs at most: 5 ns a step, 4 bytes a cell.
    assert!(
        function.steps * 5 <= 100 * 1_000_000_000,
        "100 s for one function"
    );
    assert!(steps * 5 <= 600 * 1_000_000_000, "10 minutes for all");
    assert!(cells * 4 <= 1_600_000_000, "1.6 GB");
}

#[test]
fn what_all_functions_may_have_together_is_bounded() {
    let text = r#"(module (type $wide (func (param i32 i32 i32) (result i32 i32 i32))) (table 1 funcref)
        (func (export "_start")) (func $small (block))
        (func $large (param i32) (block (block (block (br 0)))))
        (elem (i32.const 0) func 0) (elem func 0 1) (elem funcref (ref.null func)))"#;
    let bytes = wat::parse_str(text).unwrap();
    for (bounds, expected) in [
        (
            ModuleLimits {
                type_values: 5,
                ..ModuleLimits::default()
            },
            &["6 parameters and results in one function type", "in memory"][..],
        ),
        (
            ModuleLimits {
                function_values: 0,
                ..ModuleLimits::default()
            },
            &["1 parameters and results of all functions"],
        ),
        (
            ModuleLimits {
                element_items: 3,
                ..ModuleLimits::default()
            },
            &["4 elements in segments"],
        ),
        (
            ModuleLimits {
                cells: 3,
                ..ModuleLimits::default()
            },
            &["4 locals and values of blocks times blocks and branches"],
        ),
        (
            ModuleLimits {
                steps: 180,
                ..ModuleLimits::default()
            },
            &[
                "up to 188 steps, more than the 180 allowed for all functions together",
                "function 2 \"large\" takes 178 steps",
            ],
        ),
    ] {
        let error = Wasm::parse(bytes.clone(), Features::ALL, &bounds).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModule);
        assert_says(&error, expected);
    }
    Wasm::parse(bytes, Features::ALL, &ModuleLimits::default()).unwrap();
}

/// One function: `locals` with different values, alive over `branches` ifs that each set one of them.
fn bomb(locals: u32, branches: u32) -> Vec<u8> {
    use wasm_encoder::{
        BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, MemArg,
        MemorySection, MemoryType, Module, TypeSection, ValType,
    };
    let at = |offset| MemArg {
        offset,
        align: 2,
        memory_index: 0,
    };
    let mut module = Module::new();
    let mut types = TypeSection::new();
    types.ty().function([], []);
    module.section(&types);
    module.section(FunctionSection::new().function(0));
    let memory = MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    };
    module.section(MemorySection::new().memory(memory));
    module.section(
        ExportSection::new()
            .export("memory", ExportKind::Memory, 0)
            .export("_start", ExportKind::Func, 0),
    );
    let mut function = Function::new([(locals, ValType::I32)]);
    for local in 0..locals {
        function
            .instructions()
            .i32_const(0)
            .i32_load(at(u64::from(local % 16_000) * 4))
            .local_set(local);
    }
    for branch in 0..branches {
        let mut code = function.instructions();
        code.i32_const(0).i32_load(at(8)).if_(BlockType::Empty);
        code.i32_const(0)
            .i32_load(at(4))
            .local_set(branch % locals)
            .end();
    }
    for local in 0..locals {
        function
            .instructions()
            .i32_const(0)
            .local_get(local)
            .i32_store(at(u64::from(local % 16_000) * 4));
    }
    function.instructions().end();
    module.section(CodeSection::new().function(&function));
    module.finish()
}

#[test]
fn a_small_file_that_would_compile_for_hours_is_refused_at_once() {
    for (locals, branches) in [
        (5_000, 50_000),
        (50, 200_000),
        (20_000, 20_000),
        (49_000, 2),
        (10, 45_000),
    ] {
        let error = Wasm::parse(
            bomb(locals, branches),
            Features::ALL,
            &ModuleLimits::default(),
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModule);
        assert_says(&error, &["function 0 ", "allowed"]);
    }
    Wasm::parse(bomb(100, 1_000), Features::ALL, &ModuleLimits::default()).unwrap();
}

#[test]
fn bounds_are_checked_before_anything_else() {
    let start = r#"(func (export "_start"))"#;
    let bytes = |text: &str| wat::parse_str(format!("(module {text} {start})")).unwrap();
    let small = ModuleLimits {
        module_bytes: 2_000,
        types: 3,
        imports: 1,
        functions: 2,
        globals: 2,
        exports: 2,
        tables: 1,
        table_elements: 9,
        element_segments: 1,
        data_segments: 1,
        memory_pages: 10,
        ..ModuleLimits::default()
    };
    for (text, expected) in [
        (
            r#"(memory 1) (data (i32.const 0) "aa") (data (i32.const 9) "aa")"#,
            &["2 data segments", "the 1 allowed"][..],
        ),
        (
            "(memory 11)",
            &[
                "11 pages (64 KiB each) of initial memory",
                "--initial-memory",
            ],
        ),
        ("(memory i64 11)", &["11 pages"]),
        (
            "(func) (func)",
            &["3 functions", "the 2 allowed", "--gc-sections"],
        ),
        ("(table 1 funcref) (table 1 funcref)", &["2 tables"]),
        ("(table 10 funcref)", &["10 initial table elements"]),
        (
            "(table 5 funcref) (func) (elem (i32.const 0) 0) (elem (i32.const 1) 0)",
            &["2 element segments"],
        ),
        (
            "(global i32 (i32.const 0)) (global i32 (i32.const 0)) (global i32 (i32.const 0))",
            &["3 globals"],
        ),
        (
            r#"(import "env" "a" (func)) (import "env" "b" (func))"#,
            &["2 imports"],
        ),
        (
            r#"(export "a" (func 0)) (export "b" (func 0)) (export "c" (func 0))"#,
            &["4 exports", "--export-all"],
        ),
        (
            "(type (func (param i32))) (type (func (param i64))) (type (func (param f32)))",
            &["4 function types"],
        ),
    ] {
        let error = Wasm::parse(bytes(text), Features::ALL, &small).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModule);
        assert_says(&error, expected);
    }
    let fat = bytes(&format!(
        r#"(memory 1) (data (i32.const 0) "{}")"#,
        "x".repeat(3_000)
    ));
    let error = Wasm::parse(fat, Features::ALL, &small).unwrap_err();
    assert_says(
        &error,
        &[
            "bytes, more than the 2000 allowed",
            "strip debug information",
        ],
    );

    let huge = bytes("(memory 65536)");
    let error = Wasm::parse(huge, Features::ALL, &ModuleLimits::default()).unwrap_err();
    assert_says(&error, &["65536 pages", "32768 allowed"]);
}

#[test]
fn limits_below_what_the_module_starts_with_are_an_error_with_both_numbers() {
    let wasm =
        parse(r#"(module (memory 16) (table 100 funcref) (func (export "_start")))"#).unwrap();
    assert!(wasm.check_limits(&SandboxLimits::default()).is_ok());
    let exact = SandboxLimits {
        memory: 16 * PAGE,
        table_elements: 100,
        ..SandboxLimits::default()
    };
    assert!(wasm.check_limits(&exact).is_ok());
    let error = wasm
        .check_limits(&SandboxLimits {
            memory: 16 * PAGE - 1,
            ..exact.clone()
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_says(
        &error,
        &[
            "1048576 bytes",
            "16 pages",
            "1048575 bytes",
            "15 pages",
            "memory_limit",
        ],
    );
    let error = wasm
        .check_limits(&SandboxLimits {
            table_elements: 99,
            ..exact
        })
        .unwrap_err();
    assert_says(&error, &["100 table elements", "the 99"]);
}

/// A module with any one byte damaged must be refused, or be split: never may it cause a panic.
#[test]
fn no_damaged_module_makes_it_panic() {
    let whole = wat::parse_str(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
            (memory (export "memory") 1) (table 2 funcref)
            (global (mut i32) (i32.const 5))
            (func $init (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 1)))
            (func (export "_start"))
            (start $init) (elem (i32.const 0) $init)
            (data (i32.const 8) "hello") (data "passive"))"#,
    )
    .unwrap();
    let mut accepted = 0;
    for at in 0..whole.len() {
        for value in 0..=255 {
            let mut bytes = whole.clone();
            bytes[at] = value;
            if let Ok(wasm) = parse_bytes(bytes)
                && let Ok(split) = Split::of(&wasm)
            {
                Validator::new_with_features(Features::ALL.to_wasmparser())
                    .validate_all(split.code.bytes())
                    .expect("the code of a split is valid");
                accepted += 1;
            }
        }
    }
    assert!(accepted > 1_000, "only {accepted} were accepted");
}
