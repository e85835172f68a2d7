//! One entry of the cache: which code it holds, its bytes, and the MAC over both.
//!
//! ```text
//!   magic 8 ‖ version 4 ‖ backend's length 4 ‖ fingerprint's length 4 ‖ 0 4 ‖ artifact's length 8 ‖ compiled in (ns) 8 ‖
//!   identity 32 ‖ backend ‖ fingerprint ‖ artifact ‖ MAC 32                                          (little-endian)
//! ```

use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Found;
use super::directory::{Directory, Unfit, hex};
use super::key::Key;
use crate::backend::{Artifact, Backend, Content, Fingerprint};
use crate::memory::Sealed;
use crate::wasm::Wasm;

const MAGIC: &[u8; 8] = b"gojinnac";

/// Changes with the layout of entries.
const VERSION: u32 = 1;

/// Bytes before the backend's name.
const FIXED: usize = 72;

const MAC: usize = blake3::OUT_LEN;

const SUFFIX: &str = ".code";

/// Which code an entry holds: of which module, and compiled by which backend.
pub(super) struct Identity {
    hash: blake3::Hash,
    backend: &'static str,
    fingerprint: Fingerprint,
}

impl Identity {
    /// The identity of what `backend` compiles from `code`.
    pub(super) fn new(backend: &dyn Backend, code: &Wasm) -> Self {
        let (kind, fingerprint) = (backend.name(), backend.fingerprint());
        let features = code.features().names().join(",");
        let mut hasher = blake3::Hasher::new();
        hasher.update(MAGIC);
        hasher.update(&VERSION.to_le_bytes());
        hasher.update(code.sha256());
        for part in [kind, fingerprint.0.as_str(), features.as_str()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Self {
            hash: hasher.finalize(),
            backend: kind,
            fingerprint,
        }
    }

    /// The name of its file.
    pub(super) fn name(&self) -> String {
        format!("{}{SUFFIX}", self.hash.to_hex())
    }

    /// The first digits of its name, for a log line.
    pub(super) fn short(&self) -> String {
        hex(&self.hash.as_bytes()[..8])
    }

    fn header(&self, artifact_len: u64, compiled_nanos: u64) -> Vec<u8> {
        let (backend, fingerprint) = (self.backend, &self.fingerprint.0);
        let mut header = Vec::with_capacity(FIXED + backend.len() + fingerprint.len());
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&(backend.len() as u32).to_le_bytes());
        header.extend_from_slice(&(fingerprint.len() as u32).to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&artifact_len.to_le_bytes());
        header.extend_from_slice(&compiled_nanos.to_le_bytes());
        header.extend_from_slice(self.hash.as_bytes());
        header.extend_from_slice(backend.as_bytes());
        header.extend_from_slice(fingerprint.as_bytes());
        header
    }
}

/// Whether a file with that name is an entry.
pub(super) fn is_entry(name: &str) -> bool {
    name.strip_suffix(SUFFIX).is_some_and(|hash| {
        hash.len() == 2 * blake3::OUT_LEN && hash.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// Reads an entry of at most `largest` bytes, and verifies the bytes that it has read. With `sealed` it reads into a
/// sealed file where the system has them.
pub(super) fn read(
    directory: &Directory,
    key: &Key,
    identity: &Identity,
    largest: u64,
    sealed: bool,
) -> Result<Found, Unfit> {
    let bad = |why: &str| Unfit::Unsafe(why.into());
    let (file, len) = directory.read(&identity.name(), false)?;
    if len > largest {
        return Err(bad("it is larger than an entry may be"));
    }
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => bad("it is truncated"),
        _ => Unfit::Io(error),
    };
    let exactly = |bytes: &mut [u8]| (&file).read_exact(bytes).map_err(failed);

    // All of the header is known, except for two numbers. They are checked too: the artifact's length against the
    // file's length, and both by the MAC.
    let mut fixed = [0; FIXED];
    exactly(&mut fixed)?;
    if &fixed[..MAGIC.len()] != MAGIC {
        return Err(bad("its header is damaged"));
    }
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&fixed[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let (artifact_len, compiled_nanos) = (number(24), number(32));
    let expected = identity.header(artifact_len, compiled_nanos);
    if expected[..FIXED] != fixed {
        return Err(bad(
            "it belongs to another module, engine or version, or is damaged",
        ));
    }
    if (expected.len() as u64)
        .checked_add(artifact_len)
        .and_then(|sum| sum.checked_add(MAC as u64))
        != Some(len)
    {
        return Err(bad("it is truncated, or its header is damaged"));
    }
    let mut names = vec![0; expected.len() - FIXED];
    exactly(&mut names)?;
    if expected[FIXED..] != names {
        return Err(bad("it belongs to another engine, or is damaged"));
    }

    // Read to where it is loaded from, without another copy.
    let sealed_copy = if sealed && artifact_len > 0 {
        match Sealed::copy_of(&file, artifact_len as usize) {
            Ok(copy) => Some(Content::Sealed(Arc::new(copy))),
            // There is no memfd, or no descriptor left: read it to the heap.
            Err(_) => {
                let begin = SeekFrom::Start(expected.len() as u64);
                (&file).seek(begin).map_err(Unfit::Io)?;
                None
            }
        }
    } else {
        None
    };
    let content = match sealed_copy {
        Some(content) => content,
        None => {
            let mut bytes = Vec::with_capacity(artifact_len as usize);
            let read = (&file).take(artifact_len).read_to_end(&mut bytes);
            if read.map_err(failed)? as u64 != artifact_len {
                return Err(failed(ErrorKind::UnexpectedEof.into()));
            }
            Content::Read(Arc::new(bytes))
        }
    };
    let mut mac = [0; MAC];
    exactly(&mut mac)?;
    let mut hasher = key.hasher();
    hasher.update(&expected).update(content.bytes());
    // Comparing two `blake3::Hash` takes the same time wherever they differ.
    if hasher.finalize() != blake3::Hash::from_bytes(mac) {
        return Err(bad(
            "its MAC is wrong: it is damaged, or was written with another key",
        ));
    }

    // Entries are evicted by this time. On a read-only file system it cannot be set, but there nothing is evicted either.
    let _ = file.set_modified(SystemTime::now());
    Ok(Found {
        artifact: Artifact::from_cache(identity.backend, identity.fingerprint.clone(), content),
        compiled_in: Duration::from_nanos(compiled_nanos),
    })
}

/// Writes an entry of at most `largest` bytes. `Err` says why it was not written.
pub(super) fn write(
    directory: &Directory,
    key: &Key,
    identity: &Identity,
    artifact: &[u8],
    compiled_in: Duration,
    largest: u64,
) -> Result<(), String> {
    let nanos = u64::try_from(compiled_in.as_nanos()).unwrap_or(u64::MAX);
    let header = identity.header(artifact.len() as u64, nanos);
    let len = (header.len() + artifact.len() + MAC) as u64;
    if len > largest {
        return Err(format!(
            "the entry has {len} bytes, more than the allowed {largest}; raise the cache's bound"
        ));
    }
    let mut hasher = key.hasher();
    hasher.update(&header).update(artifact);
    let mac = hasher.finalize();
    directory
        .write(&identity.name(), &[&header, artifact, mac.as_bytes()])
        .map_err(|error| error.to_string())
}
