//! Measures requests to one function while the module of another one compiles, and compares them with the same requests
//! alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine_core::backend::Backend;
use engine_core::{Engine, EngineConfig, Function, FunctionConfig, Result, SnapshotMode};

use crate::goals::{Bound, Goal};
use crate::guests::{Guest, request};
use crate::machine;
use crate::measure::{Row, Samples};
use crate::report::{Report, nanos};
use crate::synthetic::Synthetic;

/// No compilation is running. Measured before [`COMPILING`] in each turn.
pub const ALONE: &str = "alone";

/// The same again, to show how much two measurements of the same thing differ.
pub const AGAIN: &str = "alone, again";

/// A module of 100 000 functions is compiling.
pub const COMPILING: &str = "while 100 000 functions compile";

/// How requests arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival {
    /// Each caller makes its next request when its last one is answered. No caller ever sleeps.
    Closed,
    /// Requests arrive at random times, with this mean distance for each caller, whether its last one is answered or
    /// not. Most of them wake their caller up. The time that a request waits for its caller is included.
    Random(Duration),
}

/// The ways in which requests arrive in `make bench`, each with its number of callers.
pub const WAYS: [(usize, Arrival); 3] = [
    (1, Arrival::Closed),
    (2, Arrival::Closed),
    (2, Arrival::Random(Duration::from_micros(500))),
];

impl Arrival {
    /// The mode of a row.
    #[must_use]
    pub fn mode(self, what: &str) -> String {
        match self {
            Self::Closed => what.into(),
            Self::Random(mean) => format!("{what}; every {} µs", mean.as_micros()),
        }
    }
}

/// A module of 100 000 functions that takes seconds to compile.
#[must_use]
pub fn hostile() -> Vec<u8> {
    Synthetic {
        functions: 100_000,
        function_bytes: 46,
        ..Synthetic::image(65_536, 1)
    }
    .build()
}

/// Calls `guest` on `callers` threads, `turns` times: alone, and alone again, each for `turn`; and while `hostile`
/// compiles, for at most twice as long.
///
/// # Errors
/// If something cannot be deployed.
pub fn beside(
    backend: Arc<dyn Backend>,
    guest: &Guest,
    hostile: &[u8],
    callers: usize,
    arrival: Arrival,
    (turns, turn): (usize, Duration),
) -> Result<Vec<Row>> {
    let kind = backend.name();
    let config = EngineConfig {
        // Long enough even if the callers keep the machine busy.
        compile_timeout: Some(Duration::from_secs(3600)),
        ..EngineConfig::default()
    };
    let engine = Engine::new(config, vec![backend])?;
    let deploy = |wasm: &[u8]| {
        let config = FunctionConfig {
            name: "bench".into(),
            snapshot: SnapshotMode::Off,
            ..FunctionConfig::default()
        };
        engine.deploy(wasm, config)
    };
    let function = deploy(guest.wasm.bytes())?;
    let serve = |until: &(dyn Fn() -> bool + Sync), samples: &mut Samples| {
        let begun = Instant::now();
        let parts = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..callers)
                .map(|caller| {
                    let (engine, function) = (&engine, &function);
                    scope.spawn(move || serve(engine, function, guest, arrival, caller, until))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a caller panicked"))
                .collect()
        });
        samples.join(parts, begun.elapsed());
    };
    let for_a_turn = |samples: &mut Samples| {
        let end = Instant::now() + turn;
        serve(&|| Instant::now() >= end, samples);
    };

    let (mut alone, mut again) = (Samples::default(), Samples::default());
    let mut compiling = Samples::default();
    for_a_turn(&mut Samples::default());
    for index in 0..turns {
        // Alternate the order, so that being first is no advantage.
        if index % 2 == 0 {
            for_a_turn(&mut alone);
            for_a_turn(&mut again);
        } else {
            for_a_turn(&mut again);
            for_a_turn(&mut alone);
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let deploying = scope.spawn(|| {
                let deployed = deploy(hostile);
                done.store(true, Ordering::Relaxed);
                deployed
            });
            // With callers that never sleep it would take minutes, so the rest of it runs without them.
            let end = Instant::now() + 2 * turn;
            let until = || done.load(Ordering::Relaxed) || Instant::now() >= end;
            serve(&until, &mut compiling);
            deploying.join().expect("a deployment panicked")
        })?;
    }
    let row = |mode: &str, samples: Samples| Row {
        group: "deploy",
        guest: guest.name.into(),
        backend: kind,
        mode: arrival.mode(mode),
        callers,
        time: Some(samples.times()),
        bytes: None,
    };
    Ok(vec![
        row(ALONE, alone),
        row(AGAIN, again),
        row(COMPILING, compiling),
    ])
}

