//! Cases about snapshots of reactors: after `_initialize`, and after sample requests.

use super::{Deployed, Setting, guest};
use crate::{Fixture, expect, module};
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

/// One of the reactors in `guests/wat`.
fn wat(name: &str) -> Vec<u8> {
    let file = format!("{}/../guests/wat/{name}.wat", env!("CARGO_MANIFEST_DIR"));
    expect(wat::parse_file(&file).map_err(|error| Error::host(format!("{file}: {error}"))))
}
