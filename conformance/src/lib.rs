//! The conformance suite: cases that every backend must pass, as plain functions over an engine. One macro line in a
//! backend's tests runs all of them.
//!
//! ```ignore
//! conformance::conformance!(my_backend());   // in the backend's tests/conformance.rs
//! ```
//!
//! Every case runs twice, with the memory pool and without. Its first sentence says what must hold. The guests are wat.

pub mod answers;
pub mod canary;
pub mod cgi;
pub mod ends;
pub mod features;
pub mod frames;
pub mod host;
pub mod hostile;
pub mod http_wasm;
pub mod memory;
pub mod mounts;
pub mod next;
pub mod reuse;
pub mod snapshots;
pub mod waiting;

use std::sync::Arc;
use std::time::Duration;

use engine_core::backend::Backend;
use engine_core::contract::Request;
use engine_core::logs;
use engine_core::{
    Engine, EngineConfig, Function, FunctionConfig, GuestExit, Outcome, RawRun, Result, TrapCode,
};

/// Makes one `#[test]` per case for the backend that the expression makes (an `Arc<dyn Backend>`).
#[macro_export]
macro_rules! conformance {
    ($backend:expr) => {
        $crate::for_each_case! { conformance_tests, $backend }
    };
}

/// The list of cases. [`conformance!`] is what to use.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_case {
    ($each:ident, $backend:expr) => {
        $crate::$each! { $backend;
            answers::a_command_answers
            answers::a_reactor_is_initialised_and_answers
            answers::a_start_function_runs_before_the_entry
            answers::an_exit_of_zero_is_an_answer
            answers::output_that_is_no_response_is_refused_with_the_rule
            answers::a_trap_after_a_response_is_refused
            answers::a_large_body_crosses_both_ways
            answers::a_body_over_the_limit_is_refused
            answers::stdin_holds_one_request_and_then_ends
            answers::an_unchanged_module_is_compiled_once
            frames::a_request_is_a_frame
            frames::nothing_of_a_frame_reaches_the_next_guest
            frames::an_answer_is_a_frame
            frames::a_frame_that_breaks_a_rule_is_refused
            frames::a_request_goes_on_by_a_frame
            frames::a_stream_follows_its_frame
            frames::only_guests_that_take_frames_get_them
            frames::a_sample_becomes_a_frame
            http_wasm::a_guest_answers_without_the_next_handler
            http_wasm::a_guest_changes_a_buffered_response
            http_wasm::bodies_of_http_wasm_count_in_the_memory_of_all_calls
            http_wasm::contract_and_entry_points_must_fit
            http_wasm::each_request_finds_the_guest_as_it_was
            http_wasm::hostile_guests_are_ended
            http_wasm::the_deadline_pauses_while_the_next_handler_works
            next::a_request_goes_on
            next::a_request_that_cannot_go_on_is_refused
            ends::every_trap_has_the_same_code_everywhere
            ends::an_exit_code_is_kept
            ends::a_loop_ends_at_its_deadline
            ends::a_start_function_ends_at_its_deadline
            ends::an_initialize_ends_at_its_deadline
            ends::recursion_without_end_is_a_trap_on_any_stack
            ends::deep_recursion_within_reason_works_on_any_stack
            ends::millions_of_growths_work_on_any_stack
            ends::a_wait_ends_at_its_deadline
            ends::a_loop_is_cancelled
            ends::a_wait_is_cancelled
            ends::a_call_cancelled_before_it_began_does_not_answer
            ends::too_much_output_ends_the_guest
            ends::a_long_bulk_operation_ends_soon_after_its_deadline
            ends::many_ends_at_once_disturb_no_other_call
            features::the_core_features_work
            features::optional_features_work_where_they_are_claimed
            features::passive_segments_keep_their_indices
            features::long_bulk_operations_are_exact
            features::overlapping_segments_apply_in_order
            features::a_module_without_memory_works
            waiting::a_host_call_suspends_and_is_resumed
            waiting::suspended_guests_are_apart
            waiting::a_stream_leaves_while_its_guest_computes
            waiting::a_guest_that_waits_holds_what_it_has_written
            waiting::a_suspended_call_can_be_dropped
            waiting::a_suspended_call_ends_with_its_deadline
            waiting::a_sleep_is_as_long_as_it_should_be
            waiting::the_code_of_a_reply_reaches_the_guest
            waiting::a_stream_leaves_when_its_guest_waits
            waiting::a_stream_waits_for_its_reader
            waiting::a_call_after_a_full_stream_reaches_the_host
            cgi::a_request_is_in_the_environment
            cgi::a_body_is_read_as_it_arrives
            cgi::a_body_that_is_not_read_is_not_waited_for
            cgi::a_body_can_be_polled
            cgi::a_wait_for_a_body_ends
            cgi::a_response_leaves_as_it_is_written
            waiting::requests_and_replies_count_in_the_memory_of_all_calls
            waiting::streams_count_in_the_memory_of_all_calls
            host::arguments_and_environment_arrive
            host::per_request_values_arrive
            host::two_sandboxes_draw_different_randomness
            host::clocks_are_real_and_never_go_back
            host::a_sleep_takes_its_time_and_no_processor
            host::stderr_and_host_log_arrive_in_order
            host::a_bad_pointer_is_an_errno
            host::every_hostcall_links
            host::data_of_the_deployment_arrives
            memory::two_sandboxes_share_nothing
            memory::nothing_survives_a_bad_end
            memory::memory_grows_to_the_limit_and_not_beyond
            memory::a_refused_growth_and_a_death_is_oom
            memory::grown_memory_is_zero_and_shrinks_back
            memory::a_declared_maximum_holds
            memory::tables_are_bounded
            memory::callers_in_parallel_share_nothing
            memory::the_memory_of_all_calls_is_bounded
            memory::buffers_count_in_the_memory_of_all_calls
            mounts::a_mount_is_read_only_unless_it_says_rw
            mounts::a_write_appends_and_a_pwrite_obeys_its_offset
            mounts::rights_are_given_up_for_good
            mounts::standard_streams_take_other_numbers
        }
    };
}

