//! Guest modules: the rules for a valid one, and the facts about it.
//!
//! ```text
//!   bytes ──parse──▶ Wasm (valid, within bounds, imports and entry points checked)
//! ```
//!
//! Invariants:
//! - Everything that a backend relies on is checked here, once, and with one list of features for all backends. A
//!   backend never gets a module that breaks a rule.
//! - Nothing in here runs during a request.

mod bounds;
mod cost;
pub(crate) mod facts;
mod features;
mod hidden;
mod imports;
pub(crate) mod sections;
pub(crate) mod sniff;

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmparser::Validator;

use crate::error::{Error, Result};
use crate::limits::{PAGE, SandboxLimits};

pub(crate) use bounds::most_expensive_function;
pub use bounds::{Counts, FunctionLimits, ModuleLimits};
pub use cost::{FunctionCost, function_costs};
use facts::Facts;
pub use facts::Waits;
pub use features::Features;
pub use hidden::hidden_state;

/// Exports with this prefix are made by [`Split`](crate::Split); a guest may not use it.
pub const RESERVED_PREFIX: &str = "gojinn:";

/// The reserved export that a start section becomes.
pub const START_EXPORT: &str = "gojinn:start";

/// The reserved export that resumes a parked Go command: its loop over program counters.
pub const RESUME_EXPORT: &str = "gojinn:resume";

/// The reserved export that calls `handle_request` of http-wasm, and keeps its result in [`CONTEXT_EXPORT`].
pub const HANDLE_REQUEST_EXPORT: &str = "gojinn:handle_request";

/// The reserved export that calls `handle_response` of http-wasm, with the two halves of [`CONTEXT_EXPORT`].
pub const HANDLE_RESPONSE_EXPORT: &str = "gojinn:handle_response";

/// The reserved export of a global: the guest's context in its upper half. In its lower half `handle_request` says whether the
/// request goes on to the next handler, and `handle_response` is told whether that has failed.
pub const CONTEXT_EXPORT: &str = "gojinn:context";

/// A validated module. Cheap to clone.
#[derive(Clone)]
pub struct Wasm {
    bytes: Arc<[u8]>,
    sha256: [u8; 32],
    features: Features,
    pub(crate) facts: Arc<Facts>,
}

impl Wasm {
    /// Validates `bytes` against the bounds, the features and the rules of `docs/contract.md`.
    ///
    /// Takes time in proportion to the size of the module (tens of milliseconds for a Go program).
    pub fn parse(
        bytes: impl Into<Arc<[u8]>>,
        features: Features,
        bounds: &ModuleLimits,
    ) -> Result<Self> {
        let bytes = bytes.into();
        sniff::check(&bytes)?;
        bounds.check_size(bytes.len())?;
        let sections = sections::sections(&bytes).map_err(|cut| sniff::truncated(&cut))?;
        let counts = bounds.check_counts(&bytes, &sections)?;
        Validator::new_with_features(features.to_wasmparser())
            .validate_all(&bytes)
            .map_err(|error| explain(&bytes, features, &error))?;
        let facts = Facts::read(&bytes, &sections, counts)?;
        Ok(Self::assemble(bytes, features, facts))
    }

    pub(crate) fn assemble(bytes: Arc<[u8]>, features: Features, facts: Facts) -> Self {
        Self {
            sha256: Sha256::digest(&bytes).into(),
            bytes,
            features,
            facts: Arc::new(facts),
        }
    }

    /// Code that another process has validated and split, to be compiled and nothing else: none of its facts are known.
    pub(crate) fn of_code(bytes: Arc<[u8]>, features: Features) -> Self {
        Self::assemble(bytes, features, Facts::unknown())
    }

    /// The binary module.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// SHA-256 of [`Wasm::bytes`]: the hash by which logs, the admin API and `sha256sum` name a module.
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// The optional features that it was validated with. It need not use them.
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// How requests enter the module.
    #[must_use]
    pub fn form(&self) -> Form {
        self.facts.form
    }

    /// The exports to call for one request, in this order. Each has the type `[] -> []`. For the code of a
    /// [`Split`](crate::Split) they include the start function ([`START_EXPORT`]).
    #[must_use]
    pub fn entries(&self) -> Arc<[String]> {
        Arc::clone(&self.facts.entries)
    }

    /// Its linear memory, if it has one.
    #[must_use]
    pub fn memory(&self) -> Option<MemoryFacts> {
        self.facts.memory
    }

