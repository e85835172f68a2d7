//! What the benchmarks are made of: guests, the things compared, rounds, reports. Over the same public API that the C ABI uses.
//!
//! ```text
//!   guests ─▶ subjects (backend x mode, all alike to the clock) ─▶ measure (round robin) ─▶ report (json, table, chart), goals
//!               ├─ prepared: compiled once, deployed in every mode; as shipped, for reference
//!               ├─ reused, stock: the references that need an engine's own API
//!               ├─ starts, beside: what a deployment costs, and what others feel of it
//!               └─ wazero: the reference in a process of its own (benches/wazero)
//! ```

pub mod beside;
pub mod footprint;
pub mod goals;
pub mod guests;
pub mod machine;
pub mod measure;
pub mod prepared;
pub mod report;
pub mod reused;
pub mod soak;
pub mod starts;
pub mod stock;
pub mod subjects;
pub mod synthetic;
pub mod variants;
pub mod wazero;
