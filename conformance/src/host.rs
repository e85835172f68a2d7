//! Cases about hostcalls: a guest finds the same host on every backend.

use std::time::{Duration, SystemTime};

use super::{Fixture, command, log_lines, module};
use engine_core::GuestExit;
use engine_core::logs::STDERR;
use engine_core::sandbox::hostcalls::ParamType;

/// Prints everything that `args_get` and `environ_get` return, including the NULs.
fn printer_of_program() -> String {
    let each = |name: &str| {
        format!(
            r#"(drop (call ${name}_sizes_get (i32.const 64) (i32.const 68)))
               (drop (call ${name}_get (i32.const 1024) (i32.const 8192)))
               (call $print (i32.const 8192) (i32.load (i32.const 68)))"#
        )
    };
    let import = |name: &str| {
        format!(
            r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param i32 i32) (result i32)))"#
        )
    };
    let imports: String = [
        "args_sizes_get",
        "args_get",
        "environ_sizes_get",
        "environ_get",
    ]
    .into_iter()
    .map(import)
    .collect();
    let code = each("args") + &each("environ");
    // Imports must come first.
    command("", &code).replacen("(module", &format!("(module {imports}"), 1)
}

/// `argv[0]` is the program's file name, and the guest does not see the host's environment.
pub fn arguments_and_environment_arrive(fixture: &Fixture) {
    let function = fixture.deploy_with(&printer_of_program(), |config| {
        config.program = "case.wasm".into();
        config.args = vec![Some("--verbose".into()), Some("zwei drei".into())];
        config.env = vec![
            ("A".into(), Some("1".into())),
            ("B".into(), Some("b=\u{fc}".into())),
        ];
    });
    let run = fixture.run(&function, b"");
    assert_eq!(
        String::from_utf8_lossy(&run.stdout),
        "case.wasm\0--verbose\0zwei drei\0A=1\0B=b=\u{fc}\0"
    );
    let bare = fixture.deploy(&printer_of_program());
    assert_eq!(fixture.run(&bare, b"").stdout, b"case\0");
}

/// Per-request values are filled in for their request only.
pub fn per_request_values_arrive(fixture: &Fixture) {
    let cat = printer_of_program();
    let function = fixture.deploy_with(&cat, |config| {
        config.args = vec![None, Some("x".into())];
        config.env = vec![("A".into(), None), ("B".into(), Some("b".into()))];
    });
    assert_eq!(function.per_request_values(), 2);
    // The output is not a response, so nothing of it is quoted. This checks that exactly two values are accepted.
    let request = engine_core::contract::Request::default();
    let permit = super::expect(fixture.engine.reserve());
    let error = function
        .call(permit, &request, &[b"one"], |_| ())
        .err()
        .map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.contains("needs 2 per-request values")));
    let permit = super::expect(fixture.engine.reserve());
    let error = function
        .call(permit, &request, &[b"one", b"t\0o"], |_| ())
        .err()
        .map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.contains("NUL")));

    // {"status": <argument>} shows that the guest got the value.
    let function = fixture.deploy_with(
        &module(
            r#"(data (i32.const 256) "{\"status\":") (data (i32.const 280) "}")"#,
            r#"(func (export "_start")
                   (drop (call $args_get (i32.const 1024) (i32.const 8192)))
                   (call $print (i32.const 256) (i32.const 10))
                   (call $print (i32.load (i32.const 1028)) (i32.const 3))
                   (call $print (i32.const 280) (i32.const 1)))"#,
        )
        .replacen(
            "(module",
            r#"(module (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))"#,
            1,
        ),
        |config| config.args = vec![None],
    );
    for status in [201u16, 202, 404] {
        let answer = fixture.call(&function, &request, &[status.to_string().as_bytes()]);
        assert_eq!(answer.status, status, "{}", answer.reason);
    }
}

/// Each sandbox gets 32 other random bytes.
pub fn two_sandboxes_draw_different_randomness(fixture: &Fixture) {
    let function = fixture.deploy(&command(
        "",
        "(drop (call $random_get (i32.const 128) (i32.const 32))) (call $print (i32.const 128) (i32.const 32))",
    ));
    let mut seen: Vec<_> = (0..64)
        .map(|_| fixture.run(&function, b"").stdout)
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 64);
    assert!(seen.iter().all(|bytes| bytes.len() == 32));
}

/// The wall clock shows the host's time, and the monotonic clock never goes back.
pub fn clocks_are_real_and_never_go_back(fixture: &Fixture) {
    let function = fixture.deploy(&command(
        "",
        r#"(drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 128)))
           (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 136)))
           (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 144)))
           (call $print (i32.const 128) (i32.const 24))"#,
    ));
    let run = fixture.run(&function, b"");
    let nanos: Vec<u64> = run
        .stdout
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
        .collect();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    assert!(
        now.abs_diff(Duration::from_nanos(nanos[0])) < Duration::from_secs(60),
        "{nanos:?}"
    );
    assert!(nanos[1] > 0 && nanos[2] >= nanos[1], "{nanos:?}");
}

/// A sleeping sandbox uses almost no processor time.
pub fn a_sleep_takes_its_time_and_no_processor(fixture: &Fixture) {
    let function = fixture.deploy(&command("", "(call $sleep (i64.const 300000000))"));
    let before = thread_cpu();
    let run = fixture.run(&function, b"");
    let used = thread_cpu() - before;
    assert_eq!(run.exit, GuestExit::Exit(0));
    assert!(
        run.duration >= Duration::from_millis(300),
        "{:?}",
        run.duration
    );
    assert!(
        used < Duration::from_millis(100),
        "{used:?} of processor time"
    );
}

