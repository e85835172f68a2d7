//! A program of the Common Gateway Interface in Rust, with the standard library alone: the request is in the environment and on
//! stdin, the response on stdout. It is served with `contract cgi`.
//!
//! - `GET /`: a greeting
//! - `POST /count`: the number of bytes in the body, which may have any length
//! - `GET /events?3`: server-sent events, so many, 100 ms apart

use std::io::{self, Read, Write};
use std::time::Duration;

fn main() -> io::Result<()> {
    let out = io::stdout().lock();
    match (
        variable("REQUEST_METHOD").as_str(),
        variable("PATH_INFO").as_str(),
    ) {
        ("GET" | "HEAD", "/") => greet(out),
        ("POST", "/count") => count(out),
        ("GET", "/events") => events(out, variable("QUERY_STRING").parse().unwrap_or(3)),
        _ => not_found(out),
    }
}

/// The value of a variable; empty if it is not set.
fn variable(name: &str) -> String {
    std::env::var_os(name)
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn greet(mut out: impl Write) -> io::Result<()> {
    let (client, interface) = (variable("REMOTE_ADDR"), variable("GATEWAY_INTERFACE"));
    write!(
        out,
        "Content-Type: text/plain\n\nHello {client}, this is Rust with {interface}.\n"
    )
}

fn count(mut out: impl Write) -> io::Result<()> {
    let mut part = [0; 4096];
    let mut bytes = 0;
    loop {
        match io::stdin().read(&mut part)? {
            0 => break,
            n => bytes += n as u64,
        }
    }
    write!(out, "Content-Type: text/plain\n\n{bytes}\n")
}

fn events(mut out: impl Write, number: u32) -> io::Result<()> {
    write!(out, "Content-Type: text/event-stream\n\n")?;
    for i in 1..=number {
        if i > 1 {
            std::thread::sleep(Duration::from_millis(100));
        }
        write!(out, "data: {i}\n\n")?;
        // What is written leaves when the program waits.
        out.flush()?;
    }
    Ok(())
}

fn not_found(mut out: impl Write) -> io::Result<()> {
    let path = variable("PATH_INFO");
    write!(
        out,
        "Status: 404 Not Found\nContent-Type: text/plain\n\nThere is no {path} here.\n"
    )
}
