//! The guest that runs scenarios: one module for all of them.
//!
//! ```text
//!   memory  0 ............ 65 535  arena: the steps' pointers usually point into it
//!           65 536 ...... 131 071  the script, and some room for the driver; calls may overwrite it like any memory
//!           131 072 ............   pages that a step asked for
//! ```
//!
//! A script cannot loop: the number of remaining steps is in a local, and every step is a call, a store or a fill.

use std::fmt::Write as _;

use engine_core::sandbox::hostcalls::{IMPORTS, Import, ParamType};

use super::scenario::PLAIN;

/// Bytes of the arena.
pub(super) const ARENA: u32 = 65_536;

/// Bytes of memory at the start.
pub(super) const MEMORY: u32 = 2 * ARENA;

/// Bytes of one step in a script: its number, and up to nine values of eight bytes.
pub(super) const RECORD: usize = 80;

/// The maximum number of steps of a script.
pub(super) const STEPS_MAX: usize = 100;

/// The room of the driver: an iovec, the number of bytes read, and an errno to log.
const OWN: u32 = MEMORY - 64;

/// Bytes of one log record. A longer one would be cut.
const CHUNK: u32 = 8192;

/// The hostcalls that it makes: all but those of `http_handler`, which end a guest that has no HTTP request. They are the last ones.
pub(super) fn hostcalls() -> &'static [Import] {
    let others = IMPORTS
        .iter()
        .take_while(|import| import.module != "http_handler");
    &IMPORTS[..others.count()]
}

/// The driver as text.
pub(super) fn wat() -> String {
    let mut imports = String::new();
    let mut steps = String::new();
    let mut table = String::from("$poke $grow $fill");
    for (index, import) in hostcalls().iter().enumerate() {
        // Writing to a String does not fail.
        let _ = writeln!(
            imports,
            "(import \"{}\" \"{}\" (func ${} (param{}){}))",
            import.module,
            import.name,
            import.name,
            types(import),
            if import.result.is_some() {
                " (result i32)"
            } else {
                ""
            },
        );
        steps.push_str(&step(import));
        let _ = write!(table, " $step_{}", import.name);
        assert!(
            index < usize::from(u8::MAX) - PLAIN,
            "a step's number is a byte"
        );
    }
    format!(
        r#"(module
    {imports}
    (memory (export "memory") 2 16)
    (data (i32.const 256) "This is in memory from the start.")
    (type $step (func (param $at i32) (result i32)))
    (table {count} funcref)
    (elem (i32.const 0) func {table})
    (func $poke (type $step) (param $at i32) (result i32)
        (i64.store (i32.and (i32.load offset=8 (local.get $at)) (i32.const {poke_mask})) (i64.load offset=16 (local.get $at)))
        (i32.const 0))
    (func $grow (type $step) (param $at i32) (result i32)
        (memory.grow (i32.load offset=8 (local.get $at))))
    (func $fill (type $step) (param $at i32) (result i32)
        (memory.fill
            (i32.and (i32.load offset=8 (local.get $at)) (i32.const 0xffff))
            (i32.load offset=24 (local.get $at))
            (i32.and (i32.load offset=16 (local.get $at)) (i32.const 0xff)))
        (i32.const 0))
    {steps}
    (func $read (param $to i32) (param $len i32)
        (i32.store (i32.const {own}) (local.get $to))
        (i32.store offset=4 (i32.const {own}) (local.get $len))
        (drop (call $fd_read (i32.const 0) (i32.const {own}) (i32.const 1) (i32.const {own_read}))))
    (func (export "_start") (local $left i32) (local $at i32) (local $result i32)
        (call $read (i32.const {own_result}) (i32.const 4))
        (local.set $left (i32.load (i32.const {own_result})))
        (call $read (i32.const {script}) (i32.mul (local.get $left) (i32.const {record})))
        (local.set $at (i32.const {script}))
        (block $done (loop $next
            (br_if $done (i32.eqz (local.get $left)))
            (local.set $result (call_indirect (type $step) (local.get $at) (i32.load (local.get $at))))
            (i32.store (i32.const {own_result}) (local.get $result))
            (call $host_log (i32.const 1) (i32.const {own_result}) (i32.const 4))
            (local.set $at (i32.add (local.get $at) (i32.const {record})))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br $next)))
        ;; all of memory, in records that are not cut
        (local.set $at (i32.const 0))
        (local.set $left (i32.mul (memory.size) (i32.const {chunks})))
        (loop $next
            (call $host_log (i32.const 0) (local.get $at) (i32.const {CHUNK}))
            (local.set $at (i32.add (local.get $at) (i32.const {CHUNK})))
            (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#,
        count = PLAIN + hostcalls().len(),
        poke_mask = ARENA - 8,
        own = OWN,
        own_read = OWN + 8,
        own_result = OWN + 16,
        script = ARENA,
        record = RECORD,
        chunks = ARENA / CHUNK,
    )
}

/// A function that makes one hostcall with the values of its step.
fn step(import: &Import) -> String {
    let mut text = format!(
        "(func $step_{} (type $step) (param $at i32) (result i32)",
        import.name
    );
    for (index, ty) in import.params.iter().enumerate() {
        let _ = write!(text, " (local $arg{index} {})", name(*ty));
    }
    text.push_str(" (local $errno i32)\n");
    // Load the values into locals first, because the call may overwrite the script.
    for (index, ty) in import.params.iter().enumerate() {
        let (ty, offset) = (name(*ty), 8 + 8 * index);
        let _ = writeln!(
            text,
            "(local.set $arg{index} ({ty}.load offset={offset} (local.get $at)))"
        );
    }
    let args: String = (0..import.params.len())
        .map(|index| format!(" (local.get $arg{index})"))
        .collect();
    if import.result.is_some() {
        let _ = writeln!(text, "(local.set $errno (call ${}{args}))", import.name);
    } else {
        let _ = writeln!(text, "(call ${}{args})", import.name);
    }
    if let Some(code) = wash(import.name) {
        let _ = writeln!(text, "(if (i32.eqz (local.get $errno)) (then {code}))");
    }
    text.push_str("(local.get $errno))\n");
    text
}

/// Code that overwrites results that differ in each run.
fn wash(name: &str) -> Option<&'static str> {
    Some(match name {
        "clock_time_get" => "(i64.store (local.get $arg2) (i64.const 0))",
        "random_get" => "(memory.fill (local.get $arg0) (i32.const 0) (local.get $arg1))",
        // Which of two clock subscriptions is ready first can differ.
        "poll_oneoff" => {
            "(memory.fill (local.get $arg1) (i32.const 0) (i32.mul (local.get $arg2) (i32.const 32)))
             (i32.store (local.get $arg3) (i32.const 0))"
        }
        _ => return None,
    })
}

fn types(import: &Import) -> String {
    import
        .params
        .iter()
        .map(|ty| format!(" {}", name(*ty)))
        .collect()
}

fn name(ty: ParamType) -> &'static str {
    match ty {
        ParamType::I32 => "i32",
        ParamType::I64 => "i64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_and_the_drivers_room_do_not_meet() {
        let script = ARENA as usize + STEPS_MAX * RECORD;
        assert!(script <= OWN as usize);
        let most = hostcalls().iter().map(|import| import.params.len()).max();
        assert_eq!(most.map(|values| 8 + 8 * values), Some(RECORD));
    }

    #[test]
    fn every_hostcall_has_its_step() {
        let wat = wat();
        assert!(wat::parse_str(&wat).is_ok(), "{wat}");
        for import in hostcalls() {
            assert!(wat.contains(&format!("(func $step_{} ", import.name)));
        }
    }
}
