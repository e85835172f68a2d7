//! Measures starts of a server that has many modules: the first start compiles them, later ones find their code in the
//! cache.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engine_core::backend::Backend;
use engine_core::{
    CacheConfig, CodeSource, Engine, EngineConfig, Function, FunctionConfig, SnapshotMode,
};

use crate::goals::{Bound, Goal};
use crate::machine;
use crate::measure::{Row, Samples};
use crate::report::Report;

/// The guest in the rows of `make bench`.
pub const FIFTY: &str = "50 x Go JSON";

/// The first start, which compiles each module. One sample is all of them.
pub const COLD: &str = "first start: compiled";

/// A later start: each entry is read, verified, loaded and linked.
pub const LOADS: &str = "second start: loaded from the cache";

/// A whole later start: the modules are validated, split and loaded, and one sandbox is made of each.
pub const WHOLE: &str = "second start: whole deployments";

/// The reference: the bytes of the entries are copied and authenticated, and nothing else.
pub const COPY: &str = "the same bytes: copied, MAC computed";

/// Measures starts with `modules`, on backends that `backend` makes. Later starts take turns with the reference for
/// `rounds` rounds.
///
/// # Errors
/// If anything cannot be deployed, is compiled twice, or is not found in the cache.
pub fn starts(
    guest: &str,
    backend: &dyn Fn() -> engine_core::Result<Arc<dyn Backend>>,
    modules: &[Vec<u8>],
    rounds: usize,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let directory = Directory::new()?;
    let row = |mode: &str, samples: Samples, kind: &'static str| Row {
        group: "deploy",
        guest: guest.into(),
        backend: kind,
        mode: mode.into(),
        callers: 1,
        time: Some(samples.times()),
        bytes: None,
    };

    let made = backend()?;
    let kind = made.name();
    let cold = cold(&engine(made, &directory.0)?, modules)?;
    let entries: Vec<PathBuf> = fs::read_dir(&directory.0)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    let entries: Vec<_> = entries
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "code"))
        .collect();
    if entries.len() != modules.len() {
        return Err(format!("{} modules left {} entries", modules.len(), entries.len()).into());
    }

    let [mut loads, mut whole, mut copies] = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        let engine = engine(backend()?, &directory.0)?;
        let (mut load, mut deploy, mut copy) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let mut alive = Vec::new();
        for (module, entry) in modules.iter().zip(&entries) {
            let begun = Instant::now();
            let function = deploy_one(&engine, module)?;
            deploy += begun.elapsed();
            if function.facts().source != CodeSource::Cache {
                return Err("a module was not found in the cache".into());
            }
            load += function.facts().loaded_in;
            alive.push(function);

            let bytes = fs::read(entry)?;
            let begun = Instant::now();
            let copied = bytes.clone();
            let mac = blake3::Hasher::new_keyed(&[7; 32])
                .update(&copied)
                .finalize();
            std::hint::black_box(mac);
            copy += begun.elapsed();
        }
        for (sum, list) in [
            (load, &mut loads),
            (deploy, &mut whole),
            (copy, &mut copies),
        ] {
            list.push(nanos(sum));
        }
    }
    let samples = |nanos: &[u64]| {
        let mut samples = Samples::default();
        samples.add(nanos, Duration::ZERO);
        samples
    };
    Ok(vec![
        row(COLD, samples(&[nanos(cold)]), kind),
        row(LOADS, samples(&loads), kind),
        row(WHOLE, samples(&whole), kind),
        row(COPY, samples(&copies), kind),
    ])
}

/// The goals about these rows.
pub(crate) fn goals(report: &Report, goals: &mut Vec<Goal>) {
    for backend in ["wasmtime", "wasmer"] {
        let times = |mode| report.times("deploy", FIFTY, backend, mode, 1);
        for (mode, other, bound) in [
            (LOADS, COPY, Bound::AtMost(3.0)),
            (LOADS, COLD, Bound::AtLeast(100.0)),
            (WHOLE, COLD, Bound::None),
        ] {
            if let (Some(ours), Some(theirs)) = (times(mode), times(other)) {
                goals.push(Goal::of(
                    format!("{backend}, {FIFTY}, {mode} vs {other}"),
                    bound,
                    ours.p50_ns,
                    theirs.p50_ns,
                ));
            }
        }
    }
}

/// Deploys each module, on as many threads as there are cores. Returns the time of all compilations together.
fn cold(engine: &Engine, modules: &[Vec<u8>]) -> Result<Duration, Box<dyn Error>> {
    let next = AtomicUsize::new(0);
    let deploy = || -> engine_core::Result<Duration> {
        let mut sum = Duration::ZERO;
        while let Some(module) = modules.get(next.fetch_add(1, Ordering::Relaxed)) {
            sum += deploy_one(engine, module)?.facts().compiled_in;
        }
        Ok(sum)
    };
    let sums = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..machine::cores()).map(|_| scope.spawn(deploy)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a deployment panicked"))
            .collect::<engine_core::Result<Vec<_>>>()
    })?;
    if engine.compilations() != modules.len() as u64 {
        return Err(format!(
            "{} modules took {} compilations",
            modules.len(),
            engine.compilations()
        )
        .into());
    }
    Ok(sums.iter().sum())
}

fn engine(backend: Arc<dyn Backend>, directory: &Path) -> engine_core::Result<Engine> {
    let config = EngineConfig {
        cache: Some(CacheConfig {
            directory: directory.into(),
            max_bytes: 4 << 30,
        }),
        ..EngineConfig::default()
    };
    Engine::new(config, vec![backend])
}

fn deploy_one(engine: &Engine, module: &[u8]) -> engine_core::Result<Function> {
    let config = FunctionConfig {
        name: "bench".into(),
        // The cost of snapshots is measured elsewhere.
        snapshot: SnapshotMode::Off,
        ..FunctionConfig::default()
    };
    engine.deploy(module, config)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A directory that is removed when this is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("gojinn-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests;
    use crate::measure::Times;
    use crate::subjects::{Kind, Mode, Workshop};
    use crate::variants::variant;

    #[test]
    fn loads_are_compared_with_copying_and_with_compiling() {
        let row = |mode: &str, p50_ns| Row {
            group: "deploy",
            guest: FIFTY.into(),
            backend: "wasmtime",
            mode: mode.into(),
            callers: 1,
            time: Some(Times {
                p50_ns,
                ..Times::default()
            }),
            bytes: None,
        };
        let rows = vec![row(COLD, 1000), row(LOADS, 8), row(COPY, 2), row(WHOLE, 20)];
        let mut found = Vec::new();
        goals(&Report { rows }, &mut found);
        let found: Vec<_> = found.iter().map(|goal| (goal.ratio, goal.met())).collect();
        assert_eq!(found, [(4.0, false), (125.0, true), (50.0, true)]);
    }

    #[test]
    fn every_module_is_compiled_once_and_then_found() {
        let wasm = guests::c_hello().wasm;
        let modules: Vec<_> = (0..3)
            .map(|number| variant(wasm.bytes(), number).unwrap())
            .collect();
        let backend = || Workshop::default().backend(Kind::Wasmtime, Mode::Scan);
        let rows = starts("C hello", &backend, &modules, 2).unwrap();
        let counts: Vec<_> = rows.iter().map(|row| row.time.unwrap().n).collect();
        assert_eq!(counts, [1, 2, 2, 2]);
        let same = vec![modules[0].clone(); 2];
        assert!(
            starts("C hello", &backend, &same, 1).is_err(),
            "compiled once only"
        );
    }
}
