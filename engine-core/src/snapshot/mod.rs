//! Snapshots: a module is run once, at deployment, up to where it waits for its request, and every sandbox starts there.
//!
//! ```text
//!   plain start ──first──▶ initialised (a reactor after _initialize)  ──rounds──▶ warmed
//!                          parked (a Go command at its first read)    ──────┘
//!                             └──────────── verification ────────────────┘──▶ the cheapest that answers as the plain start does
//! ```
//!
//! The [recorder] runs a sandbox as a request does: it starts from an image and values of globals. At its end, its whole
//! state is captured. Whatever changes between two runs is changed in the captured state. So nothing here depends on an
//! engine, and a snapshot runs the code of the plain start. What has to be known about a [language] is behind one trait.
//! All runs happen in chosen [worlds], so that they can be repeated exactly, and [verify] compares them byte by byte.

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
