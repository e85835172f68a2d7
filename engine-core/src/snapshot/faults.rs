//! Snapshots that are wrong on purpose, for tests: the proof must refuse each of them.

use super::choose::samples;
use super::program::{Checkpoint, Program};
use super::recorder::Recorder;
use super::{SnapshotMode, verify};
use crate::backend::SlotSource;
use crate::calls::Calls;
use crate::contract::Contract;
use crate::limits::Limits;
use crate::module::Loaded;
use crate::sandbox::{self, FIRST_READING};
use crate::start::GlobalValue;
use crate::wasm::Form;

/// What is wrong with a snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
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

/// What a module is tried with.
pub(crate) struct Trial<'a> {
    pub(crate) calls: &'a Calls,
    pub(crate) slots: &'a SlotSource,
    pub(crate) contract: &'static dyn Contract,
    pub(crate) loaded: &'a Loaded,
    pub(crate) form: Form,
    pub(crate) args: &'a [&'a str],
    pub(crate) sample: Option<&'a [u8]>,
}

/// What the proof says of a snapshot of the module with that fault; `Err(text)`: it refuses it.
pub(crate) fn prove(trial: &Trial<'_>, fault: Fault) -> Result<(), String> {
    let Trial { loaded, .. } = *trial;
    let limits = Limits::default();
    let program = sandbox::Program {
        args: std::iter::once("fault")
            .chain(trial.args.iter().copied())
            .map(|arg| arg.as_bytes().to_vec())
            .collect(),
        env: Vec::new(),
    };
    let recorder = Recorder::new(
        trial.calls,
        trial.slots,
        trial.contract,
        loaded,
        &program,
        None,
        &limits,
    );
    let program = Program::of(loaded, trial.form)?;
    let mut held = program.first(&recorder)?;
    let clock = held.clock;
    match fault {
        Fault::StackPointer => held.shift_stack(8),
        Fault::Memory(text) => held.overwrite(text)?,
        _ => {}
    }
    let plan = program.plan(&held)?;
    let mut plan = match fault {
        Fault::Entry => plan.with_entries(&loaded.plain.entries()),
        Fault::Patches => plan.with_patches(Vec::new()),
        Fault::PatchAddress => {
            let mut patches = plan.state().patches.clone();
            if let Some(crate::start::Patch::Random { at, .. }) = patches.first_mut() {
                *at += 1 << 40;
            }
            plan.with_patches(patches)
        }
        _ => plan,
    };
    if fault == Fault::Clock {
        plan.clock = FIRST_READING;
    }
    verify::verify(
        &recorder,
        &loaded.plain,
        &plan,
        clock,
        &samples(trial.contract, trial.sample),
        SnapshotMode::Auto,
    )
}

impl Checkpoint {
    /// Moves the stack pointer, the first global of a Go program.
    fn shift_stack(&mut self, bytes: i32) {
        if let Some((_, GlobalValue::I32(sp))) = self.state.globals.first_mut() {
            *sp += bytes;
        }
    }

    /// Overwrites each `text` in memory.
    fn overwrite(&mut self, text: &[u8]) -> Result<(), String> {
        let memory = &mut self.state.memory;
        let found: Vec<_> = memory
            .windows(text.len())
            .enumerate()
            .filter(|(_, window)| *window == text)
            .map(|(at, _)| at)
            .collect();
        if found.is_empty() {
            return Err("fault failed: the text is not in memory".into());
        }
        for at in found {
            memory[at..at + text.len()].fill(b'X');
        }
        Ok(())
    }
}
