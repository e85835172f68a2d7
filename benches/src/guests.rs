//! The guests: the modules that run in the sandboxes, their request, and the answers that they must give.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use engine_core::contract::{Fields, Request, json};
use engine_core::wasm::{Features, ModuleLimits, Wasm};

use crate::goals::GO_LOOPING;
use crate::synthetic::{BODY, Synthetic};

/// A guest. The benchmark stops at the first wrong answer, so that an error page is never measured.
#[derive(Debug)]
pub struct Guest {
    /// Its name in tables.
    pub name: &'static str,
    /// The whole module.
    pub wasm: Wasm,
    /// Whether it answers requests. A guest that does not is only instantiated, run and reset.
    pub answers: bool,
    /// Whether compiling it takes seconds.
    pub heavy: bool,
    /// What every body must contain.
    contains: &'static str,
    /// The whole body of the first answer. All later ones must be equal.
    body: OnceLock<Vec<u8>>,
}

impl Guest {
    fn new(name: &'static str, bytes: Vec<u8>, contains: Option<&'static str>) -> Self {
        let wasm = Wasm::parse(bytes, Features::ALL, &ModuleLimits::default())
            .unwrap_or_else(|error| panic!("guest {name}: {error}"));
        Self {
            name,
            answers: contains.is_some(),
            heavy: wasm.bytes().len() > 1 << 20,
            contains: contains.unwrap_or_default(),
            wasm,
            body: OnceLock::new(),
        }
    }

    /// What every body must contain.
    #[must_use]
    pub fn contains(&self) -> &'static str {
        self.contains
    }

    /// Checks an answer.
    ///
    /// # Panics
    /// If it is not what this guest must answer.
    pub fn check(&self, status: u16, body: &[u8], reason: &str) {
        let name = self.name;
        assert_eq!(status, 200, "guest {name}: {reason}");
        let expected = self.body.get_or_init(|| {
            let text = String::from_utf8_lossy(body);
            assert!(
                text.contains(self.contains),
                "guest {name} answered {text:?}, which lacks {:?}",
                self.contains
            );
            body.to_vec()
        });
        assert!(
            body == expected,
            "guest {name} answered {:?} and then {:?}",
            String::from_utf8_lossy(expected),
            String::from_utf8_lossy(body)
        );
    }
}

/// The request of every benchmark: a small JSON POST, as a browser sends it.
#[must_use]
pub fn request() -> Request<'static> {
    Request {
        method: b"POST",
        uri: b"/api/hello?q=1",
        headers: &[
            (b"Content-Type", b"application/json"),
            (b"Accept", b"*/*"),
            (b"User-Agent", b"gojinn-benches"),
            (b"Content-Length", b"27"),
        ],
        body: br#"{"name":"world","number":1}"#,
        trace_id: b"bench-0123456789abcdef",
        remote_addr: b"127.0.0.1:40000",
        client_ip: b"127.0.0.1",
        scheme: b"http",
        host: b"localhost:8080",
        proto: b"HTTP/1.1",
        original_uri: b"/api/hello?q=1",
    }
}

/// [`request`] as a guest reads it.
#[must_use]
pub fn stdin() -> Vec<u8> {
    let mut out = Vec::new();
    json::write_request(&mut out, &request(), Fields::default());
    out
}

/// The smallest guest: one constant answer.
#[must_use]
pub fn tiny() -> Guest {
    Guest::new("tiny wat", file("wat/hello.wat"), Some("Hello from wat"))
}

/// Hello in C, prebuilt.
#[must_use]
pub fn c_hello() -> Guest {
    hello(
        "C hello",
        "c/hello/hello.wasm",
        "Hello from C: POST /api/hello?q=1 trace=bench-0123456789abcdef",
    )
}

/// Hello in Rust with a JSON library, prebuilt.
#[must_use]
pub fn rust_hello() -> Guest {
    hello(
        "Rust JSON",
        "rust/hello/hello.wasm",
        "Hello from Rust: POST /api/hello?q=1 trace=bench-0123456789abcdef",
    )
}

/// Hello in Go with a plain start: its runtime starts in each sandbox. Built by `make -C guests go`.
#[must_use]
pub fn go_hello() -> Guest {
    go("Go JSON, plain start")
}

/// The same under another `name`.
#[must_use]
pub fn go(name: &'static str) -> Guest {
    hello(
        name,
        GO_HELLO,
        "Hello from Go: POST /api/hello?q=1 trace=bench-0123456789abcdef",
    )
}

