//! Runs the conformance suite on wasmtime.

fn backend() -> std::sync::Arc<dyn engine_core::backend::Backend> {
    match backend_wasmtime::Wasmtime::new(Default::default()) {
        Ok(backend) => std::sync::Arc::new(backend),
        Err(error) => panic!("{error}"),
    }
}

conformance::conformance!(backend());

#[test]
fn hostile_guests_end_as_the_table_says() {
    conformance::hostile::check(backend());
}

conformance::canary_pairs!(backend());

conformance::reuse!(conformance::reuse::Reusing {
    make: |places| {
        let mut config = backend_wasmtime::WasmtimeConfig::default();
        config.kept = places.unwrap_or(config.kept);
        match backend_wasmtime::Wasmtime::new(config) {
            Ok(backend) => std::sync::Arc::new(backend),
            Err(error) => panic!("{error}"),
        }
    },
    shrinks: true,
});
