//! Finds out whether a module's instances can have state besides their memory and their exported globals.

use wasmparser::{
    ExportSectionReader, ExternalKind, FunctionBody, GlobalSectionReader, Operator,
    TableSectionReader, ValType,
};

use super::sections::{self, Section};
use crate::error::{Error, Result};

/// Why an instance of `module`, which is valid, can have state that cannot be read and set from outside: its code
/// changes a table or a segment, or it has a mutable global that is a reference or is not exported. `None`: memory and
/// the exported globals are its whole state, so that restoring them makes a used instance pristine.
///
/// The code of a [`Split`](crate::Split) exports all its numeric globals. This reads the whole code, which takes 2 ms
/// for the 2 MB of a Go program.
pub fn hidden_state(module: &[u8]) -> Result<Option<String>> {
    let sections = sections::sections(module).map_err(|cut| super::sniff::truncated(&cut))?;
    find(module, &sections).map_err(|error| {
        Error::host("a bug in Gojinn: a valid module cannot be read; please report it")
            .because(error)
    })
}

fn find(module: &[u8], sections: &[Section]) -> wasmparser::Result<Option<String>> {
    let of = |id| sections.iter().filter(move |section| section.id == id);

    let mut exported = Vec::new();
    for section in of(sections::EXPORT) {
        for export in ExportSectionReader::new(section.reader(module))? {
            let export = export?;
            if export.kind == ExternalKind::Global {
                exported.push(export.index);
            }
        }
    }
    for section in of(sections::GLOBAL) {
        // Guests cannot import globals, so indices begin at 0 here.
        for (index, global) in (0u32..).zip(GlobalSectionReader::new(section.reader(module))?) {
            let ty = global?.ty;
            if ty.mutable && matches!(ty.content_type, ValType::Ref(_)) {
                return Ok(Some(format!("its global {index} is a mutable reference")));
            }
            if ty.mutable && !exported.contains(&index) {
                return Ok(Some(format!("its mutable global {index} is not exported")));
            }
        }
    }

    let mut tables = 0;
    for section in of(sections::TABLE) {
        tables += TableSectionReader::new(section.reader(module))?.count();
    }
    for section in of(sections::CODE) {
        let mut reader = section.reader(module);
        for _ in 0..reader.read_var_u32()? {
            let body = FunctionBody::new(reader.read_reader()?);
            if !may_change_state(&module[body.range()], tables) {
                continue;
            }
            for operator in body.get_operators_reader()? {
                if let Some(name) = changing(&operator?) {
                    return Ok(Some(format!("its code has {name}")));
                }
            }
        }
    }
    Ok(None)
}

