//! Writes the results as JSON, tables and a chart.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde_json::json;

use crate::goals::{self, Bound, Goal};
use crate::measure::{Row, Times};

/// All rows of one run.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order they were measured.
    pub rows: Vec<Row>,
}

impl Report {
    /// The times of one row, if it was measured.
    #[must_use]
    pub fn times(
        &self,
        group: &str,
        guest: &str,
        backend: &str,
        mode: &str,
        callers: usize,
    ) -> Option<Times> {
        self.rows
            .iter()
            .find(|row| {
                row.group == group
                    && row.guest == guest
                    && row.backend == backend
                    && row.mode == mode
                    && row.callers == callers
            })?
            .time
    }

    /// The goals whose rows were measured.
    #[must_use]
    pub fn goals(&self) -> Vec<Goal> {
        goals::of(self)
    }

    /// The goals as a Markdown table.
    #[must_use]
    pub fn goals_table(&self) -> String {
        let mut out = String::from(
            "| create + call + reset, or as said | goal | ours | theirs | ratio | met |\n|---|---|---|---|---|---|\n",
        );
        for goal in self.goals() {
            let bound = match goal.goal {
                Bound::AtLeast(bound) => format!("≥ {bound}x"),
                Bound::AtMost(bound) => format!("≤ {bound}x"),
                Bound::None => "to be reported".into(),
            };
            let _ = writeln!(
                out,
                "| {} | {bound} | {} | {} | {:.2}x | {} |",
                goal.what,
                goal.stats.0,
                goal.stats.1,
                goal.ratio,
                match (goal.goal, goal.met()) {
                    (Bound::None, _) => "–",
                    (_, true) => "yes",
                    (_, false) => "**no**",
                },
            );
        }
        out
    }

    /// How much a second caller changes the CPU time of a request. Unlike throughput, this can be measured on a machine
    /// that has other load. Empty if the rows were not measured.
    #[must_use]
    pub fn scaling(&self) -> String {
        let mut out = String::new();
        for row in self
            .rows
            .iter()
            .filter(|row| row.group == "parallel" && row.callers == 1)
        {
            let cpu = |callers| {
                let times = self.times("parallel", &row.guest, row.backend, &row.mode, callers)?;
                Some(times.cpu_ns.max(1) as f64)
            };
            if let (Some(one), Some(two)) = (cpu(1), cpu(2)) {
                let _ = write!(
                    out,
                    "{}{}, {}: {:.2}x",
                    if out.is_empty() {
                        "Two callers vs one by CPU time: "
                    } else {
                        "; "
                    },
                    row.backend,
                    row.guest,
                    2.0 * one / two
                );
            }
        }
        out
    }

    /// All rows as a Markdown table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::from(
            "| group | guest | backend | mode | callers | p50 | p99 | CPU | per second | n |\n\
             |---|---|---|---|--:|--:|--:|--:|--:|--:|\n",
        );
        for row in &self.rows {
            let _ = write!(
                out,
                "| {} | {} | {} | {} | {} | ",
                row.group, row.guest, row.backend, row.mode, row.callers
            );
            let _ = match (row.time, row.bytes) {
                (Some(times), _) => writeln!(
                    out,
                    "{} | {} | {} | {:.0} | {} |",
                    nanos(times.p50_ns),
                    nanos(times.p99_ns),
                    nanos(times.cpu_ns),
                    times.per_second,
                    times.n
                ),
                (None, bytes) => writeln!(
                    out,
                    "{} KiB | | | | |",
                    bytes.unwrap_or_default().div_ceil(1024)
                ),
            };
        }
        out
    }

    /// All rows as JSON: a list of objects `group, guest, backend, mode, callers, p50_ns, p99_ns, cpu_ns, n`. Rows of
    /// the group `memory` have `bytes`, and `null` for the times.
    #[must_use]
    pub fn json(&self) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let times = row.time;
                let mut object = json!({
                    "group": row.group,
                    "guest": row.guest,
                    "backend": row.backend,
                    "mode": row.mode,
                    "callers": row.callers,
                    "p50_ns": times.map(|times| times.p50_ns),
                    "p99_ns": times.map(|times| times.p99_ns),
                    "cpu_ns": times.map(|times| times.cpu_ns),
                    "n": times.map_or(0, |times| times.n),
                });
                if let Some(bytes) = row.bytes {
                    object["bytes"] = json!(bytes);
                }
                object
            })
            .collect();
        serde_json::to_string_pretty(&rows).expect("numbers and strings") + "\n"
    }

    /// Medians of creating, running and resetting a sandbox, as bars on a logarithmic scale.
    #[must_use]
    pub fn chart(&self, title: &str) -> String {
        const SHOWN: [(&str, &str); 5] = [
            ("instantiate", "1 MiB image, 16 dirty"),
            ("instantiate", "C hello"),
            ("request", "1 MiB image, 16 dirty"),
            ("request", "C hello"),
            ("snapshot", "Go JSON"),
        ];
        let rows: Vec<(&Row, u64)> = self
            .rows
            .iter()
            .filter(|row| SHOWN.contains(&(row.group, row.guest.as_str())))
            .filter(|row| row.callers == 1)
            .filter_map(|row| Some((row, row.time?.p50_ns.max(1))))
            .collect();
        let (left, right, line) = (330.0, 620.0, 18.0);
        let most = rows.iter().map(|row| row.1).max().unwrap_or(1) as f64;
        let least = 500.0_f64;
        let width = |value: f64| {
            ((value.max(least) / least).ln() / (most.max(2.0 * least) / least).ln()) * right
        };
        let mut bars = String::new();
        let mut y = 46.0;
        let mut heading = String::new();
        for (row, p50) in rows {
            let now = format!("{}: {}", row.group, row.guest);
            if now != heading {
                y += 14.0;
                let _ = writeln!(
                    bars,
                    r#"<text x="12" y="{y}" font-weight="bold">{}</text>"#,
                    escaped(&now)
                );
                y += line;
                heading = now;
            }
            let ours = row.backend != "wazero"
                && matches!(
                    row.mode.as_str(),
                    "no pool" | "copy" | "madvise" | "scan" | "plain" | "parked" | "warmed"
                );
            let _ = writeln!(
                bars,
                r##"<text x="{x}" y="{y}" text-anchor="end">{label}</text><rect x="{left}" y="{top}" width="{w:.1}" height="12" fill="{fill}"/><text x="{end:.1}" y="{y}">{value}</text>"##,
                x = left - 8.0,
                label = escaped(&format!("{} · {}", row.backend, row.mode)),
                top = y - 10.0,
                w = width(p50 as f64).max(1.0),
                fill = if ours { "#2b7a78" } else { "#b0a99f" },
                end = left + width(p50 as f64).max(1.0) + 6.0,
                value = nanos(p50),
            );
            y += line;
        }
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="1040" height="{height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="12" y="22" font-size="15" font-weight="bold">Medians, logarithmic scale: ours green, references grey</text>
<text x="12" y="40" fill="#555555">{title}</text>
{bars}</svg>
"##,
            height = y + 12.0,
            title = escaped(title),
        )
    }
}

