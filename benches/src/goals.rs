//! The goals: bounds on measured numbers, and whether they are met.

use crate::beside;
use crate::deadlines;
use crate::measure::Times;
use crate::report::{Report, nanos};
use crate::starts;

/// One goal, with its measured numbers.
#[derive(Clone, Debug)]
pub struct Goal {
    /// What the goal is about.
    pub what: String,
    /// The bound, with its direction.
    pub goal: Bound,
    /// Our number and the other one, as they are shown.
    pub stats: (String, String),
    /// The ratio that the bound is about.
    pub ratio: f64,
}

/// The bound of a [`Goal`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The ratio must be at least this.
    AtLeast(f64),
    /// The ratio must be at most this.
    AtMost(f64),
    /// No bound: the ratio is only reported.
    None,
}

impl Goal {
    /// A goal about two times in nanoseconds. Its ratio is theirs / ours; for [`Bound::AtMost`] it is ours / theirs.
    pub(crate) fn of(what: String, goal: Bound, ours: u64, theirs: u64) -> Self {
        let times = |much: u64, little: u64| much as f64 / little.max(1) as f64;
        Self {
            what,
            goal,
            stats: (nanos(ours), nanos(theirs)),
            ratio: match goal {
                Bound::AtMost(_) => times(ours, theirs),
                Bound::AtLeast(_) | Bound::None => times(theirs, ours),
            },
        }
    }

    /// Whether the goal is met. `None` if it has no bound.
    #[must_use]
    pub fn met(&self) -> bool {
        match self.goal {
            Bound::AtLeast(bound) => self.ratio >= bound,
            Bound::AtMost(bound) => self.ratio <= bound,
            Bound::None => true,
        }
    }
}

/// The goals whose rows were measured.
pub(crate) fn of(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    sandboxes(report, &mut goals);
    requests(report, &mut goals);
    snapshots(report, &mut goals);
    starts::goals(report, &mut goals);
    beside::goals(report, &mut goals);
    deadlines::goals(report, &mut goals);
    goals
}

/// Goals that compare our pool with the alternatives.
fn sandboxes(report: &Report, goals: &mut Vec<Goal>) {
    let (image, ruby, quickjs) = (
        "1 MiB image, 16 dirty",
        "ruby-class 16 MB",
        "QuickJS-class 1.5 MB",
    );
    for (guest, backend, other, bound) in [
        (image, "wasmtime", "on-demand, as shipped", 8.0),
        (image, "wasmtime", "own pool, as shipped", 6.0),
        (image, "wasmtime", "own pool, its page scan", 1.0),
        (image, "wasmer", "default, as documented", 4.0),
        (image, "wasmi", "on-demand, as shipped", 2.0),
        (ruby, "wasmtime", "on-demand, as shipped", 10.0),
        (quickjs, "wasmtime", "on-demand, as shipped", 10.0),
    ] {
        // The mode that a server uses, if it was measured.
        let served = match report.times("instantiate", guest, backend, "scan", 1) {
            Some(_) => "scan",
            None => "no pool",
        };
        let times = |mode| report.times("instantiate", guest, backend, mode, 1);
        if let (Some(ours), Some(theirs)) = (times(served), times(other)) {
            goals.push(Goal::of(
                format!("{backend}, {guest}: {served} vs {other}"),
                Bound::AtLeast(bound),
                ours.p50_ns,
                theirs.p50_ns,
            ));
        }
    }
}

/// Goals about whole requests, alone and at the same time.
fn requests(report: &Report, goals: &mut Vec<Goal>) {
    let request = |mode| report.times("request", "C hello", "wasmtime", mode, 1);
    if let (Some(ours), Some(reused)) = (request("scan"), request("reused, never reset")) {
        goals.push(Goal::of(
            "wasmtime, C hello, whole request: scan vs the same instance, never reset".into(),
            Bound::AtMost(2.0),
            ours.p50_ns,
            reused.p50_ns,
        ));
    }
    for guest in ["C hello", "tiny wat"] {
        let callers = |callers| report.times("parallel", guest, "wasmtime", "scan", callers);
        if let (Some(one), Some(two)) = (callers(1), callers(2)) {
            goals.push(Goal {
                what: format!("wasmtime, {guest}, whole requests: two callers vs one"),
                goal: Bound::AtLeast(1.6),
                stats: (
                    format!("{:.0}/s", two.per_second),
                    format!("{:.0}/s", one.per_second),
                ),
                ratio: two.per_second / one.per_second.max(1e-9),
            });
        }
    }
}

/// The Go function of the group `snapshot`: it handles one request and exits.
pub const GO_ONCE: &str = "Go JSON";

/// The Go function that serves requests in a loop.
pub const GO_LOOPING: &str = "Go JSON, looping";

/// [`GO_ONCE`] from a parked snapshot, in rows where instances are only made.
pub const GO_PARKED: &str = "Go JSON, parked";

/// [`GO_ONCE`] from a warmed snapshot, in rows where instances are only made.
pub const GO_WARMED: &str = "Go JSON, warmed";

/// The mode of rows in `instantiate` that end when the sandbox is ready to run.
pub const ONLY_MADE: &str = "scan, only made";

/// The mode of rows in `instantiate` whose sandboxes run nothing and are reset.
pub const NOTHING_RUN: &str = "scan, nothing run";

