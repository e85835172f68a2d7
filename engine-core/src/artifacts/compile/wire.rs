//! The messages between an engine and a process that compiles for it: an order, and a reply with a MAC.
//!
//! ```text
//!   order   magic 8 ‖ key 32 ‖ memory 8 ‖ CPU seconds 8 ‖ parent 4 ‖ backend's length 4 ‖ features' length 4 ‖ module's length 8 ‖
//!           backend ‖ features ‖ module
//!   reply   body ‖ kind 4 ‖ body's length 8 ‖ fingerprint 32 ‖ MAC 32 ‖ magic 8                         (little-endian)
//! ```
//!
//! The description of a reply is at its end, as a trailer, so that the body is at the beginning of the file: code is
//! mapped from there. Only a process that got the key can make the MAC, which covers the code to compile, the backend
//! and its fingerprint.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use crate::backend::Fingerprint;
use crate::error::ErrorKind;

const ORDER: &[u8; 8] = b"gojinnco";
const REPLY: &[u8; 8] = b"gojinncr";

const KEY: usize = 32;
const ORDER_FIXED: usize = 8 + KEY + 8 + 8 + 4 + 4 + 4 + 8;
const TRAILER: usize = 4 + 8 + 32 + 32 + 8;

/// Bytes that the name of a backend, or the list of features, may have.
const LONGEST_NAME: u32 = 1024;

/// A random key that only one compilation has.
#[derive(Clone, Copy)]
pub(super) struct Key([u8; KEY]);

impl Key {
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; KEY];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }
}

/// The order to compile a module, with the limits of the process. The module follows it.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) key: Key,
    /// Bytes of memory that the process may have.
    pub(super) memory: u64,
    /// Seconds of CPU time that it may take.
    pub(super) cpu_seconds: u64,
    /// The id of the process that waits for the reply.
    pub(super) parent: u32,
    pub(super) backend: String,
    /// The names of the features that the module was validated with, separated by commas.
    pub(super) features: String,
    pub(super) module_len: u64,
}

impl Order {
    pub(super) fn write(&self, mut to: impl Write) -> io::Result<()> {
        let mut fixed = Vec::with_capacity(ORDER_FIXED);
        fixed.extend_from_slice(ORDER);
        fixed.extend_from_slice(&self.key.0);
        fixed.extend_from_slice(&self.memory.to_le_bytes());
        fixed.extend_from_slice(&self.cpu_seconds.to_le_bytes());
        fixed.extend_from_slice(&self.parent.to_le_bytes());
        fixed.extend_from_slice(&(self.backend.len() as u32).to_le_bytes());
        fixed.extend_from_slice(&(self.features.len() as u32).to_le_bytes());
        fixed.extend_from_slice(&self.module_len.to_le_bytes());
        to.write_all(&fixed)?;
        to.write_all(self.backend.as_bytes())?;
        to.write_all(self.features.as_bytes())
    }

    pub(super) fn read(mut from: impl Read) -> io::Result<Self> {
        let mut magic = [0; 8];
        from.read_exact(&mut magic)?;
        if magic != *ORDER {
            return Err(io::Error::other("stdin does not begin like an order"));
        }
        let key = Key(array(&mut from)?);
        let memory = u64::from_le_bytes(array(&mut from)?);
        let cpu_seconds = u64::from_le_bytes(array(&mut from)?);
        let parent = u32::from_le_bytes(array(&mut from)?);
        let backend = u32::from_le_bytes(array(&mut from)?);
        let features = u32::from_le_bytes(array(&mut from)?);
        let module_len = u64::from_le_bytes(array(&mut from)?);
        Ok(Self {
            key,
            memory,
            cpu_seconds,
            parent,
            backend: text(&mut from, backend)?,
            features: text(&mut from, features)?,
            module_len,
        })
    }
}

