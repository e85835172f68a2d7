//! Tests of compilations in processes, which end in all possible ways. Each process is this test program, which runs
//! one test.

use std::fs;
use std::os::fd::FromRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::*;
use crate::CodeSource;
use crate::artifacts::cache::CacheConfig;
use crate::artifacts::compile::wire::write_reply;
use crate::artifacts::compile::{PROCESSES, serve_compilation};
use crate::backend::{Capabilities, Fingerprint, Module};
use crate::engine::{Engine, EngineConfig, FunctionConfig, FunctionFacts};
use crate::fake::{Fake, module};
use crate::wasm::{Features, ModuleLimits};

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(300);

// What the process does with the module of each number. It compiles modules of other numbers.
const ABORTS: u32 = 101;
const TAKES_ALL_MEMORY: u32 = 102;
const HANGS: u32 = 103;
const SPINS: u32 = 104;
const CRASHES: u32 = 105;
const REFUSES: u32 = 106;
const PANICS: u32 = 107;
const SAYS_NOTHING: u32 = 108;
const FORGES: u32 = 109;
const CUTS_OFF: u32 = 110;
const IS_ANOTHER_BUILD: u32 = 111;

/// The backend of the process.
#[derive(Debug)]
struct Hostile {
    fake: Fake,
    /// The directory in which the process writes a file when it compiles: its name is the module's number, its contents
    /// are the process's id.
    notes: PathBuf,
}

impl Hostile {
    fn forge(&self, code: &Wasm, fingerprint: &str) -> ! {
        let key = Key::random().unwrap();
        let subject = Subject {
            key: &key,
            backend: "fake",
            code_hash: code.sha256(),
            fingerprint: &Fingerprint(fingerprint.into()),
        };
        // SAFETY: descriptor 1 is the reply's file, which no other code uses meanwhile; the process ends below.
        let reply = unsafe { File::from_raw_fd(1) };
        write_reply(&reply, &subject, Body::Artifact, b"not what was compiled").unwrap();
        std::process::exit(0);
    }
}

impl Backend for Hostile {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn features(&self) -> Features {
        self.fake.features()
    }

    fn capabilities(&self) -> Capabilities {
        self.fake.capabilities()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.fake.fingerprint()
    }

    fn compile(&self, code: &Wasm) -> Result<Artifact> {
        let number = number(code.bytes());
        let note = self.notes.join(format!("new-{number}"));
        fs::write(&note, std::process::id().to_string()).unwrap();
        fs::rename(note, self.notes.join(number.to_string())).unwrap();
        match number {
            ABORTS => std::process::abort(),
            TAKES_ALL_MEMORY => {
                let mut kept = Vec::new();
                loop {
                    kept.push(vec![1_u8; 1 << 20]);
                    std::hint::black_box(&kept);
                }
            }
            HANGS => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            SPINS => loop {
                std::hint::spin_loop();
            },
            // SAFETY: raising the signal ends the process, as intended.
            CRASHES => unsafe {
                libc::raise(libc::SIGILL);
            },
            REFUSES => {
                return Err(Error::new(
                    ErrorKind::Compile,
                    "the compiler does not like it",
                ));
            }
            PANICS => panic!("the compiler fell over"),
            SAYS_NOTHING => std::process::exit(0),
            FORGES => self.forge(code, "fake 1"),
            CUTS_OFF => {
                println!("half of a reply");
                std::process::exit(0);
            }
            IS_ANOTHER_BUILD => self.forge(code, "fake 2"),
            // More modules that hang, each with different code.
            1_000.. => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            _ => {}
        }
        self.fake.compile(code)
    }

    unsafe fn load(self: Arc<Self>, _: &Artifact, _: bool) -> Result<Arc<dyn Module>> {
        Err(Error::host("a process that compiles loads nothing"))
    }
}

/// The number that a module of [`module`] was made with.
fn number(module: &[u8]) -> u32 {
    let (_, wasmparser::Payload::CodeSectionEntry(body)) = wasmparser::Parser::new(0)
        .parse_all(module)
        .map(|payload| ((), payload.unwrap()))
        .find(|(_, payload)| matches!(payload, wasmparser::Payload::CodeSectionEntry(_)))
        .unwrap()
    else {
        unreachable!("it was looked for");
    };
    match body.get_operators_reader().unwrap().read().unwrap() {
        wasmparser::Operator::I32Const { value } => value as u32,
        other => panic!("{other:?}"),
    }
}

/// The program of the processes. It is ignored, so that it runs only when its name is given.
#[test]
#[ignore = "the tests here start it with an order on stdin"]
fn the_process() {
    let notes = PathBuf::from(std::env::args().next_back().expect("a directory"));
    std::process::exit(serve_compilation(|name| {
        assert_eq!(name, "fake");
        assert_eq!(
            std::env::vars_os()
                .filter(|(key, _)| key != "LD_LIBRARY_PATH")
                .count(),
            0
        );
        Ok(Arc::new(Hostile {
            fake: Fake::new(),
            notes,
        }))
    }));
}

