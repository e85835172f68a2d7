//! The language `go`: commands built by Go's compiler, which can be stopped in the middle, in the read of a request.
//!
//! This is the order of their runs. What has to be known about Go's memory is in [`crate::go`].

use super::{Language, WARMED, answered, asked_for_nothing, drew_nothing, silent};
use crate::backend::Captured;
use crate::go::GoCommand;
use crate::go::state as go;
use crate::module::StartPlan;
use crate::outcome::GuestExit;
use crate::sandbox::{Reads, World};
use crate::snapshot::SnapshotKind;
use crate::snapshot::recorder::{Checkpoint, Ended, Recorder, Run};
use crate::wasm::RESUME_EXPORT;

/// The language of one Go command.
pub(super) struct Go<'a> {
    pub(super) plain: &'a StartPlan,
    pub(super) go: &'a GoCommand,
}

impl Go<'_> {
    /// The state of a command that waits for a request, ready to be resumed.
    fn parked(&self, kind: SnapshotKind, ended: Ended) -> Result<Checkpoint, String> {
        if !ended.parked {
            return Err(match &ended.exit {
                GuestExit::Exit(code) => {
                    format!("it ends with exit code {code} before it reads its request")
                }
                GuestExit::Trap(trap) => format!("it traps before it reads its request: {trap}"),
            });
        }
        let mut checkpoint = Checkpoint::of(kind, ended)?;
        let Captured { memory, globals } = &mut checkpoint.state;
        go::park(self.go, memory, globals)?;
        Ok(checkpoint)
    }
}

impl Language for Go<'_> {
    fn first(&self, recorder: &Recorder<'_>, world: World) -> Result<Checkpoint, String> {
        let ended = recorder.run(&Run {
            plan: self.plain,
            world,
            later: None,
            stdin: &[],
            reads: Reads::Park,
            capture: true,
            tidy: true,
        })?;
        silent(&ended)?;
        self.parked(SnapshotKind::Parked, ended)
    }

    fn round(
        &self,
        recorder: &Recorder<'_>,
        from: &Checkpoint,
        sample: &[u8],
        tidy: bool,
        world: World,
    ) -> Result<Checkpoint, String> {
        let frame = go::main_frame(self.go, &from.state.memory, &from.state.globals);
        let ended = recorder.run(&Run {
            plan: &resume(from)?,
            world,
            later: None,
            stdin: sample,
            reads: Reads::Loop,
            capture: true,
            tidy,
        })?;
        if ended.parked {
            return self.parked(WARMED, ended);
        }
        exited(&ended)?;
        answered(recorder.contract, &ended)?;
        let frame = frame?;
        let mut served = Checkpoint::of(WARMED, ended)?;
        let Captured { memory, globals } = &mut served.state;
        go::rewind(self.go, &frame, memory, globals)?;
        let again = recorder.run(&Run {
            plan: &resume(&served)?,
            world: World {
                seed: !world.seed,
                wall: world.wall + 1_000,
                ..world
            },
            later: None,
            stdin: &[],
            reads: Reads::Park,
            capture: true,
            tidy,
        })?;
        silent(&again)?;
        let mut parked = self.parked(WARMED, again)?;
        parked.stderr.insert_str(0, &served.stderr);
        parked.asked = served.asked.and(&parked.asked);
        Ok(parked)
    }

    fn plan(&self, checkpoint: &Checkpoint) -> Result<StartPlan, String> {
        let Captured { memory, globals } = &checkpoint.state;
        let patches = go::generators(self.go, memory, globals)?;
        Ok(resume(checkpoint)?.with_patches(patches))
    }

    fn start_is_fresh(&self, first: &Checkpoint, _other: &Checkpoint) -> Result<(), String> {
        // Go's runtime draws the seed of its generators, which are patched.
        asked_for_nothing(&first.asked, &[crate::go::RUNTIME_SEED])?;
        if go::asked_for_date(self.go, &first.state.memory, &first.asked.realtime) {
            return Err(
                "it asks for the date before it reads its request: that would be the same in every request".into(),
            );
        }
        Ok(())
    }

    fn warm_up_is_fresh(
        &self,
        warm: &Checkpoint,
        _other: &Checkpoint,
        again: &mut dyn FnMut() -> Result<Checkpoint, String>,
    ) -> Result<(), String> {
        drew_nothing(warm)?;
        if !go::asked_for_date(self.go, &warm.state.memory, &warm.asked.realtime) {
            return Ok(());
        }
        let again = again()?;
        let (warm, again) = (&warm.state, &again.state);
        let keeps = go::keeps_date(
            self.go,
            (&warm.memory, &warm.globals),
            (&again.memory, &again.globals),
        );
        if keeps {
            return Err(
                "it asks for the date while it answers the sample, and keeps something of it in its memory: that would be \
                 the same in every request"
                    .into(),
            );
        }
        Ok(())
    }
}

fn resume(checkpoint: &Checkpoint) -> Result<StartPlan, String> {
    checkpoint.plan(&[RESUME_EXPORT.to_owned()])
}

fn exited(ended: &Ended) -> Result<(), String> {
    match &ended.exit {
        GuestExit::Exit(0) if ended.left => Ok(()),
        GuestExit::Exit(code) => Err(format!("its sample request ends with exit code {code}")),
        GuestExit::Trap(trap) => Err(format!("its sample request ends with a trap: {trap}")),
    }
}
