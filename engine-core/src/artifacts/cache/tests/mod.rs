//! Tests that attack the cache: the engine always answers correctly, with one warning and one count for each attack.

mod attacks;
mod directories;
mod processes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{CacheConfig, CacheStats};
use crate::CodeSource;
use crate::backend::Backend;
use crate::contract::Request;
use crate::engine::{Engine, EngineConfig};
use crate::engine::{Function, FunctionConfig};
use crate::fake::{Fake, module};
use crate::module::Split;

/// A directory that is removed when the test ends.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "gojinn-cache-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory of this test");
        Self(path)
    }

    /// The path of the cache's directory in it, which does not exist yet.
    pub(super) fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// The entries in the cache.
    pub(super) fn entries(&self) -> Vec<PathBuf> {
        self.named(".code")
    }

    pub(super) fn named(&self, part: &str) -> Vec<PathBuf> {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(self.cache())
            .expect("the cache's directory")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.to_string_lossy().contains(part))
            .collect();
        entries.sort();
        entries
    }

    /// The only entry in the cache.
    pub(super) fn entry(&self) -> PathBuf {
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries[0].clone()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An engine as in a new process: with its own backend, and no module in memory.
pub(super) struct Host {
    pub(super) fake: Arc<Fake>,
    pub(super) engine: Engine,
}

impl Host {
    pub(super) fn new(cache: &Path) -> Self {
        Self::with(Fake::new(), CacheConfig::new(cache))
    }

    pub(super) fn with(fake: Fake, cache: CacheConfig) -> Self {
        let fake = Arc::new(fake);
        let config = EngineConfig {
            pool: None,
            max_concurrency: 1,
            cache: Some(cache),
            ..EngineConfig::default()
        };
        let engine = Engine::new(config, vec![Arc::clone(&fake) as Arc<dyn Backend>])
            .expect("an engine, whatever is wrong with the cache");
        Self { fake, engine }
    }

    /// Deploys module `number`, checks that it answers with its own code, and returns where the code came from.
    pub(super) fn deploy(&self, number: u32) -> CodeSource {
        let function = self
            .engine
            .deploy(&module(number), FunctionConfig::default())
            .expect("a function, whatever is wrong with the cache");
        assert_eq!(answer(&self.engine, &function), code(number));
        assert_eq!(
            self.fake.garbage.load(Ordering::SeqCst),
            0,
            "only compiled code may be loaded"
        );
        function.facts().source
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.engine.cache_stats().expect("a cache")
    }

    /// The only warning.
    #[track_caller]
    pub(super) fn warning(&self) -> String {
        let warnings = self.engine.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        warnings[0].clone()
    }
}

fn answer(engine: &Engine, function: &Function) -> String {
    function
        .call(
            engine.reserve().expect("a permit"),
            &Request::default(),
            &[],
            |answer| {
                let response = answer.response.expect("a response");
                String::from_utf8(response.body.to_vec()).expect("text")
            },
        )
        .expect("an answer")
}

/// What module `number` answers: the hash of its code, computed without any cache.
fn code(number: u32) -> String {
    let wasm = crate::wasm::Wasm::parse(
        module(number),
        crate::wasm::Features::ALL,
        &crate::wasm::ModuleLimits::default(),
    )
    .expect("a module");
    let split = Split::of(&wasm).expect("a module to split");
    blake3::Hash::from_bytes(*split.code.sha256())
        .to_hex()
        .to_string()
}

/// A directory with a cache that has the code of modules 1 to `modules`.
pub(super) fn filled(modules: u32) -> Directory {
    let directory = Directory::new();
    let host = Host::new(&directory.cache());
    for number in 1..=modules {
        assert_eq!(host.deploy(number), CodeSource::Compiled);
    }
    let stats = host.stats();
    assert_eq!(stats.stored, u64::from(modules));
    assert_eq!(stats.misses, u64::from(modules));
    assert_eq!(host.engine.warnings(), [""; 0]);
    directory
}

/// Deploys module 1 on a new engine after an attack on its entry. The entry is dropped and named in a warning, the
/// module is compiled, and the next engine finds a sound entry.
#[track_caller]
pub(super) fn dropped_and_healed(directory: &Directory, what: &str) -> String {
    let host = Host::new(&directory.cache());
    assert_eq!(host.deploy(1), CodeSource::Compiled, "{what}");
    let stats = host.stats();
    assert_eq!(
        (stats.dropped, stats.misses, stats.stored, stats.hits),
        (1, 1, 1, 0),
        "{what}"
    );
    let warning = host.warning();
    let next = Host::new(&directory.cache());
    assert_eq!(next.deploy(1), CodeSource::Cache, "{what}");
    assert_eq!(next.fake.compiled(), 0, "{what}");
    assert_eq!(next.engine.warnings(), [""; 0], "{what}");
    warning
}
