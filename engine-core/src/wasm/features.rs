//! The list of WebAssembly features, which is the same for all backends, and the features that a refused module needs.

use wasmparser::{Validator, WasmFeatures};

/// The optional features. Each is on if all backends of the build have it. The features of the 2.0 core are always on,
/// and all others are always off.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Features {
    /// 128-bit vectors (without the relaxed instructions).
    pub simd: bool,
    /// `return_call` and `return_call_indirect`.
    pub tail_calls: bool,
    /// Addition, subtraction and multiplication in constant expressions.
    pub extended_const: bool,
}

impl Features {
    /// All optional features.
    pub const ALL: Self = Self {
        simd: true,
        tail_calls: true,
        extended_const: true,
    };

    /// The 2.0 core features without vectors, and nothing else.
    pub const NONE: Self = Self {
        simd: false,
        tail_calls: false,
        extended_const: false,
    };

    /// The set whose [names](Self::names) are given; `None` if one of them is unknown.
    pub(crate) fn from_names<'a>(names: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut features = Self::NONE;
        for name in names {
            match name {
                "simd" => features.simd = true,
                "tail-calls" => features.tail_calls = true,
                "extended-const" => features.extended_const = true,
                _ => return None,
            }
        }
        Some(features)
    }

    /// The features that both have. An engine with several backends uses it to make its list.
    #[must_use]
    pub const fn intersect(self, other: Self) -> Self {
        Self {
            simd: self.simd && other.simd,
            tail_calls: self.tail_calls && other.tail_calls,
            extended_const: self.extended_const && other.extended_const,
        }
    }

    /// The names of the optional features that are on, in a fixed order: for logs and cache keys.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        [
            (self.simd, "simd"),
            (self.tail_calls, "tail-calls"),
            (self.extended_const, "extended-const"),
        ]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
        .collect()
    }

    /// The same list as wasmparser's flags. Everything that is not named here is off.
    pub(crate) fn to_wasmparser(self) -> WasmFeatures {
        // FLOATS and GC_TYPES (externref) are not proposals, but wasmparser's switches for parts of the core.
        let mut features = WasmFeatures::FLOATS
            | WasmFeatures::GC_TYPES
            | WasmFeatures::MUTABLE_GLOBAL
            | WasmFeatures::SATURATING_FLOAT_TO_INT
            | WasmFeatures::SIGN_EXTENSION
            | WasmFeatures::REFERENCE_TYPES
            | WasmFeatures::MULTI_VALUE
            | WasmFeatures::BULK_MEMORY;
        features.set(WasmFeatures::SIMD, self.simd);
        features.set(WasmFeatures::TAIL_CALL, self.tail_calls);
        features.set(WasmFeatures::EXTENDED_CONST, self.extended_const);
        features
    }
}

/// A feature that can be off: wasmparser's flag, its name, and how to build without it.
type Missing = (WasmFeatures, &'static str, &'static str);

/// Features that a module may need and that may be off. A feature that implies others comes after them, so that
/// [`missing`] finds the smallest set.
const OPTIONAL: &[Missing] = &[
    (
        WasmFeatures::SIMD,
        "SIMD",
        "build without it (C: drop -msimd128; Rust: -C target-feature=-simd128), or use a backend that has it",
    ),
    (
        WasmFeatures::TAIL_CALL,
        "tail calls",
        "build without it (C: drop -mtail-call; Rust: -C target-feature=-tail-call), or use a backend that has it",
    ),
    (
        WasmFeatures::EXTENDED_CONST,
        "extended const",
        "build without it (C: -mno-extended-const), or use a backend that has it",
    ),
    (
        WasmFeatures::RELAXED_SIMD,
        "relaxed SIMD",
        "its results differ between machines; build without it (C: drop -mrelaxed-simd)",
    ),
    (
        WasmFeatures::THREADS,
        "threads",
        "a function runs on one thread; build without them (C: drop -pthread and -matomics; Rust: wasm32-wasip1 instead of wasm32-wasip1-threads)",
    ),
    (
        WasmFeatures::MULTI_MEMORY,
        "multi-memory",
        "build with one memory",
    ),
    (
        WasmFeatures::MEMORY64,
        "memory64",
        "build for 32-bit WebAssembly (wasm32 instead of wasm64)",
    ),
    (
        WasmFeatures::LEGACY_EXCEPTIONS,
        "legacy exception handling",
        "build without exceptions (C++: -fno-exceptions; Emscripten: drop -fwasm-exceptions)",
    ),
    (
        WasmFeatures::EXCEPTIONS,
        "exception handling",
        "build without exceptions (C++: -fno-exceptions; Rust: -C panic=abort; TinyGo: -panic=trap)",
    ),
    (
        WasmFeatures::FUNCTION_REFERENCES,
        "typed function references",
        "build without it",
    ),
    (
        WasmFeatures::GC,
        "GC",
        "languages that need it (Kotlin, Dart, Java by way of WasmGC) are not supported yet",
    ),
    (
        WasmFeatures::CUSTOM_PAGE_SIZES,
        "custom page sizes",
        "build with pages of 64 KiB",
    ),
    (
        WasmFeatures::WIDE_ARITHMETIC,
        "wide arithmetic",
        "build without it (C: drop -mwide-arithmetic; Rust: -C target-feature=-wide-arithmetic)",
    ),
    (
        WasmFeatures::STACK_SWITCHING,
        "stack switching",
        "build without it",
    ),
    (
        WasmFeatures::SHARED_EVERYTHING_THREADS,
        "shared-everything threads",
        "build without it",
    ),
    (
        WasmFeatures::MEMORY_CONTROL,
        "memory control",
        "build without it",
    ),
    (
        WasmFeatures::CUSTOM_DESCRIPTORS,
        "custom descriptors",
        "build without it",
    ),
    (
        WasmFeatures::COMPACT_IMPORTS,
        "compact imports",
        "build without it",
    ),
];

