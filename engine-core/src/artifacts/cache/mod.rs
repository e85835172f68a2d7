//! Compiled code on disk: found again after a restart, and never trusted further than its MAC goes.
//!
//! ```text
//!   folder (0700, ours, no link)
//!     key               32 random bytes (0600): what entries are authenticated with
//!     <identity>.code   header ‖ artifact ‖ keyed BLAKE3 of both
//!     tmp-<random>      an entry being written; renamed when it is whole and on disk
//!     lock              held while the key is made or old entries are removed
//! ```
//!
//! Loading native code executes it, so the bytes that are verified are the bytes that are loaded: an entry is read once, into
//! memory of our own or into a sealed memfd, and the file is not looked at again. Whatever is wrong with an entry, it is dropped, counted, named in a
//! warning, and compiled again; whatever is wrong with the folder, the engine serves without it. Nothing here fails a
//! deployment.

mod entry;
mod folder;
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

use entry::Identity;
use folder::{Folder, Unfit};
use key::Key;
use warnings::{About, Warnings};

/// Bytes of the largest entry, whatever the folder may hold: it is read into memory as a whole.
const LARGEST_ENTRY: u64 = 1 << 30;

/// Age at which a file that somebody began to write counts as left behind by a process that died.
const STALE: Duration = Duration::from_secs(3600);

/// Where compiled code is kept, and how much of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CacheConfig {
    /// The folder, for this purpose only. Made (0700) if it is missing; must belong to the process's user, must not be a
    /// link, and nobody else may be able to write to it.
    pub folder: PathBuf,
    /// Bytes of all entries together, beyond which those that were used longest ago are removed.
    pub max_bytes: u64,
}

impl CacheConfig {
    /// Bytes that are kept unless said otherwise: 1 GiB.
    pub const DEFAULT_BYTES: u64 = 1 << 30;

    /// A cache in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            max_bytes: Self::DEFAULT_BYTES,
        }
    }
}

/// Figures of an engine's cache, counted since the engine was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CacheStats {
    /// Modules whose code was found and loaded.
    pub hits: u64,
    /// Modules whose code was not there.
    pub misses: u64,
    /// Entries that were damaged, foreign, or would not load; all were removed.
    pub dropped: u64,
    /// Entries written.
    pub stored: u64,
    /// Entries that could not be written.
    pub write_failures: u64,
    /// Entries removed to stay within the bound.
    pub evicted: u64,
    /// Bytes of all entries when they were last counted: at the start and after every write.
    pub bytes: u64,
}

/// What a purge has removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Purged {
    /// Entries.
    pub entries: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// The artifact cache of one engine.
pub(crate) struct Cache {
    /// `None`: the folder cannot be used; a warning says why.
    store: Option<Store>,
    max_bytes: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    dropped: AtomicU64,
    stored: AtomicU64,
    write_failures: AtomicU64,
    evicted: AtomicU64,
    bytes: AtomicU64,
    /// Whether the last write failed: a full disk is worth one warning, and another once it has been well in between.
    write_failing: AtomicBool,
    warnings: Warnings,
}

/// A folder that can be used.
struct Store {
    folder: Folder,
    key: Key,
}

/// What the cache had.
pub(crate) struct Found {
    /// Verified: unchanged since a backend with this fingerprint compiled it, for a process of this user.
    pub(crate) artifact: Artifact,
    /// How long that took then.
    pub(crate) compiled_in: Duration,
}