/// The name of an instruction that changes a table or a segment.
fn changing(operator: &Operator<'_>) -> Option<&'static str> {
    Some(match operator {
        Operator::DataDrop { .. } => "data.drop",
        Operator::ElemDrop { .. } => "elem.drop",
        Operator::TableCopy { .. } => "table.copy",
        Operator::TableFill { .. } => "table.fill",
        Operator::TableGrow { .. } => "table.grow",
        Operator::TableInit { .. } => "table.init",
        Operator::TableSet { .. } => "table.set",
        _ => return None,
    })
}

/// Whether a function may have such an instruction, judged by its bytes only: decoding all code would take several
/// times as long.
///
/// `table.set` is 0x26, followed by a table's index. The others are 0xfc, followed by their number. Both numbers are
/// LEB128, whose first byte always has the low seven bits.
fn may_change_state(code: &[u8], tables: u32) -> bool {
    code.windows(2).any(|pair| match pair[0] {
        0x26 => u32::from(pair[1] & 0x7f) < tables,
        0xfc => matches!(pair[1] & 0x7f, 9 | 12..=17),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::Split;

    fn hidden(fields: &str) -> Option<String> {
        let module = wat::parse_str(format!("(module {fields})")).unwrap();
        hidden_state(&module).unwrap()
    }

    #[test]
    fn every_instruction_that_changes_a_table_or_a_segment_is_found() {
        let fields = r#"(memory 1) (table $a 1 funcref) (table $b 1 funcref)
            (elem $e func $f) (data $d "x") (func $f)"#;
        for (name, code) in [
            ("data.drop", "(data.drop $d)"),
            ("elem.drop", "(elem.drop $e)"),
            (
                "table.copy",
                "(table.copy $a $b (i32.const 0) (i32.const 0) (i32.const 1))",
            ),
            (
                "table.fill",
                "(table.fill $b (i32.const 0) (ref.null func) (i32.const 1))",
            ),
            (
                "table.grow",
                "(drop (table.grow $b (ref.null func) (i32.const 1)))",
            ),
            (
                "table.init",
                "(table.init $b $e (i32.const 0) (i32.const 0) (i32.const 1))",
            ),
            ("table.set", "(table.set $b (i32.const 0) (ref.null func))"),
        ] {
            let found = hidden(&format!(
                "{fields} (func) (func (if (i32.const 1) (then {code})))"
            ));
            assert_eq!(found, Some(format!("its code has {name}")));
        }
    }

    #[test]
    fn a_table_set_is_found_if_its_index_has_two_bytes() {
        // (table 1 funcref), and the function: i32.const 0, ref.null func, table.set 0 with an index of two bytes.
        let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x04\x04\x01\x70\0\x01\
            \x0a\x0b\x01\x09\0\x41\0\xd0\x70\x26\x80\0\x0b";
        wasmparser::validate(module).unwrap();
        assert_eq!(
            hidden_state(module).unwrap(),
            Some("its code has table.set".into())
        );
    }

    #[test]
    fn globals_must_be_numbers_with_exports() {
        for (fields, expected) in [
            (
                "(global i32 (i32.const 1)) (global funcref (ref.null func))",
                None,
            ),
            (
                r#"(global (export "g") (mut v128) (v128.const i64x2 1 2))"#,
                None,
            ),
            (
                "(global i32 (i32.const 1)) (global (mut i64) (i64.const 1))",
                Some("its mutable global 1 is not exported"),
            ),
            (
                r#"(global (export "g") (mut externref) (ref.null extern))"#,
                Some("its global 0 is a mutable reference"),
            ),
        ] {
            assert_eq!(hidden(fields).as_deref(), expected, "{fields}");
        }
    }

    #[test]
    fn reading_tables_and_segments_and_changing_memory_is_not_hidden() {
        let fields = r#"(memory 1) (table $t 2 funcref) (elem (table $t) (i32.const 0) func $f) (elem declare func $f)
            (data $d "x")
            (func $f (result i32)
                (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))
                (memory.fill (i32.const 0) (i32.const 38) (i32.const 1))
                (memory.copy (i32.const 0) (i32.const 38) (i32.const 1))
                (drop (memory.grow (i32.const 38)))
                (drop (table.get $t (i32.const 0)))
                ;; the bytes of table.set 0 and of data.drop, as constants
                (drop (i64.const 0x26)) (drop (i64.const 0x4fc))
                (i32.add (table.size $t) (call_indirect $t (result i32) (i32.const 0))))"#;
        assert_eq!(hidden(fields), None);
    }

    #[test]
    fn a_split_exports_what_must_be() {
        use crate::wasm::{Features, ModuleLimits, Wasm};
        let module = wat::parse_str(
            r#"(module (memory (export "memory") 1) (global (mut i32) (i32.const 1)) (func (export "_start")))"#,
        )
        .unwrap();
        assert!(hidden_state(&module).unwrap().is_some());
        let wasm = Wasm::parse(module, Features::ALL, &ModuleLimits::default()).unwrap();
        assert_eq!(
            hidden_state(Split::of(&wasm).unwrap().code.bytes()).unwrap(),
            None
        );
    }
}
