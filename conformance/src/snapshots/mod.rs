//! Cases about snapshots of real programs: which kind each gets, that it answers as it does without, and that nothing
//! is frozen.
//!
//! ```ignore
//! engine_core::snapshots!(my_backend());   // in the backend's tests/snapshots.rs
//! ```
//!
//! The programs are those of `guests/`, built by `make -C guests go corpus`. `GOJINN_GUESTS` names another directory with
//! builds, such as those of `make -C guests versions`. Cases whose guests are not there then print that and do nothing.

pub mod corpus;
pub mod fresh;
pub mod kinds;
pub mod proofs;
pub mod reactors;
pub mod secrets;

mod memo;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Fixture, Owned, expect};
use engine_core::Outcome;
use engine_core::backend::Backend;
use engine_core::contract::Request;
use engine_core::{Function, FunctionConfig};
use engine_core::{SnapshotKind, SnapshotMode, Warmup};

pub use memo::Memo;

/// Makes one `#[test]` per case for the backend that the expression makes (an `Arc<dyn Backend>`).
#[macro_export]
macro_rules! snapshots {
    ($backend:expr) => {
        $crate::snapshots! { $backend;
            corpus::programs_over_real_libraries_answer_from_snapshots
            fresh::no_two_requests_draw_the_same
            fresh::generators_with_seeds_of_the_programs_own_repeat
            fresh::a_key_drawn_at_the_start_differs_in_each_request
            fresh::clocks_go_on
            fresh::timers_armed_before_the_snapshot_fire
            kinds::programs_that_ask_for_nothing_are_parked
            kinds::programs_that_may_be_warmed_up_are
            kinds::what_would_be_frozen_keeps_auto_from_it
            kinds::programs_without_a_snapshot_are_served_plain
            kinds::bad_ends_are_those_of_the_plain_form
            kinds::state_of_a_warm_up_stays
            kinds::env_and_args_are_those_of_the_function
            kinds::writable_mounts_keep_auto_from_it
            proofs::every_fault_is_found
            reactors::reactors_start_initialised
            reactors::slow_reactors_are_not_waited_for
            reactors::reactors_with_hidden_state_do_not
            reactors::go_reactors_need_to_be_asked_for
            reactors::data_read_before_the_snapshot_is_that_of_the_function
            secrets::secrets_differ_in_each_request
            secrets::times_are_not_those_of_the_deployment
            secrets::what_main_does_at_its_end_is_done
            secrets::reactors_that_keep_entropy_or_time_do_not
        }
    };
    ($backend:expr; $($module:ident :: $case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::snapshots::check($backend, $crate::snapshots::$module::$case);
            }
        )*
    };
}

/// Runs a case in both memory modes, over one compilation of each module.
///
/// # Panics
/// When the case does not hold.
pub fn check(backend: Arc<dyn Backend>, case: fn(&Fixture)) {
    super::check(Arc::new(Memo::shared(backend)), case);
}

/// How often a guest is deployed again if it got no snapshot only because of measured times.
const TRIES: usize = 5;

/// A built guest. `None` if `GOJINN_GUESTS` is set and its directory does not have the guest.
fn guest(name: &str) -> Option<Vec<u8>> {
    let named = std::env::var_os("GOJINN_GUESTS").map(PathBuf::from);
    let usual = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/build"));
    let file = named
        .as_ref()
        .unwrap_or(&usual)
        .join(format!("{name}.wasm"));
    match std::fs::read(&file) {
        Ok(wasm) => Some(wasm),
        Err(_) if named.is_some() => {
            println!("skipped: {} is not there", file.display());
            None
        }
        Err(error) => panic!(
            "{}: {error}; make -C guests go corpus builds it",
            file.display()
        ),
    }
}

/// How a guest is deployed.
#[derive(Clone, Copy, Debug)]
struct Setting<'a> {
    /// Separated by spaces.
    args: &'a str,
    mode: SnapshotMode,
    /// The number of warm-up requests.
    rounds: u32,
    /// The query of the sample request.
    sample: &'a str,
}

impl Default for Setting<'_> {
    fn default() -> Self {
        Self {
            args: "",
            mode: SnapshotMode::Auto,
            rounds: 0,
            sample: "",
        }
    }
}

impl<'a> Setting<'a> {
    fn args(args: &'a str) -> Self {
        Self {
            args,
            ..Self::default()
        }
    }

    fn off(self) -> Self {
        Self {
            mode: SnapshotMode::Off,
            rounds: 0,
            ..self
        }
    }

    fn on(self) -> Self {
        Self {
            mode: SnapshotMode::On,
            ..self
        }
    }

    fn warm(self) -> Self {
        Self { rounds: 3, ..self }
    }