/// Puts `text` between `<!-- name -->` and `<!-- /name -->` in the file at `path`, which is made if it is missing. Text
/// outside of the marks is kept.
pub fn replace_between(path: &Path, name: &str, text: &str) -> io::Result<()> {
    let old = match std::fs::read_to_string(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    std::fs::write(path, replaced(&old, name, text))
}

fn replaced(old: &str, name: &str, text: &str) -> String {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let (before, after) = match (old.find(&open), old.find(&close)) {
        (Some(begin), Some(end)) if begin < end => (&old[..begin], &old[end + close.len()..]),
        _ => (old, ""),
    };
    format!("{before}{open}{text}{close}{after}")
}

/// The text with its lines of prose broken at 118 characters. Tables, headings and images stay as they are.
#[must_use]
pub fn wrap_prose(text: &str) -> String {
    const WIDTH: usize = 118;
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if line.starts_with(['|', '#', '!']) {
            out.push_str(line);
        } else {
            let mut width = 0;
            for word in line.split(' ') {
                let length = word.chars().count();
                if width > 0 {
                    let fits = width + 1 + length <= WIDTH;
                    out.push(if fits { ' ' } else { '\n' });
                    width = if fits { width + 1 } else { 0 };
                }
                out.push_str(word);
                width += length;
            }
        }
        out.push('\n');
    }
    out
}

/// A duration with a unit and three digits.
#[must_use]
pub fn nanos(nanos: u64) -> String {
    let value = nanos as f64;
    if value < 1e3 {
        format!("{nanos} ns")
    } else if value < 1e4 {
        format!("{:.2} µs", value / 1e3)
    } else if value < 1e6 {
        format!("{:.1} µs", value / 1e3)
    } else if value < 1e9 {
        format!("{:.2} ms", value / 1e6)
    } else {
        format!("{:.2} s", value / 1e9)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(
        group: &'static str,
        guest: &str,
        backend: &'static str,
        mode: &str,
        p50_ns: u64,
    ) -> Row {
        Row {
            group,
            guest: guest.into(),
            backend,
            mode: mode.into(),
            callers: 1,
            time: Some(Times {
                p50_ns,
                ..Times::default()
            }),
            bytes: None,
        }
    }

    #[test]
    fn the_json_has_the_fields_that_are_promised() {
        let mut memory = row("memory", "g", "wasmi", "busy", 0);
        (memory.time, memory.bytes) = (None, Some(4096));
        let report = Report {
            rows: vec![row("load", "g", "wasmer", "code", 7), memory],
        };
        let value: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        let mut keys: Vec<_> = value[0].as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(
            keys,
            [
                "backend", "callers", "cpu_ns", "group", "guest", "mode", "n", "p50_ns", "p99_ns"
            ]
        );
        assert_eq!(value[0]["p50_ns"], 7);
        assert!(value[1]["p50_ns"].is_null());
        assert_eq!(value[1]["bytes"], 4096);
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let old = "intro\n<!-- a -->\nold\n<!-- /a -->\nrest\n";
        let new = replaced(old, "a", "new\n");
        assert_eq!(new, "intro\n<!-- a -->\nnew\n<!-- /a -->\nrest\n");
        assert_eq!(
            replaced(&new, "b", "more\n"),
            format!("{new}<!-- b -->\nmore\n<!-- /b -->\n")
        );
    }

    #[test]
    fn only_prose_is_wrapped() {
        let table = format!("| {} |\n# {}\n", "cell ".repeat(40), "word ".repeat(40));
        assert_eq!(wrap_prose(&table), table);
        let wrapped = wrap_prose(&format!("a\n\n{}\n", ["word"; 60].join(" ")));
        assert!(wrapped.starts_with("a\n\nword word"), "{wrapped}");
        assert!(wrapped.lines().all(|line| line.len() <= 118), "{wrapped}");
        assert_eq!(wrapped.split_whitespace().count(), 61);
    }

    #[test]
    fn durations_are_readable() {
        for (value, text) in [
            (7, "7 ns"),
            (4_830, "4.83 µs"),
            (57_300, "57.3 µs"),
            (2_500_000, "2.50 ms"),
            (4_500_000_000, "4.50 s"),
        ] {
            assert_eq!(nanos(value), text);
        }
    }
}
