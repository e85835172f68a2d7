//! A program of a dozen functions in the form that Go's linker writes, which tests change.

use std::fmt::Write as _;
use std::sync::Arc;

/// Addresses in its code.
pub(crate) const M0: u64 = 0x8000;
pub(crate) const G0: u64 = 0x9800;
pub(crate) const MAIN_PC: u64 = 0x4000;
pub(crate) const MAIN_CLOSURE: u64 = 0x4010;

/// Table indices of its functions.
pub(crate) const START: u32 = 0x1000;
pub(crate) const LOOP: u32 = 0x1001;
pub(crate) const RT0: u32 = 0x1002;
pub(crate) const READ: u32 = 0x1003;
pub(crate) const EXIT: u32 = 0x1004;
pub(crate) const RUNTIME_MAIN: u32 = 0x1005;
pub(crate) const MAIN: u32 = 0x1006;
pub(crate) const GOEXIT: u32 = 0x1007;
pub(crate) const SYSCALL_READ: u32 = 0x1008;
pub(crate) const INIT: u32 = 0x1009;
pub(crate) const OS_EXIT: u32 = 0x100a;
pub(crate) const FRAMELESS: u32 = 0x100b;
pub(crate) const GOROUTINE: u32 = 0x100c;
pub(crate) const CHEAPRAND: u32 = 0x100d;

const COUNT: u32 = CHEAPRAND + 1 - START;

/// Sizes of frames.
pub(crate) const RUNTIME_MAIN_FRAME: u64 = 144;
pub(crate) const MAIN_FRAME: u64 = 64;
pub(crate) const SYSCALL_READ_FRAME: u64 = 32;
pub(crate) const OS_EXIT_FRAME: u64 = 8;

/// The offset in an `m` at which its code has the state of the cheap generator.
pub(crate) const CHEAPRAND_AT: u64 = 1552;

/// Functions that are imported: fd_read and proc_exit.
pub(crate) const IMPORTED: u32 = 2;

/// The module as text.
pub(crate) fn text() -> String {
    let mut text = format!(
        r#"(module
  (type (func (param i32) (result i32)))
  (type (func))
  (type (func (param i32 i32 i32 i32) (result i32)))
  (type (func (param i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func (type 2)))
  (import "wasi_snapshot_preview1" "proc_exit" (func (type 3)))
  (table {} funcref)
  (memory (export "memory") 2)
  (global (mut i32) (i32.const 0))
"#,
        START + COUNT
    );
    for _ in 0..6 {
        text.push_str("  (global (mut i64) (i64.const 0))\n");
    }
    text.push_str("  (global (mut i32) (i32.const 0))\n");
    let _ = writeln!(text, "  (export \"_start\" (func {IMPORTED}))");
    let _ = write!(text, "  (elem (i32.const {START}) func");
    for function in 0..COUNT {
        let _ = write!(text, " {}", IMPORTED + function);
    }
    text.push_str(")\n");
    for function in [
        start(),
        pc_loop(),
        rt0(),
        read(),
        exit(),
        function(
            RUNTIME_MAIN,
            RUNTIME_MAIN_FRAME,
            &[direct(INIT), closure(MAIN_CLOSURE), direct(EXIT)],
        ),
        function(
            MAIN,
            MAIN_FRAME,
            &[direct(SYSCALL_READ), direct(OS_EXIT), direct(FRAMELESS)],
        ),
        goexit(),
        function(SYSCALL_READ, SYSCALL_READ_FRAME, &[direct(READ)]),
        function(INIT, 16, &[direct(SYSCALL_READ)]),
        function(OS_EXIT, OS_EXIT_FRAME, &[direct(EXIT)]),
        function(FRAMELESS, 0, &[direct(SYSCALL_READ)]),
        function(GOROUTINE, 40, &[direct(SYSCALL_READ)]),
        cheaprand(),
    ] {
        text.push_str(&function);
    }
    text.push(')');
    text
}

/// The module of a text.
#[track_caller]
pub(crate) fn module(text: &str) -> Arc<[u8]> {
    let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    if let Err(error) = wasmparser::validate(&bytes) {
        panic!("{error}: {text}");
    }
    bytes.into()
}

/// A program counter.
pub(crate) fn pc(function: u32, point: u16) -> u64 {
    u64::from(function) << 16 | u64::from(point)
}

fn start() -> String {
    let (rt0, pc_loop) = (index(RT0), index(LOOP));
    format!(
        "(func (type 1) i64.const 0x9ff0 i32.wrap_i64 global.set 0
            i32.const 0 call {rt0} drop call {pc_loop} return unreachable)\n"
    )
}

fn pc_loop() -> String {
    "(func (type 1) global.get 7 i32.eqz if loop
        global.get 0 i32.const 8 i32.sub i32.load16_u
        global.get 0 i32.const 8 i32.sub i32.load offset=2
        call_indirect (type 0) drop global.get 7 i32.eqz br_if 0 end end
        i32.const 0 global.set 7 return unreachable)\n"
        .to_owned()
}