/// Log lines of both kinds keep their order and levels.
pub fn stderr_and_host_log_arrive_in_order(fixture: &Fixture) {
    let function = fixture.deploy(
        &module(
            r#"(data (i32.const 256) "one\ntwo") (data (i32.const 300) "careful")"#,
            r#"(func (export "_start")
                   (call $write (i32.const 2) (i32.const 256) (i32.const 4))
                   (call $host_log (i32.const 2) (i32.const 300) (i32.const 7))
                   (call $write (i32.const 2) (i32.const 260) (i32.const 3)))"#,
        )
        .replacen(
            "(module",
            r#"(module (import "gojinn" "host_log" (func $host_log (param i32 i32 i32)))"#,
            1,
        ),
    );
    let run = fixture.run(&function, b"");
    assert_eq!(
        log_lines(&run.logs),
        [
            (STDERR, "one".to_string()),
            (2, "careful".into()),
            (STDERR, "two".into())
        ]
    );
}

/// A hostcall with a pointer outside of memory returns an errno (21, fault), and nothing crashes.
pub fn a_bad_pointer_is_an_errno(fixture: &Fixture) {
    const FAULT: u32 = 21;
    for call in [
        "(call $random_get (i32.const -1) (i32.const 8))",
        "(call $random_get (i32.const 65530) (i32.const 8))",
        "(call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 65532))",
        "(call $fd_write (i32.const 1) (i32.const 65532) (i32.const 1) (i32.const 8))",
        "(call $fd_read (i32.const 0) (i32.const -8) (i32.const 1) (i32.const 8))",
    ] {
        let function = fixture.deploy(&command(
            "",
            &format!("(if (i32.ne {call} (i32.const {FAULT})) (then unreachable))"),
        ));
        assert_eq!(
            fixture.run(&function, b"").exit,
            GuestExit::Exit(0),
            "{call}"
        );
    }
}

/// The imports of `gojinn.call` and `gojinn.reply`, and a name to call.
pub(crate) const OPERATIONS: &str = r#"
    (import "gojinn" "call" (func $call (param i32 i32 i32 i32) (result i32)))
    (import "gojinn" "reply" (func $reply (param i32 i32) (result i32)))"#;

/// A function gets the data that it was deployed with, and functions with different data share their compiled code. What is
/// refused has a code and says why.
pub fn data_of_the_deployment_arrives(fixture: &Fixture) {
    let (name, at) = super::text(256, "deployment.data");
    // Prints the reply, and exits with 50 and the code if that is below 0.
    let print = r#"(local.set $code (call $call NAME (i32.const 0) (i32.const 0)))
        (call $print (i32.const 8192) (call $reply (i32.const 8192) (i32.const 50000)))
        (if (i32.lt_s (local.get $code) (i32.const 0))
            (then (call $proc_exit (i32.sub (i32.const 50) (local.get $code)))))"#;
    let wat = |name_at: &str| {
        command(
            &name,
            &format!("(local $code i32) {}", print.replace("NAME", name_at)),
        )
        .replacen("(module", &format!("(module {OPERATIONS}"), 1)
    };
    let long = "data ".repeat(9_000);
    let functions: Vec<_> = ["one", "", &long]
        .into_iter()
        .map(|data| {
            let function = fixture.deploy_with(&wat(&at), |config| {
                config.data = Some(data.as_bytes().into());
            });
            (function, data)
        })
        .collect();
    assert_eq!(fixture.engine.compilations(), 1);
    for (function, data) in functions.iter().chain(&functions) {
        let run = fixture.run(function, b"");
        assert_eq!(String::from_utf8_lossy(&run.stdout), *data);
        assert_eq!(run.exit, GuestExit::Exit(0));
    }

    let without = fixture.deploy(&wat(&at));
    let other = fixture.deploy(&wat("(i32.const 256) (i32.const 10)"));
    let outside = fixture.deploy(&wat("(i32.const 65536) (i32.const 15)"));
    for (function, code, part) in [
        (without, 57, "no data"),
        (other, 51, "\"deployment\""),
        (outside, 53, "outside of the guest's memory"),
    ] {
        let run = fixture.run(&function, b"");
        assert_eq!(run.exit, GuestExit::Exit(code), "{part}");
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(text.contains(part), "{text}");
    }
}

/// A module may import any function of preview 1 and all of ours at once.
pub fn every_hostcall_links(fixture: &Fixture) {
    let imports: String = engine_core::sandbox::hostcalls::IMPORTS
        .iter()
        .enumerate()
        .map(|(index, import)| {
            let params: String = import
                .params
                .iter()
                .map(|param| match param {
                    ParamType::I32 => " i32",
                    ParamType::I64 => " i64",
                })
                .collect();
            let result = match import.result {
                Some(ParamType::I32) => "(result i32)",
                Some(ParamType::I64) => "(result i64)",
                None => "",
            };
            format!(
                r#"(import "{}" "{}" (func $i{index} (param{params}) {result}))"#,
                import.module, import.name
            )
        })
        .collect();
    let function = fixture.deploy(&format!(
        r#"(module {imports} (memory (export "memory") 1) (func (export "_start")))"#
    ));
    assert_eq!(fixture.run(&function, b"").exit, GuestExit::Exit(0));
}

/// Processor time of the calling thread.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes to `time`, which lives longer than the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the thread's processor clock");
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
