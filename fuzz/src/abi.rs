//! Calls the functions of the C ABI in any order, and compares their codes with a model of what a call is.
//!
//! Ids are used twice, ended twice, guessed, and cancelled by another thread while their guests run. Afterwards each permit must be
//! free again, once.

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use gojinn::{
    GOJINN_BAD_FRAME, GOJINN_OK, GOJINN_REJECTED, GOJINN_STALE_CALL, GOJINN_WAITING, gojinn_answer,
    gojinn_call_cancel, gojinn_call_drop, gojinn_call_free, gojinn_call_new, gojinn_call_resume,
    gojinn_engine, gojinn_engine_describe, gojinn_engine_new, gojinn_error_free, gojinn_event,
    gojinn_function, gojinn_function_call, gojinn_function_new, gojinn_memory_give,
    gojinn_memory_take, gojinn_rest, gojinn_rest_free, gojinn_rest_read,
};

use crate::Target;
use crate::cursor::Cursor;
use crate::report::{Disagreement, same};

/// The target, as the module documentation describes it.
pub const TARGET: Target = Target {
    name: "abi",
    check,
    dictionary: &[],
    max_len: 512,
};

const HELLO: &str = include_str!("../../guests/wat/hello.wat");
const SLEEPS: &str = include_str!("../../guests/wat/sleep-hour.wat");

/// How many calls may be alive.
const PERMITS: usize = 4;

/// The outcome of a call that was cancelled.
const CANCELLED: u32 = 6;

/// An engine, and its functions: one that answers, and one that waits.
struct Lab {
    engine: *mut gojinn_engine,
    functions: [*mut gojinn_function; 2],
}

// SAFETY: the ABI allows the use of engines and functions by any thread, and nothing frees these.
unsafe impl Send for Lab {}
// SAFETY: as above.
unsafe impl Sync for Lab {}

impl Lab {
    fn new(backend: &str) -> Self {
        let config = format!(r#"{{"backend":"{backend}","max_concurrency":{PERMITS}}}"#);
        let (mut engine, mut error) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the configuration is readable, and the two places are writable.
        let code =
            unsafe { gojinn_engine_new(config.as_ptr(), config.len(), &mut engine, &mut error) };
        assert_eq!(code, GOJINN_OK, "an engine");
        let functions = [HELLO, SLEEPS].map(|text| {
            let wasm = wat::parse_str(text).expect("a guest of this repository");
            deploy(engine, &wasm, br#"{"name":"guest"}"#).expect("it is deployed")
        });
        Self { engine, functions }
    }
}

/// Deploys a module, or returns the code of the error.
fn deploy(
    engine: *mut gojinn_engine,
    wasm: &[u8],
    config: &[u8],
) -> Result<*mut gojinn_function, i32> {
    let (mut function, mut error) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the engine is live, the slices are readable, and the two places are writable. An error is freed once.
    unsafe {
        let code = gojinn_function_new(
            engine,
            wasm.as_ptr(),
            wasm.len(),
            config.as_ptr(),
            config.len(),
            ptr::null(),
            &mut function,
            &mut error,
        );
        gojinn_error_free(error);
        if code == GOJINN_OK {
            Ok(function)
        } else {
            Err(code)
        }
    }
}

/// What a call is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    New,
    Suspended,
    Over,
}

/// A call as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Call {
    id: u64,
    state: State,
    cancelled: bool,
}

fn check(input: &[u8]) -> Result<(), Disagreement> {
    static LABS: OnceLock<[Lab; 2]> = OnceLock::new();
    let labs = LABS.get_or_init(|| ["wasmi", "wasmtime"].map(Lab::new));
    let mut bytes = Cursor::new(input);
    let lab = &labs[usize::from(bytes.byte()) % 2];
    let mut calls = Vec::new();
    let result = script(lab, &mut bytes, &mut calls);
    for call in &calls {
        // SAFETY: the engine is live. Stale ids do nothing.
        unsafe {
            gojinn_call_free(lab.engine, call.id);
            gojinn_call_drop(lab.engine, call.id);
        }
    }
    result?;
    // Each permit is back, once.
    let mut ids = [0; PERMITS + 1];
    // SAFETY: the engine is live, and the ids are writable.
    let codes = ids
        .each_mut()
        .map(|id| unsafe { gojinn_call_new(lab.engine, id) });
    for id in ids {
        // SAFETY: the engine is live.
        unsafe { gojinn_call_free(lab.engine, id) };
    }
    let mut expected = [GOJINN_OK; PERMITS + 1];
    expected[PERMITS] = GOJINN_REJECTED;
    same(
        "permits at the end",
        ("library", &codes),
        ("model", &expected),
    )
}

