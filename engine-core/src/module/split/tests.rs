//! Tests of what a split keeps, moves and refuses.

use sha2::{Digest, Sha256};
use wasmparser::{ExportSectionReader, ExternalKind, Validator};

use super::*;
use crate::error::ErrorKind;
use crate::wasm::{Features, ModuleLimits};

const START: &str = r#"(func (export "_start"))"#;

fn parse(text: &str) -> Wasm {
    let bytes = wat::parse_str(text).expect(text);
    Wasm::parse(bytes, Features::ALL, &ModuleLimits::default()).expect(text)
}

/// Splits a module, and checks what must hold for every split.
#[track_caller]
fn split(text: &str) -> Split {
    let wasm = parse(text);
    let split = Split::of(&wasm).expect(text);
    let code = split.code.bytes();
    Validator::new_with_features(Features::ALL.to_wasmparser())
        .validate_all(code)
        .expect(text);
    let sections = ids(code);
    assert!(!sections.contains(&sections::START));
    assert_eq!(split.code.sha256()[..], Sha256::digest(code)[..]);
    assert_eq!(split.code.memory(), wasm.memory());
    assert_eq!(split.code.form(), wasm.form());
    let image_and_reason = (split.image.is_some(), split.why_not.is_some());
    assert_ne!(image_and_reason, (true, true));
    if let (Some(image), Some(memory)) = (&split.image, wasm.memory()) {
        assert_eq!(image.len(), memory.min_pages * PAGE);
    }
    split
}

fn ids(bytes: &[u8]) -> Vec<u8> {
    let sections = sections::sections(bytes).unwrap();
    sections.iter().map(|section| section.id).collect()
}

/// The number of entries of a section.
fn entries_of(bytes: &[u8], id: u8) -> u32 {
    let sections = sections::sections(bytes).unwrap();
    let section = sections.iter().find(|section| section.id == id).unwrap();
    section.reader(bytes).read_var_u32().unwrap()
}

fn contents(split: &Split) -> Vec<u8> {
    let image = split.image.as_ref().expect("an image");
    let mut memory = vec![0; image.len() as usize];
    image.write_to(&mut memory);
    memory
}

fn exports(code: &Wasm) -> Vec<(String, ExternalKind, u32)> {
    let sections = sections::sections(code.bytes()).unwrap();
    let section = sections
        .iter()
        .find(|section| section.id == sections::EXPORT)
        .unwrap();
    ExportSectionReader::new(section.reader(code.bytes()))
        .unwrap()
        .into_iter()
        .map(|export| export.unwrap())
        .map(|export| (export.name.to_owned(), export.kind, export.index))
        .collect()
}

#[test]
fn data_moves_into_the_image_and_the_sections_go() {
    let split = split(&format!(
        r#"(module (memory (export "memory") 2) {START}
                (data (i32.const 0x10008) "wor") (data (i32.const 16) "hello") (data (i32.const 0x1000b) "ld")
                (data (i32.const 0x20000) ""))"#
    ));
    let memory = contents(&split);
    assert_eq!(&memory[16..21], b"hello");
    assert_eq!(&memory[0x10008..0x1000d], b"world");
    assert_eq!(memory.iter().filter(|&&byte| byte != 0).count(), 10);
    assert_eq!(split.why_not, None);
    let ids = ids(split.code.bytes());
    assert!(!ids.contains(&sections::DATA) && !ids.contains(&sections::DATA_COUNT));
    assert_eq!(split.code.counts().data_segments, 0);
}