/// The goals about these rows, by the 99th percentile.
pub(crate) fn goals(report: &Report, goals: &mut Vec<Goal>) {
    for backend in ["wasmtime", "wasmer"] {
        for (callers, arrival) in WAYS {
            let times =
                |what| report.times("deploy", "C hello", backend, &arrival.mode(what), callers);
            for (what, goal) in [(AGAIN, Bound::None), (COMPILING, Bound::AtMost(1.2))] {
                if let (Some(ours), Some(theirs)) = (times(what), times(ALONE)) {
                    let what = arrival.mode(what);
                    goals.push(Goal {
                        what: format!(
                            "{backend}, C hello, p99, {callers} callers: {what} vs {ALONE}"
                        ),
                        goal,
                        stats: (nanos(ours.p99_ns), nanos(theirs.p99_ns)),
                        ratio: ours.p99_ns as f64 / theirs.p99_ns.max(1) as f64,
                    });
                }
            }
        }
    }
}

/// Makes one caller's requests until it is told to stop.
fn serve(
    engine: &Engine,
    function: &Function,
    guest: &Guest,
    arrival: Arrival,
    caller: usize,
    until: &(dyn Fn() -> bool + Sync),
) -> Samples {
    machine::wake_on_time();
    let cpu = machine::thread_cpu();
    let mut nanos = Vec::new();
    let mut random = caller as u64 + 1;
    let mut next = Instant::now();
    while !until() {
        match arrival {
            Arrival::Closed => next = Instant::now(),
            Arrival::Random(mean) => {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                // Between nothing and twice the mean.
                next += mean.mul_f64((random >> 40) as f64 / f64::from(1 << 23));
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        }
        let permit = engine.reserve().expect("permits are free");
        function
            .call(permit, &request(), &[], |answer| {
                let body = answer
                    .response
                    .map_or(&[][..], |response| response.body.as_ref());
                guest.check(answer.status, body, answer.reason);
            })
            .expect("the call is well-formed");
        nanos.push(u64::try_from(next.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    let mut samples = Samples::default();
    samples.add(&nanos, machine::thread_cpu().saturating_sub(cpu));
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests;
    use crate::measure::Times;
    use crate::subjects::{Kind, Mode, Workshop};

    #[test]
    fn tails_are_compared_with_being_alone() {
        let (callers, arrival) = WAYS[2];
        let row = |what, p99_ns| Row {
            group: "deploy",
            guest: "C hello".into(),
            backend: "wasmer",
            mode: arrival.mode(what),
            callers,
            time: Some(Times {
                p99_ns,
                ..Times::default()
            }),
            bytes: None,
        };
        let rows = vec![row(ALONE, 100), row(AGAIN, 130), row(COMPILING, 125)];
        let mut found = Vec::new();
        goals(&Report { rows }, &mut found);
        let found: Vec<_> = found.iter().map(|goal| (goal.ratio, goal.met())).collect();
        assert_eq!(found, [(1.3, true), (1.25, false)]);
    }

    #[test]
    fn requests_are_answered_whatever_compiles() {
        let backend = Workshop::default()
            .backend(Kind::Wasmi, Mode::Scan)
            .unwrap();
        let small = Synthetic::image(65_536, 1).build();
        let arrival = Arrival::Random(Duration::from_millis(1));
        let rows = beside(
            backend,
            &guests::tiny(),
            &small,
            2,
            arrival,
            (1, Duration::from_millis(50)),
        )
        .unwrap();
        assert_eq!(rows.len(), 3);
        assert!(rows[..2].iter().all(|row| row.time.unwrap().n > 0));
        assert_eq!(rows[1].mode, "alone, again; every 1000 µs");
    }
}
