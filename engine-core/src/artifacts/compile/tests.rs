//! Tests of deployments that wait for a compilation, which the test delays, and of deployments that give up.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::CodeSource;
use crate::artifacts::cache::CacheConfig;
use crate::engine::{Engine, EngineConfig};
use crate::engine::{FunctionConfig, FunctionFacts};
use crate::fake::{Fake, module};

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(300);

/// An engine over `fake` whose deployments wait for `timeout`.
fn engine(fake: &Arc<Fake>, timeout: Duration, cache: Option<&Directory>) -> Engine {
    let config = EngineConfig {
        pool: None,
        max_concurrency: 1,
        compile_timeout: Some(timeout),
        cache: cache.map(|directory| CacheConfig::new(&directory.0)),
        ..EngineConfig::default()
    };
    Engine::new(config, vec![Arc::clone(fake) as Arc<dyn Backend>]).expect("an engine")
}

fn deploy(engine: &Engine, cancel: &Cancel, number: u32) -> Result<FunctionFacts> {
    engine
        .deploy_unless(cancel, &module(number), FunctionConfig::default())
        .map(|function| function.facts().clone())
}

/// Waits until other threads have reached a state.
fn until(reached: impl Fn() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < LONG, "it never happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gojinn-compile-{}-{next}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_takes_too_long_goes_on_alone_and_ends_in_the_cache() {
    let (fake, directory) = (Arc::new(Fake::new()), Directory::new());
    let hasty = engine(&fake, Duration::from_millis(30), Some(&directory));
    let gate = fake.gate.lock();
    for _ in 0..2 {
        // The second joins the first one's compilation.
        let error = deploy(&hasty, &Cancel::new(), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Compile);
        let text = error.to_string();
        assert!(
            text.contains("30ms") && text.contains("compile_timeout"),
            "{text}"
        );
        assert_eq!(hasty.compiler().abandoned(), 1);
    }
    assert_eq!(hasty.compiler().given_up(), 2);
    let metrics = hasty.render_metrics();
    for line in [
        "gojinn_engine_compilations_given_up_total 2",
        "gojinn_engine_compilations_abandoned 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    drop(gate);
    until(|| hasty.compiler().abandoned() == 0);
    let facts = deploy(&hasty, &Cancel::new(), 1).unwrap();
    assert_eq!(facts.source, CodeSource::Cache);
    assert_eq!((fake.compiled(), hasty.compilations()), (1, 1));
}

#[test]
fn a_deployment_takes_over_what_another_one_left() {
    let fake = Arc::new(Fake::new());
    let engine = engine(&fake, LONG, None);
    let gate = fake.gate.lock();
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| deploy(&engine, &cancel, 1));
        until(|| !engine.compiler().running.lock().is_empty());
        cancel.cancel();
        let error = first.join().expect("a deployment").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(engine.compiler().abandoned(), 1);

        let second = scope.spawn(|| deploy(&engine, &Cancel::new(), 1));
        until(|| engine.compiler().abandoned() == 0);
        drop(gate);
        let facts = second.join().expect("a deployment").unwrap();
        assert_eq!(facts.source, CodeSource::Compiled);
    });
    assert_eq!(fake.compiled(), 1);
}

#[test]
fn who_waits_for_another_deployment_can_stop_too() {
    let fake = Arc::new(Fake::new());
    let engine = engine(&fake, LONG, None);
    let gate = fake.gate.lock();
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| deploy(&engine, &Cancel::new(), 1));
        until(|| !engine.compiler().running.lock().is_empty());
        let second = scope.spawn(|| deploy(&engine, &cancel, 1));
        cancel.cancel();
        let error = second.join().expect("a deployment").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(engine.compiler().abandoned(), 0, "the first still waits");
        drop(gate);
        first.join().expect("a deployment").expect("a function");
    });
}

#[test]
fn what_is_cancelled_beforehand_never_begins() {
    let fake = Arc::new(Fake::new());
    let engine = engine(&fake, LONG, None);
    let cancel = Cancel::new();
    assert!(!cancel.is_cancelled());
    cancel.clone().cancel();
    cancel.cancel();
    assert!(cancel.is_cancelled());
    let error = deploy(&engine, &cancel, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(fake.compiled(), 0);
    deploy(&engine, &Cancel::new(), 1).unwrap();
}

#[test]
fn only_so_many_go_on_alone() {
    let fake = Arc::new(Fake::new());
    let engine = engine(&fake, Duration::from_millis(5), None);
    let gate = fake.gate.lock();
    for number in 1..=ABANDONED as u32 {
        let error = deploy(&engine, &Cancel::new(), number).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Compile);
    }
    let error = deploy(&engine, &Cancel::new(), 99).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(
        error.to_string().contains("still run in the background"),
        "{error}"
    );
    drop(gate);
    until(|| engine.compiler().abandoned() == 0);
    until(|| deploy(&engine, &Cancel::new(), 99).is_ok());
}

#[test]
fn everybody_hears_of_a_failure() {
    let fake = Arc::new(Fake::new());
    let engine = engine(&fake, LONG, None);
    fake.panic_compiling.store(true, Ordering::SeqCst);
    let error = deploy(&engine, &Cancel::new(), 1).unwrap_err();
    assert!(
        error.to_string().contains("the compiler fell over"),
        "{error}"
    );
    assert!(engine.compiler().running.lock().is_empty());
    assert_eq!(engine.compilations(), 0);
}

#[test]
fn large_modules_are_waited_for_longer() {
    let compiler = Compiler::new(None, None, None);
    let cancel = Cancel::new();
    let timeout = |bytes| compiler.wait(bytes, &cancel).timeout.as_secs();
    assert_eq!(timeout(0), 60);
    assert_eq!(timeout(1), 70);
    assert_eq!(timeout(64 << 20), 700);
    let ever = Compiler::new(Some(Duration::MAX), None, None);
    assert_eq!(ever.wait(1, &cancel).deadline, None);
}
