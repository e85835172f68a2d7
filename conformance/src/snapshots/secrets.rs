//! That what a program gives out once is not given out twice: tokens, keys, ids and times, made in the ways in which programs
//! make them, also where no sample shows them.

use std::collections::HashSet;

use super::{Deployed, Setting, guest};
use crate::{Fixture, expect, module, text};
use engine_core::Error;
use engine_core::Outcome;
use engine_core::SnapshotKind;
use engine_core::contract::Request;

/// Requests of each setting.
const REQUESTS: usize = 6;

/// What guest fresh draws from the host, at the first use.
const DRAWN: &[&str] = &["lazy", "once", "pool", "ulid", "hashed", "expiry"];

/// What it draws from the runtime's generators when it starts: the host sees that only where an answer shows it.
const OF_THE_RUNTIME: &[&str] = &["session shown", "source shown", "maphash shown"];

/// No two requests are given the same secret, whatever the setting, and whether or not a sample shows it.
pub fn secrets_differ_in_each_request(fixture: &Fixture) {
    let Some(wasm) = guest("go-fresh") else {
        return;
    };
    let shown: Vec<_> = DRAWN.iter().map(|kind| format!("{kind} shown")).collect();
    let kinds = DRAWN
        .iter()
        .copied()
        .chain(shown.iter().map(String::as_str));
    for kind in kinds.chain(OF_THE_RUNTIME.iter().copied()) {
        for args in [kind.to_owned(), format!("{kind} loop")] {
            let setting = Setting::args(&args);
            for setting in [setting, setting.warm()] {
                if fixture.engine.pool().is_none() && (setting.rounds == 0 || kind != "lazy") {
                    continue;
                }
                let deployed = Deployed::new(fixture, &wasm, setting);
                assert_ne!(deployed.kind(), SnapshotKind::Warmed, "{}", deployed.about);
                if OF_THE_RUNTIME.contains(&kind) {
                    assert_eq!(deployed.kind(), SnapshotKind::None, "{}", deployed.about);
                }
                let secrets: HashSet<_> = (0..REQUESTS).map(|_| secret(&deployed)).collect();
                assert_eq!(secrets.len(), REQUESTS, "{secrets:?}; {}", deployed.about);
            }
        }
    }
    // One that is only compared is never shown.
    for args in ["compared", "compared loop"] {
        Deployed::new(fixture, &wasm, Setting::args(args).warm())
            .because("random bytes")
            .is(SnapshotKind::Parked);
    }
}

/// A time that a program keeps is not that of its deployment.
pub fn times_are_not_those_of_the_deployment(fixture: &Fixture) {
    let Some(wasm) = guest("go-fresh") else {
        return;
    };
    for kind in ["coarse", "cached"] {
        for args in [
            kind.to_owned(),
            format!("{kind} shown"),
            format!("{kind} loop"),
        ] {
            Deployed::new(fixture, &wasm, Setting::args(&args).warm())
                .because("asks for the date")
                .is(SnapshotKind::Parked);
        }
    }
    let setting = Setting::args("started");
    for setting in [setting, setting.warm()] {
        let deployed = Deployed::new(fixture, &wasm, setting)
            .because("asks for the date")
            .is(SnapshotKind::None);
        assert_ne!(secret(&deployed), secret(&deployed));
    }
}

/// What main does after the last request is done in each request: a program is never ended where it waits for the next one.
pub fn what_main_does_at_its_end_is_done(fixture: &Fixture) {
    let Some(wasm) = guest("go-fresh") else {
        return;
    };
    for args in ["audit", "audit loop"] {
        let setting = Setting::args(args);
        for setting in [setting.off(), setting, setting.warm(), setting.on().warm()] {
            let deployed = Deployed::new(fixture, &wasm, setting);
            for _ in 0..2 {
                let answer = get(&deployed, "/secret");
                let lines: Vec<_> = answer.logs.iter().map(|(_, line)| line.as_str()).collect();
                assert_eq!(lines, ["audit: GET /secret"], "{}", deployed.about);
            }
            // A buffer with lines of the samples is no start for a request.
            if args == "audit loop" {
                assert_ne!(deployed.kind(), SnapshotKind::Warmed, "{}", deployed.about);
            }
        }
    }
}