fn script(lab: &Lab, bytes: &mut Cursor<'_>, calls: &mut Vec<Call>) -> Result<(), Disagreement> {
    while !bytes.is_empty() {
        let op = bytes.byte() % 11;
        let at = usize::from(bytes.byte());
        // Mostly a call that there was, and sometimes one that there was not.
        let guessed = Call {
            id: u64::from_le_bytes([at as u8, op, 0, 0, at as u8 & 1, 0, 0, 0]),
            state: State::Over,
            cancelled: false,
        };
        let index = calls
            .len()
            .checked_sub(1)
            .map(|last| last - at % 8 % calls.len())
            .filter(|_| at < 240);
        if index.is_none() && calls.iter().any(|call| call.id == guessed.id) {
            continue;
        }
        let mut other = guessed;
        let call = match index {
            Some(index) => &mut calls[index],
            None => &mut other,
        };
        match op {
            0 | 1 => {
                let alive = calls
                    .iter()
                    .filter(|call| call.state != State::Over)
                    .count();
                let mut id = 0;
                // SAFETY: the engine is live, and the id is writable.
                let code = unsafe { gojinn_call_new(lab.engine, &mut id) };
                let expected = if alive < PERMITS {
                    GOJINN_OK
                } else {
                    GOJINN_REJECTED
                };
                same("a new call", ("library", &code), ("model", &expected))?;
                if code == GOJINN_OK {
                    let known = calls.iter().any(|call| call.id == id);
                    same(
                        "whether an id is used again",
                        ("library", &known),
                        ("model", &false),
                    )?;
                    calls.push(Call {
                        id,
                        state: State::New,
                        cancelled: false,
                    });
                }
            }
            2 => {
                // SAFETY: the engine is live.
                unsafe { gojinn_call_free(lab.engine, call.id) };
                if call.state == State::New {
                    call.state = State::Over;
                }
            }
            3 => {
                // SAFETY: the engine is live.
                unsafe { gojinn_call_cancel(lab.engine, call.id) };
                call.cancelled = true;
            }
            4 => {
                // SAFETY: the engine is live.
                unsafe { gojinn_call_drop(lab.engine, call.id) };
                if call.state == State::Suspended {
                    call.state = State::Over;
                }
            }
            5..=7 => {
                let how = bytes.byte();
                begin(lab, call, how)?;
            }
            8 | 9 => {
                let reply = bytes.field().to_vec();
                let code = i32::from_le_bytes(bytes.array());
                let reached = filled(|out, answer, event, rest| {
                    // SAFETY: the engine is live, the reply is readable, and the others are writable.
                    unsafe {
                        gojinn_call_resume(
                            lab.engine,
                            call.id,
                            code,
                            reply.as_ptr(),
                            reply.len(),
                            out.as_mut_ptr(),
                            out.len(),
                            answer,
                            event,
                            rest,
                        )
                    }
                });
                let was = *call;
                let expected = match (call.state, call.cancelled) {
                    (State::Suspended, true) => (GOJINN_OK, CANCELLED),
                    (State::Suspended, false) => (GOJINN_WAITING, 0),
                    _ => (GOJINN_STALE_CALL, 0),
                };
                if call.cancelled && call.state == State::Suspended {
                    call.state = State::Over;
                }
                same(
                    "a call that goes on",
                    ("library", &reached),
                    ("model", &expected),
                )
                .map_err(|found| found.with("call", format!("{was:?}")))?;
            }
            _ => beside(lab, bytes)?,
        }
    }
    Ok(())
}

