//! Snapshots that are wrong on purpose, for tests: the proof must refuse each of them.

use std::sync::Arc;

use super::program::{Held, Program};
use super::run_up::Ground;
use super::{SnapshotMode, proof, samples};
use crate::backend::GlobalValue;
use crate::cancel::Cancel;
use crate::engine::Engine;
use crate::error::Result;
use crate::host::{self, FIRST_READING};
use crate::limits::Limits;
use crate::wasm::Wasm;

/// What is wrong with a snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sabotage {
    /// Nothing.
    Nothing,
    /// The stack pointer is off by one frame's word.
    StackPointer,
    /// The program is started anew in the captured memory, and not resumed.
    Entry,
    /// What memory says in its answer is not what it was.
    Memory(&'static [u8]),
    /// The generators are not seeded anew.
    Patches,
    /// One of the patches goes somewhere else.
    PatchAddress,
    /// The monotonic clock begins as in a plain start.
    Clock,
}

/// What the proof says of a snapshot of the module with that fault; `Err(text)`: it refuses it.
pub(crate) fn prove(
    engine: &Engine,
    wasm: &[u8],
    args: &[&str],
    sample: Option<&[u8]>,
    sabotage: Sabotage,
) -> Result<std::result::Result<(), String>> {
    let shared = engine.shared();
    let limits = Limits::default();
    let wasm = Wasm::parse(wasm, shared.features, &shared.bounds)?;
    let backend = Arc::clone(shared.backend(shared.default_backend())?);
    let (loaded, _) = shared.module(&backend, &wasm, &limits, &Cancel::default())?;
    let program = host::Program {
        args: std::iter::once("sabotage")
            .chain(args.iter().copied())
            .map(str::to_owned)
            .collect(),
        env: Vec::new(),
    };
    let ground = Ground::new(shared, &loaded, &program, None, &limits);
    let broken = || {
        let program = Program::of(&loaded, wasm.form())?;
        let mut held = program.first(&ground)?;
        let clock = held.clock;
        match sabotage {
            Sabotage::StackPointer => held.shift_stack(8),
            Sabotage::Memory(text) => held.overwrite(text)?,
            _ => {}
        }
        let launch = program.launch(&held)?;
        let mut launch = match sabotage {
            Sabotage::Entry => launch.with_entries(&loaded.plain.entries()),
            Sabotage::Patches => launch.with_patches(Vec::new()),
            Sabotage::PatchAddress => {
                let mut patches = launch.point().patches.clone();
                if let Some(super::Patch::Random { at, .. }) = patches.first_mut() {
                    *at += 1 << 40;
                }
                launch.with_patches(patches)
            }
            _ => launch,
        };
        if sabotage == Sabotage::Clock {
            launch.clock = FIRST_READING;
        }
        proof::prove(
            &ground,
            &loaded.plain,
            &launch,
            clock,
            &samples::all(sample),
            SnapshotMode::Auto,
        )
    };
    Ok(broken())
}

impl Held {
    /// Moves the stack pointer, the first global of a Go program.
    fn shift_stack(&mut self, bytes: i32) {
        if let Some((_, GlobalValue::I32(sp))) = self.state.globals.first_mut() {
            *sp += bytes;
        }
    }

    /// Overwrites each `text` in memory.
    fn overwrite(&mut self, text: &[u8]) -> std::result::Result<(), String> {
        let memory = &mut self.state.memory;
        let found: Vec<_> = memory
            .windows(text.len())
            .enumerate()
            .filter(|(_, window)| *window == text)
            .map(|(at, _)| at)
            .collect();
        if found.is_empty() {
            return Err("sabotage failed: the text is not in memory".into());
        }
        for at in found {
            memory[at..at + text.len()].fill(b'X');
        }
        Ok(())
    }
}
