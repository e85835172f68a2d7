//! Runs the conformance suite for snapshots of real programs on wasmtime.

fn backend() -> std::sync::Arc<dyn engine_core::backend::Backend> {
    match backend_wasmtime::Wasmtime::new(Default::default()) {
        Ok(backend) => std::sync::Arc::new(backend),
        Err(error) => panic!("{error}"),
    }
}

conformance::snapshots!(backend());