fn array<const N: usize>(mut from: impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn text(mut from: impl Read, len: u32) -> io::Result<String> {
    if len > LONGEST_NAME {
        return Err(io::Error::other("a name in the order is too long"));
    }
    let mut bytes = vec![0; len as usize];
    from.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// The compilation that a reply belongs to.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) key: &'a Key,
    pub(super) backend: &'a str,
    pub(super) code_hash: &'a [u8; 32],
    pub(super) fingerprint: &'a Fingerprint,
}

impl Subject<'_> {
    /// The fingerprint in a reply of this kind. An error has none, because it may occur before the backend is created.
    fn fingerprint(&self, kind: u32) -> [u8; 32] {
        if kind != Body::Artifact.number() {
            return [0; 32];
        }
        *blake3::hash(self.fingerprint.0.as_bytes()).as_bytes()
    }

    fn mac(&self, kind: u32, body: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        hasher
            .update(REPLY)
            .update(&kind.to_le_bytes())
            .update(&(body.len() as u64).to_le_bytes())
            .update(self.code_hash)
            .update(&self.fingerprint(kind))
            .update(self.backend.as_bytes())
            .update(body);
        hasher.finalize()
    }
}

/// The kind of a reply's body: an artifact, or the text of an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body {
    Artifact,
    Refused(ErrorKind),
}

/// The kinds of errors that a compilation can end with. Their numbers in a reply begin with 1.
const KINDS: [ErrorKind; 4] = [
    ErrorKind::Compile,
    ErrorKind::Host,
    ErrorKind::InvalidModule,
    ErrorKind::Unsupported,
];

impl Body {
    fn number(self) -> u32 {
        match self {
            Self::Artifact => 0,
            Self::Refused(kind) => KINDS
                .iter()
                .position(|other| *other == kind)
                .map_or(1, |at| at as u32 + 1),
        }
    }

    fn of_number(number: u32) -> Option<Self> {
        match number.checked_sub(1) {
            None => Some(Self::Artifact),
            Some(at) => KINDS.get(at as usize).copied().map(Self::Refused),
        }
    }
}

/// Replaces the contents of `file` with a reply.
pub(super) fn write_reply(
    file: &File,
    subject: &Subject<'_>,
    kind: Body,
    body: &[u8],
) -> io::Result<()> {
    let number = kind.number();
    let mut trailer = Vec::with_capacity(TRAILER);
    trailer.extend_from_slice(&number.to_le_bytes());
    trailer.extend_from_slice(&(body.len() as u64).to_le_bytes());
    trailer.extend_from_slice(&subject.fingerprint(number));
    trailer.extend_from_slice(subject.mac(number, body).as_bytes());
    trailer.extend_from_slice(REPLY);
    file.set_len(0)?;
    file.write_all_at(body, 0)?;
    file.write_all_at(&trailer, body.len() as u64)
}

/// The trailer of a reply, not verified yet.
pub(super) struct Trailer {
    kind: u32,
    /// Bytes of the body.
    pub(super) len: usize,
    fingerprint: [u8; 32],
    mac: [u8; 32],
}

impl Trailer {
    /// Reads the trailer at the end of a file. `Err` has a text that says what is wrong with it.
    pub(super) fn read(file: &File) -> Result<Self, String> {
        let io = |error: io::Error| format!("it cannot be read: {error}");
        let whole = file.metadata().map_err(io)?.len();
        let Some(at) = whole.checked_sub(TRAILER as u64) else {
            return Err("it is not complete".into());
        };
        let mut bytes = [0; TRAILER];
        file.read_exact_at(&mut bytes, at).map_err(io)?;
        let mut rest = bytes.as_slice();
        let kind = u32::from_le_bytes(array(&mut rest).map_err(io)?);
        let len = u64::from_le_bytes(array(&mut rest).map_err(io)?);
        let fingerprint = array(&mut rest).map_err(io)?;
        let mac = array(&mut rest).map_err(io)?;
        if rest != REPLY || len != at {
            return Err("it is not complete".into());
        }
        let len = usize::try_from(len).map_err(|_| "it is too long")?;
        Ok(Self {
            kind,
            len,
            fingerprint,
            mac,
        })
    }