/// The features beyond `features` that make `bytes` valid, which were refused with `error`. Empty if there are none.
///
/// wasmparser's hints are tried first. It does not always give one. Then the features are found by validating with all
/// of them, and removing each that is not needed.
pub(super) fn missing(
    bytes: &[u8],
    features: Features,
    error: &wasmparser::Error,
) -> Vec<(&'static str, &'static str)> {
    let base = features.to_wasmparser();
    let valid = |features| Validator::new_with_features(features).validate_all(bytes);
    let mut needed = base;
    let mut hint = error.missing_wasm_feature();
    let mut found = false;
    while let Some(feature) = hint.filter(|feature| !needed.contains(*feature)) {
        needed |= feature;
        match valid(needed) {
            Ok(_) => {
                found = true;
                break;
            }
            Err(error) => hint = error.missing_wasm_feature(),
        }
    }
    if !found {
        needed = OPTIONAL.iter().fold(base, |all, (flag, ..)| all | *flag);
        if valid(needed).is_err() {
            return Vec::new();
        }
        for (flag, ..) in OPTIONAL.iter().rev() {
            let without = needed.difference(*flag) | base;
            if without != needed && valid(without).is_ok() {
                needed = without;
            }
        }
    }
    OPTIONAL
        .iter()
        .filter(|(flag, ..)| needed.contains(*flag) && !base.contains(*flag))
        .map(|(_, name, advice)| (*name, *advice))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_intersect_and_have_names() {
        let some = Features {
            simd: true,
            ..Features::NONE
        };
        assert_eq!(Features::ALL.intersect(some), some);
        assert_eq!(some.intersect(Features::NONE), Features::NONE);
        assert_eq!(
            Features::ALL.names(),
            ["simd", "tail-calls", "extended-const"]
        );
        assert_eq!(some.names(), ["simd"]);
        assert!(Features::NONE.names().is_empty());
        for features in [Features::ALL, Features::NONE, some] {
            assert_eq!(
                Features::from_names(features.names().into_iter()),
                Some(features)
            );
        }
        assert_eq!(Features::from_names(["gc"].into_iter()), None);
    }

    #[test]
    fn the_list_is_the_core_plus_the_set() {
        assert_eq!(
            Features::NONE.to_wasmparser() | WasmFeatures::SIMD,
            WasmFeatures::WASM2
        );
        assert_eq!(
            Features::ALL.to_wasmparser(),
            WasmFeatures::WASM2 | WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST
        );
    }

    #[test]
    fn a_missing_feature_is_found_with_and_without_a_hint() {
        for (text, expected) in [
            ("(module (func (drop (i32x4.splat (i32.const 1)))))", "SIMD"),
            ("(module (func $f (return_call $f)))", "tail calls"),
            (
                "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
                "extended const",
            ),
            ("(module (memory 1) (memory 1))", "multi-memory"),
            ("(module (memory i64 1))", "memory64"),
            ("(module (memory 1 1 shared))", "threads"),
            ("(module (tag))", "exception handling"),
            ("(module (type (struct)))", "GC"),
            (
                "(module (func try nop catch_all nop end))",
                "legacy exception handling",
            ),
            ("(module (memory 1 (pagesize 1)))", "custom page sizes"),
        ] {
            let bytes = wat::parse_str(text).unwrap();
            let features = Features::NONE;
            let error = Validator::new_with_features(features.to_wasmparser())
                .validate_all(&bytes)
                .err()
                .unwrap();
            let names: Vec<_> = missing(&bytes, features, &error)
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            assert!(
                names.contains(&expected),
                "{text}: {names:?}, wasmparser said {error}"
            );
        }
    }

    #[test]
    fn an_invalid_module_needs_no_feature() {
        let bytes = wat::parse_str("(module (func (result i32)))").unwrap();
        let error = Validator::new_with_features(WasmFeatures::WASM2)
            .validate_all(&bytes)
            .err()
            .unwrap();
        assert!(missing(&bytes, Features::NONE, &error).is_empty());
    }
}
