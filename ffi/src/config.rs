//! Parses the JSON that configures engines and functions, and writes the JSON that describes them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine_core::contract::{self, Contract, Field, Fields};
use engine_core::memory::{PoolConfig, ResetMode};
use engine_core::sandbox::wasi::MountSpec;
use engine_core::wasm::Form;
use engine_core::{
    CacheConfig, CompileProcess, Engine, EngineConfig, Error, Function, FunctionConfig, Result,
    SandboxLimits, SnapshotMode, Warmup,
};
use serde::Deserialize;

/// Parses the configuration of an engine.
pub(crate) fn engine(json: &[u8]) -> Result<EngineConfig> {
    let config: EngineJson = parse(json, "the engine's configuration")?;
    let defaults = EngineConfig::default();
    Ok(EngineConfig {
        default_backend: config.backend,
        max_concurrency: config.max_concurrency.unwrap_or(defaults.max_concurrency),
        pool: config.pool.map_or(Ok(defaults.pool), pool)?,
        max_memory: config.max_memory.unwrap_or(defaults.max_memory),
        hold_answers: config.hold_answers,
        compile_timeout: config.compile_timeout.map(timeout).transpose()?,
        compile_process: compile_process(config.compile_command, config.compile_memory)?,
        cache: config.cache.map(|cache| CacheConfig {
            directory: cache.directory,
            max_bytes: cache.max_bytes.unwrap_or(CacheConfig::DEFAULT_BYTES),
        }),
        ..defaults
    })
}

/// Checks `compile_timeout`, which is in nanoseconds.
fn timeout(nanos: u64) -> Result<Duration> {
    if nanos == 0 {
        return Err(Error::config(
            "compile_timeout is 0; it must be at least 1 (nanosecond), or left out for the default",
        ));
    }
    Ok(Duration::from_nanos(nanos))
}

/// Reads how to start a process that compiles.
fn compile_process(
    command: Option<Vec<String>>,
    memory: Option<u64>,
) -> Result<Option<CompileProcess>> {
    match (command, memory) {
        (Some(command), memory) => {
            let process = CompileProcess::new(command);
            Ok(Some(CompileProcess {
                memory: memory.unwrap_or(process.memory),
                ..process
            }))
        }
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Error::config(
            "compile_memory bounds the process that compile_command starts, and there is no compile_command",
        )),
    }
}

/// Reads the settings of the memory pool. -1 slots means no pool.
fn pool(config: PoolJson) -> Result<Option<PoolConfig>> {
    if config.slots == Some(-1) {
        return Ok(None);
    }
    let defaults = PoolConfig::default();
    let reset = match config.reset.as_deref() {
        None => ResetMode::Auto,
        Some(name) => ResetMode::named(name).ok_or_else(|| {
            Error::config(format!(
                "pool reset {name:?} is unknown; use auto, scan, copy or madvise"
            ))
        })?,
    };
    Ok(Some(PoolConfig {
        slots: config.slots.map_or(Ok(defaults.slots), |slots| {
            usize::try_from(slots)
                .ok()
                .filter(|&slots| slots > 0)
                .ok_or_else(|| {
                    Error::config(format!(
                        "the pool's slots is {slots}; it must be -1 (no pool) or at least 1"
                    ))
                })
        })?,
        keep_resident: config.keep_resident.unwrap_or(defaults.keep_resident),
        keep_resident_total: config
            .keep_resident_total
            .unwrap_or(defaults.keep_resident_total),
        reset,
    }))
}

/// Parses the configuration of a function.
pub(crate) fn function(json: &[u8]) -> Result<FunctionConfig> {
    let config: FunctionJson = parse(json, "the function's configuration")?;
    let defaults = SandboxLimits::default();
    Ok(FunctionConfig {
        name: config.name,
        program: config.program.unwrap_or_default(),
        backend: config.backend,
        limits: SandboxLimits {
            timeout: config
                .timeout
                .map_or(defaults.timeout, Duration::from_nanos),
            memory: config.memory_limit.unwrap_or(defaults.memory),
            output: config.max_output.unwrap_or(defaults.output),
            logs: config.max_logs.unwrap_or(defaults.logs),
            body: config.max_body.unwrap_or(defaults.body),
            clock_resolution: config
                .clock_resolution
                .map_or(defaults.clock_resolution, Duration::from_nanos),
            ..defaults
        },
        env: config.env,
        args: config.args,
        mounts: config
            .mounts
            .into_iter()
            .map(|mount| MountSpec {
                host: mount.host,
                guest: mount.guest,
                writable: mount.writable,
            })
            .collect(),
        snapshot: config
            .snapshot
            .as_deref()
            .map_or(Ok(SnapshotMode::default()), snapshot)?,
        warmup: config.warmup.map(|warmup| Warmup {
            rounds: warmup.rounds,
            sample: warmup.sample.map(String::into_bytes),
        }),
        contract: config
            .contract
            .as_deref()
            .map_or(Ok(contract::default()), contract)?,
        include: include(&config.include)?,
        data: config.data.map(data).transpose()?,
    })
}