    /// What its guests can wait for.
    #[must_use]
    pub fn waits(&self) -> Waits {
        self.facts.waits
    }

    /// Whether its guests take frames: [`frames::MARKER`](crate::contract::frames::MARKER) is in a data segment.
    #[must_use]
    pub fn takes_frames(&self) -> bool {
        self.facts.takes_frames
    }

    /// Whether its guests need the request's body. Those of http-wasm that import no function to read it do not.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.facts.http.is_none_or(|http| http.reads_bodies)
    }

    /// Initial elements of all tables together.
    #[must_use]
    pub fn table_elements(&self) -> u64 {
        self.facts.counts.table_elements
    }

    /// The numbers of its functions, segments and so on.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.facts.counts
    }

    /// Checks that a sandbox of it can exist within `limits`.
    pub fn check_limits(&self, limits: &SandboxLimits) -> Result<()> {
        if let Some(memory) = self.facts.memory {
            let needed = memory.min_pages * PAGE;
            if memory.min_pages > limits.memory_pages() {
                return Err(Error::config(format!(
                    "the module starts with {needed} bytes of memory ({} pages), more than the memory_limit of {} bytes \
                     ({} pages): set memory_limit to at least {needed}, or build the module with less initial memory",
                    memory.min_pages,
                    limits.memory,
                    limits.memory_pages(),
                )));
            }
        }
        let elements = self.table_elements();
        if elements > limits.table_elements {
            return Err(Error::config(format!(
                "the module starts with {elements} table elements, more than the {} a sandbox may have: build it with \
                 fewer address-taken functions, or raise the limit",
                limits.table_elements
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for Wasm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wasm")
            .field("bytes", &self.bytes.len())
            .field("form", &self.facts.form)
            .field("entries", &self.facts.entries)
            .field("memory", &self.facts.memory)
            .finish_non_exhaustive()
    }
}

/// How requests enter a module.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Form {
    /// It exports `_start`, which runs its `main`. A module that exports `gojinn_handle` too is still a command.
    Command,
    /// It exports `gojinn_handle` and no `_start`.
    Reactor {
        /// Whether it exports `_initialize`, which then runs first.
        initialize: bool,
    },
    /// It exports `handle_request: [] -> [i64]` and `handle_response: [i32 i32] -> []`, the entry points of http-wasm. `_start` or
    /// `_initialize` runs first.
    HttpHandler,
}

/// A module's linear memory, as it is declared.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct MemoryFacts {
    /// The number of pages (of 64 KiB) that it starts with.
    pub min_pages: u64,
    /// The number of pages that it never exceeds, if the module declares one.
    pub max_pages: Option<u64>,
}

/// A numeric type. Globals of these types can be captured.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ValType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 128-bit vector.
    V128,
}

impl ValType {
    /// The numeric type that equals `ty`; `None` for references.
    fn from_wasmparser(ty: wasmparser::ValType) -> Option<Self> {
        match ty {
            wasmparser::ValType::F32 => Some(Self::F32),
            wasmparser::ValType::F64 => Some(Self::F64),
            wasmparser::ValType::I32 => Some(Self::I32),
            wasmparser::ValType::I64 => Some(Self::I64),
            wasmparser::ValType::V128 => Some(Self::V128),
            wasmparser::ValType::Ref(_) => None,
        }
    }
}

/// Turns the validator's error into one that says what to do.
fn explain(bytes: &[u8], features: Features, error: &wasmparser::Error) -> Error {
    let missing = features::missing(bytes, features, error);
    if missing.is_empty() {
        return Error::invalid_module(format!(
            "the file is not a valid WebAssembly module: {} (at offset {:#x}); build it again, or report this to the \
             maker of the compiler",
            error.message(),
            error.offset()
        ));
    }
    let needs: Vec<String> = missing
        .iter()
        .map(|(name, advice)| format!("{name} ({advice})"))
        .collect();
    Error::invalid_module(format!(
        "the module needs a WebAssembly feature that is off: {}; the first use is at offset {:#x}",
        needs.join(", "),
        error.offset()
    ))
}

/// A name from a module, prepared for a message: quoted, escaped and cut to a bounded length.
fn quoted(name: &str) -> String {
    const LONGEST: usize = 60;
    if name.chars().count() <= LONGEST {
        return format!("{name:?}");
    }
    let cut: String = name.chars().take(LONGEST).collect();
    format!("{:?}", cut + "…")
}

#[cfg(test)]
mod tests;
