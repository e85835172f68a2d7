//! Compares a start from a snapshot with a plain one, on every backend.
//!
//! ```text
//!   bytes ──▶ module::generate ──▶ a reactor ──▶ deployed with and without a snapshot ──▶ the same answers, each time?
//! ```
//!
//! The reactor computes in `_initialize`, and leaves numbers in globals and memory. Its handler goes on with them, and
//! with the request. It depends on no clock and draws no random bytes, so a snapshot must be possible unless the start
//! traps.

use engine_core::SnapshotMode;

use crate::Target;
use crate::engines::BACKENDS;
use crate::module::generate::{self, Form};
use crate::module::{Seen, binary, deploy, fault, run};
use crate::report::{Disagreement, same};

/// The target, as the module documentation describes it.
pub const TARGET: Target = Target {
    name: "snapshot",
    check,
    dictionary: &[],
    max_len: 1024,
};

fn check(input: &[u8]) -> Result<(), Disagreement> {
    let text = generate::wat(Form::Reactor, input);
    let wasm = binary(&text)?;
    let request = &input[..input.len().min(16)];
    let mut first: Option<Answers> = None;
    for backend in BACKENDS {
        compare(backend, &wasm, request, &mut first)
            .map_err(|found| found.with("module", text.clone()))?;
    }
    Ok(())
}

/// What a function answers: an empty request, one with bytes, and the empty one again.
type Answers = Vec<Seen>;

fn compare(
    backend: &str,
    wasm: &[u8],
    request: &[u8],
    first: &mut Option<Answers>,
) -> Result<(), Disagreement> {
    let answers = |mode| {
        let function = deploy(backend, wasm, mode)?;
        let answers = [b"", request, b""].map(|stdin| run(&function, stdin));
        let answers = answers.into_iter().collect::<engine_core::Result<_>>()?;
        Ok((answers, function.facts().snapshot.clone()))
    };
    let (plain, _): (Answers, _) =
        answers(SnapshotMode::Off).map_err(|error| fault(backend, &error))?;
    let (snapshot, facts): (Answers, _) =
        answers(SnapshotMode::Auto).map_err(|error| fault(backend, &error))?;
    let plainly = format!("{backend} without a snapshot");
    same(
        "an answer to the same request",
        (&plainly, &plain[0]),
        (&plainly, &plain[2]),
    )?;
    same(
        "answers",
        (&plainly, &plain),
        (&format!("{backend} from {facts:?}"), &snapshot),
    )?;
    if let Some(why) = &facts.why_not
        && !may_be(why)
    {
        return Err(Disagreement::new(
            "whether there is a snapshot",
            (backend, why.clone()),
            ("expected", "a snapshot, or one of the usual reasons".into()),
        ));
    }
    match first {
        None => *first = Some(plain),
        Some(expected) => same("answers", (BACKENDS[0], expected), (backend, &plain))?,
    }
    Ok(())
}

/// Whether a reactor of this target may have no snapshot for that reason: its start traps, or the machine was busy while the
/// two starts were timed. A difference that the deployment itself has found is none.
fn may_be(why: &str) -> bool {
    ["its _initialize traps", "a request takes", "too long"]
        .iter()
        .any(|usual| why.contains(usual))
}

#[cfg(test)]
mod tests {
    use engine_core::SnapshotKind;

    use super::*;

    /// Most reactors have a snapshot, so that there is something to compare.
    #[test]
    fn reactors_have_snapshots() {
        let mut rng = crate::mutate::Rng::new(2);
        let mut kept = 0;
        for _ in 0..40 {
            let input: Vec<u8> = (0..200).map(|_| rng.next() as u8).collect();
            let wasm = binary(&generate::wat(Form::Reactor, &input)).expect("it is a module");
            let function = deploy("wasmi", &wasm, SnapshotMode::Auto).expect("it is deployed");
            kept += u32::from(function.facts().snapshot.kind == SnapshotKind::Initialised);
        }
        assert!(kept >= 10, "{kept} of 40 have a snapshot");
    }
}
