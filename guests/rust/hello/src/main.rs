//! Hello in Rust: a JSON request on stdin, a JSON response on stdout.

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// The part of the request that this function looks at; the other keys are ignored.
#[derive(Deserialize)]
struct Request {
    method: Option<String>,
    uri: Option<String>,
    trace_id: Option<String>,
}

#[derive(Serialize)]
struct Response {
    status: u16,
    headers: Headers,
    body: String,
}

#[derive(Serialize)]
struct Headers {
    #[serde(rename = "Content-Type")]
    content_type: [&'static str; 1],
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("hello: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--verbose") {
        eprintln!("hello: verbose, args={}", serde_json::to_string(&args)?);
    }

    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let request: Request =
        serde_json::from_slice(&input).map_err(|reason| format!("request: {reason}"))?;
    let mut response = serde_json::to_vec(&Response {
        status: 200,
        headers: Headers {
            content_type: ["text/plain"],
        },
        body: format!(
            "Hello from Rust: {} {} trace={}\n",
            request.method.unwrap_or_default(),
            request.uri.unwrap_or_default(),
            request.trace_id.unwrap_or_default(),
        ),
    })?;
    response.push(b'\n');
    io::stdout().write_all(&response)?;
    Ok(())
}
