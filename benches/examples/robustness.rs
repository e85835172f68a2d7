//! Writes the modules of the hostile guests, and runs them on every backend for docs/robustness.md.
//!
//! ```text
//! cargo run --release --workspace --example robustness -- modules DIRECTORY
//! cargo run --release --workspace --example robustness -- report ROUNDS       into docs/robustness.md
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use conformance::hostile::{self, Seen};
use engine_core::backend::Backend;
use gojinn_benches::report::replace_between;
use gojinn_benches::{guests, machine};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["modules", directory] => modules(Path::new(directory)),
        ["report", rounds] => report(rounds.parse()?),
        _ => Err("what? modules DIRECTORY, or report ROUNDS".into()),
    }
}

/// Writes the module of each guest.
fn modules(directory: &Path) -> Result {
    fs::create_dir_all(directory)?;
    for row in hostile::table() {
        let path = directory.join(format!("{}.wasm", row.name));
        fs::write(path, hostile::module(&row.name))?;
    }
    Ok(())
}

/// What came of one guest on one backend in all rounds.
#[derive(Default)]
struct Column {
    outcomes: Vec<String>,
    overshoots: Vec<Duration>,
    wrong: usize,
}

fn report(rounds: usize) -> Result {
    let backends: [Arc<dyn Backend>; 3] = [
        Arc::new(backend_wasmtime::Wasmtime::new(Default::default())?),
        Arc::new(backend_wasmer::Wasmer::new(Default::default())?),
        Arc::new(backend_wasmi::Wasmi::new(Default::default())?),
    ];
    let names: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
    let mut columns: BTreeMap<(String, &str), Column> = BTreeMap::new();
    for round in 1..=rounds {
        for backend in &backends {
            eprintln!("round {round} of {rounds}: {}", backend.name());
            for seen in hostile::run(Arc::clone(backend)) {
                let column = columns.entry((seen.row.name.clone(), backend.name()));
                note(column.or_default(), seen);
            }
        }
    }
    let table = hostile::table();
    let mut text = format!(
        "Machine:\n{}.\nLoad average at the end {}.\nCommand: `make robustness`; {} guests, {rounds} rounds on each backend.\n\n",
        machine::describe(),
        machine::load(),
        table.len(),
    );
    let mut wrong = 0;
    text.push_str("| backend | as the table says | past the deadline: median | 99 of 100 | longest | n |\n|---|--:|--:|--:|--:|--:|\n");
    for name in &names {
        let of_backend = || columns.iter().filter(|((_, backend), _)| backend == name);
        let runs: usize = of_backend().map(|(_, column)| column.outcomes.len()).sum();
        let missed: usize = of_backend().map(|(_, column)| column.wrong).sum();
        let mut all: Vec<Duration> = of_backend()
            .flat_map(|(_, column)| column.overshoots.iter().copied())
            .collect();
        all.sort_unstable();
        let at = |share: usize| all.get((all.len() * share / 100).min(all.len().saturating_sub(1)));
        let _ = writeln!(
            text,
            "| {name} | {} of {runs} | {} | {} | {} | {} |",
            runs - missed,
            millis(at(50)),
            millis(at(99)),
            millis(all.last()),
            all.len()
        );
        wrong += missed;
    }
    let _ = writeln!(
        text,
        "\n| guest | what it tries | expected | {} |\n|---|---|---|{}",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for row in &table {
        let _ = write!(
            text,
            "| {} | {} | {} {} |",
            row.name, row.what, row.outcome, row.status
        );
        for name in &names {
            let cell = columns
                .get(&(row.name.clone(), *name))
                .map_or_else(String::new, cell);
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    replace_between(&guests::root().join("docs/robustness.md"), "guests", &text)?;
    if wrong > 0 {
        return Err(format!("{wrong} runs did not end as the table says").into());
    }
    Ok(())
}

fn note(column: &mut Column, seen: Seen) {
    column.wrong += usize::from(!seen.is_right());
    column.overshoots.extend(seen.overshoot);
    column
        .outcomes
        .push(format!("{} {}", seen.outcome, seen.status));
}

/// The outcomes, each once; and the longest time past the deadline.
fn cell(column: &Column) -> String {
    let mut outcomes = column.outcomes.clone();
    outcomes.sort_unstable();
    outcomes.dedup();
    let outcomes = outcomes.iter().map(|outcome| outcome.trim());
    let mut cell = outcomes.collect::<Vec<_>>().join(", ");
    if let Some(longest) = column.overshoots.iter().max() {
        let _ = write!(cell, ", +{}", millis(Some(longest)));
    }
    cell
}

fn millis(time: Option<&Duration>) -> String {
    time.map_or_else(
        || "–".into(),
        |time| format!("{:.2} ms", time.as_secs_f64() * 1e3),
    )
}