/// Describes an engine.
pub(crate) fn describe_engine(engine: &Engine) -> String {
    let backends: Vec<_> = engine
        .backends()
        .iter()
        .map(|backend| backend.name())
        .collect();
    let (_, permits) = engine.permits();
    let cache = engine.cache_stats().map(|cache| {
        serde_json::json!({
            "hits": cache.hits,
            "misses": cache.misses,
            "dropped": cache.dropped,
            "stored": cache.stored,
            "write_failures": cache.write_failures,
            "evicted": cache.evicted,
            "bytes": cache.bytes,
        })
    });
    serde_json::json!({
        "default_backend": engine.default_backend(),
        "backends": backends,
        "max_concurrency": permits,
        "max_memory": engine.max_memory(),
        "functions": engine.functions(),
        "compilations": engine.compilations(),
        "pool_problem": engine.pool_problem(),
        "cache": cache,
        "warnings": engine.warnings(),
    })
    .to_string()
}

/// Describes a function.
pub(crate) fn describe_function(function: &Function) -> String {
    let facts = function.facts();
    let sha256: String = facts
        .sha256
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    serde_json::json!({
        "name": function.name(),
        "backend": facts.backend,
        "sha256": sha256,
        "module_bytes": facts.module_bytes,
        "image_bytes": facts.image_bytes,
        "plain_because": facts.plain_because,
        "warnings": function.warnings(),
        "source": facts.source.name(),
        "load_ms": facts.loaded_in.as_secs_f64() * 1000.0,
        "compile_ms": facts.compiled_in.as_secs_f64() * 1000.0,
        "form": match facts.form {
            Form::Command => "command",
            Form::Reactor { .. } => "reactor",
            Form::HttpHandler => "http_handler",
        },
        "reads_body": facts.reads_body,
        "frames": facts.frames,
    "per_request_values": function.per_request_values(),
    "suspends": facts.suspends,
        "snapshot": {
            "kind": facts.snapshot.kind.name(),
            "why_not": facts.snapshot.why_not,
            "took_ms": facts.snapshot.took.as_secs_f64() * 1000.0,
            "bytes": facts.snapshot.bytes,
            "patches": facts.snapshot.patches,
            "stderr": facts.snapshot.stderr,
        },
    })
    .to_string()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EngineJson {
    backend: Option<String>,
    max_concurrency: Option<u32>,
    max_memory: Option<u64>,
    #[serde(default)]
    hold_answers: bool,
    pool: Option<PoolJson>,
    compile_timeout: Option<u64>,
    compile_command: Option<Vec<String>>,
    compile_memory: Option<u64>,
    cache: Option<CacheJson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheJson {
    directory: PathBuf,
    max_bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolJson {
    slots: Option<i64>,
    keep_resident: Option<usize>,
    keep_resident_total: Option<usize>,
    reset: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionJson {
    name: String,
    program: Option<String>,
    backend: Option<String>,
    contract: Option<String>,
    #[serde(default)]
    include: Vec<String>,
    timeout: Option<u64>,
    memory_limit: Option<u64>,
    max_body: Option<usize>,
    max_output: Option<usize>,
    max_logs: Option<usize>,
    clock_resolution: Option<u64>,
    #[serde(default)]
    env: Vec<(String, Option<String>)>,
    #[serde(default)]
    args: Vec<Option<String>>,
    #[serde(default)]
    mounts: Vec<MountJson>,
    snapshot: Option<String>,
    warmup: Option<WarmupJson>,
    /// In base64.
    data: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WarmupJson {
    rounds: u32,
    sample: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MountJson {
    host: PathBuf,
    guest: String,
    #[serde(default)]
    writable: bool,
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], what: &str) -> Result<T> {
    serde_json::from_slice(json)
        .map_err(|error| Error::config(format!("{what} is not valid")).because(error))
}

fn data(text: String) -> Result<Arc<[u8]>> {
    BASE64_STANDARD
        .decode(text)
        .map(Arc::from)
        .map_err(|error| {
            Error::config("data is not valid: it must be standard base64 with padding")
                .because(error)
        })
}

fn contract(name: &str) -> Result<&'static dyn Contract> {
    contract::named(name).ok_or_else(|| {
        let names: Vec<_> = contract::ALL
            .iter()
            .map(|contract| contract.name())
            .collect();
        Error::config(format!(
            "contract {name:?} is unknown; use one of: {}",
            names.join(", ")
        ))
    })
}

fn include(names: &[String]) -> Result<Fields> {
    let field = |name: &String| {
        Field::named(name).ok_or_else(|| {
            Error::config(format!(
                "no request has the field {name:?} of include; use some of: {}",
                Field::ALL.map(Field::name).join(", ")
            ))
        })
    };
    names.iter().map(field).collect()
}

fn snapshot(name: &str) -> Result<SnapshotMode> {
    SnapshotMode::from_name(name)
        .ok_or_else(|| Error::config(format!("snapshot {name:?} is unknown; use auto, on or off")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_read_whole() {
        let config = function(
            br#"{"name":"hello","program":"hello.wasm","backend":"wasmi","contract":"json","timeout":2000000000,"include":["client_ip","host"],
                 "memory_limit":128000000,"max_body":1,"max_output":2,"max_logs":3,
                 "env":[["A","1"],["B",null]],"args":["--verbose",null],
                 "mounts":[{"host":"/srv","guest":"/data","writable":true}],
                 "snapshot":"on","warmup":{"rounds":3,"sample":"{}"},"data":"AP8="}"#,
        )
        .unwrap();
        assert_eq!(config.backend.as_deref(), Some("wasmi"));
        assert_eq!(config.limits.timeout, Duration::from_secs(2));
        assert_eq!(
            (config.limits.body, config.limits.output, config.limits.logs),
            (1, 2, 3)
        );
        assert_eq!(
            config.env,
            [("A".to_string(), Some("1".to_string())), ("B".into(), None)]
        );
        assert_eq!(config.args, [Some("--verbose".to_string()), None]);
        assert!(config.mounts[0].writable);
        let included = [Field::ClientIp, Field::Host].into_iter().collect();
        assert_eq!(config.include, included);
        assert_eq!(config.snapshot, SnapshotMode::On);
        let warmup = Warmup {
            rounds: 3,
            sample: Some(b"{}".to_vec()),
        };
        assert_eq!(config.warmup, Some(warmup));
        assert_eq!(config.data.as_deref(), Some(&[0, 255][..]));
        let without = function(br#"{"name":"hello"}"#).unwrap();
        assert_eq!((without.data, without.include), (None, Fields::default()));
    }

    #[test]
    fn mistakes_are_named() {
        for (json, part) in [
            (&b"{\"name\":\"a\",\"tiemout\":1}"[..], "tiemout"),
            (b"{}", "name"),
            (b"{\"name\":\"a\",\"contract\":\"fcgi\"}", "fcgi"),
            (b"{\"name\":\"a\",\"include\":[\"port\"]}", "port"),
            (b"{\"name\":\"a\",\"snapshot\":\"maybe\"}", "maybe"),
            (b"{\"name\":\"a\",\"warmup\":{}}", "rounds"),
            (b"{\"name\":\"a\",\"data\":\"?\"}", "base64"),
            (b"nonsense", "line 1"),
        ] {
            let error = function(json).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(engine(b"{\"max_concurrency\":-1}").is_err());
        assert!(engine(b"{\"cache\":{\"max_bytes\":1}}").is_err());
        assert_eq!(engine(b"{\"cache\":null}").unwrap().cache, None);
        let cache = engine(b"{\"cache\":{\"directory\":\"/c\"}}").unwrap().cache;
        assert_eq!(cache, Some(CacheConfig::new("/c")));
        let bounded = engine(b"{\"cache\":{\"directory\":\"/c\",\"max_bytes\":7}}").unwrap();
        assert!(bounded.cache.is_some_and(|cache| cache.max_bytes == 7));
        assert!(engine(b"{\"compile_timeout\":0}").is_err());
        assert_eq!(engine(b"{}").unwrap().compile_timeout, None);
        let impatient = engine(b"{\"compile_timeout\":5000000000}").unwrap();
        assert_eq!(impatient.compile_timeout, Some(Duration::from_secs(5)));
        assert_eq!(engine(b"{}").unwrap().compile_process, None);
        let process =
            engine(b"{\"compile_command\":[\"/proc/self/exe\",\"x\"],\"compile_memory\":7}");
        let process = process.unwrap().compile_process.unwrap();
        assert_eq!(process.command, ["/proc/self/exe", "x"]);
        assert_eq!(process.memory, 7);
        let process = engine(b"{\"compile_command\":[\"/proc/self/exe\"]}").unwrap();
        let memory = process.compile_process.unwrap().memory;
        assert_eq!(memory, CompileProcess::default_memory());
        assert!(engine(b"{\"compile_memory\":7}").is_err());
        assert!(engine(b"{\"pool\":{\"slots\":0}}").is_err());
        assert!(engine(b"{\"pool\":{\"reset\":\"never\"}}").is_err());
        assert!(engine(b"{\"pool\":{\"slots\":-1}}").unwrap().pool.is_none());
        let pool = engine(b"{\"pool\":{\"slots\":9,\"reset\":\"copy\"}}")
            .unwrap()
            .pool;
        assert!(pool.is_some_and(|pool| pool.slots == 9 && pool.reset == ResetMode::Copy));
        assert_eq!(
            engine(b"{\"max_concurrency\":7}").unwrap().max_concurrency,
            7
        );
    }
}
