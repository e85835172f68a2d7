//! The language `reactor`: reactors written in any language. They return from `_initialize`, and from their handler. So do guests of
//! http-wasm, which have two handlers, and may initialise themselves in `_start`.

use super::{Language, WARMED, answered, asked_for_nothing, drew_nothing, returned, silent};
use crate::module::StartPlan;
use crate::sandbox::{Reads, World};
use crate::snapshot::SnapshotKind;
use crate::snapshot::recorder::{Checkpoint, Recorder, Run};

/// A reactor.
pub(super) struct Reactor<'a> {
    pub(super) plain: &'a StartPlan,
    /// How many of the entries, at the end, are handlers.
    pub(super) handlers: usize,
}

impl Reactor<'_> {
    fn resume(&self, checkpoint: &Checkpoint) -> Result<StartPlan, String> {
        let entries = self.plain.entries();
        checkpoint.plan(&entries[entries.len().saturating_sub(self.handlers)..])
    }
}

impl Language for Reactor<'_> {
    fn first(&self, recorder: &Recorder<'_>, world: World) -> Result<Checkpoint, String> {
        let entries = self.plain.entries();
        let before = &entries[..entries.len().saturating_sub(self.handlers)];
        if before.is_empty() {
            return Err(
                "it is a reactor without _initialize: nothing runs before its handler".into(),
            );
        }
        let ended = recorder.run(&Run {
            plan: &self.plain.with_entries(before),
            world,
            later: None,
            stdin: &[],
            reads: Reads::Park,
            capture: true,
            tidy: true,
        })?;
        if ended.parked {
            return Err("it reads its request in _initialize".into());
        }
        returned(&ended, "its _initialize")?;
        silent(&ended)?;
        Checkpoint::of(SnapshotKind::Initialised, ended)
    }

    fn round(
        &self,
        recorder: &Recorder<'_>,
        from: &Checkpoint,
        sample: &[u8],
        tidy: bool,
        world: World,
    ) -> Result<Checkpoint, String> {
        let ended = recorder.run(&Run {
            plan: &self.resume(from)?,
            world,
            later: None,
            stdin: sample,
            reads: Reads::Plain,
            capture: true,
            tidy,
        })?;
        returned(&ended, "its handler")?;
        answered(recorder.contract, &ended)?;
        Checkpoint::of(WARMED, ended)
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<StartPlan, String> {
        self.resume(checkpoint)
    }

    fn start_is_fresh(&self, first: &Checkpoint, other: &Checkpoint) -> Result<(), String> {
        asked_for_nothing(&first.asked, &[])?;
        if same(first, other) {
            return Ok(());
        }
        Err(
            "it asks for the date or the time in _initialize, and what it keeps of that would be the same in every request"
                .into(),
        )
    }

    fn warm_up_is_fresh(
        &self,
        warm: &Checkpoint,
        other: &Checkpoint,
        _again: &mut dyn FnMut() -> Result<Checkpoint, String>,
    ) -> Result<(), String> {
        drew_nothing(warm)?;
        // The warm-up began in the same state in both worlds.
        if same(warm, other) {
            return Ok(());
        }
        Err(
            "it asks for the date or the time while it answers the sample, and what it keeps of that would be the same in every \
             request"
                .into(),
        )
    }
}

/// Whether two recordings have the same state. Then it holds nothing of the worlds in which they were made.
fn same(one: &Checkpoint, other: &Checkpoint) -> bool {
    one.state.memory == other.state.memory && one.state.globals == other.state.globals
}
