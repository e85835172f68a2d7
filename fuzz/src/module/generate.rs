//! Makes a module of any bytes. It is valid, needs two hostcalls, and ends.
//!
//! Every loop and every call takes fuel from a global, so nothing runs for long and no recursion is deep. No float is
//! ever seen bit by bit, because the bits of a NaN may differ between engines: what leaves floats goes through
//! comparisons and conversions.

use std::fmt::Write as _;

use crate::cursor::Cursor;

/// The functions that an input defines. The first one is what runs.
const FUNCTIONS: usize = 4;

/// The types of values: of locals (two of each), of globals (one of each), and of expressions.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Type {
    I32,
    I64,
    F32,
    F64,
    V128,
}

impl Type {
    const ALL: [Self; 5] = [Self::I32, Self::I64, Self::F32, Self::F64, Self::V128];

    fn name(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::V128 => "v128",
        }
    }
}

/// What a module is entered by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// `_start` runs the first function and reports.
    Command,
    /// `_initialize` runs the first function. `gojinn_handle` runs the second one with numbers from stdin, and reports.
    /// Nothing but memory and numeric globals changes, so that there can be a snapshot.
    Reactor,
}

impl Form {
    /// Whether tables, segments and references may change, which no snapshot captures.
    fn changes_tables(self) -> bool {
        self == Self::Command
    }
}

/// The functions that an input describes.
pub(super) fn functions(form: Form, input: &[u8]) -> String {
    let mut make = Make {
        form,
        bytes: Cursor::new(input),
        out: String::new(),
        depth: 0,
        labels: 0,
    };
    let mut functions = String::new();
    for index in 0..FUNCTIONS {
        make.out.clear();
        make.block(3);
        let code = &make.out;
        let _ = write!(
            functions,
            "(func $f{index} (param $i0 i32) (param $l0 i64) (result i32)
               (local $i1 i32) (local $l1 i64) (local $f0 f32) (local $f1 f32) (local $d0 f64) (local $d1 f64)
               (local $v0 v128) (local $v1 v128)
               (if (call $spent) (then (return (local.get $i0))))
               {code}
               (i32.add (local.get $i0) (i32.wrap_i64 (local.get $l0))))\n"
        );
    }
    functions
}

