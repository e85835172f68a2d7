//! The benchmark of all backends with all guests. `benches/README.md` explains the rows.
//!
//!     cargo bench --workspace --bench engine -- --quick     the rows behind the goals, in under five minutes
//!     cargo bench --workspace --bench engine -- --all       everything, into docs/benchmarks.md
//!     cargo bench --workspace --bench engine -- --soak 1000000

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_core::Split;
use gojinn_benches::beside::{self, beside};
use gojinn_benches::deadlines::deadlines;
use gojinn_benches::footprint::Footprint;
use gojinn_benches::goals::{GO_LOOPING, GO_ONCE, GO_PARKED, GO_WARMED, NOTHING_RUN, ONLY_MADE};
use gojinn_benches::guests::{self, Guest};
use gojinn_benches::machine::{self, Held};
use gojinn_benches::measure::{Contender, Pace, Row, Samples, race};
use gojinn_benches::report::{Report, replace_between, wrap_prose};
use gojinn_benches::soak::soak;
use gojinn_benches::starts::{FIFTY, starts};
use gojinn_benches::subjects::{Beginning, Kind, Mode, Subject, Workshop};
use gojinn_benches::variants::variant;
use gojinn_benches::wazero::Wazero;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The number of modules that a server starts with in `deploy`: variants of the Go guest.
const MODULES: u32 = 50;

/// How often each guest runs into its deadline in `deadline`.
const DEADLINES: usize = 200;