fn rt0() -> String {
    let for_good = |point| {
        format!(
            "{} i32.const 0 call {} global.get 0 local.set 1 if unreachable end\n",
            push(RT0, point),
            index(GOEXIT)
        )
    };
    format!(
        "(func (type 0) (local i32) global.get 0 local.set 1 block block block
            local.get 0 br_table 0 0 0 0 0 1 end
            i32.const {M0} i64.const {G0} i64.store
            i32.const {G0} i64.const {M0} i64.store offset=48
            i64.const {G0} global.set 2
            {}{}{}
            local.get 1 i64.const {MAIN_PC} i64.store
            {}
            {} i32.const 0 call {} global.get 0 local.set 1 br_if 1
            end unreachable unreachable end i32.const 1)\n",
        for_good(1),
        for_good(2),
        for_good(3),
        for_good(4),
        push(RT0, 5),
        index(GOEXIT)
    )
}

fn read() -> String {
    "(func (type 0) (local i32 i64) global.get 0 local.set 1
        local.get 1 i32.load offset=8 local.get 1 i32.load offset=16
        local.get 1 i32.load offset=24 local.get 1 i32.load offset=32
        call 0 global.get 0 local.set 1 i64.extend_i32_u local.set 2
        local.get 1 local.get 2 i64.store32 offset=40
        local.get 1 i32.const 8 i32.add local.tee 1 global.set 0 i32.const 0 return unreachable)\n"
        .to_owned()
}

/// The wrapper as Go up to 1.23 generates it.
pub(crate) fn older_read() -> String {
    "(func (type 0) (local i32) global.get 0 local.set 1 local.get 1
        local.get 1 i32.load offset=8 local.get 1 i64.load offset=16 i32.wrap_i64
        local.get 1 i32.load offset=24 local.get 1 i64.load offset=32 i32.wrap_i64
        call 0 global.get 0 local.set 1 i32.store offset=40
        local.get 1 i32.const 8 i32.add local.tee 1 global.set 0 i32.const 0 return unreachable)\n"
        .to_owned()
}

/// The text of the wrapper, to be replaced.
pub(crate) fn newer_read() -> String {
    read()
}

fn exit() -> String {
    "(func (type 0) (local i32) global.get 0 local.set 1 local.get 1 i32.load offset=8 call 1
        global.get 0 local.set 1 local.get 1 i32.const 8 i32.add local.tee 1 global.set 0
        i32.const 0 return unreachable)\n"
        .to_owned()
}

fn goexit() -> String {
    format!(
        "(func (type 0) (local i32) global.get 0 local.set 1 block block block
            local.get 0 br_table 0 0 1 end
            {} i32.const 0 call {} global.get 0 local.set 1 br_if 1
            end unreachable unreachable end i32.const 1)\n",
        push(GOEXIT, 2),
        index(GOROUTINE)
    )
}

fn cheaprand() -> String {
    format!(
        "(func (type 0) (local i32 i64 i64 i64)
            local.get 2 i32.wrap_i64 i64.load32_u offset={CHEAPRAND_AT} local.set 3
            local.get 2 i32.wrap_i64 i64.load32_u offset={} local.set 4
            local.get 3 i64.const 17 i64.shl local.get 3 i64.xor drop i32.const 0)\n",
        CHEAPRAND_AT + 4
    )
}

/// The text of a call: the part after the push of the return address, and the part before it.
struct Called {
    before: String,
    after: String,
}

fn direct(function: u32) -> Called {
    Called {
        before: String::new(),
        after: format!("i32.const 0 call {}", index(function)),
    }
}

fn closure(at: u64) -> Called {
    Called {
        before: format!("i64.const {at} global.set 1 i64.const {at} i32.wrap_i64 i64.load"),
        after: "i64.const 16 i64.shr_u i32.wrap_i64 local.set 0 i32.const 0 local.get 0 call_indirect (type 0)"
            .to_owned(),
    }
}

/// A function as the compiler writes it, which only makes these calls. The first call continues at point 1.
fn function(own: u32, frame: u64, calls: &[Called]) -> String {
    let count = calls.len();
    let mut text = "(func (type 0) (local i32) global.get 0 local.set 1\n block".to_owned();
    text.push_str(&" block".repeat(count + 1));
    text.push_str(" local.get 0 br_table");
    for point in 0..=count {
        let _ = write!(text, " {point}");
    }
    text.push_str(" end\n");
    if frame > 0 {
        let _ = writeln!(
            text,
            " local.get 1 global.get 2 i32.wrap_i64 i32.load offset=16 i32.le_u if
                {} i32.const 0 call {} global.get 0 local.set 1 br_if {} end
                local.get 1 i32.const {frame} i32.sub local.tee 1 global.set 0",
            push(own, 0),
            index(GOEXIT),
            count + 1
        );
    }
    for (number, Called { before, after }) in (1..).zip(calls) {
        let _ = writeln!(
            text,
            " {before} {} {after} global.get 0 local.set 1 br_if {} end",
            push(own, number),
            count + 1 - usize::from(number)
        );
    }
    if frame > 0 {
        let _ = write!(
            text,
            " local.get 1 i32.const {frame} i32.add local.tee 1 global.set 0"
        );
    }
    text.push_str(
        " local.get 1 i32.const 8 i32.add local.tee 1 global.set 0 i32.const 0 return
            unreachable end i32.const 1)\n",
    );
    text
}

fn push(own: u32, point: u16) -> String {
    format!(
        "local.get 1 i32.const 8 i32.sub local.tee 1 global.set 0 local.get 1 i64.const {} i64.store",
        pc(own, point)
    )
}

fn index(function: u32) -> u32 {
    function - START + IMPORTED
}
