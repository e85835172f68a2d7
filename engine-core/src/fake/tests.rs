//! Tests of what an engine and its functions do around a backend.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::{Fake, module};
use crate::CodeSource;
use crate::backend::Backend;
use crate::contract::Request;
use crate::engine::{Engine, EngineConfig};
use crate::engine::{Function, FunctionConfig};
use crate::error::ErrorKind;
use crate::outcome::{Outcome, Trap, TrapCode};
use crate::sandbox::{HostState, Stop};

fn engine(fake: &Arc<Fake>, permits: u32) -> Engine {
    let config = EngineConfig {
        pool: None,
        max_concurrency: permits,
        ..EngineConfig::default()
    };
    Engine::new(config, vec![Arc::clone(fake) as Arc<dyn Backend>]).expect("an engine")
}

fn deploy(engine: &Engine, number: u32) -> Function {
    let config = FunctionConfig {
        name: "hello".into(),
        ..FunctionConfig::default()
    };
    engine.deploy(&module(number), config).expect("a function")
}

/// Outcome, status and reason of one call.
fn call(engine: &Engine, function: &Function, per_request: &[&[u8]]) -> (Outcome, u16, String) {
    function
        .call(
            engine.reserve().expect("a place"),
            &Request::default(),
            per_request,
            |answer| (answer.outcome, answer.status, answer.reason.to_string()),
        )
        .expect("an answer")
}

/// The outcome of a call of a guest that runs `script`.
fn outcome(
    script: impl Fn(&mut HostState) -> Option<Trap> + Send + Sync + 'static,
) -> (Outcome, u16) {
    let fake = Arc::new(Fake::with(move |host, _| script(host)));
    let engine = engine(&fake, 2);
    let (outcome, status, reason) = call(&engine, &deploy(&engine, 1), &[]);
    assert_eq!(reason.is_empty(), outcome == Outcome::Ok, "{reason}");
    assert_eq!(engine.permits().0, 0, "the permit was given back");
    let label = format!("outcome=\"{}\"}} 1", outcome.label());
    assert!(engine.render_metrics().contains(&label), "{label}");
    (outcome, status)
}

#[test]
fn every_end_of_a_guest_has_an_outcome() {
    let trap = |code| move |_: &mut HostState| Some(Trap::new(code, "in words"));
    assert_eq!(
        outcome(|host| {
            host.stdout.extend_from_slice(b"{\"status\":201}");
            None
        }),
        (Outcome::Ok, 201)
    );
    assert_eq!(
        outcome(|host| {
            host.stdout.extend_from_slice(b"not JSON");
            None
        }),
        (Outcome::BadOutput, 502)
    );
    assert_eq!(
        outcome(|host| {
            host.stop(Stop::Exit(3));
            Some(Trap::new(TrapCode::Unreachable, "how it was unwound"))
        }),
        (Outcome::Trap, 502)
    );
    assert_eq!(
        outcome(|host| {
            assert!(!host.memory().may_grow_to(u64::MAX));
            Some(Trap::new(TrapCode::Unreachable, ""))
        }),
        (Outcome::Oom, 502)
    );
    assert_eq!(outcome(trap(TrapCode::Deadline)), (Outcome::Timeout, 504));
    assert_eq!(
        outcome(trap(TrapCode::OutputLimit)),
        (Outcome::BadOutput, 502)
    );
    assert_eq!(outcome(trap(TrapCode::Host)), (Outcome::Error, 500));
    assert_eq!(
        outcome(|_| panic!("a backend's bug")),
        (Outcome::Error, 500)
    );
}

#[test]
fn a_call_is_cancelled_by_its_id() {
    let fake = Arc::new(Fake::with(|host, _| {
        let long = host.call().started() + Duration::from_secs(30);
        let why = host.call().wait_until(long).expect_err("a cancellation");
        host.stop(why.into());
        None
    }));
    let engine = engine(&fake, 1);
    let function = deploy(&engine, 1);
    let permit = engine.reserve().unwrap();
    let id = permit.id();
    assert!(engine.cancel(id));
    let outcome = function
        .call(permit, &Request::default(), &[], |answer| answer.outcome)
        .unwrap();
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(!engine.cancel(id), "the id is stale");
}

#[test]
fn a_sandbox_that_cannot_be_made_is_the_hosts_fault() {
    let fake = Arc::new(Fake::new());
    let engine = engine(&fake, 1);
    let function = deploy(&engine, 1);
    fake.refuse_sandboxes.store(true, Ordering::SeqCst);
    let (outcome, status, reason) = call(&engine, &function, &[]);
    assert_eq!((outcome, status), (Outcome::Error, 500));
    assert!(reason.contains("no sandbox to be had"), "{reason}");
    assert_eq!(engine.permits().0, 0);

    let config = FunctionConfig::default();
    let error = engine.deploy(&module(2), config).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host, "the deployment finds it out");

    fake.refuse_sandboxes.store(false, Ordering::SeqCst);
    assert_eq!(call(&engine, &function, &[]).0, Outcome::Ok);
}

