//! Calls of Gojinn's operations: HTTP requests, key-value stores and secrets; and the response that lets a request go on to
//! Caddy's next handler.
//!
//! ```no_run
//! let key = gojinn::secret("API_KEY")?;
//! let response = gojinn::fetch(&gojinn::Request {
//!     url: "https://api.example.com/v1/rates".into(),
//!     headers: vec![("Authorization".into(), format!("Bearer {key}"))],
//!     ..Default::default()
//! })?;
//! let visits = gojinn::Kv::new("visits").increment("home", 1)?;
//! # Ok::<(), gojinn::Error>(())
//! ```
//!
//! `docs/outbound.md` describes the operations. Outside of wasm each call fails. `docs/middleware.md` describes [`Next`].

mod next;

pub use next::Next;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Why an operation has no reply.
#[derive(Debug)]
pub struct Error {
    /// The operation, such as `kv.get`.
    pub operation: &'static str,
    /// One of the codes below, or another number below 0.
    pub code: i32,
    /// What was wrong.
    pub text: String,
}

/// The Caddyfile does not give it to the function. Caddy's log names the line to add.
pub const DENIED: i32 = -2;
/// It was tried and failed.
pub const FAILED: i32 = -4;
/// A key, a value or a response is larger than allowed.
pub const TOO_LARGE: i32 = -5;
/// There is no such key, or the secret is empty.
pub const NOT_FOUND: i32 = -7;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.text)
    }
}

impl std::error::Error for Error {}

/// An HTTP request to a server that the Caddyfile allows.
#[derive(Default)]
pub struct Request {
    /// `GET` if it is empty.
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Shorter than the time of the Caddyfile, or `None` for that.
    pub timeout: Option<Duration>,
    /// Whether a redirect is returned, in place of following it.
    pub manual: bool,
}

/// The response of a server, whatever its status is.
#[derive(Debug, Deserialize)]
pub struct Response {
    pub status: u16,
    /// Where the response came from, after redirects.
    pub url: String,
    pub headers: BTreeMap<String, Vec<String>>,
    #[serde(skip)]
    pub body: Vec<u8>,
}

/// Sends a request.
pub fn fetch(request: &Request) -> Result<Response, Error> {
    #[derive(Serialize)]
    struct Head<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        method: Option<&'a str>,
        url: &'a str,
        headers: BTreeMap<&'a str, Vec<&'a str>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        redirect: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    }
    let mut headers = BTreeMap::<&str, Vec<&str>>::new();
    for (name, value) in &request.headers {
        headers.entry(name).or_default().push(value);
    }
    let head = Head {
        method: (!request.method.is_empty()).then_some(&request.method),
        url: &request.url,
        headers,
        redirect: request.manual.then_some("manual"),
        timeout_ms: request.timeout.map(milliseconds),
    };
    let (mut response, body): (Response, _) = call("http.send", &head, &[&request.body])?;
    response.body = body;
    Ok(response)
}

/// A key-value store that the Caddyfile gives to the function.
pub struct Kv<'a> {
    store: &'a str,
}

#[derive(Serialize)]
struct KeyHead<'a> {
    store: &'a str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<i64>,
    // `Some(None)` is written as null.
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Option<usize>>,
}

#[derive(Deserialize)]
struct Nothing {}

/// A part of the keys of a store.
#[derive(Debug, Deserialize)]
pub struct Page {
    pub keys: Vec<String>,
    /// Where the next page begins; `None` after the last one.
    pub cursor: Option<String>,
}

impl<'a> Kv<'a> {
    /// The store of that name.
    pub fn new(store: &'a str) -> Self {
        Self { store }
    }

    fn head<'b>(&'b self, key: &'b str) -> KeyHead<'b> {
        KeyHead {
            store: self.store,
            key,
            ttl_ms: None,
            delta: None,
            expect: None,
        }
    }

