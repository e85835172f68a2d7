//! The engine's metrics: counted in atomics, and rendered as text when they are scraped.
//!
//! Calls touch the atomics only. A registry of the `prometheus` crate is filled for each scrape.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use prometheus::{Encoder, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::outcome::Outcome;
use crate::per_cpu::PerCpu;
use crate::snapshot::SnapshotKind;

use super::Engine;
use super::shared::BackendIndex;

const OUTCOMES: [Outcome; 8] = [
    Outcome::Ok,
    Outcome::Timeout,
    Outcome::Trap,
    Outcome::Oom,
    Outcome::BadOutput,
    Outcome::Rejected,
    Outcome::Cancelled,
    Outcome::Error,
];

const STARTS: [SnapshotKind; 4] = [
    SnapshotKind::None,
    SnapshotKind::Initialised,
    SnapshotKind::Parked,
    SnapshotKind::Warmed,
];

/// The counters of one engine.
#[derive(Debug)]
pub(super) struct Counters {
    /// Calls that ended, by processor, backend and outcome.
    calls: PerCpu<CachePadded<Box<[CallsByOutcome]>>>,
    /// Functions that are alive, by what their sandboxes start from.
    functions: [AtomicU64; STARTS.len()],
}

type CallsByOutcome = [AtomicU64; OUTCOMES.len()];

impl Counters {
    /// The counters of an engine with `backends` backends.
    pub(super) fn new(backends: usize) -> Self {
        let by_backend = || (0..backends).map(|_| CallsByOutcome::default()).collect();
        Self {
            calls: PerCpu::new(|| CachePadded::new(by_backend())),
            functions: Default::default(),
        }
    }

