//! Runs the conformance suite for snapshots of real programs on wasmer.

fn backend() -> std::sync::Arc<dyn engine_core::backend::Backend> {
    match backend_wasmer::Wasmer::new(Default::default()) {
        Ok(backend) => std::sync::Arc::new(backend),
        Err(error) => panic!("{error}"),
    }
}

conformance::snapshots!(backend());
