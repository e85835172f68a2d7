//! Recognises files that are not core WebAssembly modules, so that the error says what they are.

use super::sections;
use crate::error::{Error, Result};

/// Files that are configured by mistake: how they begin, and what to say about them.
const KNOWN: &[(&[u8], &str)] = &[
    (
        b"\x7fELF",
        "an ELF file: a native program or an engine's precompiled module (.cwasm); give the .wasm file itself",
    ),
    (
        b"MZ",
        "a Windows program; compile for wasm32-wasip1 (Go: GOOS=wasip1 GOARCH=wasm)",
    ),
    (
        b"\xcf\xfa\xed\xfe",
        "a macOS program; compile for wasm32-wasip1 (Go: GOOS=wasip1 GOARCH=wasm)",
    ),
    (
        b"\xca\xfe\xba\xbe",
        "a macOS universal program or a Java class; compile for WebAssembly",
    ),
    (
        b"!<arch>\n",
        "a static library (.a); link it into a program first",
    ),
    (
        b"BC\xc0\xde",
        "LLVM bitcode; link it into a program first (wasm-ld)",
    ),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer and not the file itself; run git lfs pull",
    ),
];

/// The same for text files: compared in lower case, without leading white space.
const KNOWN_TEXT: &[(&str, &str)] = &[
    (
        "(module",
        "WebAssembly in text form (.wat); translate it first (wat2wasm, or wasm-tools parse)",
    ),
    (
        "(component",
        "a component in text form; components are not supported",
    ),
    (
        ";;",
        "WebAssembly in text form (.wat); translate it first (wat2wasm, or wasm-tools parse)",
    ),
    (
        "<!doctype",
        "an HTML page, perhaps the error page of a failed download",
    ),
    (
        "<html",
        "an HTML page, perhaps the error page of a failed download",
    ),
    ("<?xml", "an XML file"),
    ("#!", "a script"),
    ("{", "JSON"),
    (
        "package ",
        "Go source; compile it: GOOS=wasip1 GOARCH=wasm go build",
    ),
];

/// Checks that `bytes` begin as a core module does, and that the header is complete.
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Err(Error::invalid_module(
            "the file is empty; a WebAssembly module was expected (did the build or the copy fail?)",
        ));
    }
    if !bytes.starts_with(b"\0asm") {
        if b"\0asm".starts_with(bytes) {
            return Err(truncated_header(bytes.len()));
        }
        return Err(Error::invalid_module(format!(
            "not a WebAssembly module; this looks like {}",
            describe(bytes)
        )));
    }
    let Some(version) = bytes[4..].first_chunk::<4>() else {
        return Err(truncated_header(bytes.len()));
    };
    match (
        u16::from_le_bytes([version[0], version[1]]),
        u16::from_le_bytes([version[2], version[3]]),
    ) {
        (1, 0) => Ok(()),
        (_, 1) => Err(Error::invalid_module(
            "this is a component, and components are not supported; build a core module (Go: GOOS=wasip1 GOARCH=wasm; \
             Rust: --target wasm32-wasip1; TinyGo: -target=wasip1; C: wasi-sdk's wasm32-wasip1)",
        )),
        (version, _) => Err(Error::invalid_module(format!(
            "WebAssembly binary version {version} is not known; version 1 was expected"
        ))),
    }
}

/// The error for a file whose last section is not complete.
pub(crate) fn truncated(cut: &sections::Truncated) -> Error {
    let end = cut.id.map_or_else(
        || "within the size of a section".to_owned(),
        |id| format!("in the middle of its {} section", sections::name(id)),
    );
    Error::invalid_module(format!(
        "the file is cut off: it ends {end}, and at least {} bytes are missing; copy or build it again",
        cut.missing
    ))
}

fn truncated_header(bytes: usize) -> Error {
    Error::invalid_module(format!(
        "the file is cut off: it has {bytes} bytes, but a module's header alone has 8; copy or build it again"
    ))
}

fn describe(bytes: &[u8]) -> String {
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return (*what).to_owned();
    }
    let head = &bytes[..bytes.len().min(64)];
    // The last character may be incomplete.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => "",
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.is_empty() || text.contains(|c: char| c.is_control() && !c.is_whitespace()) {
        let hex: Vec<String> = head.iter().take(4).map(|b| format!("{b:02x}")).collect();
        return format!(
            "something else: it begins with the bytes {} instead of 00 61 73 6d",
            hex.join(" ")
        );
    }
    let lower = text.to_ascii_lowercase();
    if let Some((_, what)) = KNOWN_TEXT.iter().find(|(head, _)| lower.starts_with(head)) {
        return (*what).to_owned();
    }
    let line: String = text
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(40)
        .collect();
    format!("text that begins with {line:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        check(bytes).unwrap_err().to_string()
    }

    #[test]
    fn files_of_other_kinds_are_named() {
        for (bytes, expected) in [
            (&b""[..], "is empty"),
            (b"\0as", "3 bytes"),
            (b"\0asm\x01\0", "6 bytes"),
            (b"\0asm\x0d\0\x01\0", "a component"),
            (b"\0asm\x02\0\0\0", "version 2"),
            (b"\x7fELF\x02\x01\x01", "ELF"),
            (b"PK\x03\x04....", "zip"),
            (b"\x1f\x8b\x08", "gzip"),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                "git lfs pull",
            ),
            (b"\n  (module (func))", ".wat"),
            (b"\xef\xbb\xbf;; a comment\n(module)", ".wat"),
            (b"<!DOCTYPE html><title>404</title>", "HTML"),
            (b"<HTML>", "HTML"),
            (b"#!/bin/sh\n", "script"),
            (b"{\"error\":1}", "JSON"),
            (b"package main\n", "GOOS=wasip1"),
            (b"Hello\nthere", "text that begins with \"Hello\""),
            (b"\xde\xad\xbe\xef\0\0", "de ad be ef"),
            (b"\x01", "bytes 01"),
        ] {
            let message = message(bytes);
            assert!(message.contains(expected), "{message:?}: {expected}");
        }
    }

    #[test]
    fn text_cut_within_a_character_is_still_text() {
        let mut text = "ä".repeat(60).into_bytes();
        text.insert(0, b'x');
        assert!(message(&text).contains("text that begins with \"xäää"));
    }

    #[test]
    fn a_core_module_passes() {
        assert!(check(b"\0asm\x01\0\0\0").is_ok());
    }
}
