//! Deploys the driver on every backend, with and without a mount, and runs it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use engine_core::sandbox::wasi::MountSpec;
use engine_core::{Engine, Error, Function, FunctionConfig, PAGE, RawRun, Result, SandboxLimits};

use super::driver;
use super::scenario::Scenario;
use crate::engines::{self, BACKENDS};
use crate::report::{Disagreement, same};

/// The content of the file next to the mounted directory.
pub(super) const SECRET: &[u8] = b"THE SECRET OUTSIDE OF THE MOUNT";

/// A deadline that is long enough for any script that does not wait, and short enough to try many that do.
const QUICK: Duration = Duration::from_millis(50);

/// A deadline after which a guest counts as hanging.
const PATIENT: Duration = Duration::from_secs(10);

/// Everything that all inputs share.
#[derive(Debug)]
pub(super) struct Lab {
    engine: Engine,
    limits: SandboxLimits,
    plain: Vec<Guest>,
    mounted: Vec<Guest>,
    mount: Vec<(PathBuf, u64, SystemTime)>,
}

/// The driver on one backend.
#[derive(Debug)]
struct Guest {
    backend: &'static str,
    quick: Function,
    patient: Function,
}

/// The driver on one backend, with a short and a long deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed<'a> {
    pub(super) quick: &'a Function,
    pub(super) patient: &'a Function,
}

impl Lab {
    pub(super) fn new() -> Result<Self> {
        let engine = engines::engine(2)?;
        let wasm = wat::parse_str(driver::wat())
            .map_err(|error| Error::host("the driver is not wasm").because(error))?;
        let limits = SandboxLimits {
            timeout: QUICK,
            memory: 8 * PAGE,
            output: 4096,
            logs: 1 << 20,
            ..SandboxLimits::default()
        };
        let guests = |mounts: &[MountSpec]| -> Result<Vec<Guest>> {
            let deploy = |backend: &str, timeout| {
                let config = FunctionConfig {
                    name: "driver".into(),
                    backend: Some(backend.into()),
                    limits: SandboxLimits {
                        timeout,
                        ..limits.clone()
                    },
                    env: vec![
                        ("KEY".into(), Some("value".into())),
                        ("EMPTY".into(), Some(String::new())),
                    ],
                    args: vec![Some("--verbose".into()), Some(String::new())],
                    mounts: mounts.to_vec(),
                    ..FunctionConfig::default()
                };
                engine.deploy(&wasm, config)
            };
            let guest = |backend| {
                Ok(Guest {
                    backend,
                    quick: deploy(backend, QUICK)?,
                    patient: deploy(backend, PATIENT)?,
                })
            };
            BACKENDS.into_iter().map(guest).collect()
        };
        let mount = fingerprint().map_err(|error| {
            Error::host(format!("cannot read {}", mount_directory().display())).because(error)
        })?;
        Ok(Self {
            plain: guests(&[])?,
            mounted: guests(&[MountSpec {
                host: mount_directory().join("served"),
                guest: "/served".into(),
                writable: false,
            }])?,
            mount,
            engine,
            limits,
        })
    }

    /// The bounds of each guest but its timeout.
    pub(super) fn limits(&self) -> &SandboxLimits {
        &self.limits
    }

    /// The driver on each backend.
    pub(super) fn guests(&self, mounted: bool) -> impl Iterator<Item = (&'static str, Timed<'_>)> {
        let guests = if mounted { &self.mounted } else { &self.plain };
        guests.iter().map(|guest| {
            let timed = Timed {
                quick: &guest.quick,
                patient: &guest.patient,
            };
            (guest.backend, timed)
        })
    }

    /// Runs the scenario.
    pub(super) fn run(
        &self,
        guest: &Function,
        scenario: &Scenario,
    ) -> std::result::Result<RawRun, Disagreement> {
        let permit = self.engine.reserve();
        let run = permit.and_then(|permit| guest.run(permit, scenario.stdin()));
        run.map_err(|error| {
            Disagreement::new(
                "a fault of the host",
                (guest.facts().backend, error.to_string()),
                ("expected", "a run without a fault of the host".to_owned()),
            )
        })
    }

    /// Checks that the directory that is mounted read-only has not changed.
    pub(super) fn check_mount(&self) -> std::result::Result<(), Disagreement> {
        let now = fingerprint().map_err(|error| error.to_string());
        same(
            "the directory that is mounted read-only",
            ("before", &Ok(self.mount.clone())),
            ("after", &now),
        )
    }
}

fn mount_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mount")
}

/// Names, sizes and times of everything in the mount's directory. Also reads every file: the first read of a file
/// changes its access time, so guests on two backends would see different times.
fn fingerprint() -> io::Result<Vec<(PathBuf, u64, SystemTime)>> {
    let mut found = Vec::new();
    let mut directories = vec![mount_directory()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let (path, facts) = (entry.path(), entry.metadata()?);
            if facts.is_dir() {
                directories.push(path.clone());
            } else if facts.is_symlink() {
                std::fs::read_link(&path)?;
            } else {
                std::fs::read(&path)?;
            }
            found.push((path, facts.len(), facts.modified()?));
        }
    }
    found.sort();
    Ok(found)
}
