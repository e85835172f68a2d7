//! Tests that a panic in any exported function, or in a backend below it, is an error of that one call, and that the next one
//! is right.

use std::collections::BTreeSet;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use engine_core::backend::{
    Artifact, Backend, Capabilities, Fingerprint, Job, Module, Progress, Sandbox, Start,
};
use engine_core::wasm::{Features, Wasm};
use engine_core::{Engine, EngineConfig, HostState, Result, SandboxLimits};

use crate::boundary::panic_next;
use crate::handles::backends;
use crate::*;

const HELLO: &str = include_str!("../../guests/wat/hello.wat");
const SLEEPS: &str = include_str!("../../guests/wat/sleep-hour.wat");

/// Where a backend panics: once, and then it works again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
enum At {
    Nowhere,
    Compile,
    Load,
    Instantiate,
    Run,
    AfterRun,
    Resume,
    Drop,
}

#[derive(Clone, Debug)]
struct Trigger(Arc<AtomicU8>);

impl Trigger {
    fn set(&self, at: At) {
        self.0.store(at as u8, Ordering::SeqCst);
    }

    fn reached(&self, at: At) {
        let now = At::Nowhere as u8;
        if self
            .0
            .compare_exchange(at as u8, now, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            panic!("asked for at {at:?}");
        }
    }
}

/// A backend around another one.
#[derive(Debug)]
struct Panicking {
    inner: Arc<dyn Backend>,
    trigger: Trigger,
}

impl Backend for Panicking {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn features(&self) -> Features {
        self.inner.features()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint()
    }

    fn compile(&self, wasm: &Wasm) -> Result<Artifact> {
        self.trigger.reached(At::Compile);
        self.inner.compile(wasm)
    }

    unsafe fn load(
        self: Arc<Self>,
        artifact: &Artifact,
        suspends: bool,
    ) -> Result<Arc<dyn Module>> {
        self.trigger.reached(At::Load);
        // SAFETY: the caller's promise about the artifact is passed on.
        let inner = unsafe { Arc::clone(&self.inner).load(artifact, suspends) }?;
        let trigger = self.trigger.clone();
        Ok(Arc::new(PanickingModule { inner, trigger }))
    }
}

struct PanickingModule {
    inner: Arc<dyn Module>,
    trigger: Trigger,
}

impl Module for PanickingModule {
    fn instantiate(
        &self,
        start: Start<'_>,
        limits: &SandboxLimits,
    ) -> Result<Box<dyn Sandbox + '_>> {
        self.trigger.reached(At::Instantiate);
        let inner = self.inner.instantiate(start, limits)?;
        let trigger = &self.trigger;
        Ok(Box::new(PanickingSandbox { inner, trigger }))
    }
}

struct PanickingSandbox<'a> {
    inner: Box<dyn Sandbox + 'a>,
    trigger: &'a Trigger,
}

impl Sandbox for PanickingSandbox<'_> {
    fn run(&mut self, job: Job) -> Progress {
        self.trigger.reached(At::Run);
        let progress = self.inner.run(job);
        self.trigger.reached(At::AfterRun);
        progress
    }

    fn resume(&mut self, host: Box<HostState>) -> Progress {
        self.trigger.reached(At::Resume);
        self.inner.resume(host)
    }
}

impl Drop for PanickingSandbox<'_> {
    fn drop(&mut self) {
        // A second panic while the first one unwinds would end the process.
        if !std::thread::panicking() {
            self.trigger.reached(At::Drop);
        }
    }
}

/// An engine of one permit, with what its functions are called with.
struct Lab {
    engine: *mut gojinn_engine,
    backend: &'static str,
    trigger: Trigger,
}

impl Lab {
    fn new(inner: Arc<dyn Backend>) -> Self {
        let backend = inner.name();
        let trigger = Trigger(Arc::new(AtomicU8::new(At::Nowhere as u8)));
        let config = EngineConfig {
            max_concurrency: 1,
            compile_timeout: Some(Duration::from_secs(600)),
            ..EngineConfig::default()
        };
        let panicking = Panicking {
            inner,
            trigger: trigger.clone(),
        };
        let engine = Engine::new(config, vec![Arc::new(panicking)]).unwrap();
        Self {
            engine: Box::into_raw(Box::new(gojinn_engine(engine))),
            backend,
            trigger,
        }
    }