/// Goals that compare snapshots with plain starts, with other engines, and with the smallest guest. By CPU time; for
/// wazero that of the whole process, because it collects garbage on other threads than the caller's.
fn snapshots(report: &Report, goals: &mut Vec<Goal>) {
    let mut add = |what: String, goal, ours: Option<Times>, theirs: Option<Times>| {
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            goals.push(Goal::of(what, goal, ours.cpu_ns, theirs.cpu_ns));
        }
    };
    for guest in [GO_ONCE, GO_LOOPING] {
        let times = |backend, mode| report.times("snapshot", guest, backend, mode, 1);
        for (mode, wasmtime, wasmer, wasmi) in
            [("parked", 2.5, 1.5, 2.0), ("warmed", 8.0, 2.0, 5.0)]
        {
            for (backend, bound) in [("wasmtime", wasmtime), ("wasmi", wasmi)] {
                add(
                    format!("{backend}, {guest}, CPU: {mode} vs plain"),
                    Bound::AtLeast(bound),
                    times(backend, mode),
                    times(backend, "plain"),
                );
            }
            add(
                format!("wasmer, {guest}, CPU: {mode} vs wasmtime's"),
                Bound::AtMost(wasmer),
                times("wasmer", mode),
                times("wasmtime", mode),
            );
        }
        // Only one of the guests runs on wazero.
        let wazero = report.times("snapshot", GO_ONCE, "wazero", "plain", 1);
        for (backend, parked, warmed) in [
            ("wasmtime", Bound::AtLeast(25.0), Bound::AtLeast(70.0)),
            ("wasmer", Bound::AtLeast(20.0), Bound::AtLeast(50.0)),
            ("wasmi", Bound::None, Bound::None),
        ] {
            for (mode, bound) in [("parked", parked), ("warmed", warmed)] {
                add(
                    format!("{backend}, {guest}, CPU: {mode} vs wazero"),
                    bound,
                    times(backend, mode),
                    wazero,
                );
            }
        }
    }
    for (mode, what) in [(ONLY_MADE, "made"), (NOTHING_RUN, "made and reset")] {
        let bare = |guest: &str| report.times("instantiate", guest, "wasmtime", mode, 1);
        for guest in [GO_PARKED, GO_WARMED] {
            if let (Some(ours), Some(tiny)) = (bare(guest), bare("tiny wat")) {
                goals.push(Goal::of(
                    format!("wasmtime, {guest}: a sandbox {what} vs tiny wat's"),
                    Bound::AtMost(2.0),
                    ours.p50_ns,
                    tiny.p50_ns,
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Row;

    fn row(
        group: &'static str,
        guest: &str,
        backend: &'static str,
        mode: &str,
        micros: u64,
    ) -> Row {
        Row {
            group,
            guest: guest.into(),
            backend,
            mode: mode.into(),
            callers: 1,
            time: Some(Times {
                p50_ns: micros * 1000,
                cpu_ns: micros * 1000,
                ..Times::default()
            }),
            bytes: None,
        }
    }

    fn ratios(rows: Vec<Row>) -> Vec<(f64, bool)> {
        let goals = of(&Report { rows });
        goals.iter().map(|goal| (goal.ratio, goal.met())).collect()
    }

    #[test]
    fn goals_are_ratios_of_medians() {
        let (group, guest, fresh) = (
            "instantiate",
            "1 MiB image, 16 dirty",
            "on-demand, as shipped",
        );
        let rows = vec![
            row(group, guest, "wasmtime", "scan", 10),
            row(group, guest, "wasmtime", fresh, 78),
            row(group, guest, "wasmi", "no pool", 5),
            row(group, guest, "wasmi", fresh, 10),
            row("request", "C hello", "wasmtime", "scan", 6),
            row("request", "C hello", "wasmtime", "reused, never reset", 3),
        ];
        assert_eq!(ratios(rows), [(7.8, false), (2.0, true), (2.0, true)]);
    }

    #[test]
    fn snapshots_are_compared_by_cpu_time_with_plain_starts_wasmtime_and_wazero() {
        let (group, guest) = ("snapshot", "Go JSON");
        let rows = vec![
            row(group, guest, "wasmtime", "plain", 400),
            row(group, guest, "wasmtime", "warmed", 40),
            row(group, guest, "wasmer", "warmed", 100),
            row(group, guest, "wazero", "plain", 5600),
            row("instantiate", "tiny wat", "wasmtime", ONLY_MADE, 2),
            row("instantiate", "Go JSON, warmed", "wasmtime", ONLY_MADE, 5),
        ];
        let expected = [
            // Warmed vs plain; wasmer's vs wasmtime's; both vs wazero; an instance vs an instance of the tiny guest.
            (10.0, true),
            (2.5, false),
            (140.0, true),
            (56.0, true),
            (2.5, false),
        ];
        assert_eq!(ratios(rows), expected);
    }

    #[test]
    fn what_has_no_bound_is_only_reported() {
        let rows = vec![
            row("snapshot", "Go JSON", "wasmi", "parked", 1000),
            row("snapshot", "Go JSON", "wazero", "plain", 500),
        ];
        let report = Report { rows };
        let table = report.goals_table();
        assert!(table.contains("| to be reported | 1.00 ms |"), "{table}");
        assert!(table.contains("| 0.50x | – |"), "{table}");
    }
}
