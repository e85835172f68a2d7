//! Cases about snapshots of reactors: after `_initialize`, and after sample requests.

use super::{Deployed, Setting, guest};
use crate::host::OPERATIONS;
use crate::{Fixture, expect, module, text};
use engine_core::Error;
use engine_core::Outcome;
use engine_core::SnapshotKind;

/// `_initialize` runs once, when a reactor is deployed. These reactors trap if it runs twice.
pub fn reactors_start_initialised(fixture: &Fixture) {
    for (name, body) in [
        ("reactor", "Hello from a wat reactor\n"),
        ("reactor-count", "request 1 of 9\n"),
    ] {
        let wasm = wat(name);
        // The answer of the one that counts would show the warm-up, so it is not warmed up.
        for setting in [Setting::default(), Setting::default().warm()] {
            let deployed = Deployed::new(fixture, &wasm, setting);
            // With an _initialize that does almost nothing, a start without a snapshot can be as fast.
            if deployed.kind() == SnapshotKind::None {
                assert!(super::slower(&deployed.function), "{}", deployed.about);
            }
            if name == "reactor-count" {
                assert_ne!(deployed.kind(), SnapshotKind::Warmed, "{}", deployed.about);
            }
            for _ in 0..3 {
                let answer = deployed.get("");
                assert_eq!(answer.outcome, Outcome::Ok, "{}", answer.reason);
                assert_eq!(String::from_utf8_lossy(&answer.body), body);
            }
        }
    }
}

/// A deployment waits neither for a handler that takes seconds nor for an `_initialize` that never ends.
pub fn slow_reactors_are_not_waited_for(fixture: &Fixture) {
    for (initialize, handler) in [
        ("", "(call $sleep (i64.const 60000000000))"),
        ("(loop $l (br $l))", ""),
    ] {
        let text = module(
            "",
            &format!(
                r#"(func (export "_initialize") (i32.store (i32.const 512) (i32.const 1)) {initialize})
                   (func (export "gojinn_handle") {handler})"#
            ),
        );
        let wasm = expect(wat::parse_str(text).map_err(|error| Error::host(error.to_string())));
        let setting = Setting::default();
        Deployed::once(fixture, &wasm, setting, setting.config())
            .because("takes too long")
            .is(SnapshotKind::None);
    }
}

/// The contents of a table cannot be captured.
pub fn reactors_with_hidden_state_do_not(fixture: &Fixture) {
    let wasm = wat("reactor-table");
    for setting in [Setting::default(), Setting::default().on()] {
        let deployed = Deployed::new(fixture, &wasm, setting)
            .because("table.set")
            .is(SnapshotKind::None);
        assert_eq!(deployed.get("").outcome, Outcome::Ok);
    }
}

/// A Go reactor has drawn its runtime's seed in `_initialize`, and only the layout of Go commands is known well enough
/// to find it.
pub fn go_reactors_need_to_be_asked_for(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe-reactor") else {
        return;
    };
    let plain = Deployed::new(fixture, &wasm, Setting::default())
        .because("random")
        .is(SnapshotKind::None);
    for setting in [Setting::default().on(), Setting::default().on().warm()] {
        let from = Deployed::new(fixture, &wasm, setting);
        assert_ne!(from.kind(), SnapshotKind::None, "{}", from.about);
        for query in ["", "recurse=3000", "collect=1"] {
            assert_eq!(from.ask(query), plain.ask(query), "{}", from.about);
        }
        let count = if from.kind() == SnapshotKind::Warmed {
            4
        } else {
            1
        };
        assert_eq!(from.fact("count=1", "count"), count, "{}", from.about);
    }
}

/// `deployment.data` is served while a snapshot is recorded. Two functions with one module each start with their own data.
pub fn data_read_before_the_snapshot_is_that_of_the_function(fixture: &Fixture) {
    let (name, at) = text(256, "deployment.data");
    // The loop makes a start without a snapshot slower than one with it, on any machine.
    let wat = module(
        &format!(r#"{name} (global $len (mut i32) (i32.const 0))"#),
        &format!(
            r#"(func (export "_initialize") (local $i i32)
                   (drop (call $call {at} (i32.const 0) (i32.const 0)))
                   (global.set $len (call $reply (i32.const 4096) (i32.const 4096)))
                   (local.set $i (i32.const 1000000))
                   (loop $more
                       (i32.store (i32.const 600) (i32.add (i32.load (i32.const 600)) (local.get $i)))
                       (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1))))))
               (func (export "gojinn_handle") (call $print (i32.const 4096) (global.get $len)))"#
        ),
    )
    .replacen("(module", &format!("(module {OPERATIONS}"), 1);
    let wasm = expect(wat::parse_str(wat).map_err(|error| Error::host(error.to_string())));
    let deployed = ["one", "two"].map(|name| {
        let answer = format!(r#"{{"body":"{name}"}}"#);
        let deployed = Deployed::with(fixture, &wasm, Setting::default(), |config| {
            config.data = Some(answer.as_bytes().into());
        });
        deployed.is(SnapshotKind::Initialised)
    });
    for _ in 0..3 {
        for (deployed, name) in deployed.iter().zip(["one", "two"]) {
            let answer = deployed.get("");
            assert_eq!(answer.outcome, Outcome::Ok, "{}", answer.reason);
            assert_eq!(String::from_utf8_lossy(&answer.body), name);
        }
    }
}

/// One of the reactors in `guests/wat`.
fn wat(name: &str) -> Vec<u8> {
    let file = format!("{}/../guests/wat/{name}.wat", env!("CARGO_MANIFEST_DIR"));
    expect(wat::parse_file(&file).map_err(|error| Error::host(format!("{file}: {error}"))))
}