/// An engine that is killed while its process hangs.
#[test]
#[ignore = "a test here starts and kills it"]
fn the_engine() {
    let notes = PathBuf::from(std::env::args().next_back().expect("a directory"));
    let engine = engine(process_in(&notes), LONG, None);
    let error = deploy(&engine, &Cancel::new(), HANGS).unwrap_err();
    panic!("the process ended before the engine did: {error}");
}

fn this_program(test: &str, notes: &Path) -> Vec<OsString> {
    let test = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let mut command = vec![std::env::current_exe().unwrap().into_os_string()];
    command.extend([&*test, "--exact", "--ignored", "--nocapture"].map(OsString::from));
    // For the test program this is the name of another test, which does not exist; the tests above read the path from it.
    command.push(notes.into());
    command
}

fn process_in(notes: &Path) -> CompileProcess {
    CompileProcess {
        command: this_program("the_process", notes),
        memory: CompileProcess::LEAST_MEMORY,
    }
}

/// A directory for one test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("gojinn-process-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Waits until a process compiles the module with this number, and returns the process's id.
    fn pid(&self, number: u32) -> u32 {
        let note = self.0.join(number.to_string());
        until(|| note.exists());
        fs::read_to_string(note).unwrap().parse().unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn engine(process: CompileProcess, timeout: Duration, cache: Option<&Path>) -> Engine {
    let config = EngineConfig {
        pool: None,
        max_concurrency: 1,
        compile_timeout: Some(timeout),
        compile_process: Some(process),
        cache: cache.map(CacheConfig::new),
        ..EngineConfig::default()
    };
    Engine::new(config, vec![Arc::new(Fake::new()) as Arc<dyn Backend>]).expect("an engine")
}

fn deploy(engine: &Engine, cancel: &Cancel, number: u32) -> Result<FunctionFacts> {
    engine
        .deploy_unless(cancel, &module(number), FunctionConfig::default())
        .map(|function| function.facts().clone())
}

fn code(number: u32) -> Wasm {
    Wasm::parse(module(number), Features::ALL, &ModuleLimits::default())
        .and_then(|wasm| crate::Split::of(&wasm))
        .unwrap()
        .code
}

/// Waits until other threads and processes have reached a state.
fn until(reached: impl Fn() -> bool) {
    let begun = Instant::now();
    while !reached() {
        assert!(begun.elapsed() < LONG, "it never happened");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process has ended: it does not exist, or is a zombie, which its parent has not waited for.
fn has_ended(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    stat.rsplit(") ")
        .next()
        .is_none_or(|rest| rest.starts_with('Z'))
}

#[test]
fn what_a_process_compiles_is_loaded_and_kept() {
    let notes = Directory::new();
    let cache = notes.0.join("cache");
    let first = engine(process_in(&notes.0), LONG, Some(&cache));
    let facts = deploy(&first, &Cancel::new(), 1).unwrap();
    assert_eq!(facts.source, CodeSource::Compiled);
    assert_eq!(first.compilations(), 1);
    assert_ne!(notes.pid(1), std::process::id());
    assert_eq!(first.warnings(), [""; 0]);
    drop(first);
    let second = engine(process_in(&notes.0), LONG, Some(&cache));
    let facts = deploy(&second, &Cancel::new(), 1).unwrap();
    assert_eq!(facts.source, CodeSource::Cache);
}

#[test]
fn a_process_that_dies_is_one_error_that_says_how() {
    let notes = Directory::new();
    let engine = engine(process_in(&notes.0), LONG, None);
    for (number, expected) in [
        (
            ABORTS,
            &["signal 6", "takes most to compile is function 0"][..],
        ),
        (
            TAKES_ALL_MEMORY,
            &["more than the 256 MiB", "compile_memory", "function 0"],
        ),
        (CRASHES, &["signal 4"]),
        (REFUSES, &["the compiler does not like it"]),
        (PANICS, &["the compiler fell over"]),
        (SAYS_NOTHING, &["is not used", "not complete"]),
        (FORGES, &["is not used", "MAC"]),
        (CUTS_OFF, &["is not used", "not complete"]),
        (IS_ANOTHER_BUILD, &["is not used", "another build"]),
    ] {
        let text = deploy(&engine, &Cancel::new(), number)
            .unwrap_err()
            .to_string();
        for part in expected {
            assert!(text.contains(part), "{number}: {part:?} in {text:?}");
        }
        assert!(has_ended(notes.pid(number)));
        deploy(&engine, &Cancel::new(), 1).expect("the engine goes on");
    }
    assert_eq!(engine.warnings(), [""; 0]);
    assert_eq!(engine.compiler().abandoned(), 0);
}

#[test]
fn a_process_that_takes_too_much_cpu_time_is_ended() {
    let notes = Directory::new();
    let failure = compile(
        &process_in(&notes.0),
        &Fake::new(),
        &code(SPINS),
        Duration::from_secs(1),
        &Cancel::new(),
    );
    let Err(Failure::Failed(error)) = failure else {
        panic!("{failure:?}");
    };
    assert!(error.to_string().contains("CPU time"), "{error}");
}

#[test]
fn a_process_is_killed_when_its_time_is_up() {
    let notes = Directory::new();
    let engine = engine(process_in(&notes.0), Duration::from_millis(30), None);
    // It may be killed before it has begun, and then leaves no note.
    let error = deploy(&engine, &Cancel::new(), HANGS).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("30ms") && text.contains("the compilation was ended"),
        "{text}"
    );
    assert_eq!(engine.compiler().abandoned(), 0);
    let note = notes.0.join(HANGS.to_string());
    until(|| engine.compiler().processes_in_use() == 0);
    if note.exists() {
        assert!(has_ended(notes.pid(HANGS)));
    }
}

#[test]
fn a_process_is_killed_when_the_last_deployment_is_cancelled() {
    let notes = Directory::new();
    let engine = engine(process_in(&notes.0), LONG, None);
    let cancel = Cancel::new();
    std::thread::scope(|scope| {
        let deployment = scope.spawn(|| deploy(&engine, &cancel, HANGS));
        let pid = notes.pid(HANGS);
        cancel.cancel();
        let error = deployment.join().expect("a deployment").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        until(|| has_ended(pid));
    });
    // The next deployment of the same code does not get to hear of it.
    let other = Cancel::new();
    std::thread::scope(|scope| {
        fs::remove_file(notes.0.join(HANGS.to_string())).unwrap();
        let deployment = scope.spawn(|| deploy(&engine, &other, HANGS));
        let pid = notes.pid(HANGS);
        assert!(!has_ended(pid));
        other.cancel();
        assert!(deployment.join().expect("a deployment").is_err());
        until(|| has_ended(pid));
    });
}

#[test]
fn only_so_many_processes_run_at_a_time() {
    let notes = Directory::new();
    let engine = engine(process_in(&notes.0), LONG, None);
    let numbers: Vec<u32> = (1_000..1_001 + PROCESSES as u32).collect();
    let cancels: Vec<Cancel> = numbers.iter().map(|_| Cancel::new()).collect();
    let begun = || {
        numbers
            .iter()
            .filter(|number| notes.0.join(number.to_string()).exists())
            .count()
    };
    std::thread::scope(|scope| {
        for (number, cancel) in numbers.iter().zip(&cancels) {
            let engine = &engine;
            scope.spawn(move || deploy(engine, cancel, *number).unwrap_err());
        }
        until(|| begun() == PROCESSES && engine.compiler().running() == PROCESSES + 1);
        assert_eq!(engine.compiler().processes_in_use(), PROCESSES);
        // One that runs is ended, and the last one begins.
        let running = numbers
            .iter()
            .position(|number| notes.0.join(number.to_string()).exists());
        cancels[running.unwrap()].cancel();
        until(|| begun() == PROCESSES + 1);
        cancels.iter().for_each(Cancel::cancel);
    });
    until(|| engine.compiler().processes_in_use() == 0);
}

#[test]
fn no_process_outlives_its_engine() {
    let notes = Directory::new();
    let command = this_program("the_engine", &notes.0);
    let mut engine = Command::new(&command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = notes.pid(HANGS);
    assert!(!has_ended(pid));
    engine.kill().unwrap();
    engine.wait().unwrap();
    until(|| has_ended(pid));
}

#[test]
fn where_there_can_be_no_process_this_one_compiles_and_says_so_once() {
    for (program, why) in [
        ("/nowhere/gojinn", "cannot be started"),
        ("/bin/true", "exit code 0"),
    ] {
        for cached in [false, true] {
            let notes = Directory::new();
            let cache = notes.0.join("cache");
            let process = CompileProcess::new([program]);
            let engine = engine(process, LONG, cached.then_some(&*cache));
            for number in 1..4 {
                let facts = deploy(&engine, &Cancel::new(), number).unwrap();
                assert_eq!(facts.source, CodeSource::Compiled);
            }
            let warnings = engine.warnings();
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(
                warnings[0].contains("the server's own process"),
                "{warnings:?}"
            );
            assert!(warnings[0].contains(why), "{warnings:?}");
        }
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let engine = |process| {
        let config = EngineConfig {
            compile_process: Some(process),
            pool: None,
            ..EngineConfig::default()
        };
        let error = Engine::new(config, vec![Arc::new(Fake::new())]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let none: [&str; 0] = [];
    assert!(engine(CompileProcess::new(none)).contains("compile_command is empty"));
    let small = CompileProcess {
        memory: 1 << 20,
        ..CompileProcess::new(["/proc/self/exe"])
    };
    assert!(engine(small).contains("at least 268435456"));
    assert!(CompileProcess::default_memory() >= CompileProcess::LEAST_MEMORY);
}

#[test]
fn an_order_that_is_none_is_a_misuse() {
    let notes = Directory::new();
    let command = this_program("the_process", &notes.0);
    let output = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("for Gojinn's engine"), "{words}");
}
