//! Lets each request go on to Caddy's next handler, changed in each way that there is.

use std::io::{self, Read, Write};

use gojinn::Next;

fn main() -> io::Result<()> {
    // This function changes each request alike, so it only reads to the end.
    io::stdin().read_to_end(&mut Vec::new())?;
    let next = Next::new()
        .method("PUT")
        .uri("/v2/rust?a=b")
        .header("X-Language", "Rust")
        .header("X-Two", "1")
        .remove_header("Cookie")
        .header("x-two", "2")
        .var("language", "Rust")
        .response_header("X-Frame-Options", "DENY")
        .response_header("Link", "</a>; rel=\"preload\"")
        .response_header("Link", "</b>")
        .remove_response_header("Server");
    writeln!(io::stdout(), "{next}")
}