    /// Deploys a module. The text says which one it is: the same module is not compiled twice.
    fn deploy(&self, wat: &str, text: &str) -> std::result::Result<*mut gojinn_function, i32> {
        let wasm = wat::parse_str(wat.replace("Hello from", text)).unwrap();
        let config = format!(
            r#"{{"name":"guest","backend":"{}","timeout":60000000000}}"#,
            self.backend
        );
        let (mut function, mut error) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the engine is live, the slices are readable, and the two places are writable.
        let code = unsafe {
            gojinn_function_new(
                self.engine,
                wasm.as_ptr(),
                wasm.len(),
                config.as_ptr(),
                config.len(),
                ptr::null(),
                &mut function,
                &mut error,
            )
        };
        if code == GOJINN_OK {
            return Ok(function);
        }
        assert!(function.is_null() && !error.is_null());
        // SAFETY: the error is live, and has one owner.
        unsafe {
            assert_eq!(gojinn_error_code(error), code);
            gojinn_error_free(error);
        }
        Err(code)
    }

    fn id(&self) -> u64 {
        let mut id = 0;
        // SAFETY: the engine is live, and the id is writable.
        let code = unsafe { gojinn_call_new(self.engine, &mut id) };
        assert_eq!(code, GOJINN_OK, "the one permit is free");
        id
    }

    /// Begins a call, and returns its id, its code and its answer's status.
    fn begin(&self, function: *mut gojinn_function) -> (u64, i32, u32) {
        let id = self.id();
        let (code, status) = self.run(function, id, false);
        (id, code, status)
    }

    fn run(&self, function: *mut gojinn_function, id: u64, panics: bool) -> (i32, u32) {
        let mut head = Vec::new();
        for field in ["GET", "/", "t", "", "", "", "", "", ""] {
            head.extend((field.len() as u32).to_le_bytes());
            head.extend(field.as_bytes());
        }
        head.extend([0; 8]);
        if panics {
            panic_next();
        }
        self.filled(|out, answer, event, rest| {
            // SAFETY: the function is live, the head is readable, and all others are writable.
            unsafe {
                gojinn_function_call(
                    function,
                    id,
                    head.as_ptr(),
                    head.len(),
                    ptr::null(),
                    0,
                    out.as_mut_ptr(),
                    out.len(),
                    answer,
                    event,
                    rest,
                )
            }
        })
    }

    fn resume(&self, id: u64) -> (i32, u32) {
        self.filled(|out, answer, event, rest| {
            // SAFETY: the engine is live, and all others are writable.
            unsafe {
                gojinn_call_resume(
                    self.engine,
                    id,
                    0,
                    ptr::null(),
                    0,
                    out.as_mut_ptr(),
                    out.len(),
                    answer,
                    event,
                    rest,
                )
            }
        })
    }

    /// Has what a call fills: the code, and the status of an answer.
    fn filled(
        &self,
        call: impl FnOnce(
            &mut [u8],
            *mut gojinn_answer,
            *mut gojinn_event,
            *mut *mut gojinn_rest,
        ) -> i32,
    ) -> (i32, u32) {
        let mut out = [0; 4096];
        let mut answer = std::mem::MaybeUninit::<gojinn_answer>::zeroed();
        let mut event = std::mem::MaybeUninit::<gojinn_event>::zeroed();
        let mut rest = ptr::null_mut();
        let code = call(&mut out, answer.as_mut_ptr(), event.as_mut_ptr(), &mut rest);
        assert!(rest.is_null(), "the buffer is large enough");
        // SAFETY: it has integers only, for which all zeros are a value.
        (code, unsafe { answer.assume_init() }.status)
    }

    /// A whole call is right, so no permit is missing.
    fn works(&self, function: *mut gojinn_function, after: &str) {
        let (_, code, status) = self.begin(function);
        assert_eq!((code, status), (GOJINN_OK, 200), "after {after}");
    }

