//! Tests that no seed shows a disagreement, on stable Rust and without libFuzzer; and that the seeds of `wasi` equal
//! their source.

use std::path::Path;

use gojinn_fuzz::{
    TARGETS, Target, abi, artifact, frames, json_request, json_response, module, pool_ops,
    snapshot, standalone, wasi,
};

#[test]
fn every_seed_of_abi_agrees() {
    replay(&abi::TARGET);
}

#[test]
fn every_seed_of_artifact_agrees() {
    replay(&artifact::TARGET);
}

#[test]
fn every_seed_of_frames_agrees() {
    replay(&frames::TARGET);
}

#[test]
fn every_seed_of_json_request_agrees() {
    replay(&json_request::TARGET);
}

#[test]
fn every_seed_of_json_response_agrees() {
    replay(&json_response::TARGET);
}

#[test]
fn every_seed_of_module_agrees() {
    replay(&module::TARGET);
}

#[test]
fn every_seed_of_pool_ops_agrees() {
    replay(&pool_ops::TARGET);
}

#[test]
fn every_seed_of_snapshot_agrees() {
    replay(&snapshot::TARGET);
}

#[test]
fn every_seed_of_wasi_agrees() {
    replay(&wasi::TARGET);
}

#[test]
fn every_target_has_its_program_and_its_seeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in TARGETS {
        let program = root.join(format!("fuzz_targets/{}.rs", target.name));
        let text = std::fs::read_to_string(&program).unwrap_or_default();
        assert!(text.contains(target.name), "{}", program.display());
        assert!(target.seeds().is_dir(), "{}", target.seeds().display());
    }
}

/// With `GOJINN_WRITE_SEEDS=1` it writes them instead.
#[test]
fn the_files_of_wasi_are_those_of_the_source() {
    let directory = wasi::TARGET.seeds();
    let mut expected: Vec<_> = wasi::seeds::all()
        .into_iter()
        .map(|(name, scenario)| (directory.join(name), scenario.encode()))
        .collect();
    expected.sort();
    if std::env::var_os("GOJINN_WRITE_SEEDS").is_some() {
        for (path, bytes) in &expected {
            std::fs::write(path, bytes).expect("the directory of seeds can be written");
        }
    }
    let found = standalone::inputs(&directory).expect("the directory of seeds can be read");
    // Inputs that fuzzing has found have a name that says so.
    let found: Vec<_> = found
        .into_iter()
        .filter(|(path, _)| {
            let name = path.file_name().unwrap_or_default();
            !name.to_string_lossy().starts_with("found-")
        })
        .collect();
    assert_eq!(found, expected, "write them with GOJINN_WRITE_SEEDS=1");
}

fn replay(target: &Target) {
    let seeds = standalone::inputs(&target.seeds()).expect("the directory of seeds can be read");
    assert!(!seeds.is_empty(), "{} has no seeds", target.name);
    for (path, input) in seeds {
        if let Err(disagreement) = target.run(&input) {
            panic!(
                "{}: {}",
                path.display(),
                disagreement.report(target.name, &input)
            );
        }
    }
}
