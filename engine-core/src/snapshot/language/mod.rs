//! What a snapshot has to know about the language that a program is written in.

mod go;
mod reactor;

use super::SnapshotKind;
use super::recorder::{Checkpoint, Ended, Recorder};
use crate::contract::Contract;
use crate::module::{Loaded, StartPlan};
use crate::outcome::GuestExit;
use crate::sandbox::{Asked, World};
use crate::wasm::Form;

/// How programs of one language are run until they wait for a request, and which parts of their state must not be frozen.
pub(super) trait Language {
    /// Runs the program until it waits for its first request.
    fn first(&self, recorder: &Recorder<'_>, world: World) -> Result<Checkpoint, String>;

    /// Lets the program at `from` serve `sample`, until it waits for the next request.
    fn round(
        &self,
        recorder: &Recorder<'_>,
        from: &Checkpoint,
        sample: &[u8],
        tidy: bool,
        world: World,
    ) -> Result<Checkpoint, String>;

    /// How sandboxes that serve requests start from a checkpoint.
    fn plan(&self, checkpoint: &Checkpoint) -> Result<StartPlan, String>;

    /// Checks, by what the program asked of the host before its first request, that it holds nothing that must be fresh
    /// in each request. `other` was recorded in another world.
    fn start_is_fresh(&self, first: &Checkpoint, other: &Checkpoint) -> Result<(), String>;

    /// Checks that a warmed program holds nothing that must be fresh in each request. `again` records the warm-up with
    /// the same entropy at another time, and `other` is the recording in another world.
    fn warm_up_is_fresh(
        &self,
        warm: &Checkpoint,
        other: &Checkpoint,
        again: &mut dyn FnMut() -> Result<Checkpoint, String>,
    ) -> Result<(), String>;
}

/// The language of a module. `Err` says why it cannot have a snapshot.
pub(super) fn of(loaded: &Loaded, form: Form) -> Result<Box<dyn Language + '_>, String> {
    let plain = &loaded.plain;
    match (form, &loaded.split.go) {
        (Form::Reactor { .. }, _) => Ok(Box::new(reactor::Reactor { plain, handlers: 1 })),
        (Form::HttpHandler, _) => Ok(Box::new(reactor::Reactor { plain, handlers: 2 })),
        (Form::Command, Ok(go)) => Ok(Box::new(go::Go { plain, go })),
        (Form::Command, Err(why)) => Err(format!(
            "only commands built by Go's compiler can be stopped where they wait for a request, and this is not one: {why}"
        )),
    }
}

/// Checks that the program used no files before its first request, and drew no random bytes except draws of these
/// lengths.
fn asked_for_nothing(asked: &Asked, random: &[u32]) -> Result<(), String> {
    if asked.calls > 0 {
        return Err(format!(
            "it calls the host before it reads its request (gojinn.call, {} times): what it got would be frozen",
            asked.calls
        ));
    }
    if let Some(name) = asked.first_file {
        return Err(format!(
            "it uses files before it reads its request ({name}, {} calls): what it found would be frozen",
            asked.files
        ));
    }
    if asked.random != random {
        return Err(format!(
            "it draws random bytes before it reads its request ({} calls): they would be the same in every request",
            asked.random.len()
        ));
    }
    Ok(())
}

/// Checks that a warm-up drew no random bytes and called no host: it cannot be seen from outside whether the program keeps
/// anything of it.
fn drew_nothing(warm: &Checkpoint) -> Result<(), String> {
    if warm.asked.calls > 0 {
        return Err(format!(
            "it calls the host while it answers the sample (gojinn.call, {} times), which is not served then",
            warm.asked.calls
        ));
    }
    if warm.asked.random.is_empty() {
        return Ok(());
    }
    Err(format!(
        "it draws random bytes while it answers the sample ({} calls), and what it keeps of them would be the same in every request",
        warm.asked.random.len()
    ))
}

fn returned(ended: &Ended, what: &str) -> Result<(), String> {
    match &ended.exit {
        GuestExit::Exit(0) if !ended.left => Ok(()),
        GuestExit::Exit(code) => Err(format!("{what} exits with code {code} and does not return")),
        GuestExit::Trap(trap) => Err(format!("{what} traps: {trap}")),
    }
}

fn silent(ended: &Ended) -> Result<(), String> {
    if ended.stdout.is_empty() {
        return Ok(());
    }
    Err("it writes to stdout before it reads its request".into())
}

fn answered(contract: &dyn Contract, ended: &Ended) -> Result<(), String> {
    contract
        .parse_response(&ended.stdout)
        .map(|_| ())
        .map_err(|error| format!("the answer to its sample request is refused: {error}"))
}

/// The kind of a checkpoint after a warm-up.
const WARMED: SnapshotKind = SnapshotKind::Warmed;