#[test]
fn a_compiler_that_panics_fails_one_deployment() {
    let fake = Arc::new(Fake::new());
    let engine = engine(&fake, 1);
    fake.panic_compiling.store(true, Ordering::SeqCst);
    let error = engine
        .deploy(&module(1), FunctionConfig::default())
        .unwrap_err();
    assert!(
        error.to_string().contains("the compiler fell over"),
        "{error}"
    );
    fake.panic_compiling.store(false, Ordering::SeqCst);
    assert_eq!(call(&engine, &deploy(&engine, 1), &[]).0, Outcome::Ok);
    assert_eq!(engine.functions(), 0, "there is no function");
}

#[test]
fn deployments_of_one_module_at_once_compile_it_once() {
    const MANY: usize = 64;
    let fake = Arc::new(Fake::new());
    let engine = engine(&fake, 1);
    let all_here = Barrier::new(MANY);
    let functions: Vec<Function> = std::thread::scope(|scope| {
        let deploying: Vec<_> = (0..MANY)
            .map(|_| {
                scope.spawn(|| {
                    all_here.wait();
                    deploy(&engine, 1)
                })
            })
            .collect();
        deploying
            .into_iter()
            .map(|thread| thread.join().expect("a deployment"))
            .collect()
    });
    assert_eq!((fake.compiled(), engine.compilations()), (1, 1));
    let compiled = functions
        .iter()
        .filter(|function| function.facts().source == CodeSource::Compiled);
    assert_eq!(compiled.count(), 1, "the others found it in memory");
    assert_eq!(engine.functions(), MANY as u64);

    deploy(&engine, 2);
    assert_eq!(fake.compiled(), 2, "another module is another compilation");
    drop(functions);
    deploy(&engine, 1);
    assert_eq!(
        fake.compiled(),
        3,
        "a module without functions is not kept in memory"
    );
}

#[test]
fn a_module_that_compiles_does_not_delay_other_modules() {
    let fake = Arc::new(Fake::new());
    let engine = engine(&fake, 1);
    let first = deploy(&engine, 1);
    let gate = fake.gate.lock();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| deploy(&engine, 2));
        let again = deploy(&engine, 1);
        assert_eq!(again.facts().source, CodeSource::Memory);
        assert_eq!(call(&engine, &first, &[]).0, Outcome::Ok);
        drop(gate);
        assert_eq!(
            slow.join().expect("a deployment").facts().source,
            CodeSource::Compiled
        );
    });
}

#[test]
fn per_request_values_come_with_the_call() {
    let fake = Arc::new(Fake::with(|host, _| {
        assert_eq!(
            host.program.args,
            [&b"hello"[..], b"--verbose", b"given late"]
        );
        assert_eq!(
            host.program.env,
            [("A", &b"1"[..]), ("B", b"two"), ("C", b"\xff")]
                .map(|(name, value)| (name.to_string(), value.to_vec()))
        );
        host.stdout.extend_from_slice(b"{}");
        None
    }));
    let engine = engine(&fake, 1);
    let config = FunctionConfig {
        name: "hello".into(),
        env: vec![
            ("A".into(), Some("1".into())),
            ("B".into(), None),
            ("C".into(), None),
        ],
        args: vec![Some("--verbose".into()), None],
        ..FunctionConfig::default()
    };
    let function = engine.deploy(&module(1), config).unwrap();
    assert_eq!(function.per_request_values(), 3);
    let per_request: [&[u8]; 3] = [b"two", b"\xff", b"given late"];
    assert_eq!(
        call(&engine, &function, &per_request),
        (Outcome::Ok, 200, String::new())
    );
    for wrong in [
        &per_request[..2],
        &[][..],
        &[b"two", b"a\0b", per_request[2]][..],
    ] {
        let error = function
            .call(
                engine.reserve().unwrap(),
                &Request::default(),
                wrong,
                |_| {},
            )
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(engine.permits().0, 0, "nothing ran, and the permit is free");
    }
}

#[test]
fn calls_beyond_the_permits_are_refused() {
    let fake = Arc::new(Fake::new());
    let engine = engine(&fake, 2);
    let held = (engine.reserve().unwrap(), engine.reserve_id().unwrap());
    assert_eq!(engine.reserve().unwrap_err().kind(), ErrorKind::Rejected);
    assert_eq!(engine.permits(), (2, 2));
    drop(held.0);
    assert_eq!(call(&engine, &deploy(&engine, 1), &[]).0, Outcome::Ok);
    drop(engine.claim(held.1).unwrap());
    assert!(engine.claim(held.1).is_err(), "claimed once only");
    assert_eq!(engine.permits(), (0, 2));
}

#[test]
fn a_body_too_large_runs_nothing() {
    let fake = Arc::new(Fake::with(|_, _| panic!("must not run")));
    let engine = engine(&fake, 1);
    let mut config = FunctionConfig::default();
    config.limits.body = 3;
    let function = engine.deploy(&module(1), config).unwrap();
    let request = Request {
        body: b"four",
        ..Request::default()
    };
    let answer = function
        .call(engine.reserve().unwrap(), &request, &[], |answer| {
            (answer.outcome, answer.status)
        })
        .unwrap();
    assert_eq!(answer, (Outcome::Rejected, 413));
    assert_eq!(engine.permits().0, 0);
}