/// One test per case. [`conformance!`] is what to use.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($backend:expr; $($module:ident :: $case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::check($backend, $crate::$module::$case);
            }
        )*
    };
}

/// Runs a case in both memory modes.
///
/// # Panics
/// When the contract does not hold.
pub fn check(backend: Arc<dyn Backend>, case: fn(&Fixture)) {
    let pooled = EngineConfig::default();
    let plain = EngineConfig {
        pool: None,
        ..EngineConfig::default()
    };
    for config in [pooled, plain] {
        let fixture = Fixture {
            engine: expect(Engine::new(config, vec![Arc::clone(&backend)])),
        };
        case(&fixture);
        assert_eq!(
            fixture.engine.permits().0,
            0,
            "every permit for a call was given back"
        );
        assert_eq!(fixture.engine.functions(), 0, "every function was freed");
    }
}

/// An engine with one backend, and helpers to use it.
#[derive(Debug)]
pub struct Fixture {
    /// The engine under test.
    pub engine: Engine,
}

/// A copy of an answer.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are those of Answer")]
pub struct Owned {
    pub outcome: Outcome,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub reason: String,
    pub logs: Vec<(u8, String)>,
    pub memory_peak: u64,
}

impl Fixture {
    /// Deploys wat with the default settings.
    pub(crate) fn deploy(&self, wat: &str) -> Function {
        self.deploy_with(wat, |_| {})
    }

    /// Deploys wat with other settings.
    pub(crate) fn deploy_with(&self, wat: &str, set: impl FnOnce(&mut FunctionConfig)) -> Function {
        expect(self.try_deploy(wat, set))
    }

    /// Deploys wat that the engine may refuse.
    pub(crate) fn try_deploy(
        &self,
        wat: &str,
        set: impl FnOnce(&mut FunctionConfig),
    ) -> Result<Function> {
        let wasm = match wat::parse_str(wat) {
            Ok(wasm) => wasm,
            Err(error) => panic!("the case's wat is wrong: {error}"),
        };
        let mut config = FunctionConfig {
            name: "case".into(),
            ..FunctionConfig::default()
        };
        // Otherwise a stream would leave in other parts on a busy machine.
        config.limits.flush_after = Duration::from_secs(3600);
        set(&mut config);
        self.engine.deploy(&wasm, config)
    }

    /// Makes one GET request.
    pub(crate) fn get(&self, function: &Function) -> Owned {
        self.call(
            function,
            &Request {
                method: b"GET",
                uri: b"/",
                ..Request::default()
            },
            &[],
        )
    }

