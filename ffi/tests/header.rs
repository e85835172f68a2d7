//! Tests that the committed C header is the generated one. `make header` writes it.

use std::path::Path;

#[test]
fn the_committed_header_is_up_to_date() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config =
        cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new()
        .with_crate(crate_dir)
        .with_config(config)
        .generate()
        .expect("the sources parse");
    let mut generated = Vec::new();
    bindings.write(&mut generated);
    let header = crate_dir.join("include/gojinn.h");
    if std::env::var_os("GOJINN_WRITE_HEADER").is_some() {
        std::fs::write(&header, &generated).expect("the header is writable");
    }
    let committed = std::fs::read(&header).unwrap_or_default();
    assert!(
        committed == generated,
        "ffi/include/gojinn.h differs from what is generated from ffi/src; run `make header` and commit the result"
    );
    let copy = crate_dir.join("../caddy/internal/engine/gojinn.h");
    assert!(
        std::fs::read(&copy).unwrap_or_default() == generated,
        "caddy/internal/engine/gojinn.h differs from ffi/include/gojinn.h; run `make header` and commit the result"
    );
}
