//! Says what compiling modules costs: how the bounds of `engine_core::wasm::ModuleLimits` were chosen, and are checked.
//!
//! ```text
//! cargo run --release --workspace --example cost -- count FILE...        what the largest functions have
//! cargo run --release --workspace --example cost -- BACKEND FILE         compiles, whatever the bounds say: time and memory
//! cargo run --release --workspace --example cost -- plain FILE           the same on wasmtime, whatever the module imports
//! ```

use std::sync::Arc;
use std::time::Instant;

use engine_core::Split;
use engine_core::backend::Backend;
use engine_core::wasm::{
    Features, FunctionCost, FunctionLimits, ModuleLimits, Wasm, function_costs,
};

/// One of the figures of a function.
type Measure = fn(&FunctionCost) -> u64;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, files @ ..] = args.as_slice() else {
        panic!("what, and of which files?");
    };
    for file in files {
        let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        match what.as_str() {
            "count" => count(file, &bytes),
            "plain" => {
                let engine = wasmtime::Engine::default();
                let begun = Instant::now();
                let result = engine.precompile_module(&bytes).map(|code| code.len());
                report(file, begun, result.map_err(|error| format!("{error:#}")));
            }
            name => compile(name, file, bytes),
        }
    }
}

/// The functions that have the most of each.
fn count(file: &str, bytes: &[u8]) {
    let costs = function_costs(bytes);
    let steps: u64 = costs.iter().map(|(_, cost)| cost.steps()).sum();
    let cells: u64 = costs.iter().map(|(_, cost)| cost.cells()).sum();
    println!(
        "{file}: {} functions, {} million steps, {} million cells",
        costs.len(),
        steps / 1_000_000,
        cells / 1_000_000,
    );
    let measures: [(&str, Measure); 9] = [
        ("bytes", |cost| cost.bytes),
        ("locals", |cost| cost.locals),
        ("branches", |cost| cost.branches),
        ("targets", |cost| cost.targets),
        ("calls", |cost| cost.calls),
        ("operands", |cost| cost.operands),
        ("loop values", |cost| cost.loop_values),
        ("cells", FunctionCost::cells),
        ("million steps", |cost| cost.steps() / 1_000_000),
    ];
    for (name, measure) in measures {
        if let Some((index, cost)) = costs.iter().max_by_key(|(_, cost)| measure(cost)) {
            println!("{:>16} {name:14} function {index} {cost:?}", measure(cost));
        }
    }
}

/// Compiles a module on a backend and loads it.
fn compile(name: &str, file: &str, bytes: Vec<u8>) {
    let backend: Arc<dyn Backend> = match name {
        "wasmtime" => Arc::new(backend_wasmtime::Wasmtime::new(Default::default()).unwrap()),
        "wasmer" => Arc::new(backend_wasmer::Wasmer::new(Default::default()).unwrap()),
        "wasmi" => Arc::new(backend_wasmi::Wasmi::new(Default::default()).unwrap()),
        _ => panic!("{name} is none of count, plain, wasmtime, wasmer, wasmi"),
    };
    if let Err(error) = Wasm::parse(bytes.clone(), Features::ALL, &ModuleLimits::default()) {
        println!("{file}: refused: {error}");
    }
    let begun = Instant::now();
    let code = Wasm::parse(bytes, Features::ALL, &boundless()).and_then(|wasm| Split::of(&wasm));
    let code = code.unwrap_or_else(|error| panic!("{file}: {error}")).code;
    let compiled = backend.compile(&code).and_then(|artifact| {
        // SAFETY: it came out of `compile` of this backend.
        unsafe { backend.load(&artifact, false) }.map(|_| artifact.bytes().len())
    });
    report(
        &format!("{file} {name}"),
        begun,
        compiled.map_err(|error| error.to_string()),
    );
}

/// ModuleLimits that let everything through.
fn boundless() -> ModuleLimits {
    let function = FunctionLimits {
        bytes: u64::MAX,
        locals: u64::MAX,
        branches: u64::MAX,
        targets: u64::MAX,
        calls: u64::MAX,
        operands: u64::MAX,
        selects: u64::MAX,
        cells: u64::MAX,
        steps: u64::MAX,
    };
    ModuleLimits {
        types: u32::MAX,
        type_values: u64::MAX,
        function_values: u64::MAX,
        functions: u32::MAX,
        element_items: u64::MAX,
        function,
        cells: u64::MAX,
        steps: u64::MAX,
        ..ModuleLimits::default()
    }
}

fn report(what: &str, begun: Instant, result: Result<usize, String>) {
    let took = begun.elapsed().as_secs_f64();
    let cpu = {
        // SAFETY: all zeros is a value of the structure, which is the caller's own and writable.
        let usage = unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
            usage
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        seconds(usage.ru_utime) + seconds(usage.ru_stime)
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .map_or("?", str::trim);
    println!("{what}: {took:.2} s, CPU {cpu:.2} s, peak {peak}, {result:?}");
}
