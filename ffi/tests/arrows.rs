//! Tests which crate depends on which: the arrows of docs/architecture.md, compared with `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// For each member, those of the guarded crates that it may depend on outside of its tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("engine-core", &["wasi-common"]),
    ("conformance", &["engine-core"]),
    ("backend-wasmtime", &["engine-core", "wasmtime"]),
    ("backend-wasmer", &["engine-core", "wasmer"]),
    ("backend-wasmi", &["engine-core", "wasmi"]),
    (
        "gojinn-ffi",
        &[
            "engine-core",
            "backend-wasmtime",
            "backend-wasmer",
            "backend-wasmi",
        ],
    ),
    (
        "gojinn-benches",
        &[
            "engine-core",
            "backend-wasmtime",
            "backend-wasmer",
            "backend-wasmi",
            // For the comparison with each engine, used as its documentation shows.
            "wasmer",
            "wasmtime",
        ],
    ),
    (
        "gojinn-fuzz",
        &[
            "engine-core",
            "backend-wasmtime",
            "backend-wasmer",
            "backend-wasmi",
            "gojinn-ffi",
        ],
    ),
];

/// Crates that only some members may depend on.
const GUARDED: &[&str] = &[
    "engine-core",
    "conformance",
    "backend-wasmtime",
    "backend-wasmer",
    "backend-wasmi",
    "gojinn-ffi",
    "tokio",
    "wasi-common",
    "wasmer",
    "wasmi",
    "wasmtime",
    "wasmtime-wasi",
];

#[test]
fn no_arrow_points_the_wrong_way() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--locked",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let arrows: BTreeMap<String, BTreeSet<String>> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let known = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| dependency["name"].as_str())
                .filter(|name| GUARDED.contains(name))
                .map(String::from)
                .collect();
            (package["name"].as_str().expect("a name").to_string(), known)
        })
        .collect();
    assert_eq!(
        arrows.len(),
        ALLOWED.len(),
        "a member is missing from this test: {:?}",
        arrows.keys()
    );
    for (member, allowed) in ALLOWED {
        for known in &arrows[*member] {
            assert!(
                allowed.contains(&known.as_str()),
                "{member} must not depend on {known}; see \"Arrows\" in docs/architecture.md"
            );
        }
    }
}
