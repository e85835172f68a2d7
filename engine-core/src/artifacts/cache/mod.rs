//! The cache of compiled code on disk: code is found again after a restart, and loaded only after its MAC was verified.
//!
//! ```text
//!   directory (0700, owned by this user, not a link)
//!     key               32 random bytes (0600) that authenticate the entries
//!     <identity>.code   header ‖ artifact ‖ keyed BLAKE3 of both
//!     tmp-<random>      an entry that is being written; renamed when it is complete and on disk
//!     lock              held while the key is made or old entries are removed
//! ```
//!
//! Invariants:
//! - The bytes that are verified are the bytes that are loaded, because loading native code executes it. An entry is read
//!   once, into private memory or into a sealed memfd, and the file is not read again.
//! - An entry with any fault is dropped, counted, named in a warning, and its module is compiled again.
//! - If the directory has any fault, the engine works without the cache. The cache never makes a deployment fail.

mod directory;
mod entry;
mod key;
mod warnings;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::backend::{Artifact, Backend};
use crate::error::{Error, Result};
use crate::wasm::Wasm;

use directory::{Directory, Unfit};
use entry::Identity;
use key::Key;
use warnings::{About, Warnings};

/// The largest size of an entry in bytes, even if the cache may hold more: an entry is read into memory as a whole.
const LARGEST_ENTRY: u64 = 1 << 30;

/// The age from which a temporary file counts as left behind by a process that has died.
const STALE: Duration = Duration::from_secs(3600);

/// Where compiled code is kept, and how much of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CacheConfig {
    /// The directory, for this purpose only. It is made (mode 0700) if it is missing. It must belong to the process's
    /// user, must not be a link, and no other user may be allowed to write to it.
    pub directory: PathBuf,
    /// The maximum size of all entries together, in bytes. Beyond it, the entries that were used longest ago are removed.
    pub max_bytes: u64,
}

impl CacheConfig {
    /// The default of `max_bytes`: 1 GiB.
    pub const DEFAULT_BYTES: u64 = 1 << 30;

    /// A cache in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_bytes: Self::DEFAULT_BYTES,
        }
    }
}

/// Stats of an engine's cache, counted since the engine was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CacheStats {
    /// Modules whose code was found and loaded.
    pub hits: u64,
    /// Modules whose code was not found, or could not be used.
    pub misses: u64,
    /// Entries that were removed because they were damaged, of another installation, or could not be loaded.
    pub dropped: u64,
    /// Entries written.
    pub stored: u64,
    /// Entries that could not be written.
    pub write_failures: u64,
    /// Entries that were removed to stay within `max_bytes`.
    pub evicted: u64,
    /// Bytes of all entries when they were last counted: at the start, after every write and after a purge.
    pub bytes: u64,
}

/// What a purge has removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Purged {
    /// The number of entries.
    pub entries: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// The artifact cache of one engine.
pub(crate) struct Cache {
    /// `None`: the directory cannot be used, and a warning says why.
    store: Option<Store>,
    max_bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    dropped: AtomicU64,
    stored: AtomicU64,
    write_failures: AtomicU64,
    evicted: AtomicU64,
    bytes: AtomicU64,
    /// Whether the last write failed. A full disk causes one warning, and another one only after a write has succeeded.
    write_failing: AtomicBool,
    warnings: Warnings,
}

/// A directory that can be used.
struct Store {
    directory: Directory,
    key: Key,
}

/// An entry that was found.
pub(crate) struct Found {
    /// The verified artifact: unchanged since a backend with this fingerprint compiled it in a process of this user.
    pub(crate) artifact: Artifact,
    /// How long the compilation took.
    pub(crate) compiled_in: Duration,
}