impl Cache {
    /// The cache that `config` describes; one that finds and keeps nothing where the folder cannot be used.
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
                About::Folder,
                format!(
                    "the artifact cache {} is not used: {why}; modules are compiled at every start",
                    config.folder.display()
                ),
            ),
        }
        cache.make_room(None);
        cache
    }

    fn prepare(&self, config: &CacheConfig) -> Result<Store, String> {
        let folder = Folder::open(&config.folder)?;
        let (key, lost) = Key::of(&folder)?;
        if let Some(lost) = lost {
            add(&self.dropped, lost.removed);
            self.warnings.add(
                About::Key,
                format!(
                    "the artifact cache {} has a new key, because {}; {} entries that nothing vouches for any more were \
                     removed",
                    config.folder.display(),
                    lost.why,
                    lost.removed
                ),
            );
        }
        Ok(Store { folder, key })
    }

    /// The code of `code` as compiled by `backend`, if it is there and sound.
    pub(crate) fn find(&self, backend: &dyn Backend, code: &Wasm) -> Option<Found> {
        let store = self.store.as_ref()?;
        let identity = Identity::new(backend, code);
        let sealed = backend.capabilities().maps_artifacts;
        match entry::read(&store.folder, &store.key, &identity, self.largest(), sealed) {
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
            // Nothing is wrong with the entry as far as is known (too many open files, say): it may stay.
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

    /// Notes that what was [found](Self::find) could be loaded.
    pub(crate) fn used(&self) {
        add(&self.hits, 1);
    }

    /// Drops an entry that is what its backend once compiled, and that the backend refuses all the same.
    pub(crate) fn refused(&self, backend: &dyn Backend, code: &Wasm, why: &Error) {
        add(&self.misses, 1);
        if let Some(store) = &self.store {
            self.discard(store, &Identity::new(backend, code), &why.to_string());
        }
    }

    fn discard(&self, store: &Store, identity: &Identity, why: &str) {
        store.folder.remove(&identity.name());
        add(&self.dropped, 1);
        self.warnings.add(
            About::Entry,
            format!(
                "entry {} of the artifact cache was dropped: {why}; the module is compiled again",
                identity.short()
            ),
        );
    }

    /// Keeps what `backend` just compiled of `code`.
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
            &store.folder,
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
                            store.folder.path().display()
                        ),
                    );
                }
            }
        }
    }

    /// Removes what a dead process left behind and, beyond the bound, the entries that were used longest ago.
    fn make_room(&self, newest: Option<&str>) {
        let Some(store) = &self.store else {
            return;
        };
        // One process at a time: two that remove the same surplus remove it twice.
        let Ok(Some(_lock)) = store.folder.try_lock() else {
            return;
        };
        let Ok(mut files) = store.folder.list() else {
            return;
        };
        let now = SystemTime::now();
        files.retain(|file| {
            let stale = now
                .duration_since(file.modified)
                .is_ok_and(|age| age > STALE);
            if folder::is_temporary(&file.name) && stale {
                store.folder.remove(&file.name);
            }
            if !entry::is_entry(&file.name) {
                return false;
            }
            // Such a file would push out everything else.
            if file.len > LARGEST_ENTRY {
                store.folder.remove(&file.name);
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
            store.folder.remove(&file.name);
            total = total.saturating_sub(file.len);
            add(&self.evicted, 1);
        }
        self.bytes.store(total, Ordering::Relaxed);
    }

    /// Removes every entry. Code that is loaded stays in use.
    pub(crate) fn purge(&self) -> Result<Purged> {
        let Some(store) = &self.store else {
            return Err(Error::config(
                "the artifact cache is not in use: a warning at the start of the engine says why",
            ));
        };
        let failed = |error: std::io::Error| {
            let folder = store.folder.path().display();
            Error::host(format!("the artifact cache {folder} cannot be purged")).because(error)
        };
        // Not beside another process that makes room, or both would count the same entries.
        let _lock = store.folder.lock().map_err(failed)?;
        let (mut purged, mut left) = (Purged::default(), 0);
        for file in store.folder.list().map_err(failed)? {
            if !entry::is_entry(&file.name) {
                continue;
            }
            store.folder.remove(&file.name);
            if store.folder.has(&file.name) {
                left += file.len;
                continue;
            }
            purged.entries += 1;
            purged.bytes += file.len;
        }
        self.bytes.store(left, Ordering::Relaxed);
        if left > 0 {
            return Err(failed(std::io::Error::other(format!(
                "{left} bytes of entries are still there; is the folder read-only?"
            ))));
        }
        Ok(purged)
    }

    /// What went wrong so far, in words for the log. Only ever grows at its end, up to a bound.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.all()
    }

    /// The figures so far.
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
            .field("folder", &self.store.as_ref().map(|s| s.folder.path()))
            .field("figures", &self.stats())
            .finish_non_exhaustive()
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
