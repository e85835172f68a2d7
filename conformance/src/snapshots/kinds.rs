//! Cases about the kind of snapshot that difficult Go programs get, and that they answer as they do without one.

use super::{Deployed, Setting, comparable, guest};
use crate::mounts::Directory;
use crate::{Fixture, command, expect};
use engine_core::Error;
use engine_core::FunctionConfig;
use engine_core::Outcome;
use engine_core::SnapshotKind;
use engine_core::sandbox::wasi::MountSpec;

/// What the program `probe` may do before its first read without getting a value that a snapshot would freeze.
const HARMLESS: &[&str] = &[
    "",
    "env=NONE",
    "file=/not/mounted",
    "draw",
    "seeded",
    "heap=64",
    "gc",
    "collect",
    "timers",
    "sleep=1ms",
    "goroutines=500",
    "finalizers",
    "stack",
    "lock",
    "stderr=note",
    "loop",
    "all",
    "reader",
    "deep=5000",
    "recover",
    "gc goroutines=50 timers finalizers stack deep=100",
];

/// Those of them that three sample requests warm up.
const WARM: &[&str] = &[
    "",
    "gc",
    "collect",
    "timers",
    "goroutines=50",
    "finalizers",
    "stack",
    "loop",
    "all",
    "deep=5000",
    "recover",
    "heap=16 loop",
    "gc goroutines=50 timers finalizers stack deep=100",
];

/// Requests whose answers are the same each time.
const STEADY: &[&str] = &[
    "",
    "a=%C3%A9",
    "recurse=3000",
    "collect=1&heap=1",
    "sleep=1ms",
];

/// A program that only gets values which are renewed in each sandbox is parked at its first read, and answers as it
/// does without a snapshot.
pub fn programs_that_ask_for_nothing_are_parked(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    for args in HARMLESS {
        // Without the pool, where memory is copied instead of mapped, a few programs are enough.
        if fixture.engine.pool().is_none() && !matches!(*args, "" | "heap=64" | "loop") {
            continue;
        }
        let setting = Setting::args(args);
        // Twice the default: older releases of Go need more than 128 MiB to fill 64 MiB.
        let roomy = |config: &mut FunctionConfig| config.limits.memory = 256 << 20;
        let plain = Deployed::with(fixture, &wasm, setting.off(), roomy).is(SnapshotKind::None);
        let parked = Deployed::with(fixture, &wasm, setting, roomy);
        // On a busy machine an interpreter needs more time for so many sandboxes of that size than a deployment waits.
        let parked = if *args == "heap=64" && parked.kind() == SnapshotKind::None {
            parked.because("takes too long")
        } else {
            parked.is(SnapshotKind::Parked)
        };
        same_answers(&plain, &parked);
    }
}

/// A program serves sample requests before its snapshot if the configuration or the program says so: in its loop, or by
/// running its main again.
pub fn programs_that_may_be_warmed_up_are(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    for args in WARM {
        if fixture.engine.pool().is_none() && !matches!(*args, "" | "loop") {
            continue;
        }
        let setting = Setting::args(args);
        let plain = Deployed::new(fixture, &wasm, setting.off());
        let warmed = Deployed::new(fixture, &wasm, setting.warm());
        // The time of a request also decides. If warming up gains little, noise decides.
        if warmed.kind() == SnapshotKind::Warmed {
            same_answers(&plain, &warmed);
        } else {
            same_answers(&plain, &warmed.because("a request takes"));
        }
    }
    // This program does not read in its main, so its main cannot be run again.
    let reader = Setting::args("reader");
    let parked = Deployed::new(fixture, &wasm, reader.warm()).because("it is not warmed up: ");
    same_answers(
        &Deployed::new(fixture, &wasm, reader.off()),
        &parked.is(SnapshotKind::Parked),
    );
    // One of them calls gojinn.WarmUp.
    for (name, kind) in [
        ("go-serve", SnapshotKind::Warmed),
        ("go-mux", SnapshotKind::Parked),
    ] {
        let Some(wasm) = guest(name) else { return };
        let plain = Deployed::new(fixture, &wasm, Setting::default().off());
        let from = Deployed::new(fixture, &wasm, Setting::default());
        // The package takes frames, also in its samples.
        assert!(from.function.facts().frames, "{name}");
        same_answers(&plain, &from.is(kind));
    }
}

