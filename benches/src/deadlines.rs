//! Measures how long after their deadlines guests end, whatever they do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_core::backend::Backend;
use engine_core::{Engine, EngineConfig, Function, FunctionConfig, Outcome, Result, SnapshotMode};

use crate::goals::{Bound, Goal};
use crate::guests::request;
use crate::measure::{Row, Samples};
use crate::report::{Report, nanos};

/// The mode of the rows.
const MODE: &str = "past its deadline";

/// What the guests do when their deadline passes. The fields of the module, and what `_start` runs.
pub const KINDS: [(&str, &str, &str); 10] = [
    ("a loop", "", "(loop $l (br $l))"),
    (
        "calls",
        "(func $again)",
        "(loop $l (call $again) (br $l))",
    ),
    (
        "a start function",
        "(start $spin) (func $spin (loop $l (br $l)))",
        "",
    ),
    (
        "fill of fresh memory",
        "",
        "(loop $l
            (drop (memory.grow (i32.const 1000)))
            (memory.fill (i32.const 65536) (i32.const 7) (i32.const 65000000))
            (br $l))",
    ),
    (
        "copy of much memory",
        "",
        "(drop (memory.grow (i32.const 1000)))
         (loop $l (memory.copy (i32.const 65537) (i32.const 65536) (i32.const 65000000)) (br $l))",
    ),
    (
        "init from a large segment",
        "(data $d \"@SEGMENT\")",
        "(drop (memory.grow (i32.const 1000)))
         (loop $l (memory.init $d (i32.const 65536) (i32.const 0) (i32.const 4000000)) (br $l))",
    ),
    (
        "tables",
        "(table $t 0 funcref)",
        "(drop (table.grow $t (ref.null func) (i32.const 1000000)))
         (loop $l (table.fill $t (i32.const 0) (ref.null func) (i32.const 1000000)) (br $l))",
    ),
    (
        "a sleep",
        "",
        "(i64.store (i32.const 16) (i64.const 7)) (i32.store (i32.const 32) (i32.const 1))
         (i64.store (i32.const 40) (i64.const 3600000000000))
         (drop (call $poll (i32.const 16) (i32.const 1024) (i32.const 1) (i32.const 8)))",
    ),
    (
        "random bytes",
        "",
        "(drop (memory.grow (i32.const 1000)))
         (loop $l (drop (call $random (i32.const 65536) (i32.const 60000000))) (br $l))",
    ),
    (
        "writes to stdout and stderr",
        "",
        "(drop (memory.grow (i32.const 1000)))
         (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 60000000))
         (loop $l (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))",
    ),
];

/// How much time each guest gets, which is much more than it needs to start.
const TIMEOUT: Duration = Duration::from_millis(20);

/// Calls a guest of each kind on `backend`, `samples` times.
///
/// # Errors
/// If something cannot be deployed.
pub fn deadlines(backend: Arc<dyn Backend>, samples: usize) -> Result<Vec<Row>> {
    let name = backend.name();
    let engine = Engine::new(EngineConfig::default(), vec![backend])?;
    let mut rows = Vec::new();
    for (kind, fields, code) in KINDS {
        let mut config = FunctionConfig {
            name: "bench".into(),
            snapshot: SnapshotMode::Off,
            ..FunctionConfig::default()
        };
        config.limits.timeout = TIMEOUT;
        let function = engine.deploy(&module(fields, code), config)?;
        let mut taken = Samples::default();
        for _ in 0..samples {
            taken.add(&[past_its_deadline(&engine, &function)], Duration::ZERO);
        }
        rows.push(Row {
            group: "deadline",
            guest: kind.into(),
            backend: name,
            mode: MODE.into(),
            callers: 1,
            time: Some(taken.times()),
            bytes: None,
        });
    }
    Ok(rows)
}

fn module(fields: &str, code: &str) -> Vec<u8> {
    let fields = fields.replace("@SEGMENT", &"abcd".repeat(1_000_000));
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            {fields}
            (func (export "_start") {code}))"#
    );
    wat::parse_str(text).expect("the text is right")
}

/// Nanoseconds from the deadline until the caller has the answer.
fn past_its_deadline(engine: &Engine, function: &Function) -> u64 {
    let permit = engine.reserve().expect("permits are free");
    let begun = Instant::now();
    let outcome = function.call(permit, &request(), &[], |answer| {
        assert_eq!(answer.outcome, Outcome::Timeout, "{}", answer.reason);
    });
    outcome.expect("the call is well-formed");
    let past = begun.elapsed().saturating_sub(TIMEOUT);
    u64::try_from(past.as_nanos()).unwrap_or(u64::MAX)
}

/// The goals about these rows.
pub(crate) fn goals(report: &Report, goals: &mut Vec<Goal>) {
    for row in report.rows.iter().filter(|row| row.group == "deadline") {
        let Some(times) = row.time else { continue };
        for (name, ours, bound) in [
            ("p50", times.p50_ns, 300_000),
            ("p99", times.p99_ns, 3_000_000),
        ] {
            goals.push(Goal {
                what: format!("{}, {}: {name} past its deadline", row.backend, row.guest),
                goal: Bound::AtMost(1.0),
                stats: (nanos(ours), nanos(bound)),
                ratio: ours as f64 / bound as f64,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Times;
    use crate::subjects::{Kind, Mode, Workshop};

    #[test]
    fn every_kind_runs_into_its_deadline() {
        let backend = Workshop::default()
            .backend(Kind::Wasmi, Mode::Scan)
            .unwrap();
        let rows = deadlines(backend, 1).unwrap();
        assert_eq!(rows.len(), KINDS.len());
        assert!(rows.iter().all(|row| row.time.unwrap().n == 1));
    }

    #[test]
    fn median_and_tail_have_bounds() {
        let rows = vec![Row {
            group: "deadline",
            guest: "a loop".into(),
            backend: "wasmi",
            time: Some(Times {
                p50_ns: 300_000,
                p99_ns: 3_100_000,
                ..Times::default()
            }),
            ..Row::default()
        }];
        let mut found = Vec::new();
        goals(&Report { rows }, &mut found);
        let met: Vec<_> = found.iter().map(Goal::met).collect();
        assert_eq!(met, [true, false]);
    }
}
