//! Answers one request with a function, without Caddy: embed <file.wasm> [<body>]
//!
//! ```text
//! cargo run --release --package backend-wasmi --example embed -- guests/c/hello/hello.wasm
//! ```

use std::error::Error;
use std::sync::Arc;
use std::{env, fs, process};

use backend_wasmi::{Wasmi, WasmiConfig};
use engine_core::contract::Request;
use engine_core::logs::lines;
use engine_core::{Engine, EngineConfig, FunctionConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let Some(file) = args.next() else {
        eprintln!("usage: embed <file.wasm> [<body>]");
        process::exit(2);
    };
    let body = args.next().unwrap_or_default();

    // Once for a process: an engine with the backends it should have.
    let backend = Arc::new(Wasmi::new(WasmiConfig::default())?);
    let engine = Engine::new(EngineConfig::default(), vec![backend])?;

    // Once for a module: validated, compiled, linked, and given a snapshot if it can have one.
    let config = FunctionConfig {
        name: "embedded".into(),
        ..FunctionConfig::default()
    };
    let function = engine.deploy(&fs::read(file)?, config)?;
    println!("snapshot: {}", function.facts().snapshot.kind.name());

    // For each request: a permit, which bounds how many run at once, and a fresh sandbox.
    let request = Request {
        method: b"POST",
        uri: b"/hello?from=embed",
        headers: &[(b"Content-Type", b"text/plain")],
        body: body.as_bytes(),
        trace_id: b"embedded-1",
        ..Request::default()
    };
    let permit = engine.reserve()?;
    function.call(permit, &request, &[], |answer| {
        for (_, line) in lines(answer.logs) {
            println!("log: {}", String::from_utf8_lossy(line));
        }
        match answer.response {
            Some(response) => {
                println!("status: {}", response.status);
                for (name, value) in &response.headers {
                    println!("{name}: {}", String::from_utf8_lossy(value));
                }
                println!("{}", String::from_utf8_lossy(&response.body));
            }
            None => println!(
                "{} {}: {}",
                answer.status,
                answer.outcome.label(),
                answer.reason
            ),
        }
    })?;
    Ok(())
}