    /// Makes one request.
    pub(crate) fn call(
        &self,
        function: &Function,
        request: &Request<'_>,
        per_request: &[&[u8]],
    ) -> Owned {
        let permit = expect(self.engine.reserve());
        expect(function.call(permit, request, per_request, |answer| {
            Owned {
                outcome: answer.outcome,
                status: answer.status,
                headers: answer
                    .response
                    .iter()
                    .flat_map(|response| &response.headers)
                    .map(|(name, value)| {
                        let value = String::from_utf8_lossy(value).into_owned();
                        (name.to_string(), value)
                    })
                    .collect(),
                body: answer
                    .response
                    .map(|response| response.body.to_vec())
                    .unwrap_or_default(),
                reason: answer.reason.to_string(),
                logs: log_lines(answer.logs),
                memory_peak: answer.memory_peak,
            }
        }))
    }

    /// Runs one sandbox without the contract.
    pub(crate) fn run(&self, function: &Function, stdin: &[u8]) -> RawRun {
        let permit = expect(self.engine.reserve());
        expect(function.run(permit, stdin.to_vec()))
    }

    /// The trap that a run ends with.
    pub(crate) fn trap(&self, function: &Function) -> TrapCode {
        match self.run(function, b"").exit {
            GuestExit::Trap(trap) => trap.code,
            GuestExit::Exit(code) => panic!("expected a trap, got exit code {code}"),
        }
    }
}

/// The packed log lines as text.
pub(crate) fn log_lines(packed: &[u8]) -> Vec<(u8, String)> {
    logs::lines(packed)
        .map(|(level, line)| (level, String::from_utf8_lossy(line).into_owned()))
        .collect()
}

/// `unwrap` that prints the error as a user reads it.
#[track_caller]
pub(crate) fn expect<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// Functions with which guests look for traces of other guests. `$check` exits with 99 if its argument is 0. `$zero`
/// exits with 99 if any word in a range of memory is not 0. `$seven` is an entry for tables. They need `$proc_exit`.
pub(crate) const CHECKS: &str = r#"
    (func $seven (result i32) (i32.const 7))
    (func $check (param i32) (if (i32.eqz (local.get 0)) (then (call $proc_exit (i32.const 99)))))
    (func $zero (param $from i32) (param $to i32)
        (loop $more
            (call $check (i64.eqz (i64.load (local.get $from))))
            (local.set $from (i32.add (local.get $from) (i32.const 8)))
            (br_if $more (i32.lt_u (local.get $from) (local.get $to)))))"#;

/// A command whose `_start` is `code`, with memory, `$print ptr len` (to stdout) and `fields` in front of the functions.
pub(crate) fn command(fields: &str, code: &str) -> String {
    module(fields, &format!(r#"(func (export "_start") {code})"#))
}

/// A module with memory of one page (the first 64 bytes are scratch), `$print ptr len` and a few hostcalls.
pub(crate) fn module(fields: &str, functions: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
            {memory}
            {fields}
            (func $write (param $fd i32) (param $ptr i32) (param $len i32)
                (i32.store (i32.const 0) (local.get $ptr))
                (i32.store (i32.const 4) (local.get $len))
                (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func $print (param $ptr i32) (param $len i32)
                (call $write (i32.const 1) (local.get $ptr) (local.get $len)))
            (func $sleep (param $nanos i64)
                ;; one relative subscription to the monotonic clock at 16
                (i64.store (i32.const 16) (i64.const 7))
                (i32.store8 (i32.const 24) (i32.const 0))
                (i32.store (i32.const 32) (i32.const 1))
                (i64.store (i32.const 40) (local.get $nanos))
                (i64.store (i32.const 48) (i64.const 0))
                (i32.store16 (i32.const 56) (i32.const 0))
                (drop (call $poll_oneoff (i32.const 16) (i32.const 1024) (i32.const 1) (i32.const 8))))
            {functions})"#,
        memory = if fields.contains("(memory ") {
            ""
        } else {
            r#"(memory (export "memory") 1)"#
        },
    )
}

/// A data segment at `at` with `text`, and the wat arguments (pointer and length) for it.
pub(crate) fn text(at: u32, text: impl AsRef<[u8]>) -> (String, String) {
    let text = text.as_ref();
    let escaped: String = text.iter().map(|byte| format!("\\{byte:02x}")).collect();
    (
        format!(r#"(data (i32.const {at}) "{escaped}")"#),
        format!("(i32.const {at}) (i32.const {})", text.len()),
    )
}

/// A command that prints `output` and then runs `code`.
pub(crate) fn printer(output: &str, code: &str) -> String {
    let (data, at) = text(256, output);
    command(&data, &format!("(call $print {at}) {code}"))
}

/// A little response.
pub(crate) const HELLO: &str = r#"{"status":201,"headers":{"X-Guest":"wat"},"body":"hello"}"#;
