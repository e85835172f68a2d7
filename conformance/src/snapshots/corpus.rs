//! Cases with twelve programs that use common libraries: how many are snapshotted, and that they answer correctly.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Deployed, Setting, guest};
use crate::{Fixture, expect, log_lines};
use engine_core::GuestExit;
use engine_core::RawRun;
use engine_core::contract;
use engine_core::{SnapshotKind, SnapshotMode, Warmup};

/// The number of programs that `auto` must snapshot.
const AT_LEAST: usize = 9;

/// Every program answers its sample as its `expected.json` says, with a plain start and from each of its snapshots.
/// `auto` snapshots it, unless `expected.json` says why it cannot.
pub fn programs_over_real_libraries_answer_from_snapshots(fixture: &Fixture) {
    // Once is enough: each of them takes seconds to compile.
    if fixture.engine.pool().is_none() {
        return;
    }
    let directories = programs();
    assert_eq!(directories.len(), 12, "{directories:?}");
    let mut parked = 0;
    for directory in directories {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let Some(wasm) = guest(&format!("corpus-{name}")) else {
            return;
        };
        let sample = read(&directory.join("sample.json"));
        let expected: Expected = expect(
            serde_json::from_slice(&read(&directory.join("expected.json")))
                .map_err(|error| engine_core::Error::host(format!("{name}: {error}"))),
        );
        let deploy = |mode, rounds| {
            let setting = Setting {
                mode,
                ..Setting::default()
            };
            let deployed = Deployed::with(fixture, &wasm, setting, |config| {
                config.warmup = (rounds > 0).then(|| Warmup {
                    rounds,
                    sample: Some(sample.clone()),
                });
            });
            for _ in 0..3 {
                let permit = expect(fixture.engine.reserve());
                let run = expect(deployed.function.run(permit, sample.clone()));
                expected.check(&run, &format!("{name}, {}", deployed.about));
            }
            deployed
        };
        deploy(SnapshotMode::Off, 0);
        let auto = deploy(SnapshotMode::Auto, 0);
        let asked = deploy(SnapshotMode::On, 3);
        println!("{name}: {}\n{name}: {}", auto.about, asked.about);
        assert_eq!(
            auto.kind() == SnapshotKind::None,
            expected.fresh.is_some(),
            "{name}: {}; expected.json: {:?}",
            auto.about,
            expected.fresh
        );
        // `on` allows frozen values, but the snapshot is refused if the answer to the sample shows them.
        if asked.kind() == SnapshotKind::None {
            assert!(expected.fresh.is_some(), "{name}: {}", asked.about);
            asked.because("would be the same in every request");
        }
        parked += usize::from(auto.kind() == SnapshotKind::Parked);
    }
    assert!(parked >= AT_LEAST, "{parked} of 12 programs are parked");
}

/// A program's `expected.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    status: u16,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    /// Texts that the body must contain.
    #[serde(default)]
    body: Vec<String>,
    /// How a binary body begins.
    body_base64: Option<String>,
    /// Texts that the log must contain.
    #[serde(default)]
    stderr: Vec<String>,
    /// Why `auto` cannot snapshot it.
    fresh: Option<String>,
}

impl Expected {
    fn check(&self, run: &RawRun, about: &str) {
        let logs = log_lines(&run.logs);
        assert_eq!(run.exit, GuestExit::Exit(0), "{about}: {logs:?}");
        let response = match contract::default().parse_response(&run.stdout) {
            Ok(response) => response,
            Err(error) => panic!("{about}: {error}"),
        };
        assert_eq!(response.status, self.status, "{about}");
        for (name, value) in &self.headers {
            assert!(
                response
                    .headers
                    .iter()
                    .any(|(other, text)| other == name && **text == *value.as_bytes()),
                "{about}: {name}: {value} is not among {:?}",
                response.headers
            );
        }
        let body = String::from_utf8_lossy(&response.body);
        for part in &self.body {
            assert!(body.contains(part), "{about}: {part:?} is not in {body:?}");
        }
        if let Some(start) = &self.body_base64 {
            let stdout = String::from_utf8_lossy(&run.stdout);
            assert!(
                stdout.contains(&format!(r#""body_base64":"{start}"#)),
                "{about}: {start:?} does not begin the body of {stdout:.200?}"
            );
        }
        for part in &self.stderr {
            assert!(
                logs.iter().any(|(_, line)| line.contains(part)),
                "{about}: {part:?} is not in {logs:?}"
            );
        }
    }
}

/// The directories of the programs.
fn programs() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/go/corpus");
    let entries = match std::fs::read_dir(&corpus) {
        Ok(entries) => entries,
        Err(error) => panic!("{}: {error}", corpus.display()),
    };
    let mut directories: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("main.go").is_file())
        .collect();
    directories.sort();
    directories
}

fn read(file: &Path) -> Vec<u8> {
    match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{}: {error}", file.display()),
    }
}