    /// Counts a call on `backend` that ended with `outcome`.
    pub(super) fn called(&self, backend: BackendIndex, outcome: Outcome) {
        self.calls.here()[backend.0][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a function that was deployed and starts from `kind`.
    pub(super) fn deployed(&self, kind: SnapshotKind) {
        self.functions[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a function that was dropped and started from `kind`.
    pub(super) fn gone(&self, kind: SnapshotKind) {
        self.functions[kind as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of functions that are alive.
    pub(super) fn functions(&self) -> u64 {
        self.functions
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

/// The metrics in the text format of Prometheus. Families without a value are left out.
pub(super) fn render(engine: &Engine) -> String {
    let mut text = Vec::new();
    let families = registry(engine).map(|registry| registry.gather());
    // Registering fixed names in an empty registry and writing to memory cannot fail. If it ever does, a scrape without
    // metrics is better than a panic.
    if let Ok(families) = families {
        let _ = TextEncoder::new().encode(&families, &mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn registry(engine: &Engine) -> prometheus::Result<Registry> {
    let counted = &engine.shared.counters;
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, value: u64| -> prometheus::Result<()> {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge))
    };
    let counters = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    };

    let calls = counters(
        "gojinn_engine_calls_total",
        "Calls that ended, by outcome.",
        &["backend", "outcome"],
    )?;
    let compilations = counters(
        "gojinn_engine_compilations_total",
        "Modules compiled.",
        &["backend"],
    )?;
    let compile_millis = counters(
        "gojinn_engine_compile_milliseconds_total",
        "Time spent compiling, in milliseconds.",
        &["backend"],
    )?;
    for (index, backend) in engine.backends().iter().enumerate() {
        for outcome in OUTCOMES {
            let count: u64 = counted
                .calls
                .iter()
                .map(|calls| calls[index][outcome as usize].load(Ordering::Relaxed))
                .sum();
            if count > 0 {
                calls
                    .with_label_values(&[backend.name(), outcome.label()])
                    .inc_by(count);
            }
        }
        let (count, millis) = engine.compiler().compiled(backend.name());
        if count > 0 {
            compilations
                .with_label_values(&[backend.name()])
                .inc_by(count);
            compile_millis
                .with_label_values(&[backend.name()])
                .inc_by(millis);
        }
    }
    counters(
        "gojinn_engine_compilations_given_up_total",
        "Deployments that were cancelled or timed out while their module compiled.",
        &[],
    )?
    .with_label_values(&[] as &[&str])
    .inc_by(engine.compiler().given_up());
    gauge(
        "gojinn_engine_compilations_abandoned",
        "Compilations that go on with no deployment waiting for them.",
        engine.compiler().abandoned() as u64,
    )?;

    let (taken, permits) = engine.permits();
    let functions = IntGaugeVec::new(
        Opts::new(
            "gojinn_engine_functions",
            "Functions that are alive, by what their sandboxes start from.",
        ),
        &["snapshot"],
    )?;
    registry.register(Box::new(functions.clone()))?;
    for kind in STARTS {
        let count = counted.functions[kind as usize].load(Ordering::Relaxed);
        functions
            .with_label_values(&[kind.name()])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    gauge(
        "gojinn_engine_calls_running",
        "Permits for running calls that are taken.",
        taken as u64,
    )?;
    gauge(
        "gojinn_engine_calls_max",
        "Permits for running calls.",
        permits as u64,
    )?;
    let memory = engine.memory();
    gauge(
        "gojinn_engine_memory_bytes",
        "Bytes that calls hold: memories and tables of guests, requests and answers.",
        memory.used(),
    )?;
    gauge(
        "gojinn_engine_memory_outside_bytes",
        "How many of them are bodies of requests and answers that are held outside of sandboxes.",
        memory.outside(),
    )?;
    gauge(
        "gojinn_engine_memory_max_bytes",
        "How many bytes calls may hold.",
        memory.most(),
    )?;
    counters(
        "gojinn_engine_memory_refused_total",
        "How often the bound on the memory of all calls refused something.",
        &[],
    )?
    .with_label_values(&[] as &[&str])
    .inc_by(memory.refused());
    let files = &engine.shared.files;
    gauge(
        "gojinn_engine_files_open",
        "Files and directories that guests have open in mounts.",
        files.open() as u64,
    )?;
    gauge(
        "gojinn_engine_files_max",
        "How many of them there may be.",
        files.most() as u64,
    )?;
    counters(
        "gojinn_engine_files_refused_total",
        "Files and directories that a guest could not open because of this bound.",
        &[],
    )?
    .with_label_values(&[] as &[&str])
    .inc_by(files.refused());
    if let Some(cache) = engine.cache_stats() {
        for (name, help, value) in [
            (
                "hits",
                "Modules whose code was in the artifact cache.",
                cache.hits,
            ),
            (
                "misses",
                "Modules whose code was not in the artifact cache.",
                cache.misses,
            ),
            (
                "dropped",
                "Entries of the artifact cache that were damaged, foreign, or would not load.",
                cache.dropped,
            ),
            (
                "stored",
                "Entries written to the artifact cache.",
                cache.stored,
            ),
            (
                "write_failures",
                "Entries that could not be written to the artifact cache.",
                cache.write_failures,
            ),
            (
                "evicted",
                "Entries removed to keep the artifact cache within its bound.",
                cache.evicted,
            ),
        ] {
            counters(&format!("gojinn_engine_cache_{name}_total"), help, &[])?
                .with_label_values(&[] as &[&str])
                .inc_by(value);
        }
        gauge(
            "gojinn_engine_cache_bytes",
            "Bytes in the artifact cache when they were last counted.",
            cache.bytes,
        )?;
    }
    if let Some(pool) = engine.pool() {
        let stats = pool.stats();
        let slots = IntGaugeVec::new(
            Opts::new("gojinn_engine_slots", "Memory slots of the pool by state."),
            &["state"],
        )?;
        registry.register(Box::new(slots.clone()))?;
        for (state, value) in [
            ("busy", stats.busy),
            ("warm", stats.warm),
            ("retired", stats.retired),
        ] {
            slots
                .with_label_values(&[state])
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        gauge(
            "gojinn_engine_slots_resident_bytes",
            "Bytes that warm slots keep resident, as counted at their last reset.",
            stats.resident_bytes,
        )?;
        let resets = counters(
            "gojinn_engine_slot_resets_total",
            "Resets of memory slots by kind.",
            &["kind"],
        )?;
        for (kind, value) in [
            ("scan", stats.resets_scan),
            ("copy", stats.resets_copy),
            ("madvise", stats.resets_madvise),
            ("failed", stats.reset_failures),
        ] {
            resets.with_label_values(&[kind]).inc_by(value);
        }
        counters(
            "gojinn_engine_no_slot_total",
            "Sandboxes for which the pool had no free slot, so that their memory was allocated.",
            &[],
        )?
        .with_label_values(&[] as &[&str])
        .inc_by(engine.shared.slots.misses());
    }
    Ok(registry)
}