impl Cache {
    /// The cache that `config` describes. If the directory cannot be used, it finds and keeps nothing.
    pub(crate) fn open(config: &CacheConfig) -> Self {
        let mut cache = Self {
            store: None,
            max_bytes: config.max_bytes,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            write_failures: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            write_failing: AtomicBool::new(false),
            warnings: Warnings::default(),
        };
        match cache.prepare(config) {
            Ok(store) => cache.store = Some(store),
            Err(why) => cache.warnings.add(
                About::Directory,
                format!(
                    "the artifact cache {} is not used: {why}; modules are compiled at every start",
                    config.directory.display()
                ),
            ),
        }
        cache.make_room(None);
        cache
    }

    fn prepare(&self, config: &CacheConfig) -> Result<Store, String> {
        let directory = Directory::open(&config.directory)?;
        let (key, lost) = Key::of(&directory)?;
        if let Some(lost) = lost {
            add(&self.dropped, lost.removed);
            self.warnings.add(
                About::Key,
                format!(
                    "the artifact cache {} has a new key, because {}; {} entries that can no longer be verified were \
                     removed, and their modules are compiled again",
                    config.directory.display(),
                    lost.why,
                    lost.removed
                ),
            );
        }
        Ok(Store { directory, key })
    }

    /// The artifact that `backend` compiled from `code`, if there is an entry and it can be verified.
    pub(crate) fn find(&self, backend: &dyn Backend, code: &Wasm) -> Option<Found> {
        let store = self.store.as_ref()?;
        let identity = Identity::new(backend, code);
        let sealed = backend.capabilities().maps_artifacts;
        match entry::read(
            &store.directory,
            &store.key,
            &identity,
            self.largest(),
            sealed,
        ) {
            Ok(found) => Some(found),
            Err(Unfit::Missing) => {
                add(&self.misses, 1);
                None
            }
            Err(Unfit::Unsafe(why)) => {
                add(&self.misses, 1);
                self.discard(store, &identity, &why);
                None
            }
            // The entry itself may be fine (the process has too many open files, for example), so it stays.
            Err(Unfit::Io(error)) => {
                add(&self.misses, 1);
                self.warnings.add(
                    About::Entry,
                    format!(
                        "entry {} of the artifact cache cannot be read: {error}; the module is compiled instead",
                        identity.short()
                    ),
                );
                None
            }
        }
    }

    /// Counts a hit: the artifact that was [found](Self::find) has been loaded.
    pub(crate) fn used(&self) {
        add(&self.hits, 1);
    }

    /// Drops an entry that was verified, but that its backend refuses to load.
    pub(crate) fn refused(&self, backend: &dyn Backend, code: &Wasm, why: &Error) {
        add(&self.misses, 1);
        if let Some(store) = &self.store {
            self.discard(store, &Identity::new(backend, code), &why.to_string());
        }
    }

    fn discard(&self, store: &Store, identity: &Identity, why: &str) {
        store.directory.remove(&identity.name());
        add(&self.dropped, 1);
        self.warnings.add(
            About::Entry,
            format!(
                "entry {} of the artifact cache was dropped: {why}; the module is compiled again",
                identity.short()
            ),
        );
    }

    /// Writes an entry with the artifact that `backend` compiled from `code`.
    pub(crate) fn keep(
        &self,
        backend: &dyn Backend,
        code: &Wasm,
        artifact: &Artifact,
        compiled_in: Duration,
    ) {
        let Some(store) = &self.store else {
            return;
        };
        let identity = Identity::new(backend, code);
        let kept = entry::write(
            &store.directory,
            &store.key,
            &identity,
            artifact.bytes(),
            compiled_in,
            self.largest(),
        );
        match kept {
            Ok(()) => {
                add(&self.stored, 1);
                self.write_failing.store(false, Ordering::Relaxed);
                self.make_room(Some(&identity.name()));
            }
            Err(why) => {
                add(&self.write_failures, 1);
                if !self.write_failing.swap(true, Ordering::Relaxed) {
                    self.warnings.add(
                        About::Write,
                        format!(
                            "the artifact cache {} cannot be written to: {why}; code is kept in memory only and compiled \
                             again at the next start",
                            store.directory.path().display()
                        ),
                    );
                }
            }
        }
    }