/// Random numbers, the date and files that were read before the first read would be frozen. Only `on` allows that.
pub fn what_would_be_frozen_keeps_auto_from_it(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    let directory = Directory::new();
    let mount = MountSpec {
        host: directory.path().to_path_buf(),
        guest: "/data".into(),
        writable: false,
    };
    for (args, fact, reason) in [
        ("key quiet", "key", "random"),
        ("clock quiet", "clock", "date"),
        ("file=/data/none quiet", "file", "files"),
        ("file=/data/none key quiet", "key", "files"),
    ] {
        let with_mount = |config: &mut FunctionConfig| config.mounts = vec![mount.clone()];
        let setting = Setting::args(args);
        Deployed::with(fixture, &wasm, setting, with_mount)
            .because(reason)
            .is(SnapshotKind::None);
        let frozen = Deployed::with(fixture, &wasm, setting.on(), with_mount);
        let frozen = frozen.is(SnapshotKind::Parked);
        let [first, second] = [(); 2].map(|()| frozen.fact("start=1", fact));
        assert_eq!(first, second, "{}", frozen.about);
    }
    // If a key or a date is in the answer, verification finds that it is frozen, also with `on`.
    for args in ["key", "clock"] {
        Deployed::new(fixture, &wasm, Setting::args(args).on())
            .because("would be the same in every request")
            .is(SnapshotKind::None);
    }
}

/// A program that cannot be stopped at a read gets no snapshot, whatever the configuration says.
pub fn programs_without_a_snapshot_are_served_plain(fixture: &Fixture) {
    if let Some(wasm) = guest("go-probe") {
        for (args, reason) in [
            ("panic", "exit code 2"),
            ("exit=4", "exit code 4"),
            ("exit=0", "exit code 0"),
            ("stdout=early", "stdout"),
        ] {
            let setting = Setting::args(args);
            let plain = Deployed::new(fixture, &wasm, setting.off()).get("");
            for setting in [setting, setting.on(), setting.warm()] {
                let tried = Deployed::new(fixture, &wasm, setting)
                    .because(reason)
                    .is(SnapshotKind::None);
                assert_eq!(
                    comparable(&tried.get("")),
                    comparable(&plain),
                    "{}",
                    tried.about
                );
            }
        }
    }
    let other = expect(wat::parse_str(command("", "")).map_err(|e| Error::host(e.to_string())));
    Deployed::new(fixture, &other, Setting::default().on())
        .because("only commands built by Go's compiler")
        .is(SnapshotKind::None);
}

/// Panics, exits and deadlines end a request as they do without a snapshot, and affect no other request.
pub fn bad_ends_are_those_of_the_plain_form(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    for args in ["", "recover", "loop"] {
        let setting = Setting::args(args);
        let quick = |config: &mut FunctionConfig| {
            config.limits.timeout = std::time::Duration::from_millis(500);
        };
        let plain = Deployed::with(fixture, &wasm, setting.off(), quick);
        for setting in [setting, setting.warm()] {
            let from = Deployed::with(fixture, &wasm, setting, quick);
            for (query, outcome) in [
                (
                    "panic=1",
                    if args == "recover" {
                        Outcome::Ok
                    } else {
                        Outcome::Trap
                    },
                ),
                ("exit=3", Outcome::Trap),
                ("exit=0", Outcome::BadOutput),
                ("sleep=20s", Outcome::Timeout),
            ] {
                let (expected, got) = (plain.get(query), from.get(query));
                assert_eq!(expected.outcome, outcome, "?{query}; {}", plain.about);
                assert_eq!(
                    (got.outcome, got.status, &got.body),
                    (expected.outcome, expected.status, &expected.body),
                    "?{query}: {}; {}",
                    got.reason,
                    from.about
                );
                assert_eq!(
                    from.fact("", "uri"),
                    "/?",
                    "the request after ?{query}; {}",
                    from.about
                );
            }
        }
    }
}