    fn config(&self) -> FunctionConfig {
        let sample = (!self.sample.is_empty()).then(|| {
            format!(
                r#"{{"method":"GET","uri":"/?{}","headers":{{}},"body":"","trace_id":"sample"}}"#,
                self.sample
            )
            .into_bytes()
        });
        FunctionConfig {
            name: "case".into(),
            args: self
                .args
                .split_whitespace()
                .map(|arg| Some(arg.to_owned()))
                .collect(),
            snapshot: self.mode,
            warmup: (self.rounds > 0).then_some(Warmup {
                rounds: self.rounds,
                sample,
            }),
            ..FunctionConfig::default()
        }
    }
}

/// A deployed guest.
struct Deployed<'a> {
    fixture: &'a Fixture,
    function: Function,
    /// For the messages of failures.
    about: String,
}

impl<'a> Deployed<'a> {
    fn new(fixture: &'a Fixture, wasm: &[u8], setting: Setting<'_>) -> Self {
        Self::with(fixture, wasm, setting, |_| {})
    }

    /// Deploys a guest with other settings too. Deploys it again if it got no snapshot only because of measured times.
    fn with(
        fixture: &'a Fixture,
        wasm: &[u8],
        setting: Setting<'_>,
        set: impl FnOnce(&mut FunctionConfig),
    ) -> Self {
        let mut config = setting.config();
        set(&mut config);
        let deploy = || Self::once(fixture, wasm, setting, config.clone());
        let mut deployed = deploy();
        for _ in 0..TRIES {
            if !slower(&deployed.function) {
                break;
            }
            deployed = deploy();
        }
        deployed
    }

    /// Deploys a guest once. `setting` is for messages only.
    fn once(
        fixture: &'a Fixture,
        wasm: &[u8],
        setting: Setting<'_>,
        config: FunctionConfig,
    ) -> Self {
        let function = expect(fixture.engine.deploy(wasm, config));
        let facts = &function.facts().snapshot;
        let about = format!(
            "{setting:?}, {}: {} ({:?})",
            if fixture.engine.pool().is_some() {
                "pooled"
            } else {
                "no pool"
            },
            facts.kind.name(),
            facts.why_not
        );
        println!("{about}");
        Self {
            fixture,
            function,
            about,
        }
    }

    fn kind(&self) -> SnapshotKind {
        self.function.facts().snapshot.kind
    }

    /// Fails unless it is of that kind.
    #[track_caller]
    fn is(self, kind: SnapshotKind) -> Self {
        assert_eq!(self.kind(), kind, "{}", self.about);
        self
    }

    /// Fails unless the reason why there is no snapshot, or no warmed one, contains `reason`.
    #[track_caller]
    fn because(self, reason: &str) -> Self {
        let why = self.function.facts().snapshot.why_not.as_deref();
        assert!(
            why.is_some_and(|why| why.contains(reason)),
            "wanted {reason:?}; {}",
            self.about
        );
        self
    }

    fn answer(&self, request: &Request<'_>) -> Owned {
        self.fixture.call(&self.function, request, &[])
    }

    /// The answer to a GET with that query.
    fn get(&self, query: &str) -> Owned {
        self.answer(&Request {
            method: b"GET",
            uri: format!("/?{query}").as_bytes(),
            trace_id: b"t",
            ..Request::default()
        })
    }

    /// The facts in an answer of the program `probe`.
    #[track_caller]
    fn ask(&self, query: &str) -> Map<String, Value> {
        let answer = self.get(query);
        assert_eq!(
            (answer.outcome, answer.status),
            (Outcome::Ok, 200),
            "?{query}: {}, {:?}; {}",
            answer.reason,
            answer.logs,
            self.about
        );
        match serde_json::from_slice(&answer.body) {
            Ok(Value::Object(facts)) => facts,
            other => panic!("?{query}: {other:?}; {}", self.about),
        }
    }

    /// One of the facts.
    #[track_caller]
    fn fact(&self, query: &str, name: &str) -> Value {
        let mut facts = self.ask(query);
        facts
            .remove(name)
            .unwrap_or_else(|| panic!("?{query} tells no {name}: {facts:?}; {}", self.about))
    }
}

/// Whether there is no snapshot because of measured times, which depend on the machine's load.
fn slower(function: &Function) -> bool {
    let why = function.facts().snapshot.why_not.as_deref();
    why.is_some_and(|why| why.contains("a request takes") || why.contains("takes too long"))
}

/// The parts of an answer that can be compared, as text.
fn comparable(answer: &Owned) -> String {
    format!(
        "{:?} {} {:?} {} {:?}",
        answer.outcome,
        answer.status,
        answer.headers,
        String::from_utf8_lossy(&answer.body),
        answer.logs
    )
}
