//! The hostile guests of `guests/hostile`: each runs directly on an engine, has the outcome of the table in its README, and
//! leaves nothing that the next call could notice.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_core::backend::Backend;
use engine_core::contract::Request;
use engine_core::sandbox::wasi::MountSpec;
use engine_core::{Engine, EngineConfig, Error, Function, FunctionConfig, SandboxLimits};

use super::{HELLO, expect, printer};

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The guest's name, which is that of its file.
    pub name: String,
    /// What it tries.
    pub what: String,
    /// The settings of its function, as in a Caddyfile.
    pub settings: String,
    /// The label of its outcome, or `refused`.
    pub outcome: String,
    /// The status for the client; empty for `refused`.
    pub status: String,
}

/// What came of one guest.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its row.
    pub row: Row,
    /// The outcome and the status, as in the table.
    pub outcome: String,
    /// See [`Row::status`].
    pub status: String,
    /// The reason for the log, or the error of the deployment.
    pub reason: String,
    /// How long after its deadline the call ended; `None` if it did not run into its deadline.
    pub overshoot: Option<Duration>,
    /// Whether another function answered as ever afterwards.
    pub others: bool,
}

impl Seen {
    /// Whether this is what the table says.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.outcome == self.row.outcome && self.status == self.row.status && self.others
    }
}

/// The directory with the guests.
#[must_use]
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../guests/hostile")
}

/// The table in the README.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn table() -> Vec<Row> {
    let text = fs::read_to_string(directory().join("README.md")).expect("the table is there");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let [name, what, settings, outcome, status, ""] = cells[..] else {
            return None;
        };
        Some(Row {
            name: name.into(),
            what: what.into(),
            settings: settings.into(),
            outcome: outcome.into(),
            status: status.into(),
        })
    });
    // Two lines are the table's head.
    rows.skip(2).collect()
}

/// The module of a guest.
///
/// # Panics
/// If its source cannot be read or is no wat.
#[must_use]
pub fn module(name: &str) -> Vec<u8> {
    let path = directory().join(format!("{name}.wat"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = repeated(&text);
    wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Writes `@{N|TEXT}` out.
fn repeated(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("@{") {
        let (count, after) = after.split_once('|').expect("a number and what to repeat");
        let (part, after) = after.split_once('}').expect("an end of what to repeat");
        out.push_str(before);
        out.push_str(&part.repeat(count.parse().expect("a number")));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Runs all guests on `backend`, and writes down what came of each.
///
/// # Panics
/// If an engine cannot be made or something of the test is missing.
#[must_use]
pub fn run(backend: Arc<dyn Backend>) -> Vec<Seen> {
    let engine = expect(Engine::new(EngineConfig::default(), vec![backend]));
    let mount = mount();
    let hello = deploy(
        &engine,
        &wat::parse_str(printer(HELLO, "")).expect("wat"),
        "",
        &mount,
    );
    let hello = expect(hello);
    let seen = table()
        .into_iter()
        .map(|row| {
            let begun = Instant::now();
            let function = deploy(&engine, &module(&row.name), &row.settings, &mount);
            assert!(begun.elapsed() < Duration::from_secs(60), "{row:?}");
            let (outcome, status, reason, overshoot) = match function {
                Ok(function) => call(&engine, &function, &row),
                Err(error) => ("refused".into(), String::new(), error.to_string(), None),
            };
            let others = call(&engine, &hello, &row).1 == "201";
            Seen {
                row,
                outcome,
                status,
                reason,
                overshoot,
                others,
            }
        })
        .collect();
    assert_eq!(engine.permits().0, 0, "every permit was given back");
    drop(hello);
    assert_eq!(engine.memory().used(), 0, "all memory was given back");
    fs::remove_dir_all(mount.parent().expect("it has one")).expect("it is the test's own");
    seen
}

/// Fails unless each guest has the outcome that the table says, on `backend`.
///
/// # Panics
/// If one has another.
pub fn check(backend: Arc<dyn Backend>) {
    let seen = run(backend);
    assert!(seen.len() >= 100, "only {} guests", seen.len());
    let wrong: Vec<String> = seen
        .iter()
        .filter(|seen| !seen.is_right())
        .map(|seen| {
            format!(
                "{}: {} {} {} ({}), others {}",
                seen.row.name,
                seen.row.settings,
                seen.outcome,
                seen.status,
                seen.reason,
                seen.others
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "not as the table says:\n{}",
        wrong.join("\n")
    );
}

/// A new directory as the table describes it.
fn mount() -> PathBuf {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};

    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let parent = std::env::temp_dir().join(format!("gojinn-hostile-{}-{next}", std::process::id()));
    let mount = parent.join("mount");
    let made = fs::create_dir_all(mount.join("below"))
        .and_then(|()| fs::create_dir_all(parent.join("outside")))
        .and_then(|()| fs::write(parent.join("secret"), "secret"))
        .and_then(|()| fs::write(parent.join("outside/secret"), "secret"))
        .and_then(|()| fs::write(mount.join("file"), "content"))
        .and_then(|()| symlink("../secret", mount.join("link")))
        .and_then(|()| symlink("../outside", mount.join("links")));
    made.expect("the directory can be made");
    mount
}

fn deploy(
    engine: &Engine,
    wasm: &[u8],
    settings: &str,
    mount: &std::path::Path,
) -> Result<Function, Error> {
    let mut config = FunctionConfig {
        name: "hostile".into(),
        ..FunctionConfig::default()
    };
    for setting in settings.split(", ").filter(|setting| !setting.is_empty()) {
        set(&mut config, setting, mount);
    }
    engine.deploy(wasm, config)
}

fn set(config: &mut FunctionConfig, setting: &str, mount: &std::path::Path) {
    let SandboxLimits {
        timeout,
        memory,
        output,
        ..
    } = &mut config.limits;
    match setting {
        "timeout 60ms" => *timeout = Duration::from_millis(60),
        "memory_limit 1MiB" => *memory = 1 << 20,
        "max_output 100KB" => *output = 100_000,
        "max_output 10KB" => *output = 10_000,
        "mount" => config.mounts.push(MountSpec {
            host: mount.to_path_buf(),
            guest: "/data".into(),
            writable: false,
        }),
        _ => panic!("the setting {setting} is unknown here"),
    }
}

fn call(
    engine: &Engine,
    function: &Function,
    row: &Row,
) -> (String, String, String, Option<Duration>) {
    let request = Request {
        method: b"GET",
        uri: b"/",
        ..Request::default()
    };
    let permit = expect(engine.reserve());
    let begun = Instant::now();
    let answered = function.call(permit, &request, &[], |answer| {
        let outcome: String = answer.outcome.label().into();
        (outcome, answer.status.to_string(), answer.reason.to_owned())
    });
    let took = begun.elapsed();
    let (outcome, status, reason) = expect(answered);
    let timeout = row.settings.contains("timeout 60ms") && outcome == "timeout";
    let overshoot = timeout.then(|| took.saturating_sub(Duration::from_millis(60)));
    (outcome, status, reason, overshoot)
}
