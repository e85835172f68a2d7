//! Tests of which modules are recognised as Go commands, and which only look like one.

use super::testing::*;
use super::*;

#[track_caller]
fn go(text: &str) -> GoCommand {
    recognise(&module(text)).unwrap()
}

/// Why the program is not recognised after every `old` in its text is replaced by `new`.
#[track_caller]
fn refused(old: &str, new: &str) -> String {
    let text = text();
    assert!(text.contains(old), "{old} is not in {text}");
    recognise(&module(&text.replace(old, new))).expect_err(new)
}

/// A guest that is built from its source.
fn guest(name: &str) -> Arc<[u8]> {
    let path = format!("{}/../guests/build/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    match std::fs::read(&path) {
        Ok(bytes) => bytes.into(),
        Err(error) => panic!("guests/build/{name}.wasm: {error}; run `make -C guests go` first"),
    }
}

#[test]
fn the_structure_is_read() {
    let go = go(&text());
    assert_eq!(go.resume, LOOP - START + IMPORTED);
    assert_eq!(go.read, READ);
    assert_eq!(u64::from(go.m0), M0);
    assert_eq!(u64::from(go.g0), G0);
    assert_eq!(u64::from(go.main_pc), MAIN_PC);
}

#[test]
fn older_code_is_recognised() {
    let older = text()
        .replace(&newer_read(), &older_read())
        .replace("i32.load offset=2\n", "i32.load16_u offset=2\n")
        .replace(
            "i64.const 16 i64.shr_u i32.wrap_i64",
            "i32.wrap_i64 i32.const 16 i32.shr_u",
        );
    assert!(older.contains("i32.load16_u offset=2") && older.contains("i32.shr_u"));
    let go = go(&older);
    assert_eq!(go.read, READ);
    assert!(go.call_site(RUNTIME_MAIN, 2).is_some());
}

#[test]
fn code_that_the_linker_does_not_write_is_refused() {
    let globals = "(global (mut i64) (i64.const 0))\n";
    let last = "(global (mut i64) (i64.const 0))\n  (global (mut i32) (i32.const 0))\n  (export";
    for (old, new, why) in [
        // Globals, table, imports, exports.
        (globals, "(global (mut i64) (i64.const 1))\n", "globals"),
        (
            last,
            "(global i64 (i64.const 0))\n  (global (mut i32) (i32.const 0))\n  (export",
            "globals",
        ),
        (
            "  (export",
            "  (global (mut i32) (i32.const 0)) (export",
            "globals",
        ),
        ("(table 4110 funcref)", "(table 4111 funcref)", "table"),
        (
            "(elem (i32.const 4096) func 2 3",
            "(elem (i32.const 4096) func 3 2",
            "table",
        ),
        ("func 2 3", "func 3 3", "table"),
        (
            "(elem (i32.const 4096)",
            "(elem (i32.const 0) func) (elem (i32.const 4096)",
            "table",
        ),
        ("(elem (i32.const 4096)", "(elem (i32.const 4095)", "table"),
        (
            "(table 4110 funcref)",
            "(table 4110 funcref) (table 1 funcref)",
            "table",
        ),
        ("\"fd_read\"", "\"fd_pread\"", "stdin"),
        (
            "wasi_snapshot_preview1\" \"fd_read",
            "wasi_unstable\" \"fd_read",
            "stdin",
        ),
        ("\"_start\"", "\"_initialize\"", "_start"),
        // _start and the loop.
        (
            "global.set 0\n            i32.const 0 call",
            "global.set 0\n            nop i32.const 0 call",
            "_start",
        ),
        ("drop call 3 return", "drop call 3 call 3 return", "_start"),
        (
            "i64.const 0x9ff0 i32.wrap_i64",
            "i32.const 0x9ff0",
            "_start",
        ),
        ("i32.load16_u\n", "i32.load8_u\n", "loop"),
        ("i32.load offset=2\n", "i32.load offset=4\n", "loop"),
        ("i32.load offset=2\n", "i32.load offset=2 align=2\n", "loop"),
        ("br_if 0 end end", "br_if 1 end end", "loop"),
        (
            "i32.const 0 global.set 7 return",
            "i32.const 1 global.set 7 return",
            "loop",
        ),
        // rt0_go.
        ("br_table 0 0 0 0 0 1", "br_table 0 0 0 0 1", "runtime"),
        ("br_table 0 0 0 0 0 1", "br_table 0 0 0 0 1 1", "runtime"),
        ("i64.store offset=48", "i64.store offset=56", "runtime"),
        (
            "i64.const 38912 global.set 2",
            "i64.const 38920 global.set 2",
            "runtime",
        ),
        ("i32.const 38912", "i32.const 38920", "runtime"),
        ("i64.const 268566529", "i64.const 268566530", "runtime"),
        // The wrapper.
        ("i32.load offset=24", "i32.load offset=28", "fd_read"),
        ("i64.store32 offset=40", "i64.store32 offset=44", "fd_read"),
        (
            "call 0 global.get 0",
            "call 0 drop i32.const 0 global.get 0",
            "fd_read",
        ),
        (
            "i32.load offset=32\n        call 0",
            "i32.load offset=32\n        drop drop drop drop i32.const 0",
            "fd_read",
        ),
    ] {
        let refused = refused(old, new);
        assert!(refused.contains(why), "{new}: {refused}");
    }
}