/// The text of a module.
pub(crate) fn wat(form: Form, input: &[u8]) -> String {
    let functions = functions(form, input);
    let entries = match form {
        Form::Command => {
            "(func (export \"_start\")
               (global.set $gi32 (call $f0 (i32.const 1) (i64.const 2)))
               (call $report))"
        }
        Form::Reactor => {
            "(func (export \"_initialize\") (global.set $gi32 (call $f0 (i32.const 1) (i64.const 2))))
             (func (export \"gojinn_handle\") (local $one i32) (local $other i64)
               (i64.store (i32.const 0) (i64.const 0x0000_0010_0000_0010))
               (v128.store (i32.const 16) (v128.const i64x2 0 0))
               (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
               (local.set $one (i32.load (i32.const 16)))
               (local.set $other (i64.load (i32.const 24)))
               (global.set $fuel (i32.const 300))
               (global.set $gi32 (i32.add (global.get $gi32) (call $f1 (local.get $one) (local.get $other))))
               (call $report))"
        }
    };
    let reference = if form.changes_tables() {
        "(mut funcref)"
    } else {
        "funcref"
    };
    format!(
        "(module
           (type $t (func (param i32 i64) (result i32)))
           (import \"wasi_snapshot_preview1\" \"fd_write\" (func $write (param i32 i32 i32 i32) (result i32)))
           (import \"wasi_snapshot_preview1\" \"fd_read\" (func $read (param i32 i32 i32 i32) (result i32)))
           (memory (export \"memory\") 1 4)
           (table $table 6 12 funcref)
           (elem (i32.const 0) $f0 $f1 $f2 $f3)
           (elem $passive func $f3 $f2)
           (data (i32.const 128) \"some words at the beginning\")
           (data $words \"words that come later\")
           (global $fuel (mut i32) (i32.const 300))
           (global $gi32 (mut i32) (i32.const 5))
           (global $gi64 (mut i64) (i64.sub (i64.const 1) (i64.const 8)))
           (global $gf32 (mut f32) (f32.const 0.5))
           (global $gf64 (mut f64) (f64.const -1e300))
           (global $gv128 (mut v128) (v128.const i32x4 1 2 3 4))
           (global $gref {reference} (ref.func $f1))
           (func $spent (result i32)
             (global.set $fuel (i32.sub (global.get $fuel) (i32.const 1)))
             (i32.lt_s (global.get $fuel) (i32.const 0)))
           (func $two (param i32 i64) (result i64 i32)
             (i64.add (local.get 1) (i64.extend_i32_u (local.get 0)))
             (i32.xor (local.get 0) (i32.wrap_i64 (local.get 1))))
           {functions}
           ;; Globals, sizes, the table's nulls and a sum over the rest of memory go to its first bytes, and those to stdout.
           (func $report (local $at i32) (local $sum i64)
             (local.set $at (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 8)))
             (loop $next
               (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.load (local.get $at))))
               (br_if $next (i32.gt_s (local.tee $at (i32.sub (local.get $at) (i32.const 8))) (i32.const 120))))
             (i64.store (i32.const 16) (local.get $sum))
             (i32.store (i32.const 24) (global.get $gi32))
             (i32.store (i32.const 28) (global.get $fuel))
             (i64.store (i32.const 32) (global.get $gi64))
             (i64.store (i32.const 40) (i64.trunc_sat_f32_s (global.get $gf32)))
             (i64.store (i32.const 48) (i64.trunc_sat_f64_s (global.get $gf64)))
             (v128.store (i32.const 56) (global.get $gv128))
             (i32.store (i32.const 72) (memory.size))
             (i32.store (i32.const 76) (table.size $table))
             (i32.store (i32.const 80) (ref.is_null (global.get $gref)))
             (local.set $at (i32.const 0))
             (loop $next
               (i32.store8 offset=84 (local.get $at) (ref.is_null (table.get $table (local.get $at))))
               (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (table.size $table))))
             (i32.store (i32.const 0) (i32.const 16))
             (i32.store (i32.const 4) (i32.const 80))
             (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
           {entries})"
    )
}

struct Make<'a> {
    form: Form,
    bytes: Cursor<'a>,
    out: String,
    depth: u32,
    /// How many labels are open: they are `$b0` and so on, all without values.
    labels: usize,
}

impl Make<'_> {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.bytes.byte()) % bound
    }

    /// A few statements.
    fn block(&mut self, most: usize) {
        let count = 1 + self.below(most);
        for _ in 0..count {
            if self.bytes.is_empty() {
                return;
            }
            self.depth += 1;
            self.statement();
            self.depth -= 1;
        }
    }

    /// A block with a label.
    fn labelled(&mut self, opening: &str, closing: &str) {
        let label = self.labels;
        let _ = writeln!(
            self.out,
            "{}",
            opening.replace("LABEL", &format!("$b{label}"))
        );
        self.labels += 1;
        self.block(3);
        self.labels -= 1;
        let _ = writeln!(
            self.out,
            "{}",
            closing.replace("LABEL", &format!("$b{label}"))
        );
    }

    fn statement(&mut self) {
        let kind = self.below(24);
        if self.depth > 6 && (4..=8).contains(&kind)
            || !self.form.changes_tables() && (13..=19).contains(&kind)
        {
            return;
        }
        let statement = match kind {
            0 | 1 => {
                let of = self.typed();
                let (local, value) = (self.local(of), self.expression(of));
                format!("(local.set {local} {value})")
            }
            2 => {
                let of = self.typed();
                let value = self.expression(of);
                format!("(global.set $g{} {value})", of.name())
            }
            3 => self.store(),
            4 => return self.labelled("(block LABEL", ")"),
            5 => {
                let opening = "(loop LABEL (if (call $spent) (then (return (local.get $i0))))";
                let again = self.expression(Type::I32);
                return self.labelled(opening, &format!("(br_if LABEL {again}))"));
            }
            6 => {
                let condition = self.expression(Type::I32);
                return self.labelled(&format!("(block LABEL (br_if LABEL {condition})"), ")");
            }
            7 => {
                let condition = self.expression(Type::I32);
                self.labelled(&format!("(block LABEL (if {condition} (then"), ") (else");
                self.block(2);
                return self.out.push_str(")))\n");
            }
            8 if self.labels > 0 => {
                let (one, other) = (self.below(self.labels), self.below(self.labels));
                let at = self.expression(Type::I32);
                format!("(block (br_table $b{one} $b{other} 0 {at}))")
            }
            9 if self.labels > 0 => {
                let label = self.below(self.labels);
                let condition = self.expression(Type::I32);
                // Back to a loop's beginning, too: that takes fuel.
                format!("(br_if $b{label} {condition})")
            }
            10 => {
                let (from, len) = (self.address(), self.length());
                let value = self.expression(Type::I32);
                format!("(memory.fill {from} {value} {len})")
            }
            11 => {
                let (to, from, len) = (self.address(), self.address(), self.length());
                format!("(memory.copy {to} {from} {len})")
            }
            12 => {
                let (to, from, len) = (self.address(), self.below(24), self.below(24));
                format!("(memory.init $words {to} (i32.const {from}) (i32.const {len}))")
            }
            13 => "(data.drop $words)".into(),
            14 => {
                let at = self.element();
                let value = self.reference();
                format!("(table.set $table {at} {value})")
            }
            15 => {
                let (to, from, len) = (self.element(), self.element(), self.below(4));
                format!("(table.copy $table $table {to} {from} (i32.const {len}))")
            }
            16 => {
                let (to, len) = (self.element(), self.below(4));
                format!("(table.init $table $passive {to} (i32.const 0) (i32.const {len}))")
            }
            17 => {
                let (at, len, value) = (self.element(), self.below(4), self.reference());
                format!("(table.fill $table {at} {value} (i32.const {len}))")
            }
            18 => {
                let value = self.reference();
                format!("(global.set $gref {value})")
            }
            19 => "(elem.drop $passive)".into(),
            20 if self.below(4) == 0 => {
                let value = self.expression(Type::I32);
                format!("(if {value} (then (unreachable)))")
            }
            21 => {
                let of = self.typed();
                let (local, other) = (self.local(Type::I32), self.local(of));
                let (one, two) = (self.expression(Type::I32), self.expression(of));
                // A block with parameters and results.
                format!(
                    "(local.set {other} {two}) {one} (block (param i32) (result i32 {0}) (local.get {other}))
                     (local.set {other}) (local.set {local})",
                    of.name()
                )
            }
            22 => {
                let (condition, value) = (self.expression(Type::I32), self.expression(Type::I32));
                format!("(if {condition} (then (return {value})))")
            }
            _ => {
                let of = self.typed();
                let value = self.expression(of);
                format!("(drop {value})")
            }
        };
        let _ = writeln!(self.out, "{statement}");
    }

    fn typed(&mut self) -> Type {
        Type::ALL[self.below(Type::ALL.len())]
    }

    fn local(&mut self, of: Type) -> String {
        let letter = match of {
            Type::I32 => 'i',
            Type::I64 => 'l',
            Type::F32 => 'f',
            Type::F64 => 'd',
            Type::V128 => 'v',
        };
        format!("${letter}{}", self.below(2))
    }

    /// An address: mostly in the first page, behind what the report needs.
    fn address(&mut self) -> String {
        let at = self.expression(Type::I32);
        match self.below(12) {
            0 => at,
            1 => format!("(i32.add (i32.const 65520) (i32.and {at} (i32.const 31)))"),
            _ => format!("(i32.add (i32.const 128) (i32.and {at} (i32.const 1023)))"),
        }
    }

    fn length(&mut self) -> String {
        let len = self.expression(Type::I32);
        match self.below(10) {
            0 => len,
            1 => format!("(i32.and {len} (i32.const 131071))"),
            _ => format!("(i32.and {len} (i32.const 255))"),
        }
    }

    /// An index into the table: mostly within it.
    fn element(&mut self) -> String {
        let at = self.expression(Type::I32);
        let mask = if self.below(8) == 0 { 15 } else { 3 };
        format!("(i32.and {at} (i32.const {mask}))")
    }

    fn reference(&mut self) -> String {
        match self.below(4) {
            0 => "(ref.null func)".into(),
            1 => "(global.get $gref)".into(),
            2 => {
                let at = self.element();
                format!("(table.get $table {at})")
            }
            _ => format!("(ref.func $f{})", self.below(FUNCTIONS)),
        }
    }

    fn store(&mut self) -> String {
        let at = self.address();
        let offset = self.below(16);
        let (of, name) = [
            (Type::I32, "i32.store"),
            (Type::I32, "i32.store8"),
            (Type::I32, "i32.store16"),
            (Type::I64, "i64.store"),
            (Type::I64, "i64.store32"),
            (Type::V128, "v128.store"),
        ][self.below(6)];
        let value = self.expression(of);
        format!("({name} offset={offset} {at} {value})")
    }

    /// An expression of a type.
    fn expression(&mut self, of: Type) -> String {
        self.depth += 1;
        let text = if self.depth > 7 || self.bytes.is_empty() {
            self.leaf(of)
        } else {
            self.operation(of)
        };
        self.depth -= 1;
        text
    }

    fn leaf(&mut self, of: Type) -> String {
        match self.below(4) {
            0 => format!("(local.get {})", self.local(of)),
            1 => format!("(global.get $g{})", of.name()),
            _ => self.constant(of),
        }
    }

    fn constant(&mut self, of: Type) -> String {
        const EDGES: [i64; 12] = [
            0,
            1,
            -1,
            2,
            31,
            64,
            255,
            0x7fff_ffff,
            -0x8000_0000,
            0xffff,
            i64::MAX,
            i64::MIN,
        ];
        const FLOATS: [&str; 10] = [
            "0",
            "-0",
            "1",
            "-1.5",
            "inf",
            "-inf",
            "nan",
            "2147483648",
            "1e-40",
            "9.3e18",
        ];
        match of {
            Type::I32 => format!("(i32.const {})", EDGES[self.below(12)] as i32),
            Type::I64 => format!("(i64.const {})", EDGES[self.below(12)]),
            Type::F32 => format!("(f32.const {})", FLOATS[self.below(10)]),
            Type::F64 => format!("(f64.const {})", FLOATS[self.below(10)]),
            Type::V128 => {
                let (one, other) = (EDGES[self.below(12)], EDGES[self.below(12)]);
                format!("(v128.const i64x2 {one} {other})")
            }
        }
    }

    fn operation(&mut self, of: Type) -> String {
        use Type::{F32, F64, I32, I64, V128};
        const BINARY: [&str; 15] = [
            "add", "sub", "mul", "div_s", "div_u", "rem_s", "rem_u", "and", "or", "xor", "shl",
            "shr_s", "shr_u", "rotl", "rotr",
        ];
        const COMPARE: [&str; 10] = [
            "eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u",
        ];
        const FLOAT_COMPARE: [&str; 6] = ["eq", "ne", "lt", "gt", "le", "ge"];
        const FLOAT_BINARY: [&str; 6] = ["add", "sub", "mul", "div", "min", "max"];
        const FLOAT_UNARY: [&str; 7] = ["abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt"];
        let name = of.name();
        match (of, self.below(16)) {
            (_, 0 | 1) => self.leaf(of),
            (_, 2) => {
                let (one, other) = (self.expression(of), self.expression(of));
                let condition = self.expression(I32);
                format!("(select (result {name}) {one} {other} {condition})")
            }
            (_, 3) => {
                let local = self.local(of);
                let value = self.expression(of);
                format!("(local.tee {local} {value})")
            }
            (I32 | I64, 4..=8) => {
                let what = BINARY[self.below(BINARY.len())];
                let (one, other) = (self.expression(of), self.expression(of));
                format!("({name}.{what} {one} {other})")
            }
            (I32 | I64, 9) => {
                let what = ["clz", "ctz", "popcnt", "extend8_s", "extend16_s"][self.below(5)];
                let value = self.expression(of);
                format!("({name}.{what} {value})")
            }
            (I32 | I64, 10) => {
                let (at, offset) = (self.address(), self.below(16));
                let what = ["load", "load8_s", "load8_u", "load16_s", "load16_u"][self.below(5)];
                format!("({name}.{what} offset={offset} {at})")
            }
            (I32, 11) => {
                let wide = if self.below(2) == 0 { I32 } else { I64 };
                let what = COMPARE[self.below(COMPARE.len())];
                let (one, other) = (self.expression(wide), self.expression(wide));
                format!("({}.{what} {one} {other})", wide.name())
            }
            (I32, 12) => {
                let wide = if self.below(2) == 0 { F32 } else { F64 };
                let what = FLOAT_COMPARE[self.below(FLOAT_COMPARE.len())];
                let (one, other) = (self.expression(wide), self.expression(wide));
                format!("({}.{what} {one} {other})", wide.name())
            }
            (I32, 13) => match self.below(7) {
                0 => {
                    let by = self.below(3);
                    format!("(memory.grow (i32.const {by}))")
                }
                1 => "(memory.size)".into(),
                2 if self.form.changes_tables() => {
                    let (value, by) = (self.reference(), self.below(3));
                    format!("(table.grow $table {value} (i32.const {by}))")
                }
                3 => {
                    let value = self.reference();
                    format!("(ref.is_null {value})")
                }
                4 => {
                    let value = self.expression(V128);
                    let what = ["v128.any_true", "i8x16.all_true", "i32x4.bitmask"][self.below(3)];
                    format!("({what} {value})")
                }
                5 => {
                    let (one, other) = (self.expression(I32), self.expression(I64));
                    let local = self.local(I64);
                    format!(
                        "(block (result i32) (call $two {one} {other}) (local.set $i0) (local.set {local}) (local.get $i0))"
                    )
                }
                _ => "(table.size $table)".into(),
            },
            (I32, 14) => {
                let (one, other) = (self.expression(I32), self.expression(I64));
                if self.below(3) == 0 {
                    let at = self.element();
                    format!("(call_indirect $table (type $t) {one} {other} {at})")
                } else {
                    format!("(call $f{} {one} {other})", self.below(FUNCTIONS))
                }
            }
            (I32 | I64, _) => match self.below(5) {
                0 if of == I32 => format!("(i32.wrap_i64 {})", self.expression(I64)),
                0 => format!("(i64.extend_i32_u {})", self.expression(I32)),
                1 if of == I64 => format!("(i64.extend_i32_s {})", self.expression(I32)),
                2 => format!("({name}.trunc_f64_s {})", self.expression(F64)),
                3 => format!("({name}.trunc_sat_f32_u {})", self.expression(F32)),
                4 if of == I32 => {
                    format!("(i32x4.extract_lane 2 {})", self.expression(V128))
                }
                _ => format!("({name}.trunc_sat_f64_s {})", self.expression(F64)),
            },
            (F32 | F64, 4..=8) => {
                let what = FLOAT_BINARY[self.below(FLOAT_BINARY.len())];
                let (one, other) = (self.expression(of), self.expression(of));
                format!("({name}.{what} {one} {other})")
            }
            (F32 | F64, 9 | 10) => {
                let what = FLOAT_UNARY[self.below(FLOAT_UNARY.len())];
                let value = self.expression(of);
                format!("({name}.{what} {value})")
            }
            (F32 | F64, 11 | 12) => {
                let value = self.expression(I64);
                let what = ["convert_i64_s", "convert_i64_u"][self.below(2)];
                format!("({name}.{what} {value})")
            }
            (F32, 13) => format!("(f32.demote_f64 {})", self.expression(F64)),
            (F64, 13) => format!("(f64.promote_f32 {})", self.expression(F32)),
            (F32 | F64, _) => format!("({name}.convert_i32_s {})", self.expression(I32)),
            (V128, 4..=8) => {
                let what = [
                    "i8x16.add",
                    "i8x16.sub_sat_u",
                    "i16x8.mul",
                    "i16x8.q15mulr_sat_s",
                    "i32x4.add",
                    "i32x4.dot_i16x8_s",
                    "i64x2.mul",
                    "i64x2.sub",
                    "v128.and",
                    "v128.xor",
                    "i8x16.swizzle",
                    "i16x8.narrow_i32x4_s",
                    "i32x4.lt_s",
                    "i8x16.avgr_u",
                    "i64x2.extmul_low_i32x4_u",
                    "f32x4.lt",
                    "f64x2.ge",
                ][self.below(17)];
                let (one, other) = (self.expression(V128), self.expression(V128));
                format!("({what} {one} {other})")
            }
            (V128, 9) => format!("(i32x4.splat {})", self.expression(I32)),
            (V128, 10) => format!("(i64x2.splat {})", self.expression(I64)),
            (V128, 11) => {
                let (at, offset) = (self.address(), self.below(16));
                let what = ["v128.load", "v128.load32_splat", "v128.load8x8_s"][self.below(3)];
                format!("({what} offset={offset} {at})")
            }
            (V128, 12) => {
                let by = self.expression(I32);
                let what = ["i8x16.shl", "i32x4.shr_s", "i64x2.shr_u"][self.below(3)];
                let value = self.expression(V128);
                format!("({what} {value} {by})")
            }
            (V128, 13) => {
                let what = ["i32x4.trunc_sat_f32x4_s", "i8x16.popcnt", "i32x4.abs"][self.below(3)];
                let value = self.expression(V128);
                format!("({what} {value})")
            }
            (V128, _) => {
                let (one, other) = (self.expression(V128), self.expression(V128));
                let mask = self.expression(V128);
                format!("(v128.bitselect {one} {other} {mask})")
            }
        }
    }
}