    /// Removes temporary files that a dead process left behind and, beyond `max_bytes`, the entries that were used
    /// longest ago.
    fn make_room(&self, newest: Option<&str>) {
        let Some(store) = &self.store else {
            return;
        };
        // One process at a time: two processes that both see too many entries would remove too many.
        let Ok(Some(_lock)) = store.directory.try_lock() else {
            return;
        };
        let Ok(mut files) = store.directory.list() else {
            return;
        };
        let now = SystemTime::now();
        files.retain(|file| {
            let stale = now
                .duration_since(file.modified)
                .is_ok_and(|age| age > STALE);
            if directory::is_temporary(&file.name) && stale {
                store.directory.remove(&file.name);
            }
            if !entry::is_entry(&file.name) {
                return false;
            }
            // Such a file would evict all other entries.
            if file.len > LARGEST_ENTRY {
                store.directory.remove(&file.name);
                add(&self.dropped, 1);
                self.warnings.add(
                    About::Entry,
                    format!(
                        "entry {} of the artifact cache was dropped: it is larger than an entry may be ({} bytes)",
                        &file.name[..16],
                        file.len
                    ),
                );
                return false;
            }
            true
        });
        files.sort_by_key(|file| {
            (
                Some(file.name.as_str()) == newest,
                file.len <= self.max_bytes,
                file.modified,
            )
        });
        let mut total: u64 = files.iter().map(|file| file.len).sum();
        for file in &files {
            if total <= self.max_bytes {
                break;
            }
            store.directory.remove(&file.name);
            total = total.saturating_sub(file.len);
            add(&self.evicted, 1);
        }
        self.bytes.store(total, Ordering::Relaxed);
    }

    /// Removes every entry. Loaded code stays in use.
    pub(crate) fn purge(&self) -> Result<Purged> {
        let Some(store) = &self.store else {
            return Err(Error::config(
                "the artifact cache cannot be purged, because it is not used: a warning at the start of the engine says why",
            ));
        };
        let failed = |error: std::io::Error| {
            let directory = store.directory.path().display();
            Error::host(format!("the artifact cache {directory} cannot be purged")).because(error)
        };
        // Not at the same time as a process that makes room, or both would count the same entries.
        let _lock = store.directory.lock().map_err(failed)?;
        let (mut purged, mut left) = (Purged::default(), 0);
        for file in store.directory.list().map_err(failed)? {
            if !entry::is_entry(&file.name) {
                continue;
            }
            store.directory.remove(&file.name);
            if store.directory.has(&file.name) {
                left += file.len;
                continue;
            }
            purged.entries += 1;
            purged.bytes += file.len;
        }
        self.bytes.store(left, Ordering::Relaxed);
        if left > 0 {
            return Err(failed(std::io::Error::other(format!(
                "{left} bytes of entries are still there; check that the directory and what is in it can be written to"
            ))));
        }
        Ok(purged)
    }

    /// The warnings so far, as texts for the log. New ones are added at the end only, up to a bound.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.all()
    }

    /// Adds a warning about the process that compiles to the one list.
    pub(crate) fn warn_of_process(&self, text: &str) {
        self.warnings.add(About::Process, text.to_owned());
    }

    /// The stats so far.
    pub(crate) fn stats(&self) -> CacheStats {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CacheStats {
            hits: of(&self.hits),
            misses: of(&self.misses),
            dropped: of(&self.dropped),
            stored: of(&self.stored),
            write_failures: of(&self.write_failures),
            evicted: of(&self.evicted),
            bytes: of(&self.bytes),
        }
    }

    fn largest(&self) -> u64 {
        self.max_bytes.min(LARGEST_ENTRY)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field(
                "directory",
                &self.store.as_ref().map(|s| s.directory.path()),
            )
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