#[test]
fn two_imports_of_one_function_are_refused() {
    let text = text();
    let import = r#"(import "wasi_snapshot_preview1" "proc_exit" (func (type 3)))"#;
    let twice = r#"(import "wasi_snapshot_preview1" "fd_read" (func (type 2)))"#;
    let why = recognise(&module(
        &text
            .replace(import, twice)
            .replace("i32.load offset=8 call 1", "drop"),
    ));
    // This reason is found before any other.
    assert!(why.expect_err("two").contains("more than once"));
}

#[test]
fn a_start_section_is_refused() {
    let text = text();
    let with = format!("{} (start 2))", &text[..text.len() - 1]);
    assert!(
        recognise(&module(&with))
            .unwrap_err()
            .contains("start section")
    );
}

#[test]
fn other_modules_are_refused() {
    for text in [
        "(module)",
        r#"(module (func (export "_start")))"#,
        r#"(module (memory 1) (global (mut i32) (i32.const 0)) (func (export "_start")))"#,
    ] {
        assert!(recognise(&module(text)).is_err(), "{text}");
    }
}

#[test]
fn frames_are_measured() {
    let go = go(&text());
    for (function, frame) in [
        (RUNTIME_MAIN, RUNTIME_MAIN_FRAME),
        (MAIN, MAIN_FRAME),
        (SYSCALL_READ, SYSCALL_READ_FRAME),
        (OS_EXIT, OS_EXIT_FRAME),
        (FRAMELESS, 0),
        (GOEXIT, 0),
        (READ, 0),
    ] {
        assert_eq!(go.frame_size(function).map(u64::from), Some(frame));
    }
    for none in [0, 1, START - 1, START, LOOP, CHEAPRAND + 1, u32::MAX] {
        assert_eq!(go.frame_size(none), None, "{none}");
    }
}

#[test]
fn a_frame_that_is_not_aligned_or_not_there_after_a_check_is_none() {
    for (old, new) in [
        (
            "local.get 1 i32.const 64 i32.sub",
            "local.get 1 i32.const 60 i32.sub",
        ),
        (
            "local.get 1 i32.const 64 i32.sub",
            "local.get 1 i32.const -64 i32.sub",
        ),
        (
            "local.get 1 i32.const 64 i32.sub",
            "local.get 1 i32.const 64 i32.add",
        ),
    ] {
        let go = go(&text().replace(old, new));
        assert_eq!(go.frame_size(MAIN), None, "{new}");
        assert_eq!(go.frame_size(INIT), Some(16));
    }
}

#[test]
fn a_frame_of_eight_bytes_is_no_call_and_a_call_is_no_frame() {
    // The function first stores a constant, which is not a return address in it.
    let stores =
        "i32.const 8 i32.sub local.tee 1 global.set 0 local.get 1 i64.const 269090816 i64.store";
    let own = "i32.const 8 i32.sub local.tee 1 global.set 0\n  local.get 1";
    let text = text();
    assert!(text.contains(own));
    let go = go(&text.replacen(own, &format!("{stores} local.get 1"), 1));
    assert_eq!(go.frame_size(OS_EXIT), Some(8));
    assert_eq!(go.frame_size(FRAMELESS), Some(0));
}

#[test]
fn calls_are_found_by_where_they_continue() {
    let go = go(&text());
    let direct = |function| {
        Some(CallSite {
            callee: Callee::Direct(function),
            closure: None,
        })
    };
    assert_eq!(go.call_site(SYSCALL_READ, 1), direct(READ));
    assert_eq!(go.call_site(MAIN, 1), direct(SYSCALL_READ));
    assert_eq!(go.call_site(MAIN, 2), direct(OS_EXIT));
    assert_eq!(go.call_site(RUNTIME_MAIN, 1), direct(INIT));
    assert_eq!(
        go.call_site(RUNTIME_MAIN, 2),
        Some(CallSite {
            callee: Callee::Indirect,
            closure: Some(MAIN_CLOSURE as u32),
        })
    );
    assert_eq!(go.call_site(GOEXIT, 2), direct(GOROUTINE));
    // The beginning of a function, missing calls, calls that cannot be resumed, missing functions.
    for (function, point) in [
        (MAIN, 0),
        (MAIN, 4),
        (MAIN, u16::MAX),
        (GOEXIT, 1),
        (RT0, 1),
        (RT0, 4),
        (START, 1),
        (READ, 1),
        (0, 1),
        (CHEAPRAND + 1, 1),
        (u32::MAX, 1),
    ] {
        assert_eq!(go.call_site(function, point), None, "{function:#x} {point}");
    }
}