/// Begins a call. The bits of `how`: which function, whether its head is whole, whether another thread cancels it meanwhile, and how
/// large the buffer is.
fn begin(lab: &Lab, call: &mut Call, how: u8) -> Result<(), Disagreement> {
    let (waits, broken, races) = (how & 1 != 0, how & 6 == 6, how & 24 == 24);
    let mut head = Vec::new();
    for field in ["GET", "/", "t", "", "", "", "", "", ""] {
        head.extend((field.len() as u32).to_le_bytes());
        head.extend(field.as_bytes());
    }
    head.extend([0; 8]);
    if broken {
        head.truncate(usize::from(how) % head.len());
    }
    let ended = AtomicBool::new(false);
    let id = call.id;
    let reached = std::thread::scope(|scope| {
        if races {
            let (ended, engine) = (&ended, lab);
            scope.spawn(move || {
                loop {
                    // SAFETY: the engine is live.
                    unsafe { gojinn_call_cancel(engine.engine, id) };
                    if ended.load(Ordering::SeqCst) {
                        break;
                    }
                    std::thread::yield_now();
                }
            });
        }
        let reached = filled(|out, answer, event, rest| {
            let out = &mut out[..if how & 32 == 0 { 4096 } else { 3 }];
            // SAFETY: the function is live, the head is readable, and the others are writable.
            unsafe {
                gojinn_function_call(
                    lab.functions[usize::from(waits)],
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
        });
        ended.store(true, Ordering::SeqCst);
        reached
    });
    let was = *call;
    let allowed = match (call.state, call.cancelled || races) {
        (State::Suspended | State::Over, _) => vec![(GOJINN_STALE_CALL, 0)],
        (State::New, _) if broken => vec![(GOJINN_BAD_FRAME, 0)],
        (State::New, false) if waits => vec![(GOJINN_WAITING, 0)],
        (State::New, false) => vec![(GOJINN_OK, 0)],
        // A cancellation may come after the guest has ended or begun to wait.
        (State::New, true) if waits => vec![(GOJINN_OK, CANCELLED), (GOJINN_WAITING, 0)],
        (State::New, true) => vec![(GOJINN_OK, CANCELLED), (GOJINN_OK, 0)],
    };
    if call.state == State::New {
        call.state = if reached.0 == GOJINN_WAITING {
            State::Suspended
        } else {
            State::Over
        };
    }
    call.cancelled |= races;
    if allowed.contains(&reached) {
        return Ok(());
    }
    Err(Disagreement::new(
        "a call that begins",
        ("library", format!("{reached:?}")),
        ("model", format!("{allowed:?}")),
    )
    .with("call", format!("{was:?}, {how:#b}")))
}

/// What has nothing to do with calls: memory, descriptions, and a deployment with any configuration.
fn beside(lab: &Lab, bytes: &mut Cursor<'_>) -> Result<(), Disagreement> {
    match bytes.byte() % 3 {
        0 => {
            let amount = u64::from_le_bytes(bytes.array());
            // SAFETY: the engine is live.
            unsafe {
                if gojinn_memory_take(lab.engine, amount) == GOJINN_OK {
                    gojinn_memory_give(lab.engine, amount);
                }
            }
            Ok(())
        }
        1 => {
            let mut out = vec![0; usize::from(bytes.byte())];
            let mut len = 0;
            // SAFETY: the engine is live, and the others are writable.
            let code = unsafe {
                gojinn_engine_describe(lab.engine, out.as_mut_ptr(), out.len(), &mut len)
            };
            same(
                "a description",
                ("library", &(code, len > 0)),
                ("model", &(GOJINN_OK, true)),
            )
        }
        _ => {
            let config = bytes.field();
            let deployed = deploy(lab.engine, b"\0asm\x01\0\0\0", config);
            same(
                "whether a module without an entry is deployed",
                ("library", &deployed.is_ok()),
                ("model", &false),
            )
        }
    }
}

/// The code of a call, and the outcome of its answer, or 0. A rest is read and freed.
fn filled(
    call: impl FnOnce(&mut [u8], *mut gojinn_answer, *mut gojinn_event, *mut *mut gojinn_rest) -> i32,
) -> (i32, u32) {
    let mut out = [0; 4096];
    let mut answer = std::mem::MaybeUninit::<gojinn_answer>::zeroed();
    let mut event = std::mem::MaybeUninit::<gojinn_event>::zeroed();
    let mut rest = ptr::null_mut();
    let code = call(&mut out, answer.as_mut_ptr(), event.as_mut_ptr(), &mut rest);
    if !rest.is_null() {
        // SAFETY: the rest is live, it is freed once, and the buffer is writable.
        unsafe {
            gojinn_rest_read(rest, out.as_mut_ptr(), 1);
            gojinn_rest_read(rest, out.as_mut_ptr(), out.len());
            gojinn_rest_free(rest);
        }
    }
    // SAFETY: it has integers only, for which all zeros are a value.
    (code, unsafe { answer.assume_init() }.outcome)
}
