//! Tests that the lock file has each engine once, in the version that docs/backends.md names.

use std::path::Path;

#[test]
fn there_is_one_of_each_engine() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = std::fs::read_to_string(lock).expect("Cargo.lock");
    for (name, version) in [
        ("wasmtime", "48.0.8"),
        ("wasmer", "7.3.0"),
        ("wasmi", "2.0.0"),
        ("wasi-common", "36.0.20"),
    ] {
        let header = format!("name = \"{name}\"\nversion = \"");
        let versions: Vec<_> = lock
            .split(&header)
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert_eq!(versions, [version], "{name}");
    }
}
