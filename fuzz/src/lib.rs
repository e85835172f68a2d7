//! The oracles behind the fuzz targets, and the loop that runs them without libFuzzer.
//!
//! ```text
//!   bytes ──▶ Target::check ──▶ agreed?  yes: next
//!                                        no:  Disagreement (input, both results, how to replay it)
//! ```
//!
//! A target is one function over bytes. Where the bytes come from is not its business: from libFuzzer (feature
//! `libfuzzer`), from the [`standalone`] loop, from files, or from a test that replays the seeds.

mod cursor;
pub mod json_response;
mod mutate;
mod report;
mod shrink;
pub mod standalone;
pub mod wasi;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use report::Disagreement;

/// What a fuzz target is.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of its program and of its folder below `seeds/`.
    pub name: &'static str,
    /// Says what is wrong, if the code under test does wrong on these bytes. May panic: that is wrong too.
    pub check: fn(&[u8]) -> Result<(), Disagreement>,
    /// Byte strings that mean something to the code under test.
    pub dictionary: &'static [&'static [u8]],
    /// The most bytes worth trying.
    pub max_len: usize,
}

impl Target {
    /// [`Target::check`], where a panic is a disagreement like others.
    pub fn run(&self, input: &[u8]) -> Result<(), Disagreement> {
        catch_unwind(AssertUnwindSafe(|| (self.check)(input))).unwrap_or_else(|panic| {
            Err(Disagreement::new(
                "a panic",
                (
                    "code under test",
                    engine_core::panic_text(&*panic).to_owned(),
                ),
                ("expected", "no panic, whatever the input".to_owned()),
            ))
        })
    }

    /// [`Target::run`] for libFuzzer, which takes a panic for a finding and keeps the input.
    ///
    /// # Panics
    /// With the report, if something is wrong.
    pub fn run_or_panic(&self, input: &[u8]) {
        if let Err(disagreement) = self.run(input) {
            panic!("{}", disagreement.report(self.name, input));
        }
    }

    /// The folder of its seeds.
    #[must_use]
    pub fn seeds(&self) -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(self.name)
    }
}

/// All targets.
pub const TARGETS: [Target; 2] = [json_response::TARGET, wasi::TARGET];

/// The whole of a fuzz target's program.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! fuzz {
    ($target:expr) => {
        ::libfuzzer_sys::fuzz_target!(|input: &[u8]| $target.run_or_panic(input));
    };
}

/// The whole of a fuzz target's program.
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
