//! Runs the conformance suite on wasmer.

fn backend() -> std::sync::Arc<dyn engine_core::backend::Backend> {
    match backend_wasmer::Wasmer::new(Default::default()) {
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