#[test]
fn a_call_that_continues_somewhere_else_is_not_found() {
    for (old, new) in [
        // The dispatch leads elsewhere.
        ("br_table 0 1 2 3 end", "br_table 0 2 1 3 end"),
        ("br_table 0 1 2 3 end", "br_table 0 0 0 3 end"),
        // It does not check whether to unwind.
        ("local.set 1 br_if 3 end\n", "local.set 1 drop end\n"),
        // Something follows before the end.
        ("local.set 1 br_if 3 end\n", "local.set 1 br_if 3 nop end\n"),
    ] {
        let text = text();
        assert!(text.contains(old), "{old}: {text}");
        let go = go(&text.replace(old, new));
        assert_eq!(go.call_site(RUNTIME_MAIN, 1), None, "{new}");
        assert_eq!(go.call_site(MAIN, 1), None, "{new}");
        assert!(go.call_site(SYSCALL_READ, 1).is_some());
    }
}

#[test]
fn a_closure_must_be_the_one_that_is_called() {
    let enters = "i64.const 16400 global.set 1 i64.const 16400 i32.wrap_i64 i64.load";
    for other in [
        "i64.const 16400 global.set 1 i64.const 16408 i32.wrap_i64 i64.load",
        "i64.const 16400 global.set 1 i64.const 16400 i32.wrap_i64 i64.load offset=8",
        "i64.const 16400 global.set 1 i64.const 16400 i32.wrap_i64 i64.load nop",
        "i64.const 16400 i64.const 16400 global.set 1 i32.wrap_i64 i64.load",
    ] {
        let text = text();
        assert!(text.contains(enters));
        let go = go(&text.replace(enters, other));
        assert_eq!(
            go.call_site(RUNTIME_MAIN, 2),
            Some(CallSite {
                callee: Callee::Indirect,
                closure: None,
            }),
            "{other}"
        );
    }
}

#[test]
fn the_cheap_generator_is_recognised_by_the_code_that_steps_it() {
    let at = CHEAPRAND_AT as u32;
    let go = go(&text());
    assert!(go.steps_cheaprand(at));
    assert!(!go.steps_cheaprand(at - 8) && !go.steps_cheaprand(at + 4));
    for (old, new) in [
        ("offset=1556", "offset=1560"),
        ("i64.const 17 i64.shl", "i64.const 18 i64.shl"),
        ("i64.const 17 i64.shl", "i64.const 17 i64.shr_u"),
        ("local.get 3 i64.const 17", "local.get 4 i64.const 17"),
        ("i64.shl local.get 3", "i64.shl local.get 4"),
        ("local.get 3 i64.xor drop", "local.get 3 i64.or drop"),
    ] {
        let text = text();
        assert!(text.contains(old));
        let go = recognise(&module(&text.replace(old, new))).unwrap();
        assert!(!go.steps_cheaprand(at), "{new}");
    }
}

#[test]
fn real_programs_are_recognised_and_followed() {
    for name in ["go-hello", "go-markdown", "go-echo"] {
        let bytes = guest(name);
        let go = recognise(&bytes).unwrap();
        let unknown = (FIRST..FIRST + go.bodies.len() as u32)
            .filter(|function| go.frame_size(*function).is_none())
            .count();
        // Functions of other types, of which the linker has 27, do not begin as Go's do.
        assert!(unknown < 40, "{name}: {unknown} of {}", go.bodies.len());
        assert!(go.call_site(go.read, 1).is_none());
    }
}

#[test]
fn a_reactor_is_not() {
    let why = recognise(&guest("go-reactor")).unwrap_err();
    assert!(why.contains("_start"), "{why}");
}

#[test]
fn no_change_of_a_byte_causes_a_panic() {
    let bytes = module(&text());
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = bytes.to_vec();
            changed[at] ^= change;
            let Ok(go) = recognise(&changed.into()) else {
                continue;
            };
            for function in START - 1..=CHEAPRAND + 1 {
                go.frame_size(function);
                for point in 0..5 {
                    go.call_site(function, point);
                }
            }
        }
    }
}