#[test]
fn memory_without_data_has_an_image_and_no_memory_has_none() {
    let split_ = split(&format!(r#"(module (memory (export "memory") 1) {START})"#));
    assert!(contents(&split_).iter().all(|&byte| byte == 0));
    let split_ = split(&format!("(module {START})"));
    assert!(split_.image.is_none() && split_.why_not.is_none());
    let split_ = split(&format!(r#"(module (memory (export "memory") 0) {START})"#));
    assert_eq!(split_.image.unwrap().len(), 0);
}

#[test]
fn extended_constants_are_computed_as_the_engine_would() {
    let split = split(&format!(
        r#"(module (memory (export "memory") 1) {START}
                (data (offset (i32.add (i32.const -8) (i32.mul (i32.const 3) (i32.sub (i32.const 10) (i32.const 2))))) "x"))"#
    ));
    assert_eq!(contents(&split)[16], b'x');
}

#[test]
fn an_offset_that_is_not_constant_is_recognised() {
    // Validation refuses such a module (it would import a global), but the split does not rely on that.
    for (code, expected) in [
        (&[0x41, 0x7f, 0x0b][..], Some(u32::MAX)),
        (&[0x23, 0x00, 0x0b], None),
        (&[0x41, 0x01, 0x23, 0x00, 0x6a, 0x0b], None),
        (&[0x6a, 0x0b], None),
    ] {
        let expression = ConstExpr::new(BinaryReader::new(code, 0));
        assert_eq!(constant(&expression).unwrap(), expected);
    }
}

#[test]
fn overlapping_segments_stay_in_the_code() {
    let split = split(&format!(
        r#"(module (memory (export "memory") 1) {START}
                (data (i32.const 8) "late") (data (i32.const 100) "a") (data (i32.const 6) "abc"))"#
    ));
    assert!(split.image.is_none());
    assert_eq!(
        split.why_not.as_deref(),
        Some("its data segments 2 and 0 overlap at 0x8")
    );
    assert!(ids(split.code.bytes()).contains(&sections::DATA));
    assert_eq!(split.code.counts().data_segments, 3);
}

#[test]
fn a_memory_that_is_not_exported_keeps_its_segments() {
    let split = split(&format!(
        r#"(module (memory 1) {START} (data (i32.const 8) "x"))"#
    ));
    assert!(split.image.is_none());
    assert!(split.why_not.unwrap().contains("not exported"));
    assert!(ids(split.code.bytes()).contains(&sections::DATA));
}

#[test]
fn a_segment_out_of_bounds_is_refused_by_its_number() {
    for (text, expected) in [
        (
            r#"(data (i32.const 0) "ok") (data (i32.const 65534) "abc")"#,
            "data segment 1 (3 bytes at 0xfffe)",
        ),
        (
            r#"(data (i32.const -1) "ab")"#,
            "data segment 0 (2 bytes at 0xffffffff)",
        ),
        (r#"(data (i32.const 65537) "")"#, "data segment 0 (0 bytes"),
        (
            "(table 2 funcref) (func $f) (elem (i32.const 1) $f $f)",
            "element segment 0 (2 elements at 1) does not fit into table 0 of 2",
        ),
        (
            "(table 1 funcref) (table $t 3 externref) (elem (table $t) (i32.const 3) externref (ref.null extern))",
            "element segment 0 (1 elements at 3) does not fit into table 1 of 3",
        ),
    ] {
        let wasm = parse(&format!(
            r#"(module (memory (export "memory") 1) {START} {text})"#
        ));
        let error = Split::of(&wasm).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidModule);
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("can never be instantiated"), "{message}");
    }
    let full = parse(&format!(
        r#"(module (memory (export "memory") 1) {START} (data (i32.const 65533) "abc")
                (table 2 funcref) (elem (i32.const 2)) (elem func 0) (elem declare func 0))"#
    ));
    assert_eq!(contents(&Split::of(&full).unwrap())[65535], b'c');
}