/// The same answer from a program that serves requests in a loop, with our Go module. `None`: it is not built.
#[must_use]
pub fn go_looping() -> Option<Guest> {
    path(GO_LOOPING_FILE).exists().then(|| {
        hello(
            GO_LOOPING,
            GO_LOOPING_FILE,
            "Hello from Go: POST /api/hello?q=1 trace=bench-0123456789abcdef",
        )
    })
}

/// Hello in Go.
pub const GO_HELLO: &str = "build/go-hello.wasm";

const GO_LOOPING_FILE: &str = "build/go-serve.wasm";

/// An image of 1 MiB, of which each run dirties 16 pages; with or without an answer.
#[must_use]
pub fn image_1m(answer: bool) -> Guest {
    image("1 MiB image, 16 dirty", 1 << 20, 16, answer)
}

/// An image of 1 MiB with a few bytes in each of its 16 wasm pages: the best case for engines that copy segments.
#[must_use]
pub fn sparse_1m() -> Guest {
    Guest::new(
        "1 MiB image, sparse",
        file("wat/image-1m.wat"),
        Some("Hello from a 1 MiB image"),
    )
}

/// An image of 4 MiB, of which each run dirties 0, 16 or 256 pages; with or without an answer.
///
/// # Panics
/// If `dirty` is another number.
#[must_use]
pub fn image_4m(dirty: u32, answer: bool) -> Guest {
    let name = match dirty {
        0 => "4 MiB image, 0 dirty",
        16 => "4 MiB image, 16 dirty",
        256 => "4 MiB image, 256 dirty",
        _ => panic!("no name for {dirty} dirty pages"),
    };
    image(name, 4 << 20, dirty, answer)
}

/// A module the size of QuickJS: 1.5 MB, of which 0.5 MB are data.
#[must_use]
pub fn quickjs_class() -> Guest {
    let guest = Synthetic {
        functions: 1600,
        function_bytes: 640,
        ..Synthetic::image(512 * 1024, 16)
    };
    Guest::new("QuickJS-class 1.5 MB", guest.build(), None)
}

/// A module the size of ruby.wasm: 16 MB, of which 9 MB are data.
#[must_use]
pub fn ruby_class() -> Guest {
    let guest = Synthetic {
        functions: 12_000,
        function_bytes: 620,
        ..Synthetic::image(9 << 20, 16)
    };
    Guest::new("ruby-class 16 MB", guest.build(), None)
}

/// A guest that dirties its pages, and then sleeps.
#[must_use]
pub fn sleeper(name: &'static str, image: u32, dirty: u32, sleep_ms: u32) -> Guest {
    let guest = Synthetic {
        sleep_ms,
        ..Synthetic::image(image, dirty)
    };
    Guest::new(name, guest.build(), None)
}

/// Half a million steps of xorshift32, whose result it checks. It only uses the CPU.
#[must_use]
pub fn cpu_kernel() -> Guest {
    const STEPS: u32 = 500_000;
    let mut x: u32 = 2_463_534_242;
    for _ in 0..STEPS {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
    }
    let response = crate::synthetic::RESPONSE
        .replace('"', "\\\"")
        .replace("\\n", "\\\\n");
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\{length:02x}\00\00\00")
            (data (i32.const 16) "{response}")
            (func (export "_start") (local $x i32) (local $n i32)
                (local.set $x (i32.const 2463534242))
                (local.set $n (i32.const {STEPS}))
                (loop $again
                    (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
                    (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
                    (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
                    (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
                (if (i32.ne (local.get $x) (i32.const {x})) (then unreachable))
                (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))))"#,
        length = crate::synthetic::RESPONSE.len(),
    );
    let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("the CPU kernel: {error}"));
    Guest::new("CPU kernel", bytes, Some(BODY))
}

fn image(name: &'static str, image: u32, dirty: u32, answer: bool) -> Guest {
    let guest = Synthetic {
        answer,
        ..Synthetic::image(image, dirty)
    };
    Guest::new(name, guest.build(), answer.then_some(BODY))
}

fn hello(name: &'static str, path: &str, contains: &'static str) -> Guest {
    Guest::new(name, file(path), Some(contains))
}

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the repository")
        .to_path_buf()
}

/// The path of a file below `guests/`.
#[must_use]
pub fn path(file: &str) -> PathBuf {
    root().join("guests").join(file)
}

fn file(file: &str) -> Vec<u8> {
    let path = path(file);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `make -C guests go` builds what is not committed",
            path.display()
        )
    });
    wat::parse_bytes(&bytes)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into_owned()
}
