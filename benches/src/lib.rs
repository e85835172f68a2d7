//! The parts of the benchmarks: guests, subjects that are compared, rounds and reports. They use the same public API as
//! the C ABI.
//!
//! ```text
//!   guests ─▶ subjects (backend x mode, all called alike) ─▶ measure (round robin) ─▶ report (json, table, chart), goals
//!               ├─ prepared: compiled once, deployed in every mode; as shipped, for reference
//!               ├─ reused, stock: the references that use an engine's own API
//!               ├─ starts, beside: what a deployment costs, and how it slows down other requests
//!               ├─ deadlines: how long after their deadlines guests end
//!               └─ wazero: the reference in a separate process (benches/wazero)
//! ```

pub mod beside;
pub mod deadlines;
pub mod footprint;
pub mod goals;
pub mod guests;
pub mod machine;
pub mod measure;
pub mod prepared;
pub mod report;
pub mod reused;
pub mod shipped;
pub mod soak;
pub mod starts;
pub mod stock;
pub mod subjects;
pub mod synthetic;
pub mod variants;
pub mod wazero;