    /// Checks that `body` is the reply for `subject`, and returns its kind. `Err` has a text that says why it is not.
    pub(super) fn verify(&self, subject: &Subject<'_>, body: &[u8]) -> Result<Body, &'static str> {
        if self.fingerprint != subject.fingerprint(self.kind) {
            return Err(
                "it comes from another build of the engine, or from another kind of processor",
            );
        }
        // Comparing two `blake3::Hash` values takes constant time.
        if subject.mac(self.kind, body) != blake3::Hash::from_bytes(self.mac) {
            return Err("its MAC does not fit");
        }
        Body::of_number(self.kind).ok_or("its kind is unknown")
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::memory::file_in_memory;

    fn order() -> Order {
        Order {
            key: Key([7; KEY]),
            memory: 1 << 30,
            cpu_seconds: 90,
            parent: 12,
            backend: "fake".into(),
            features: "simd,tail-calls".into(),
            module_len: 3,
        }
    }

    #[test]
    fn an_order_is_read_as_it_was_written_and_never_in_part() {
        let mut bytes = Vec::new();
        order().write(&mut bytes).unwrap();
        let read = Order::read(bytes.as_slice()).unwrap();
        assert_eq!(read.key.0, [7; KEY]);
        assert_eq!(
            (read.memory, read.cpu_seconds, read.parent),
            (1 << 30, 90, 12)
        );
        assert_eq!(
            (&*read.backend, &*read.features),
            ("fake", "simd,tail-calls")
        );
        assert_eq!(read.module_len, 3);
        for cut in 0..bytes.len() {
            assert!(Order::read(&bytes[..cut]).is_err(), "{cut}");
        }
        bytes[0] ^= 1;
        assert!(Order::read(bytes.as_slice()).is_err());
    }

    #[test]
    fn a_reply_is_believed_only_whole_and_about_its_subject() {
        let (key, other_key) = (Key([1; KEY]), Key([2; KEY]));
        let (fingerprint, other_fingerprint) = (Fingerprint("a".into()), Fingerprint("b".into()));
        let subject = Subject {
            key: &key,
            backend: "fake",
            code_hash: &[3; 32],
            fingerprint: &fingerprint,
        };
        let file = file_in_memory(c"test").unwrap();
        for kind in [
            Body::Artifact,
            Body::Refused(ErrorKind::Compile),
            Body::Refused(ErrorKind::Unsupported),
        ] {
            write_reply(&file, &subject, kind, b"longer than it will be").unwrap();
            write_reply(&file, &subject, kind, b"code").unwrap();
            let trailer = Trailer::read(&file).unwrap();
            assert_eq!(trailer.len, 4);
            assert_eq!(trailer.verify(&subject, b"code"), Ok(kind));
            assert!(trailer.verify(&subject, b"cOde").is_err());
            for other in [
                Subject {
                    key: &other_key,
                    ..subject
                },
                Subject {
                    backend: "fakf",
                    ..subject
                },
                Subject {
                    code_hash: &[4; 32],
                    ..subject
                },
            ] {
                assert!(trailer.verify(&other, b"code").is_err());
            }
            let of_another_build = Subject {
                fingerprint: &other_fingerprint,
                ..subject
            };
            let verified = trailer.verify(&of_another_build, b"code");
            assert_eq!(
                verified.is_err(),
                kind == Body::Artifact,
                "an error has no fingerprint"
            );
        }
        // An artifact is not taken for an error, nor the other way round.
        let mut trailer = Trailer::read(&file).unwrap();
        trailer.kind = 0;
        assert!(trailer.verify(&subject, b"code").is_err());
        let whole = file.metadata().unwrap().len();
        for len in [0, 10, whole - 1, whole + 1] {
            file.set_len(len).unwrap();
            assert!(Trailer::read(&file).is_err(), "{len}");
        }
    }
}