    fn text(&self, call: impl FnOnce(*mut u8, usize, *mut usize) -> i32) -> (i32, usize) {
        let (mut out, mut len) = ([0; 1024], 0);
        let code = call(out.as_mut_ptr(), out.len(), &mut len);
        (code, len)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::into_raw`, and this is its one owner.
        unsafe { gojinn_engine_free(self.engine) };
    }
}

/// Exported functions in which nothing can panic: they read numbers, or copy bytes whose bounds were checked.
const CANNOT: [&str; 4] = [
    "gojinn_abi_version",
    "gojinn_error_code",
    "gojinn_error_message",
    "gojinn_rest_read",
];

/// Each exported function, with a panic inside its boundary and without.
#[test]
fn a_panic_in_any_exported_function_is_an_error_of_that_call() {
    let lab = Lab::new(backends().unwrap().pop().unwrap());
    let engine = lab.engine;
    let function = lab.deploy(HELLO, "Hello from").unwrap();
    let sleeper = lab.deploy(SLEEPS, "Hello from").unwrap();
    let mut seen = BTreeSet::from(CANNOT);
    let mut done = |name| {
        seen.insert(name);
        lab.works(function, name);
    };

    // SAFETY: the engine and the functions are live until they are freed at the end, each handle is freed once (a function that
    // panics first frees nothing), and what is written to is writable.
    unsafe {
        panic_next();
        assert_eq!(gojinn_compile_process(), GOJINN_PANIC);
        done("gojinn_compile_process");

        let config = b"{}";
        let (mut made, mut error) = (ptr::null_mut(), ptr::null_mut());
        panic_next();
        let code = gojinn_engine_new(config.as_ptr(), 2, &mut made, &mut error);
        assert_eq!(
            (code, made.is_null(), gojinn_error_code(error)),
            (GOJINN_PANIC, true, GOJINN_PANIC)
        );
        panic_next();
        gojinn_error_free(error);
        gojinn_error_free(error);
        done("gojinn_error_free");
        let code = gojinn_engine_new(config.as_ptr(), 2, &mut made, &mut error);
        assert_eq!(code, GOJINN_OK);
        done("gojinn_engine_new");
        panic_next();
        gojinn_engine_free(made);
        gojinn_engine_free(made);
        done("gojinn_engine_free");

        for (name, describe) in [
            (
                "gojinn_engine_describe",
                gojinn_engine_describe as unsafe extern "C" fn(_, _, _, _) -> _,
            ),
            ("gojinn_engine_metrics", gojinn_engine_metrics),
        ] {
            panic_next();
            let (code, len) = lab.text(|out, cap, len| describe(engine, out, cap, len));
            assert_eq!((code, len), (GOJINN_PANIC, 0), "{name}");
            let (code, len) = lab.text(|out, cap, len| describe(engine, out, cap, len));
            assert!(code == GOJINN_OK && len > 0, "{name}: {code}, {len} bytes");
            done(name);
        }
        let describe =
            || lab.text(|out, cap, len| gojinn_function_describe(function, out, cap, len));
        panic_next();
        assert_eq!(describe(), (GOJINN_PANIC, 0));
        assert_eq!(describe().0, GOJINN_OK);
        done("gojinn_function_describe");

        let (mut entries, mut bytes, mut error) = (7, 7, ptr::null_mut());
        panic_next();
        let code = gojinn_engine_purge_cache(engine, &mut entries, &mut bytes, &mut error);
        assert_eq!((code, entries, bytes), (GOJINN_PANIC, 7, 7));
        gojinn_error_free(error);
        let code = gojinn_engine_purge_cache(engine, &mut entries, &mut bytes, &mut error);
        assert_eq!(code, GOJINN_BAD_CONFIG, "there is no cache");
        gojinn_error_free(error);
        done("gojinn_engine_purge_cache");

        panic_next();
        assert!(gojinn_cancel_new().is_null());
        let cancel = gojinn_cancel_new();
        done("gojinn_cancel_new");
        panic_next();
        gojinn_cancel_set(cancel);
        gojinn_cancel_set(cancel);
        done("gojinn_cancel_set");
        panic_next();
        gojinn_cancel_free(cancel);
        gojinn_cancel_free(cancel);
        done("gojinn_cancel_free");

        panic_next();
        assert_eq!(lab.deploy(HELLO, "Hullo from"), Err(GOJINN_PANIC));
        let other = lab.deploy(HELLO, "Hullo from").unwrap();
        lab.works(other, "gojinn_function_new");
        done("gojinn_function_new");
        panic_next();
        gojinn_function_free(other);
        lab.works(other, "gojinn_function_free");
        gojinn_function_free(other);
        done("gojinn_function_free");

        let mut id = 0;
        panic_next();
        assert_eq!(gojinn_call_new(engine, &mut id), GOJINN_PANIC);
        assert_eq!(id, 0);
        done("gojinn_call_new");
        let id = lab.id();
        panic_next();
        gojinn_call_free(engine, id);
        assert_eq!(gojinn_call_new(engine, &mut 0), GOJINN_REJECTED);
        gojinn_call_free(engine, id);
        done("gojinn_call_free");
        let id = lab.id();
        panic_next();
        gojinn_call_cancel(engine, id);
        gojinn_call_cancel(engine, id);
        gojinn_call_free(engine, id);
        done("gojinn_call_cancel");

        panic_next();
        assert_eq!(gojinn_memory_take(engine, 1 << 20), GOJINN_PANIC);
        assert_eq!(gojinn_memory_take(engine, 1 << 20), GOJINN_OK);
        done("gojinn_memory_take");
        panic_next();
        gojinn_memory_give(engine, 1 << 20);
        gojinn_memory_give(engine, 1 << 20);
        done("gojinn_memory_give");

        let id = lab.id();
        assert_eq!(lab.run(function, id, true).0, GOJINN_PANIC);
        gojinn_call_free(engine, id);
        done("gojinn_function_call");

        let (id, code, _) = lab.begin(sleeper);
        assert_eq!(code, GOJINN_WAITING);
        panic_next();
        assert_eq!(lab.resume(id).0, GOJINN_PANIC);
        assert_eq!(lab.resume(id).0, GOJINN_WAITING);
        panic_next();
        gojinn_call_drop(engine, id);
        assert_eq!(gojinn_call_new(engine, &mut 0), GOJINN_REJECTED);
        gojinn_call_drop(engine, id);
        done("gojinn_call_drop");
        done("gojinn_call_resume");

        let rest = Box::into_raw(Box::new(gojinn_rest(vec![1, 2])));
        panic_next();
        gojinn_rest_free(rest);
        gojinn_rest_free(rest);
        done("gojinn_rest_free");

        gojinn_function_free(function);
        gojinn_function_free(sleeper);
    }
    let exported: BTreeSet<_> = include_str!("lib.rs")
        .lines()
        .filter_map(|line| line.split_once("extern \"C\" fn ")?.1.split('(').next())
        .collect();
    assert_eq!(seen, exported, "each exported function is tried");
}

/// A backend that panics, at each step of a deployment and of a call.
#[test]
fn a_backend_that_panics_fails_one_call_only() {
    for inner in backends().unwrap() {
        let lab = Lab::new(inner);
        let function = lab.deploy(HELLO, "Hello from").unwrap();
        for at in [At::Compile, At::Load] {
            // As long as the text that it replaces, whose length is in the module.
            let text = format!("{:<10}", format!("{at:?} of"));
            lab.trigger.set(at);
            let failed = lab.deploy(HELLO, &text);
            assert!(failed.is_err(), "{} at {at:?}", lab.backend);
            lab.works(function, &text);
            let other = lab.deploy(HELLO, &text).unwrap();
            lab.works(other, &text);
            // SAFETY: it is live, and has one owner.
            unsafe { gojinn_function_free(other) };
        }
        for at in [At::Instantiate, At::Run, At::AfterRun, At::Drop] {
            lab.trigger.set(at);
            let (_, code, status) = lab.begin(function);
            assert!(
                code == GOJINN_PANIC || code == GOJINN_OK && status >= 500,
                "{} at {at:?}: code {code}, status {status}",
                lab.backend
            );
            for _ in 0..10 {
                lab.works(function, &format!("{at:?} on {}", lab.backend));
            }
        }
        let sleeper = lab.deploy(SLEEPS, "Hello from").unwrap();
        if lab.backend != "wasmer" {
            for at in [At::Resume, At::Drop] {
                let (id, code, _) = lab.begin(sleeper);
                assert_eq!(code, GOJINN_WAITING);
                lab.trigger.set(at);
                if at == At::Resume {
                    let (code, status) = lab.resume(id);
                    assert!(code == GOJINN_PANIC || code == GOJINN_OK && status >= 500);
                }
                // SAFETY: the engine is live.
                unsafe { gojinn_call_drop(lab.engine, id) };
                lab.works(function, &format!("{at:?} on {}", lab.backend));
            }
        }
        // SAFETY: they are live, and each has one owner.
        unsafe {
            gojinn_function_free(function);
            gojinn_function_free(sleeper);
        }
    }
}
