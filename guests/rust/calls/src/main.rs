//! Calls an API and counts visits: the key of the API is a secret, and the number of visits is in a key-value store.

use std::io::{self, Read, Write};
use std::time::Duration;

use gojinn::{Error, Kv, Request};

fn main() -> io::Result<()> {
    // This function answers each request alike, so it only reads to the end.
    io::stdin().read_to_end(&mut Vec::new())?;
    let (status, body) = answer().unwrap_or_else(|error| (500, error.to_string()));
    let response = serde_json::json!({
        "status": status,
        "headers": {"Content-Type": ["text/plain"]},
        "body": body,
    });
    writeln!(io::stdout(), "{response}")
}

fn answer() -> Result<(u16, String), Error> {
    let key = gojinn::secret("API_KEY")?;
    let response = gojinn::fetch(&Request {
        method: "POST".into(),
        url: std::env::var("API_URL").unwrap_or_default(),
        headers: vec![
            ("Authorization".into(), format!("Bearer {key}")),
            ("Content-Type".into(), "text/plain".into()),
        ],
        body: b"from Rust".into(),
        ..Default::default()
    })?;

    let visits = Kv::new("visits");
    let n = visits.increment("rust", 1)?;
    // The answer of the API is kept for later.
    visits.set("rust/last", &response.body, Some(Duration::from_secs(60)))?;
    let last = visits.get("rust/last")?.unwrap_or_default();
    Ok((
        response.status,
        format!("{}, visit {n}\n", String::from_utf8_lossy(&last)),
    ))
}
