//! Snapshots that are wrong on purpose, for tests: the verification must refuse each of them.

use super::recorder::{Checkpoint, Recorder};
use super::samples::Samples;
use super::verify::{Recorded, Verifier};
use super::worlds::Worlds;
use super::{SnapshotMode, language};
use crate::backend::SlotSource;
use crate::calls::Calls;
use crate::contract::{Contract, Fields};
use crate::limits::SandboxLimits;
use crate::module::Loaded;
use crate::sandbox::{self, FIRST_READING};
use crate::start::GlobalValue;
use crate::wasm::Form;

/// What is wrong with a snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Nothing.
    Nothing,
    /// The stack pointer is wrong by one word.
    StackPointer,
    /// The program is started from its beginning in the captured memory, and not resumed.
    Entry,
    /// A text in memory that the program answers with is overwritten.
    Memory(&'static [u8]),
    /// The random generators are not seeded again.
    Patches,
    /// One of the patches has a wrong address.
    PatchAddress,
    /// The monotonic clock begins as in a plain start, before the time of the capture.
    Clock,
}

/// A module with what is needed to record and verify a snapshot of it.
pub(crate) struct Trial<'a> {
    pub(crate) calls: &'a Calls,
    pub(crate) slots: &'a SlotSource,
    pub(crate) contract: &'static dyn Contract,
    pub(crate) loaded: &'a Loaded,
    pub(crate) form: Form,
    pub(crate) args: &'a [&'a str],
    pub(crate) sample: Option<&'a [u8]>,
}

/// Verifies a snapshot of the module with this fault. `Err` has the reason for which the verification refuses it.
pub(crate) fn prove(trial: &Trial<'_>, fault: Fault) -> Result<(), String> {
    let Trial { loaded, .. } = *trial;
    let limits = SandboxLimits::default();
    let program = sandbox::Program {
        args: std::iter::once("fault")
            .chain(trial.args.iter().copied())
            .map(|arg| arg.as_bytes().to_vec())
            .collect(),
        ..sandbox::Program::default()
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
    let language = language::of(loaded, trial.form)?;
    let worlds = Worlds::now();
    let first = |world| {
        let checkpoint = language.first(&recorder, world)?;
        let plan = language.plan(&checkpoint)?;
        let plan = match fault {
            Fault::Entry => plan.with_entries(&loaded.plain.entries()),
            Fault::Patches => plan.with_patches(Vec::new()),
            _ => plan,
        };
        Ok::<_, String>(Recorded { checkpoint, plan })
    };
    let (mut taken, other) = (first(worlds.first())?, first(worlds.second())?);
    match fault {
        Fault::StackPointer => {
            taken.checkpoint.shift_stack(8);
            taken.plan = language.plan(&taken.checkpoint)?;
        }
        Fault::Memory(text) => {
            taken.checkpoint.overwrite(text)?;
            taken.plan = language.plan(&taken.checkpoint)?;
        }
        Fault::PatchAddress => {
            let mut patches = taken.plan.state().patches.clone();
            if let Some(crate::start::Patch::Random { at, .. }) = patches.first_mut() {
                *at += 1 << 40;
            }
            taken.plan = taken.plan.with_patches(patches);
        }
        Fault::Clock => taken.plan.clock = FIRST_READING,
        Fault::Nothing | Fault::Entry | Fault::Patches => {}
    }
    let samples = Samples::new(trial.contract, Fields::default(), trial.sample);
    let verifier = Verifier {
        recorder: &recorder,
        worlds,
        samples: &samples.all,
        mode: SnapshotMode::Auto,
    };
    verifier.start(&taken, &other).map(|_| ())
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