fn main() -> Result {
    let mut args = std::env::args().skip(1);
    let mut task = Task::Quick;
    let (mut only, mut only_guest, mut only_mode) = (None, None, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            // Cargo passes this option.
            "--bench" => {}
            "--all" => task = Task::All,
            "--quick" => task = Task::Quick,
            "--soak" => {
                let requests = args.next().ok_or("--soak needs a number of requests")?;
                task = Task::Soak(requests.parse()?);
            }
            "--group" => only = Some(args.next().ok_or("--group needs a name")?),
            "--mode" => only_mode = Some(args.next().ok_or("--mode needs a part of a name")?),
            "--guest" => only_guest = Some(args.next().ok_or("--guest needs a part of a name")?),
            other => {
                return Err(format!(
                    "unknown option {other}; use --all, --quick, --group <name>, --guest and --mode <part of a name>, --soak <requests>"
                )
                .into());
            }
        }
    }
    println!(
        "{}\nload average before: {}",
        machine::describe(),
        machine::load()
    );
    let begun = Instant::now();
    let mut run = Run {
        workshop: Workshop::default(),
        report: Report::default(),
        pace: task.pace(),
        only,
        only_guest,
        only_mode,
        wazero: None,
        missing: Vec::new(),
    };
    match task {
        Task::Quick => run.quick()?,
        Task::All => run.all()?,
        Task::Soak(requests) => return run.soak(requests),
    }
    println!("\n{}\n{}", run.report.table(), run.report.goals_table());
    println!("{}", run.report.scaling());
    for row in &run.missing {
        println!("missing: {row}");
    }
    println!(
        "load average after: {}; took {:.0} s",
        machine::load(),
        begun.elapsed().as_secs_f64()
    );
    let results = guests::root().join("target/bench");
    fs::create_dir_all(&results)?;
    let name = if run.is_whole() {
        "results.json"
    } else {
        "part.json"
    };
    fs::write(results.join(name), run.report.json())?;
    println!("rows: target/bench/{name}");
    if matches!(task, Task::All) && run.is_whole() {
        run.write_docs()?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Task {
    Quick,
    All,
    Soak(u64),
}

impl Task {
    fn pace(self) -> Pace {
        match self {
            Self::All => Pace {
                each: Duration::from_millis(600),
                round: Duration::from_millis(20),
            },
            _ => Pace {
                each: Duration::from_millis(2500),
                round: Duration::from_millis(25),
            },
        }
    }
}

struct Run {
    workshop: Workshop,
    report: Report,
    pace: Pace,
    only: Option<String>,
    only_guest: Option<String>,
    only_mode: Option<String>,
    /// The version of wazero, if it has taken part.
    wazero: Option<String>,
    /// Rows that could not be measured, and why.
    missing: Vec<String>,
}

impl Run {
    /// The rows behind the goals.
    fn quick(&mut self) -> Result {
        let image = Arc::new(guests::image_1m(false));
        self.sandboxes(&image, &Kind::ALL)?;
        for class in [guests::quickjs_class(), guests::ruby_class()] {
            let class = Arc::new(class);
            if self.wanted("instantiate", &class) {
                let modes = [Mode::Scan, Mode::Fresh];
                self.race_sandboxes(&class, &[(Kind::Wasmtime, &modes)])?;
            }
        }
        let c_hello = Arc::new(guests::c_hello());
        if self.wanted("request", &c_hello) {
            let modes = [Mode::Scan, Mode::NoPool, Mode::Reused];
            self.race_requests(&c_hello, &[(Kind::Wasmtime, &modes)])?;
        }
        self.parallel(&c_hello, &[Kind::Wasmtime], &[1, 2])?;
        self.snapshots()?;
        self.nothing_run(&[Kind::Wasmtime])
    }

    fn all(&mut self) -> Result {
        let image = |dirty, answer| Arc::new(guests::image_4m(dirty, answer));
        let real: Vec<Arc<Guest>> = [
            guests::tiny(),
            guests::c_hello(),
            guests::rust_hello(),
            guests::go_hello(),
        ]
        .map(Arc::new)
        .into();
        let classes = [
            Arc::new(guests::quickjs_class()),
            Arc::new(guests::ruby_class()),
        ];
        let kernel = Arc::new(guests::cpu_kernel());
        for guest in real.iter().chain(&classes) {
            self.compile_and_load(guest)?;
        }
        let images = [
            Arc::new(guests::image_1m(false)),
            image(0, false),
            image(16, false),
            image(256, false),
            Arc::new(guests::sparse_1m()),
        ];
        for guest in images.iter().chain(&classes).chain(&real) {
            self.sandboxes(guest, &Kind::ALL)?;
        }
        let answering = [
            Arc::new(guests::image_1m(true)),
            image(0, true),
            image(16, true),
            image(256, true),
            kernel,
        ];
        for guest in real.iter().chain(&answering) {
            self.requests(guest)?;
        }
        for guest in &real[..2] {
            self.parallel(guest, &Kind::ALL, &[1, 2, 4, 8])?;
        }
        self.snapshots()?;
        self.nothing_run(&Kind::ALL)?;
        self.deadlines()?;
        self.starts(&[Kind::Wasmtime, Kind::Wasmer])?;
        self.beside(&[Kind::Wasmtime, Kind::Wasmer])?;
        // Drop the compiled modules before resident memory is measured.
        self.workshop.forget();
        self.memory(&real)?;
        Ok(())
    }

    /// How long after their deadlines guests end.
    fn deadlines(&mut self) -> Result {
        if self.only.as_deref().is_some_and(|only| only != "deadline")
            || self.only_guest.is_some()
            || self.only_mode.is_some()
        {
            return Ok(());
        }
        for kind in Kind::ALL {
            eprintln!("deadline: {}", kind.name());
            let mode = self.workshop.served(kind)?;
            let backend = self.workshop.backend(kind, mode)?;
            self.report.rows.extend(deadlines(backend, DEADLINES)?);
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.only.is_none() && self.only_guest.is_none() && self.only_mode.is_none()
    }

    fn wanted(&self, group: &str, guest: &Guest) -> bool {
        let only = |wanted: &Option<String>, test: &dyn Fn(&str) -> bool| {
            wanted.as_deref().is_none_or(test)
        };
        only(&self.only, &|only| only == group)
            && only(&self.only_guest, &|part| guest.name.contains(part))
    }

    fn wanted_mode(&self, mode: &str) -> bool {
        self.only_mode
            .as_deref()
            .is_none_or(|part| mode.contains(part))
    }

    fn race(&mut self, contenders: Vec<Contender>) {
        let Some(first) = contenders.first() else {
            return;
        };
        eprintln!(
            "{}: {} ({} rows)",
            first.row.group,
            first.row.guest,
            contenders.len()
        );
        self.report.rows.extend(race(contenders, self.pace));
    }

    fn compile_and_load(&mut self, guest: &Arc<Guest>) -> Result {
        if !self.wanted("compile", guest) && !self.wanted("load", guest) {
            return Ok(());
        }
        let (mut compile, mut load) = (Vec::new(), Vec::new());
        for kind in Kind::ALL {
            let backend = self.workshop.backend(kind, Mode::Scan)?;
            let code = Split::of(&guest.wasm)?.code;
            let artifact = backend.compile(&code)?;
            let row = |group| Row {
                group,
                guest: guest.name.into(),
                backend: kind.name(),
                mode: "code".into(),
                ..Row::default()
            };
            let compiling = Arc::clone(&backend);
            compile.push(Contender::new(row("compile"), move || {
                compiling.compile(&code).expect("it compiled before");
            }));
            load.push(Contender::new(row("load"), move || {
                // SAFETY: `compile` of this backend returned the artifact above.
                let module = unsafe { Arc::clone(&backend).load(&artifact, false) };
                drop(module.expect("it is the backend's own"));
            }));
        }
        if self.wanted("compile", guest) {
            self.race(compile);
        }
        if self.wanted("load", guest) {
            self.race(load);
        }
        Ok(())
    }

    /// Creates, runs and resets sandboxes of `guest` on `kinds`, in all our modes and those of the engines themselves.
    fn sandboxes(&mut self, guest: &Arc<Guest>, kinds: &[Kind]) -> Result {
        if !self.wanted("instantiate", guest) {
            return Ok(());
        }
        let mut modes = Vec::new();
        for &kind in kinds {
            modes.push((
                kind,
                [self.workshop.ours(kind)?, kind.references()].concat(),
            ));
        }
        let modes: Vec<_> = modes
            .iter()
            .map(|(kind, modes)| (*kind, &modes[..]))
            .collect();
        self.race_sandboxes(guest, &modes)
    }

    fn race_sandboxes(&mut self, guest: &Arc<Guest>, modes: &[(Kind, &[Mode])]) -> Result {
        let contenders = self.contenders("instantiate", guest, modes, |subject| {
            subject.shared.sandbox();
        })?;
        self.race(contenders);
        Ok(())
    }

    /// Answers whole requests.
    fn requests(&mut self, guest: &Arc<Guest>) -> Result {
        if !self.wanted("request", guest) {
            return Ok(());
        }
        let mut modes = Vec::new();
        for kind in Kind::ALL {
            let mut of_kind = [self.workshop.ours(kind)?, kind.references()].concat();
            if kind == Kind::Wasmtime && guest.name == "C hello" {
                of_kind.push(Mode::Reused);
            }
            modes.push((kind, of_kind));
        }
        let modes: Vec<_> = modes
            .iter()
            .map(|(kind, modes)| (*kind, &modes[..]))
            .collect();
        self.race_requests(guest, &modes)
    }

    fn race_requests(&mut self, guest: &Arc<Guest>, modes: &[(Kind, &[Mode])]) -> Result {
        let contenders = self.contenders("request", guest, modes, Subject::request)?;
        self.race(contenders);
        Ok(())
    }

    fn contenders(
        &mut self,
        group: &'static str,
        guest: &Arc<Guest>,
        modes: &[(Kind, &[Mode])],
        op: fn(&Subject),
    ) -> Result<Vec<Contender>> {
        let mut contenders = Vec::new();
        for &(kind, modes) in modes {
            for &mode in modes {
                if !self.wanted_mode(mode.name()) {
                    continue;
                }
                let subject = self.workshop.subject(kind, mode, guest)?;
                let row = row(group, &subject);
                contenders.push(Contender::new(row, move || op(&subject)));
            }
        }
        Ok(contenders)
    }

    /// Whole requests to Go functions, by what their sandboxes start from; and the same on wazero.
    fn snapshots(&mut self) -> Result {
        let mut contenders = Vec::new();
        let once = Arc::new(guests::go(GO_ONCE));
        // A program that declares that it may be warmed up is always warmed up.
        let looping = guests::go_looping().map(Arc::new);
        let guests = [
            (Some(&once), &Beginning::ALL[..]),
            (looping.as_ref(), &[Beginning::Plain, Beginning::Warmed]),
        ];
        for (guest, beginnings) in guests {
            let Some(guest) = guest else {
                self.missing
                    .push(format!("snapshot: {GO_LOOPING} is not built"));
                continue;
            };
            if !self.wanted("snapshot", guest) {
                continue;
            }
            for kind in Kind::ALL {
                for &beginning in beginnings {
                    if !self.wanted_mode(beginning.name()) {
                        continue;
                    }
                    match self.workshop.beginning(kind, guest, beginning) {
                        Ok(subject) => {
                            let mut row = row("snapshot", &subject);
                            row.mode = beginning.name().into();
                            contenders.push(Contender::new(row, move || subject.request()));
                        }
                        Err(error) => self.missing.push(format!("snapshot: {error}")),
                    }
                }
            }
        }
        if self.wanted("snapshot", &once) && self.wanted_mode(Beginning::Plain.name()) {
            match Wazero::start(&once) {
                Ok(wazero) => {
                    self.wazero = Some(wazero.version().into());
                    contenders.push(wazero.contender(Row {
                        group: "snapshot",
                        guest: once.name.into(),
                        backend: "wazero",
                        mode: Beginning::Plain.name().into(),
                        ..Row::default()
                    }));
                }
                Err(error) => self.missing.push(format!("snapshot: {error}")),
            }
        }
        self.race(contenders);
        Ok(())
    }

    /// Sandboxes that are made and reset but run nothing: the cost of a snapshot compared with the smallest guest.
    fn nothing_run(&mut self, kinds: &[Kind]) -> Result {
        let tiny = Arc::new(guests::tiny());
        let parked = Arc::new(guests::go(GO_PARKED));
        let warmed = Arc::new(guests::go(GO_WARMED));
        let mut contenders = Vec::new();
        for &kind in kinds {
            for (guest, beginning) in [
                (&tiny, Beginning::Plain),
                (&parked, Beginning::Parked),
                (&warmed, Beginning::Warmed),
            ] {
                for mode in [ONLY_MADE, NOTHING_RUN] {
                    if !self.wanted("instantiate", guest) || !self.wanted_mode(mode) {
                        continue;
                    }
                    match self.workshop.idle(kind, guest, beginning) {
                        Ok((subject, prepared)) => {
                            let mut row = row("instantiate", &subject);
                            row.mode = mode.into();
                            contenders.push(Contender::elsewhere(row, move |length, samples| {
                                let (begun, mut all) = (Instant::now(), Samples::default());
                                all.take(length, || subject.shared.sandbox());
                                let made_in = prepared.made_in();
                                if mode == ONLY_MADE {
                                    // These sandboxes never wait for each other, so the sum is the time.
                                    let sum = made_in.iter().sum();
                                    samples.add(&made_in, Duration::from_nanos(sum));
                                } else {
                                    samples.join(vec![all], begun.elapsed());
                                }
                            }));
                        }
                        Err(error) => self.missing.push(format!("instantiate: {error}")),
                    }
                }
            }
        }
        self.race(contenders);
        Ok(())
    }

    /// Answers whole requests on several threads.
    fn parallel(&mut self, guest: &Arc<Guest>, kinds: &[Kind], callers: &[usize]) -> Result {
        if !self.wanted("parallel", guest) {
            return Ok(());
        }
        let mut contenders = Vec::new();
        for &kind in kinds {
            let mode = self.workshop.served(kind)?;
            let subject = self.workshop.subject(kind, mode, guest)?;
            for &callers in callers {
                let row = row("parallel", &subject);
                let (shared, guest) = (Arc::clone(&subject.shared), Arc::clone(guest));
                contenders.push(Contender::parallel(row, callers, move || {
                    shared.request(&guest);
                }));
            }
        }
        self.race(contenders);
        Ok(())
    }

    /// Starts of a server with many modules.
    fn starts(&mut self, kinds: &[Kind]) -> Result {
        let guest = guests::go_hello();
        if !self.wanted("deploy", &guest) {
            return Ok(());
        }
        let modules: Vec<_> = (0..MODULES)
            .filter_map(|number| variant(guest.wasm.bytes(), number))
            .collect();
        for &kind in kinds {
            eprintln!(
                "deploy: {MODULES} modules on {}, compiled first",
                kind.name()
            );
            // New backends, as in a new process.
            let backend = || Workshop::default().backend(kind, Mode::Scan);
            let rows = starts(FIFTY, &backend, &modules, 5)?;
            self.report.rows.extend(rows);
        }
        Ok(())
    }

    /// Requests while another function's module compiles.
    fn beside(&mut self, kinds: &[Kind]) -> Result {
        let guest = guests::c_hello();
        if !self.wanted("deploy", &guest) {
            return Ok(());
        }
        let hostile = beside::hostile();
        let pace = (3, Duration::from_millis(1500));
        for &kind in kinds {
            for (callers, arrival) in beside::WAYS {
                eprintln!(
                    "deploy: {callers} callers on {} while something compiles",
                    kind.name()
                );
                let backend = self.workshop.backend(kind, Mode::Scan)?;
                let rows = beside(backend, &guest, &hostile, callers, arrival, pace)?;
                self.report.rows.extend(rows);
            }
        }
        Ok(())
    }

    /// Anonymous bytes of each slot, while its sandbox runs (sleepers) and after its reset.
    fn memory(&mut self, real: &[Arc<Guest>]) -> Result {
        let sleepers = [
            guests::sleeper("1 MiB image, 16 dirty", 1 << 20, 16, 700),
            guests::sleeper("4 MiB image, 256 dirty", 4 << 20, 256, 700),
        ]
        .map(Arc::new);
        machine::keep_heap_small();
        for kind in Kind::ALL {
            for &mode in self.workshop.ours(kind)? {
                for guest in sleepers.iter().chain(real) {
                    if !self.wanted("memory", guest) {
                        continue;
                    }
                    let compiled = self.workshop.prepared(kind, mode, guest)?;
                    let found = Footprint::of(&compiled, kind, mode, guest)?;
                    let mut add = |state: &str, bytes| {
                        self.report.rows.push(Row {
                            group: "memory",
                            guest: guest.name.into(),
                            backend: kind.name(),
                            mode: format!("{}, {state}", mode.name()),
                            callers: found.count,
                            bytes: Some(bytes),
                            ..Row::default()
                        });
                    };
                    if !guest.answers {
                        add("busy", found.busy);
                    }
                    add("idle", found.idle);
                }
            }
            eprintln!("memory: {}", kind.name());
        }
        Ok(())
    }

    fn soak(&mut self, requests: u64) -> Result {
        let guest = Arc::new(guests::c_hello());
        let mut leaks = false;
        println!(
            "\n| backend | | resident KiB | descriptors | mappings | threads |\n|---|---|--:|--:|--:|--:|"
        );
        for kind in Kind::ALL {
            let mode = self.workshop.served(kind)?;
            let subject = self.workshop.subject(kind, mode, &guest)?;
            let begun = Instant::now();
            let found = soak(&subject.shared, &guest, requests, machine::cores());
            let line = |what: &str, held: Held| {
                println!(
                    "| {} | {what} | {} | {} | {} | {} |",
                    kind.name(),
                    held.resident / 1024,
                    held.descriptors,
                    held.mappings,
                    held.threads
                );
            };
            line("after warm-up", found.before);
            line(
                &format!(
                    "after {requests} requests, {:.0} s",
                    begun.elapsed().as_secs_f64()
                ),
                found.after,
            );
            leaks |= !found.steady();
        }
        if leaks {
            return Err("a backend holds more after the soak than it did after warm-up".into());
        }
        println!("\nNo backend holds more than it did after warm-up.");
        Ok(())
    }

    fn write_docs(&self) -> Result {
        let docs = guests::root().join("docs");
        let machine = match &self.wazero {
            Some(version) => format!("{}, wazero {version}", machine::describe()),
            None => machine::describe(),
        };
        fs::write(docs.join("benchmarks.svg"), self.report.chart(&machine))?;
        let path = docs.join("benchmarks.md");
        if !path.exists() {
            fs::write(
                &path,
                "# Benchmarks\n\nWhat is measured and how: [benches/README.md](../benches/README.md). Ratios hold from run to run,\n\
                 absolute figures are those of the machine below.\n\n",
            )?;
        }
        let missing: String = self
            .missing
            .iter()
            .map(|row| format!("\nMissing: {row}\n"))
            .collect();
        let text = format!(
            "## Engine\n\nMachine: {machine}; load average at the end {}. Command: `make bench`.\n\n{}\n{}\n{missing}\n\
             ![Medians of a sandbox and of a request](benchmarks.svg)\n\n### All rows\n\n{}",
            machine::load(),
            self.report.goals_table(),
            self.report.scaling(),
            self.report.table(),
        );
        replace_between(&path, "engine", &wrap_prose(&text))?;
        println!("docs/benchmarks.md and docs/benchmarks.svg are written");
        Ok(())
    }
}

fn row(group: &'static str, subject: &Subject) -> Row {
    Row {
        group,
        guest: subject.guest.name.into(),
        backend: subject.kind.name(),
        mode: subject.mode.name().into(),
        callers: 1,
        ..Row::default()
    }
}