#[test]
fn segments_keep_their_indices_if_the_code_refers_to_them() {
    let module = |body: &str| {
        format!(
            r#"(module (memory (export "memory") 1) {START}
                    (func {body})
                    (data (i32.const 0) "active") (data "passive") (data (i32.const 100) "more"))"#
        )
    };
    for body in [
        "(memory.init 1 (i32.const 8) (i32.const 0) (i32.const 7))",
        "(data.drop 0)",
    ] {
        let split = split(&module(body));
        assert_eq!(&contents(&split)[..6], b"active");
        let code = split.code.bytes();
        let sections = sections::sections(code).unwrap();
        let data = sections
            .iter()
            .find(|section| section.id == sections::DATA)
            .unwrap();
        let segments: Vec<_> = DataSectionReader::new(data.reader(code))
            .unwrap()
            .into_iter()
            .map(|segment| segment.unwrap())
            .map(|segment| (matches!(segment.kind, DataKind::Passive), segment.data))
            .collect();
        assert_eq!(
            segments,
            [(true, &b""[..]), (true, b"passive"), (true, b"")]
        );
        assert!(ids(code).contains(&sections::DATA_COUNT));
        assert_eq!(split.code.counts().data_segments, 3);
    }
    // The bytes of the two instructions, but as part of a constant: 0xfc 0x08 are inside the literal.
    for body in [
        "",
        "(drop (i64.const 0x47c))",
        "(memory.fill (i32.const 0) (i32.const 0) (i32.const 0))",
    ] {
        let split = split(&module(body));
        assert!(!ids(split.code.bytes()).contains(&sections::DATA), "{body}");
    }
}

#[test]
fn a_start_section_becomes_the_first_entry() {
    let split_ = split(r#"(module (func $s) (start $s) (func (export "_start")))"#);
    assert_eq!(
        *split_.code.entries(),
        [START_EXPORT.to_owned(), "_start".to_owned()]
    );
    assert!(exports(&split_.code).contains(&(START_EXPORT.to_owned(), ExternalKind::Func, 0)));

    let split_ = split(
        r#"(module (func $s) (start $s) (func (export "_initialize")) (func (export "gojinn_handle")))"#,
    );
    assert_eq!(
        *split_.code.entries(),
        [START_EXPORT, "_initialize", "gojinn_handle"].map(str::to_owned)
    );

    let split_ = split(&format!("(module {START})"));
    assert_eq!(*split_.code.entries(), ["_start".to_owned()]);
    assert_eq!(exports(&split_.code).len(), 1);
}

#[test]
fn mutable_globals_are_exported_once() {
    let split = split(&format!(
        r#"(module {START}
                (global i32 (i32.const 1))
                (global (mut i32) (i32.const 1))
                (global (export "__stack_pointer") (mut i32) (i32.const 1))
                (global (mut f64) (f64.const 1))
                (global (mut v128) (v128.const i64x2 0 0))
                (global (mut i64) (i64.const 0))
                (global (mut f32) (f32.const 0))
                (global (mut externref) (ref.null extern)))"#
    ));
    assert_eq!(
        split.globals,
        [
            ("gojinn:global:1", ValType::I32),
            ("__stack_pointer", ValType::I32),
            ("gojinn:global:3", ValType::F64),
            ("gojinn:global:4", ValType::V128),
            ("gojinn:global:5", ValType::I64),
            ("gojinn:global:6", ValType::F32),
        ]
        .map(|(name, ty)| (name.to_owned(), ty))
    );
    assert_eq!(split.reference_globals, 1);
    let exports = exports(&split.code);
    assert_eq!(exports.len(), 7);
    assert_eq!(split.code.counts().exports, 7);
    assert!(exports.contains(&("gojinn:global:4".to_owned(), ExternalKind::Global, 4)));
}

#[test]
fn only_the_names_remain_of_the_custom_sections_and_the_rest_is_copied() {
    let mut bytes = wat::parse_str(format!(
            r#"(module $named (func $f (param $x i32)) {START} (@custom "producers" "x") (@custom ".debug_info" "y"))"#
        ))
        .unwrap();
    // A custom section whose name cannot be read is valid only if it is cut; an empty name is fine.
    bytes.extend_from_slice(&[0, 1, 0]);
    let wasm = Wasm::parse(bytes, Features::ALL, &ModuleLimits::default()).unwrap();
    let code = Split::of(&wasm).unwrap().code;
    let customs: Vec<_> = sections::sections(code.bytes())
        .unwrap()
        .into_iter()
        .filter(|section| section.id == sections::CUSTOM)
        .map(|section| section.reader(code.bytes()).read_string().unwrap())
        .collect();
    assert_eq!(customs, ["name"]);
    let of = |bytes: &[u8], id| {
        let sections = sections::sections(bytes).unwrap();
        let section = sections.iter().find(|section| section.id == id).unwrap();
        bytes[section.range.clone()].to_vec()
    };
    for id in [
        sections::TYPE,
        sections::FUNCTION,
        sections::CODE,
        sections::EXPORT,
    ] {
        assert_eq!(of(wasm.bytes(), id), of(code.bytes(), id));
    }
}

