//! Compares the backends: each runs the same module, which the input describes.
//!
//! ```text
//!   bytes ──▶ generate ──▶ a module ──▶ wasmi, wasmtime, wasmer ──▶ the same globals, memory, table and end?
//! ```
//!
//! The name of a seed is an instruction that its module has. A test makes the seeds, and checks their names.

pub(crate) mod generate;

use std::sync::OnceLock;
use std::time::Duration;

use engine_core::{
    Engine, Error, Function, FunctionConfig, GuestExit, PAGE, Result, SandboxLimits, SnapshotMode,
    TrapCode,
};

use crate::Target;
use crate::engines::{self, BACKENDS};
use crate::report::{Disagreement, same};
use generate::Form;

/// The target, as the module documentation describes it.
pub const TARGET: Target = Target {
    name: "module",
    check,
    dictionary: &[],
    max_len: 1024,
};

fn check(input: &[u8]) -> std::result::Result<(), Disagreement> {
    let text = generate::wat(Form::Command, input);
    let wasm = binary(&text)?;
    let mut first = None;
    for backend in BACKENDS {
        let mut seen = deploy(backend, &wasm, SnapshotMode::Off)
            .and_then(|function| run(&function, b""))
            .map_err(|error| fault(backend, &error))?;
        if text.contains("(table.grow") {
            // wasmer has no hook for the growth of tables, and does not count what it refuses.
            seen.refused = 0;
        }
        match &first {
            None => first = Some(seen),
            Some(expected) => same("a run", (BACKENDS[0], expected), (backend, &seen))
                .map_err(|found| found.with("module", text.clone()))?,
        }
    }
    Ok(())
}

/// The module of a text that [`generate`] has made.
pub(crate) fn binary(text: &str) -> std::result::Result<Vec<u8>, Disagreement> {
    wat::parse_str(text).map_err(|error| {
        Disagreement::new(
            "a generated module",
            ("wat", error.to_string()),
            ("module", text.to_owned()),
        )
    })
}

pub(crate) fn fault(backend: &str, error: &Error) -> Disagreement {
    Disagreement::new(
        "a fault of the host",
        (backend, error.to_string()),
        ("expected", "a run".to_owned()),
    )
}

/// What a run shows.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    end: std::result::Result<i32, TrapCode>,
    stdout: String,
    memory_peak: u64,
    /// Growths that were refused.
    refused: u32,
}

/// Runs a function once.
pub(crate) fn run(function: &Function, stdin: &[u8]) -> Result<Seen> {
    let run = function.run(engine().reserve()?, stdin.to_vec())?;
    Ok(Seen {
        end: match &run.exit {
            GuestExit::Exit(code) => Ok(*code),
            GuestExit::Trap(trap) => Err(trap.code),
        },
        stdout: run.stdout.escape_ascii().to_string(),
        memory_peak: run.memory_peak,
        refused: run.memory_refused,
    })
}

pub(crate) fn deploy(backend: &str, wasm: &[u8], snapshot: SnapshotMode) -> Result<Function> {
    let config = FunctionConfig {
        name: "generated".into(),
        backend: Some(backend.into()),
        snapshot,
        limits: SandboxLimits {
            timeout: Duration::from_secs(60),
            memory: 3 * PAGE,
            ..SandboxLimits::default()
        },
        ..FunctionConfig::default()
    };
    engine().deploy(wasm, config)
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| match engines::engine(4) {
        Ok(engine) => engine,
        Err(error) => panic!("the backends cannot be set up: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the bytes are, the module is valid; and most of them do something before they trap.
    #[test]
    fn every_input_is_a_module() {
        let mut rng = crate::mutate::Rng::new(1);
        let mut whole = 0;
        for _ in 0..100 {
            let input: Vec<u8> = (0..400).map(|_| rng.next() as u8).collect();
            for form in [Form::Command, Form::Reactor] {
                binary(&generate::wat(form, &input)).expect("it is a module");
            }
            let wasm = binary(&generate::wat(Form::Command, &input)).expect("it is a module");
            let function = deploy("wasmi", &wasm, SnapshotMode::Off).expect("it is deployed");
            whole += u32::from(run(&function, b"").expect("it runs").end == Ok(0));
        }
        assert!(whole >= 20, "{whole} of 100 end without a trap");
    }

    /// Instructions that the seeds of both targets have, and those that only [`Form::Command`] may have.
    const EACH: [&str; 39] = [
        "block",
        "br_if",
        "br_table",
        "call $f1",
        "call_indirect",
        "f32.convert_i64_u",
        "f32.demote_f64",
        "f32.div",
        "f32.nearest",
        "f32x4.lt",
        "f64.max",
        "f64.promote_f32",
        "f64.sqrt",
        "global.set",
        "i16x8.mul",
        "i32.div_s",
        "i32.load16_s",
        "i32.rotl",
        "i32.store8",
        "i32.trunc_f64_s",
        "i32x4.shr_s",
        "i64.clz",
        "i64.extend16_s",
        "i64.load8_u",
        "i64.rem_u",
        "i64.store32",
        "i64.trunc_sat_f32_u",
        "i8x16.swizzle",
        "loop",
        "memory.copy",
        "memory.fill",
        "memory.grow",
        "memory.init",
        "memory.size",
        "select",
        "table.get",
        "unreachable",
        "v128.load8x8_s",
        "v128.store",
    ];
    const COMMANDS: [&str; 9] = [
        "data.drop",
        "elem.drop",
        "global.set $gref",
        "table.copy",
        "table.fill",
        "table.grow",
        "table.init",
        "table.set",
        "ref.null",
    ];

    /// With `GOJINN_WRITE_SEEDS=1` it makes them again, which is needed after most changes of [`generate`].
    #[test]
    fn each_seed_has_the_instruction_of_its_name() {
        let has = |form, input: &[u8], name: &str| {
            let code = generate::functions(form, input);
            code.contains(&format!("({name} ")) || code.contains(&format!("({name})"))
        };
        for (target, form, more) in [
            (TARGET, Form::Command, &COMMANDS[..]),
            (crate::snapshot::TARGET, Form::Reactor, &[]),
        ] {
            for name in EACH.iter().chain(more) {
                let path = target.seeds().join(name.replace(" $", "-"));
                if std::env::var_os("GOJINN_WRITE_SEEDS").is_some() {
                    let fits = |input: &[u8]| has(form, input, name) && ends(form, input, name);
                    let mut rng = crate::mutate::Rng::new(1);
                    let input = (0..100_000)
                        .map(|_| (0..200).map(|_| rng.next() as u8).collect::<Vec<u8>>())
                        .find(|input| fits(input))
                        .unwrap_or_else(|| panic!("no input has {name}"));
                    std::fs::write(&path, crate::shrink::shrink(&input, fits))
                        .expect("it is written");
                }
                let input = std::fs::read(&path).unwrap_or_else(|error| {
                    panic!(
                        "{}: {error}; write it with GOJINN_WRITE_SEEDS=1",
                        path.display()
                    )
                });
                assert!(has(form, &input, name), "{}", path.display());
            }
        }
    }

    /// Whether the module ends without a trap, or with the one that its instruction is for.
    fn ends(form: Form, input: &[u8], name: &str) -> bool {
        let wasm = binary(&generate::wat(form, input)).expect("it is a module");
        let function = deploy("wasmi", &wasm, SnapshotMode::Off).expect("it is deployed");
        (run(&function, b"").expect("it runs").end == Ok(0)) == (name != "unreachable")
    }
}