/// Each request finds the state after the start and the samples, and nothing of another request.
pub fn state_of_a_warm_up_stays(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    for args in ["", "loop"] {
        let setting = Setting::args(args);
        for (setting, count) in [(setting.off(), 1), (setting, 1), (setting.warm(), 4)] {
            let deployed = Deployed::new(fixture, &wasm, setting);
            let count = if deployed.kind() == SnapshotKind::Parked {
                1
            } else {
                count
            };
            for _ in 0..3 {
                assert_eq!(
                    deployed.fact("count=1", "count"),
                    count,
                    "{}",
                    deployed.about
                );
            }
        }
        // A program whose answer shows that state is not warmed up.
        let shown = Setting {
            sample: "count=1",
            ..setting.warm()
        };
        Deployed::new(fixture, &wasm, shown)
            .because("it is not warmed up: ")
            .is(SnapshotKind::Parked);
    }
}

/// A snapshot holds the values of one function. There is no snapshot if the function has per-request values.
pub fn env_and_args_are_those_of_the_function(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    let with = |value: Option<&str>, setting: Setting<'_>| {
        let mut config = setting.config();
        config.env = vec![("NAME".into(), value.map(str::to_owned))];
        config
    };
    let setting = Setting::args("env=NAME");
    let deployed: Vec<_> = ["one", "two"]
        .iter()
        .map(|value| {
            Deployed::with(fixture, &wasm, setting, |config| {
                *config = with(Some(value), setting);
            })
            .is(SnapshotKind::Parked)
        })
        .collect();
    for (deployed, value) in deployed.iter().zip(["one", "two"]) {
        assert_eq!(deployed.fact("", "env"), value);
    }
    let late = Deployed::with(fixture, &wasm, setting, |config| {
        *config = with(None, setting);
    });
    let late = late.because("each request").is(SnapshotKind::None);
    for value in ["one", "two"] {
        let answer = fixture.call(
            &late.function,
            &engine_core::contract::Request {
                method: b"GET",
                uri: b"/",
                ..Default::default()
            },
            &[value.as_bytes()],
        );
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(body.contains(&format!(r#""env":"{value}""#)), "{body}");
    }
    let refused = fixture.engine.deploy(&wasm, with(None, setting.on()));
    assert!(refused.is_err_and(|error| error.to_string().contains("snapshot")));
}

/// The run before a snapshot must not write to the user's directories, so `auto` takes no snapshot of a program that
/// could.
pub fn writable_mounts_keep_auto_from_it(fixture: &Fixture) {
    let Some(wasm) = guest("go-probe") else {
        return;
    };
    let directory = Directory::new();
    for (writable, setting, kind) in [
        (false, Setting::default(), SnapshotKind::Parked),
        (true, Setting::default(), SnapshotKind::None),
        (true, Setting::default().on(), SnapshotKind::Parked),
    ] {
        let deployed = Deployed::with(fixture, &wasm, setting, |config| {
            config.mounts = vec![MountSpec {
                host: directory.path().to_path_buf(),
                guest: "/data".into(),
                writable,
            }];
        });
        assert_eq!(deployed.is(kind).fact("", "uri"), "/?");
    }
}

fn same_answers(plain: &Deployed<'_>, from: &Deployed<'_>) {
    for query in STEADY {
        let (mut expected, mut got) = (plain.get(query), from.get(query));
        // Lines that are written before the first read are logged once, when the function is deployed.
        let told = std::mem::take(&mut expected.logs);
        let kept = &from.function.facts().snapshot.stderr;
        for (_, line) in told {
            assert!(kept.contains(&line), "{line:?} is lost; {}", from.about);
        }
        got.logs.clear();
        assert_eq!(
            comparable(&got),
            comparable(&expected),
            "?{query}: {}; {}",
            got.reason,
            from.about
        );
        assert_eq!(expected.outcome, Outcome::Ok, "?{query}; {}", plain.about);
    }
}
