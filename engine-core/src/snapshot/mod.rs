//! Snapshots: a module is run once, at deployment, up to where it waits for its request, and every sandbox starts there.
//!
//! ```text
//!   plain start ──first──▶ initialised (a reactor after _initialize)  ──rounds──▶ warmed
//!                          parked (a Go command at its first read)    ──────┘
//!                             └──────────── verification ────────────────┘──▶ the cheapest that answers as the plain start does
//! ```
//!
//! The [recorder] runs one sandbox like any other: it starts from an image and values for globals, and its whole state is captured
//! when it ends. What happens between two runs is done to the captured state. So nothing here depends on an engine, and the
//! code is that of the plain start. What must be known of a [language] is in one trait. All runs happen in given
//! [worlds], so that they can be repeated exactly, and [verify] compares them byte by byte.

mod choose;
mod compare;
#[cfg(feature = "faults")]
pub(crate) mod faults;
mod kind;
mod language;
mod recorder;
mod samples;
mod verify;
mod worlds;

pub(crate) use choose::{Wanted, take};
pub use kind::{SnapshotFacts, SnapshotKind, SnapshotMode, Warmup};