#[test]
fn the_same_module_has_the_same_code_and_a_split_is_not_split_again() {
    let text = format!(
        r#"(module (memory (export "memory") 1) {START} (global (mut i32) (i32.const 0)) (data (i32.const 1) "a"))"#
    );
    let first = split(&text);
    assert_eq!(first.code.sha256(), split(&text).code.sha256());
    let error = Split::of(&first.code).unwrap_err();
    assert!(error.to_string().contains("split again"), "{error}");
    // Only the data differ: the same code, compiled once.
    let other = split(&text.replace("\"a\"", "\"b\""));
    assert_eq!(first.code.sha256(), other.code.sha256());
}

/// Whether or not there are globals, a start function and other exports, the wrappers are behind everything else.
#[test]
fn guests_of_http_wasm_get_wrappers() {
    for (fields, functions, entries) in [
        ("", 2, &[][..]),
        ("(global (mut i32) (i32.const 1))", 2, &[]),
        (
            r#"(data (i32.const 8) "x") (global i64 (i64.const 1)) (func $s) (start $s)"#,
            3,
            &[START_EXPORT],
        ),
        (r#"(func (export "_start"))"#, 3, &["_start"]),
        (
            r#"(func (export "_initialize")) (table 1 funcref) (elem (i32.const 0) 0)"#,
            3,
            &["_initialize"],
        ),
        // The functions that long bulk operations become are behind the wrappers.
        (
            "(func (param i32) (memory.fill (i32.const 0) (i32.const 1) (local.get 0)))",
            3,
            &[],
        ),
    ] {
        let split = split(&format!(
            r#"(module
                (import "http_handler" "get_status_code" (func $status (result i32)))
                (memory (export "memory") 1)
                {fields}
                (func (export "handle_request") (result i64) (i64.const 1))
                (func (export "handle_response") (param i32 i32)))"#
        ));
        assert_eq!(split.code.form(), Form::HttpHandler);
        let handlers = [
            crate::wasm::HANDLE_REQUEST_EXPORT,
            crate::wasm::HANDLE_RESPONSE_EXPORT,
        ];
        let expected: Vec<String> = entries
            .iter()
            .chain(&handlers)
            .map(|name| (*name).to_owned())
            .collect();
        assert_eq!(*split.code.entries(), *expected, "{fields}");
        // One function is imported.
        let request = (handlers[0].to_owned(), ExternalKind::Func, functions + 1);
        let response = (handlers[1].to_owned(), ExternalKind::Func, functions + 2);
        let exports = exports(&split.code);
        assert!(exports.contains(&request), "{fields}: {exports:?}");
        assert!(exports.contains(&response), "{fields}: {exports:?}");
        let cut = u32::from(fields.contains("memory.fill"));
        assert_eq!(split.code.counts().functions, functions + 2 + cut);
        for (id, count) in [
            (sections::TYPE, split.code.counts().types),
            (sections::FUNCTION, split.code.counts().functions),
        ] {
            assert_eq!(entries_of(split.code.bytes(), id), count, "{fields}");
        }
    }
}

/// Only both entry points, with their types, make a guest of http-wasm.
#[test]
fn one_entry_point_of_http_wasm_is_not_enough() {
    for functions in [
        r#"(func (export "handle_request") (result i64) (i64.const 1))"#,
        r#"(func (export "handle_response") (param i32 i32))"#,
        r#"(func (export "handle_request") (result i32) (i32.const 1)) (func (export "handle_response") (param i32 i32))"#,
        r#"(func (export "handle_request") (result i64) (i64.const 1)) (func (export "handle_response") (param i32))"#,
        r#"(func (export "handle_request") (result i64) (i64.const 1)) (memory (export "handle_response") 1)"#,
    ] {
        let wasm = parse(&format!("(module {START} {functions})"));
        assert_eq!(wasm.form(), Form::Command, "{functions}");
    }
}
