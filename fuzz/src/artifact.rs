//! Damages the files of an artifact cache in any way. A new engine that finds them must answer as ever.
//!
//! ```text
//!   bytes ──▶ edits of the files in the cache's directory ──▶ a new engine deploys the same module ──▶ the same answer?
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use engine_core::backend::Backend;
use engine_core::contract::Request;
use engine_core::{CacheConfig, Engine, EngineConfig, FunctionConfig, Result};

use crate::Target;
use crate::cursor::Cursor;
use crate::report::{Disagreement, same};

/// The target, as the module documentation describes it.
pub const TARGET: Target = Target {
    name: "artifact",
    check,
    dictionary: &[],
    max_len: 128,
};

const HELLO: &str = include_str!("../../guests/wat/hello.wat");

/// The cache of one backend, as an engine has left it.
struct Lab {
    backend: Arc<dyn Backend>,
    directory: PathBuf,
    wasm: Vec<u8>,
    files: Vec<(PathBuf, Vec<u8>)>,
    answer: (u16, String),
}

impl Lab {
    fn new(backend: Arc<dyn Backend>) -> Self {
        let directory = std::env::temp_dir().join(format!(
            "gojinn-fuzz-artifact-{}-{}",
            backend.name(),
            std::process::id()
        ));
        let wasm = wat::parse_str(HELLO).expect("a guest of this repository");
        let mut lab = Self {
            backend,
            directory,
            wasm,
            files: Vec::new(),
            answer: (0, String::new()),
        };
        let _ = fs::remove_dir_all(&lab.directory);
        lab.answer = lab.answers().expect("it answers");
        lab.files = crate::standalone::inputs(&lab.directory).expect("the cache can be read");
        assert!(!lab.files.is_empty(), "the cache has files");
        lab
    }

    /// What a new engine over the directory answers.
    fn answers(&self) -> Result<(u16, String)> {
        let config = EngineConfig {
            max_concurrency: 1,
            pool: None,
            cache: Some(CacheConfig::new(&self.directory)),
            ..EngineConfig::default()
        };
        let engine = Engine::new(config, vec![Arc::clone(&self.backend)])?;
        let config = FunctionConfig {
            name: "hello".into(),
            ..FunctionConfig::default()
        };
        let function = engine.deploy(&self.wasm, config)?;
        let request = Request {
            method: b"GET",
            uri: b"/",
            ..Request::default()
        };
        function.call(engine.reserve()?, &request, &[], |answer| {
            let body = answer.response.as_ref().map(|response| &response.body[..]);
            (
                answer.status,
                body.unwrap_or_default().escape_ascii().to_string(),
            )
        })
    }

    /// Writes the files as they were.
    fn restore(&self) -> std::io::Result<()> {
        let _ = fs::remove_dir_all(&self.directory);
        for (path, bytes) in &self.files {
            let parent = path.parent().unwrap_or(&self.directory);
            fs::create_dir_all(parent)?;
            fs::write(path, bytes)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            fs::set_permissions(parent, fs::Permissions::from_mode(0o700))?;
        }
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn check(input: &[u8]) -> std::result::Result<(), Disagreement> {
    static LABS: OnceLock<Mutex<[Lab; 2]>> = OnceLock::new();
    let labs = LABS.get_or_init(|| {
        let backends: [Arc<dyn Backend>; 2] = [
            Arc::new(backend_wasmi::Wasmi::new(Default::default()).expect("wasmi")),
            Arc::new(backend_wasmtime::Wasmtime::new(Default::default()).expect("wasmtime")),
        ];
        Mutex::new(backends.map(Lab::new))
    });
    // One at a time: they share the directories.
    let labs = labs.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bytes = Cursor::new(input);
    let lab = &labs[usize::from(bytes.byte()) % 2];
    let io = |error: std::io::Error| {
        Disagreement::new(
            "the files of the cache",
            ("system", error.to_string()),
            ("expected", "they can be written".to_owned()),
        )
    };
    lab.restore().map_err(io)?;
    while !bytes.is_empty() {
        let (path, _) = &lab.files[usize::from(bytes.byte()) % lab.files.len()];
        edit(path, &lab.files, &mut bytes).map_err(io)?;
    }
    let answer = lab.answers().map_err(|error| error.to_string());
    same(
        "what a damaged cache changes",
        ("engine", &answer),
        ("before", &Ok(lab.answer.clone())),
    )
}

/// Damages one file.
fn edit(path: &Path, files: &[(PathBuf, Vec<u8>)], bytes: &mut Cursor<'_>) -> std::io::Result<()> {
    let mut content = fs::read(path).unwrap_or_default();
    let kind = bytes.byte() % 7;
    let at = usize::from(u16::from_le_bytes(bytes.array())) % (content.len() + 1);
    match kind {
        0 | 1 => {
            if let Some(byte) = content.get_mut(at) {
                *byte ^= bytes.byte().max(1);
            }
        }
        2 => content.truncate(at),
        3 => content.extend_from_slice(bytes.field()),
        4 => {
            let part = bytes.field();
            let to = (at + part.len()).min(content.len());
            content.splice(at..to, part.iter().copied());
        }
        5 => {
            // The content of another one: a whole entry in the wrong place.
            content.clone_from(&files[at % files.len()].1);
        }
        _ => return fs::remove_file(path).or(Ok(())),
    }
    fs::write(path, content)
}
