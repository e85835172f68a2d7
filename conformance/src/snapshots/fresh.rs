//! Cases about values that a snapshot must not freeze: random numbers, keys, clocks and timers.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{Deployed, Setting, guest};
use crate::Fixture;
use engine_core::SnapshotKind;

/// The number of requests that draw random numbers from a warmed program in the pool, which is the fastest. Parked
/// programs start from the same patches.
const DRAWS: usize = 10_000;

/// The number of requests that show a key.
const KEYS: usize = 1_000;

/// No two requests draw the same numbers from a generator of the runtime, or see the same order of a map.
pub fn no_two_requests_draw_the_same(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    let pooled = fixture.engine.pool().is_some();
    for (setting, kind, requests) in [
        (Setting::default().warm(), SnapshotKind::Warmed, DRAWS),
        (Setting::default(), SnapshotKind::Parked, DRAWS / 10),
        // The program has drawn before, so the generator's block is not its first.
        (Setting::args("draw collect"), SnapshotKind::Parked, 200),
        (Setting::args("loop").warm(), SnapshotKind::Warmed, 200),
    ] {
        let deployed = Deployed::new(fixture, &wasm, setting).is(kind);
        let requests = if pooled { requests } else { requests.min(200) };
        let mut seen: HashMap<String, HashSet<String>> = HashMap::new();
        for drawn in draw(&deployed, requests) {
            for (generator, value) in drawn {
                assert!(
                    seen.entry(generator.clone()).or_default().insert(value),
                    "two requests agree in {generator}; {}",
                    deployed.about
                );
            }
        }
        assert!(seen.len() >= 4, "{:?}; {}", seen.keys(), deployed.about);
        for (generator, values) in &seen {
            assert_eq!(values.len(), requests, "{generator}; {}", deployed.about);
        }
    }
}

/// Generators that the program has seeded itself return the same numbers in every request as without a snapshot.
pub fn generators_with_seeds_of_the_programs_own_repeat(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    for args in ["seeded", "static", "seeded static"] {
        let setting = Setting::args(args);
        let plain = Deployed::new(fixture, &wasm, setting.off()).fact("own=1", "own");
        for setting in [setting, setting.warm()] {
            let from = Deployed::new(fixture, &wasm, setting);
            // Two generators in static data cannot be distinguished, so this program may get no snapshot.
            if args == "seeded" {
                assert_ne!(from.kind(), SnapshotKind::None, "{}", from.about);
            }
            for _ in 0..3 {
                assert_eq!(from.fact("own=1", "own"), plain, "{}", from.about);
            }
            let [first, second] = [(); 2].map(|()| from.fact("draws=1", "draws"));
            assert_ne!(first["math/rand"], second["math/rand"], "{}", from.about);
        }
    }
}

/// With `auto`, a package-level key differs in each request: the program gets no snapshot. The same holds for an id
/// from a generator that the host does not know, if an answer shows it.
pub fn a_key_drawn_at_the_start_differs_in_each_request(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    let deployed = Deployed::new(fixture, &wasm, Setting::args("id"))
        .because("would be the same in every request")
        .is(SnapshotKind::None);
    assert_ne!(deployed.fact("", "id"), deployed.fact("", "id"));

    let deployed = Deployed::new(fixture, &wasm, Setting::args("key"));
    let requests = if fixture.engine.pool().is_some() {
        KEYS
    } else {
        100
    };
    let keys: HashSet<_> = (0..requests)
        .map(|_| deployed.fact("", "key").to_string())
        .collect();
    assert_eq!(keys.len(), requests);
}

/// The monotonic clock continues from the time of the snapshot, and the wall clock shows the current time.
pub fn clocks_go_on(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    for setting in [
        Setting::args("sleep=20ms"),
        Setting::args("sleep=20ms").warm(),
        Setting::args("sleep=20ms loop").warm(),
    ] {
        let deployed = Deployed::new(fixture, &wasm, setting);
        assert_ne!(deployed.kind(), SnapshotKind::None, "{}", deployed.about);
        for _ in 0..50 {
            let before = now();
            let clocks = deployed.fact("clocks=1", "clocks");
            let read = |name: &str| clocks[name].as_i64().unwrap_or_default();
            assert!((before..=now()).contains(&read("realtime")), "{clocks}");
            // The program slept this long before its first read. A clock that went back would show less.
            assert!(
                read("since_start") >= 21_000_000,
                "{clocks}; {}",
                deployed.about
            );
            assert!(read("slept") >= 1_000_000, "{clocks}; {}", deployed.about);
        }
    }
}

/// Tickers and timers that were armed before the snapshot fire in every request.
pub fn timers_armed_before_the_snapshot_fire(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    for setting in [Setting::args("timers"), Setting::args("timers sleep=10ms")] {
        let deployed = Deployed::new(fixture, &wasm, setting).is(SnapshotKind::Parked);
        for _ in 0..3 {
            assert_eq!(
                deployed.fact("timers=1", "timers"),
                serde_json::json!({"tick": true, "tock": true, "timer": true, "func": true}),
                "{}",
                deployed.about
            );
        }
    }
}

/// What `count` requests draw, made on two threads.
fn draw(deployed: &Deployed<'_>, requests: usize) -> Vec<Vec<(String, String)>> {
    let some = |requests: usize| {
        let one = |_| match deployed.fact("draws=1", "draws") {
            Value::Object(drawn) => drawn
                .into_iter()
                .map(|(generator, value)| (generator, value.to_string()))
                .collect(),
            other => panic!("{other}; {}", deployed.about),
        };
        (0..requests).map(one).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| some(requests / 2));
        let mut drawn = some(requests - requests / 2);
        match other.join() {
            Ok(others) => drawn.extend(others),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        drawn
    })
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
