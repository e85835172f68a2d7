//! Attacks on the cache: every one ends in the right answer, one warning and one count.

mod attacks;
mod folders;
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

/// A folder that is gone when the test ends.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "gojinn-cache-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a folder of this test");
        Self(path)
    }

    /// The folder for the cache in it, which does not exist yet.
    pub(super) fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// The entries in the cache.
    pub(super) fn entries(&self) -> Vec<PathBuf> {
        self.named(".code")
    }

    pub(super) fn named(&self, part: &str) -> Vec<PathBuf> {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(self.cache())
            .expect("the cache's folder")
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

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process's worth of engine: with a backend of its own and nothing in memory.
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
            .expect("an engine, whatever the cache");
        Self { fake, engine }
    }

    /// Deploys module `number`, checks that it answers with its own code, and says where that came from.
    pub(super) fn deploy(&self, number: u32) -> CodeSource {
        let function = self
            .engine
            .deploy(&module(number), FunctionConfig::default())
            .expect("a function, whatever the cache");
        assert_eq!(answer(&self.engine, &function), code(number));
        assert_eq!(
            self.fake.garbage.load(Ordering::SeqCst),
            0,
            "nothing but what was compiled is ever loaded"
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
            engine.reserve().expect("a place"),
            &Request::default(),
            &[],
            |answer| {
                let response = answer.response.expect("a response");
                String::from_utf8(response.body.to_vec()).expect("text")
            },
        )
        .expect("an answer")
}

/// What module `number` answers: the hash of its code, found without any cache.
fn code(number: u32) -> String {
    let wasm = crate::wasm::Wasm::parse(
        module(number),
        crate::wasm::Features::ALL,
        &crate::wasm::Bounds::default(),
    )
    .expect("a module");
    let split = Split::of(&wasm).expect("a module to split");
    blake3::Hash::from_bytes(*split.code.hash())
        .to_hex()
        .to_string()
}

/// A folder whose cache has the code of modules 1 to `modules`.
pub(super) fn filled(modules: u32) -> Folder {
    let folder = Folder::new();
    let host = Host::new(&folder.cache());
    for number in 1..=modules {
        assert_eq!(host.deploy(number), CodeSource::Compiled);
    }
    let stats = host.stats();
    assert_eq!(stats.stored, u64::from(modules));
    assert_eq!(stats.misses, u64::from(modules));
    assert_eq!(host.engine.warnings(), [""; 0]);
    folder
}

/// Deploys module 1 on a new engine after an attack on its entry: it is dropped, named, compiled, and whole again.
#[track_caller]
pub(super) fn dropped_and_healed(folder: &Folder, what: &str) -> String {
    let host = Host::new(&folder.cache());
    assert_eq!(host.deploy(1), CodeSource::Compiled, "{what}");
    let stats = host.stats();
    assert_eq!(
        (stats.dropped, stats.misses, stats.stored, stats.hits),
        (1, 1, 1, 0),
        "{what}"
    );
    let warning = host.warning();
    let next = Host::new(&folder.cache());
    assert_eq!(next.deploy(1), CodeSource::Cache, "{what}");
    assert_eq!(next.fake.compiled(), 0, "{what}");
    assert_eq!(next.engine.warnings(), [""; 0], "{what}");
    warning
}