/// A reactor that keeps something it drew or the time at which it ran starts plain, or is not warmed up.
pub fn reactors_that_keep_entropy_or_time_do_not(fixture: &Fixture) {
    let random = "(drop (call $random_get (i32.const 512) (i32.const 8)))";
    let date = "(drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 512)))";
    let monotonic = "(drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 512)))";
    // Multiplied, so that nothing in memory looks like a time.
    let hashed = format!(
        "{monotonic} (i64.store (i32.const 512) (i64.mul (i64.load (i32.const 512)) (i64.const 0x2545f4914f6cdd1d)))"
    );
    let global = format!(
        "{date} (global.set $seed (i64.load (i32.const 512))) (i64.store (i32.const 512) (i64.const 0))"
    );
    let kept = [random, date, monotonic, &hashed, &global];
    for seed in kept {
        let once = format!(
            "(if (i32.eqz (i32.load (i32.const 600))) (then (i32.store (i32.const 600) (i32.const 1)) {seed}))"
        );
        Deployed::new(fixture, &reactor(seed, "", false), Setting::default())
            .because("would be the same in every request")
            .is(SnapshotKind::None);
        // With `on` it may be frozen, but not where the body shows it.
        Deployed::new(fixture, &reactor(seed, "", true), Setting::default().on())
            .because("would be the same in every request")
            .is(SnapshotKind::None);
        let warm = Setting::default().warm();
        let deployed = Deployed::new(fixture, &reactor("", &once, false), warm);
        assert_ne!(deployed.kind(), SnapshotKind::Warmed, "{}", deployed.about);
    }
    // What is not kept may be asked for.
    let forgotten = format!("{monotonic} (i64.store (i32.const 512) (i64.const 0))");
    let deployed = Deployed::new(fixture, &reactor(&forgotten, "", true), Setting::default());
    let reason = deployed.function.facts().snapshot.why_not.clone();
    assert!(
        deployed.kind() == SnapshotKind::Initialised || super::slower(&deployed.function),
        "{reason:?}"
    );
    assert_eq!(get(&deployed, "/").outcome, Outcome::Ok);
}

/// A reactor with what it does in `_initialize` and in its handler, which answers "aaaaaaaaaaaaaaaa", or with the text at address
/// 512 and in the global.
fn reactor(initialize: &str, handler: &str, shown: bool) -> Vec<u8> {
    let (data, response) = text(2048, "{\"status\":200,\"body\":\"aaaaaaaaaaaaaaaa\"}");
    let mut show = String::new();
    for letter in 0..16 {
        let seed = "(i64.xor (i64.load (i32.const 512)) (global.get $seed))";
        let digit = format!(
            "(i64.and (i64.shr_u {seed} (i64.const {})) (i64.const 15))",
            4 * letter
        );
        show.push_str(&format!(
            "(i64.store8 (i32.const {}) (i64.add (i64.const 97) {digit}))\n",
            2048 + 22 + letter
        ));
    }
    let show = if shown { show.as_str() } else { "" };
    let module = module(
        &format!(r#"{data} (global $seed (mut i64) (i64.const 0))"#),
        &format!(
            r#"(func (export "_initialize") (i32.store (i32.const 640) (i32.const 1)) {initialize})
               (func (export "gojinn_handle") {handler} {show} (call $print {response}))"#
        ),
    );
    expect(wat::parse_str(module).map_err(|error| Error::host(error.to_string())))
}

fn secret(deployed: &Deployed<'_>) -> String {
    let answer = get(deployed, "/secret");
    assert_eq!(
        (answer.outcome, answer.status),
        (Outcome::Ok, 200),
        "{}; {}",
        answer.reason,
        deployed.about
    );
    String::from_utf8_lossy(&answer.body).into_owned()
}

fn get(deployed: &Deployed<'_>, uri: &str) -> crate::Owned {
    deployed.answer(&Request {
        method: b"GET",
        uri: uri.as_bytes(),
        trace_id: b"t",
        ..Request::default()
    })
}