    /// The value of a key, if there is one.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        match call::<Nothing>("kv.get", &self.head(key), &[]) {
            Ok((_, value)) => Ok(Some(value)),
            Err(error) if error.code == NOT_FOUND => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the value of a key, which is deleted after a time, or stays.
    pub fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), Error> {
        let head = KeyHead {
            ttl_ms: ttl.map(milliseconds),
            ..self.head(key)
        };
        call::<Nothing>("kv.set", &head, &[value]).map(drop)
    }

    /// Deletes a key. It is no error if there is none.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        call::<Nothing>("kv.delete", &self.head(key), &[]).map(drop)
    }

    /// Whether there is a key.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Answer {
            exists: bool,
        }
        call("kv.exists", &self.head(key), &[]).map(|(answer, _): (Answer, _)| answer.exists)
    }

    /// Adds to the number that is the value of a key. A missing key is 0.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        self.increment_for(key, delta, None)
    }

    /// The same. If it makes the key, the key is deleted after a time.
    pub fn increment_for(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, Error> {
        #[derive(Deserialize)]
        struct Answer {
            value: i64,
        }
        let head = KeyHead {
            delta: Some(delta),
            ttl_ms: ttl.map(milliseconds),
            ..self.head(key)
        };
        call("kv.increment", &head, &[]).map(|(answer, _): (Answer, _)| answer.value)
    }

    /// Sets the value of a key if the present one is expected; with `None`, if there is no such key. Returns whether it did.
    pub fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
    ) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct Answer {
            swapped: bool,
        }
        let head = KeyHead {
            expect: Some(expected.map(<[u8]>::len)),
            ..self.head(key)
        };
        call(
            "kv.compare_and_swap",
            &head,
            &[expected.unwrap_or_default(), value],
        )
        .map(|(answer, _): (Answer, _)| answer.swapped)
    }

    /// A page of the keys that begin with `prefix`; `cursor` is that of the page before, or empty. A page may be empty, and a key
    /// may be on two pages.
    pub fn page(&self, prefix: &str, cursor: &str, limit: usize) -> Result<Page, Error> {
        #[derive(Serialize)]
        struct Head<'a> {
            store: &'a str,
            prefix: &'a str,
            cursor: &'a str,
            limit: usize,
        }
        let head = Head {
            store: self.store,
            prefix,
            cursor,
            limit,
        };
        call("kv.list", &head, &[]).map(|(page, _)| page)
    }
}

/// A secret that the Caddyfile gives to the function. Ask for it in each request, so that it may change at any time.
pub fn secret(name: &str) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Head<'a> {
        name: &'a str,
    }
    let (_, value) = call::<Nothing>("secret.get", &Head { name }, &[])?;
    String::from_utf8(value).map_err(|_| failed("secret.get", "the secret is not UTF-8"))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000))
        .unwrap_or(u64::MAX)
        .max(1)
}

fn failed(operation: &'static str, text: impl ToString) -> Error {
    Error {
        operation,
        code: FAILED,
        text: text.to_string(),
    }
}

/// Calls an operation, and returns the object and the bytes of its reply.
fn call<T: DeserializeOwned>(
    operation: &'static str,
    head: &impl Serialize,
    bodies: &[&[u8]],
) -> Result<(T, Vec<u8>), Error> {
    let mut request = serde_json::to_vec(head).map_err(|error| failed(operation, error))?;
    request.push(b'\n');
    for body in bodies {
        request.extend_from_slice(body);
    }
    let mut reply = raw_call(operation, &request)?;
    let line = reply
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(reply.len());
    let object =
        serde_json::from_slice(&reply[..line]).map_err(|error| failed(operation, error))?;
    reply.drain(..reply.len().min(line + 1));
    Ok((object, reply))
}

/// Calls an operation by its name. Request and reply are a JSON object, a newline and bytes.
pub fn raw_call(operation: &'static str, request: &[u8]) -> Result<Vec<u8>, Error> {
    let code = host::call(operation, request);
    let length = usize::try_from(code).unwrap_or(1024);
    let mut reply = vec![0; length];
    let got = host::reply(&mut reply);
    reply.truncate(got);
    if code < 0 {
        let text = String::from_utf8_lossy(&reply).into_owned();
        return Err(Error {
            operation,
            code,
            text,
        });
    }
    Ok(reply)
}

#[cfg(target_family = "wasm")]
mod host {
    mod imports {
        #[link(wasm_import_module = "gojinn")]
        unsafe extern "C" {
            pub fn call(
                operation: *const u8,
                operation_length: usize,
                request: *const u8,
                request_length: usize,
            ) -> i32;
            pub fn reply(bytes: *mut u8, length: usize) -> i32;
        }
    }

    pub fn call(operation: &str, request: &[u8]) -> i32 {
        // SAFETY: the host reads the two slices, within their lengths, and keeps neither pointer.
        unsafe {
            imports::call(
                operation.as_ptr(),
                operation.len(),
                request.as_ptr(),
                request.len(),
            )
        }
    }

    pub fn reply(bytes: &mut [u8]) -> usize {
        // SAFETY: the host writes to the slice, within its length, and does not keep the pointer.
        let got = unsafe { imports::reply(bytes.as_mut_ptr(), bytes.len()) };
        usize::try_from(got).unwrap_or(0)
    }
}

#[cfg(not(target_family = "wasm"))]
mod host {
    const TEXT: &[u8] = b"the program does not run in Gojinn";

    pub fn call(_operation: &str, _request: &[u8]) -> i32 {
        -1
    }

    pub fn reply(bytes: &mut [u8]) -> usize {
        let n = bytes.len().min(TEXT.len());
        bytes[..n].copy_from_slice(&TEXT[..n]);
        n
    }
}
