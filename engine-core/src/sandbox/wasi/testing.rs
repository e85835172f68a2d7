//! Host states and guest structures for the tests of WASI.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::mounts::{FileBudget, MountSet, MountSpec};
use crate::budget::Share;
use crate::calls::Calls;
use crate::limits::SandboxLimits;
use crate::sandbox::{Buffers, HostState, Program, Stop};

pub(crate) const OK: Result<i32, Stop> = Ok(0);
pub(crate) const EBADF: Result<i32, Stop> = Ok(8);
pub(crate) const EFAULT: Result<i32, Stop> = Ok(21);
pub(crate) const EINVAL: Result<i32, Stop> = Ok(28);

const MINUTE: Duration = Duration::from_secs(60);

/// A host state without stdin, with a minute of time.
pub(crate) fn host() -> HostState {
    host_with(b"", MINUTE)
}

pub(crate) fn host_with(stdin: &[u8], timeout: Duration) -> HostState {
    make(&Calls::new(1).expect("a clock thread"), stdin, timeout, &[])
}

pub(crate) fn host_with_mounts(timeout: Duration, mounts: &[MountSpec]) -> HostState {
    make(
        &Calls::new(1).expect("a clock thread"),
        b"",
        timeout,
        mounts,
    )
}

/// A host state with the mounts of a function, and a minute of time.
pub(crate) fn host_with_set(set: &MountSet) -> HostState {
    let calls = Calls::new(1).expect("a clock thread");
    let call = calls.reserve().expect("the only permit").begin(MINUTE);
    state(call, b"", Some(set.open().expect("a context can be made")))
}

/// A host state whose call another thread is about to cancel.
pub(crate) fn cancel_soon() -> (HostState, JoinHandle<()>) {
    let calls = Calls::new(1).expect("a clock thread");
    let permit = calls.reserve().expect("the only place");
    let id = permit.id();
    let host = state(permit.begin(MINUTE), b"", None);
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        assert!(calls.cancel(id), "the call is still there");
    });
    (host, canceller)
}

fn make(calls: &Calls, stdin: &[u8], timeout: Duration, mounts: &[MountSpec]) -> HostState {
    let call = calls.reserve().expect("the only place").begin(timeout);
    let mounts = (!mounts.is_empty()).then(|| {
        let set = MountSet::new(mounts, &FileBudget::new(10_000)).expect("the directories exist");
        set.open().expect("a context can be made")
    });
    state(call, stdin, mounts)
}

fn state(call: crate::Call, stdin: &[u8], mounts: Option<super::Mounts>) -> HostState {
    let program = Program {
        args: vec!["app.wasm".into(), "--verbose".into()],
        env: vec![("A".into(), "one".into()), ("EMPTY".into(), Vec::new())],
        ..Program::default()
    };
    let limits = SandboxLimits::default();
    HostState::new(
        call,
        Arc::new(program),
        mounts,
        crate::contract::default(),
        Buffers {
            stdin: stdin.to_vec(),
            stdout: Vec::new(),
            share: Share::default(),
        },
        &limits,
    )
}

pub(crate) fn u32_at(memory: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(memory[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(memory: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(memory[at..at + 8].try_into().expect("eight bytes"))
}

/// Writes scatter/gather vectors (pointer, length).
pub(crate) fn put_iovecs(memory: &mut [u8], at: usize, vectors: &[(u32, u32)]) {
    for (index, (ptr, len)) in vectors.iter().enumerate() {
        let at = at + index * 8;
        memory[at..at + 4].copy_from_slice(&ptr.to_le_bytes());
        memory[at + 4..at + 8].copy_from_slice(&len.to_le_bytes());
    }
}

/// Writes a subscription to a clock.
pub(crate) fn put_clock(
    memory: &mut [u8],
    at: usize,
    userdata: u64,
    clock: u32,
    timeout: u64,
    flags: u16,
) {
    memory[at..at + 48].fill(0);
    memory[at..at + 8].copy_from_slice(&userdata.to_le_bytes());
    memory[at + 16..at + 20].copy_from_slice(&clock.to_le_bytes());
    memory[at + 24..at + 32].copy_from_slice(&timeout.to_le_bytes());
    memory[at + 40..at + 42].copy_from_slice(&flags.to_le_bytes());
}

/// Writes a subscription to a descriptor: tag 1 reads, tag 2 writes.
pub(crate) fn put_fd(memory: &mut [u8], at: usize, userdata: u64, tag: u8, fd: u32) {
    memory[at..at + 48].fill(0);
    memory[at..at + 8].copy_from_slice(&userdata.to_le_bytes());
    memory[at + 8] = tag;
    memory[at + 16..at + 20].copy_from_slice(&fd.to_le_bytes());
}
