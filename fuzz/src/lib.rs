//! The oracles behind the fuzz targets, and the loop that runs them without libFuzzer.
//!
//! ```text
//!   bytes ──▶ Target::check ──▶ agreed?  yes: next
//!                                        no:  Disagreement (input, both results, how to replay it)
//! ```
//!
//! A target is a function that checks the code under test with some bytes. The bytes can come from libFuzzer (feature
//! `libfuzzer`), from the [`standalone`] loop, from files, or from a test that replays the seeds.

pub mod abi;
pub mod artifact;
mod cursor;
mod engines;
pub mod frames;
pub mod json_request;
pub mod json_response;
pub mod module;
mod mutate;
pub mod pool_ops;
mod report;
mod shrink;
pub mod snapshot;
pub mod standalone;
pub mod wasi;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use report::Disagreement;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its program, and of its directory below `seeds/`.
    pub name: &'static str,
    /// Runs the code under test with these bytes, and returns what is wrong. A panic is a fault too.
    pub check: fn(&[u8]) -> Result<(), Disagreement>,
    /// Byte strings that have a meaning to the code under test.
    pub dictionary: &'static [&'static [u8]],
    /// The maximum length of an input.
    pub max_len: usize,
}

impl Target {
    /// [`Target::check`], but a panic becomes a disagreement too.
    pub fn run(&self, input: &[u8]) -> Result<(), Disagreement> {
        catch_unwind(AssertUnwindSafe(|| (self.check)(input))).unwrap_or_else(|panic| {
            Err(Disagreement::new(
                "a panic",
                (
                    "code under test",
                    engine_core::panic_text(&*panic).to_owned(),
                ),
                ("expected", "no panic for any input".to_owned()),
            ))
        })
    }

    /// [`Target::run`] for libFuzzer, which treats a panic as a finding and keeps the input.
    ///
    /// # Panics
    /// With the report, if something is wrong.
    pub fn run_or_panic(&self, input: &[u8]) {
        if let Err(disagreement) = self.run(input) {
            panic!("{}", disagreement.report(self.name, input));
        }
    }

    /// The directory of its seeds.
    #[must_use]
    pub fn seeds(&self) -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(self.name)
    }
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    abi::TARGET,
    artifact::TARGET,
    frames::TARGET,
    json_request::TARGET,
    json_response::TARGET,
    module::TARGET,
    pool_ops::TARGET,
    snapshot::TARGET,
    wasi::TARGET,
];

/// Defines the whole program of a fuzz target.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! fuzz {
    ($target:expr) => {
        ::libfuzzer_sys::fuzz_target!(|input: &[u8]| $target.run_or_panic(input));
    };
}

/// Defines the whole program of a fuzz target.
#[cfg(not(feature = "libfuzzer"))]
#[macro_export]
macro_rules! fuzz {
    ($target:expr) => {
        fn main() -> ::std::process::ExitCode {
            $crate::standalone::main(&$target)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_disagreement_that_says_how_to_replay_it() {
        let target = Target {
            name: "panics",
            check: |input| panic!("met {input:?}"),
            dictionary: &[],
            max_len: 10,
        };
        let disagreement = target.run(b"{\xff").expect_err("it panics");
        let report = disagreement.report(target.name, b"{\xff");
        for part in ["a panic", "met [123, 255]", "panics --hex 7bff"] {
            assert!(report.contains(part), "{part} is missing in: {report}");
        }
    }
}
