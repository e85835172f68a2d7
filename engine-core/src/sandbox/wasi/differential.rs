//! Compares our functions with wasi-common's: the same calls must return the same errnos and leave the same memory.
//!
//! The generator avoids deliberate differences: clocks of CPU time (wasi-common: EBADF), offsets of pipes (EBADF
//! instead of ESPIPE), a read into several vectors (wasi-common fills the first), polling a pipe (EINVAL), flags of a
//! pipe (EBADF), misaligned pointers (wasi-common traps), a read or write whose result cannot be written (wasi-common
//! has transferred the bytes by then), an empty vector outside of memory (wasi-common does not check its address), and
//! rights (wasi-common has none).

use std::io::Cursor;

use wasi_common::WasiCtx;
use wasi_common::pipe::{ReadPipe, WritePipe};
use wasi_common::snapshots::preview_1::wasi_snapshot_preview1 as theirs;
use wasi_common::sync::WasiCtxBuilder;
use wiggle::GuestMemory;

use super::errno::Fail;
use super::mounts::settle;
use super::testing::{host_with, put_clock, put_iovecs};
use crate::sandbox::HostState;
use crate::sandbox::hostcalls as ours;

const SIZE: usize = 4096;
const STDIN: &[u8] = b"{\"method\":\"GET\",\"uri\":\"/\"}\n";

/// Both sides, each with its own memory.
struct Pair {
    host: HostState,
    memory: Vec<u8>,
    context: WasiCtx,
    their_memory: Vec<u8>,
    stdout: WritePipe<Cursor<Vec<u8>>>,
    calls: [u32; 2],
}

impl Pair {
    fn new(fill: u8) -> Self {
        let host = host_with(STDIN, std::time::Duration::from_secs(60));
        let stdout = WritePipe::new_in_memory();
        let mut builder = WasiCtxBuilder::new();
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).expect("UTF-8").to_owned();
        for arg in &host.program.args {
            builder.arg(&text(arg)).expect("no NUL");
        }
        for (name, value) in &host.program.env {
            builder.env(name, &text(value)).expect("no NUL");
        }
        builder
            .stdin(Box::new(ReadPipe::from(STDIN)))
            .stdout(Box::new(stdout.clone()))
            .stderr(Box::new(WritePipe::new(std::io::sink())));
        Self {
            host,
            memory: vec![fill; SIZE],
            context: builder.build(),
            their_memory: vec![fill; SIZE],
            stdout,
            calls: [0; 2],
        }
    }

    /// Compares the results of one call. After an error our memory is unchanged; wasi-common's may be partly written.
    fn compare(&mut self, what: &str, mine: i32, their: Result<(), Fail>, before: &[u8]) {
        let their = match their {
            Ok(()) => 0,
            Err(Fail::Errno(errno)) => i32::from(errno.0),
            Err(Fail::Stop(stop)) => panic!("{what}: {stop:?}"),
        };
        assert_eq!(mine, their, "{what}: errno");
        if mine == 0 {
            assert!(self.memory == self.their_memory, "{what}: memory");
        } else {
            assert!(self.memory == before, "{what}: memory after an error");
            self.their_memory.copy_from_slice(before);
        }
        self.calls[usize::from(mine != 0)] += 1;
    }
}

macro_rules! both {
    ($pair:ident, $name:ident ( $( $arg:expr ),* )) => {{
        let before = $pair.memory.clone();
        let mine = ours::$name(&mut $pair.host, &mut $pair.memory, $( $arg ),*).expect("no stop");
        let their = settle(theirs::$name(
            &mut $pair.context,
            &mut GuestMemory::Unshared(&mut $pair.their_memory),
            $( $arg ),*
        ));
        let what = format!(concat!(stringify!($name), "{:?}"), ($( $arg, )*));
        $pair.compare(&what, mine, their, &before);
    }};
}

/// A small generator of arguments: xorshift, with the same sequence each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }

    /// An address: mostly in the kilobyte at `base`, sometimes at or beyond the end of memory.
    fn pointer(&mut self, base: u64) -> i32 {
        let end = SIZE as i32;
        let odd = [end, end - 8, end - 24, end - 64, -8, i32::MIN, i32::MAX - 7];
        match self.next() % 8 {
            0 => self.pick(&odd),
            _ => (base + self.next() % 1000) as i32 & !7,
        }
    }
}

fn step(pair: &mut Pair, random: &mut Random) {
    let fd = random.pick(&[0, 1, 2, 3, 4, -1]);
    // Two results never overlap, because the order in which they are written is not specified.
    let (a, b) = (random.pointer(0), random.pointer(1200));
    let b = if a == b { 1200 } else { b };
    match random.next() % 20 {
        0 => both!(pair, args_get(a, b)),
        1 => both!(pair, args_sizes_get(a, b)),
        2 => both!(pair, environ_get(a, b)),
        3 => both!(pair, environ_sizes_get(a, b)),
        4 => {
            let clock = random.pick(&[0, 1, 4, -1]);
            both!(pair, clock_res_get(clock, a));
        }
        5 => both!(pair, fd_fdstat_get(fd, a)),
        6 => both!(pair, fd_filestat_get(fd, a)),
        7 => both!(pair, fd_prestat_get(fd, a)),
        8 => both!(pair, fd_sync(fd)),
        9 => both!(pair, fd_datasync(fd)),
        10 => both!(pair, fd_allocate(fd, 0, 8)),
        11 => both!(pair, fd_advise(fd, 0, 8, 1)),
        12 => both!(pair, fd_filestat_set_size(fd, 8)),
        13 => both!(pair, fd_tell(fd.max(3), a)),
        14 => both!(pair, fd_readdir(fd, a, 64, 0, b)),
        15 => both!(pair, fd_renumber(fd, fd)),
        16 if random.next().is_multiple_of(64) => both!(pair, fd_close(fd)),
        16 => {
            let absolute = random.pick(&[0, 1]);
            let clock = random.pick(&[1, 4]);
            for memory in [&mut pair.memory, &mut pair.their_memory] {
                put_clock(memory, 3072, 77, clock, 1, absolute);
            }
            let count = random.pick(&[0, 1]);
            // If there are two mistakes, it is not specified which one is reported.
            let (a, b) = if clock == 4 { (0, 64) } else { (a, b) };
            both!(pair, poll_oneoff(3072, a, count, b));
        }
        17 | 18 => {
            let vector = (
                random.pointer(0).cast_unsigned(),
                random.pick(&[1, 3, 9, 5000]),
            );
            for memory in [&mut pair.memory, &mut pair.their_memory] {
                put_iovecs(memory, 3072, &[vector]);
            }
            let count = random.pick(&[0, 1]);
            both!(pair, fd_read(fd, 3072, count, 2048));
        }
        _ => {
            let vectors =
                [0; 3].map(|_| (random.pointer(0).cast_unsigned(), random.pick(&[0, 1, 17])));
            for memory in [&mut pair.memory, &mut pair.their_memory] {
                put_iovecs(memory, 3072, &vectors);
            }
            let count = random.pick(&[0, 1, 2, 3]);
            both!(pair, fd_write(fd, 3072, count, 2048));
        }
    }
}

#[test]
fn random_calls_end_the_same_way() {
    for seed in 1..=200u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut pair = Pair::new(seed as u8);
        for _ in 0..200 {
            step(&mut pair, &mut random);
        }
        let [succeeded, failed] = pair.calls;
        assert!(
            succeeded > 20 && failed > 20,
            "{succeeded} succeeded, {failed} failed"
        );
        drop(pair.context);
        let their_stdout = pair.stdout.try_into_inner().expect("the only owner");
        assert_eq!(pair.host.stdout, their_stdout.into_inner());
    }
}

#[test]
fn clocks_and_randomness_end_the_same_way() {
    let mut pair = Pair::new(0);
    for (id, at) in [(0, 8), (1, 8), (0, 4096), (1, -8), (9, 8)] {
        let before = pair.memory.clone();
        let mine = ours::clock_time_get(&mut pair.host, &mut pair.memory, id, 0, at);
        let memory = &mut GuestMemory::Unshared(&mut pair.their_memory);
        let their = settle(theirs::clock_time_get(&mut pair.context, memory, id, 0, at));
        // The times of the clocks differ, but not where they are written.
        pair.memory[8..16].fill(0);
        pair.their_memory[8..16].fill(0);
        pair.compare("clock_time_get", mine.expect("no stop"), their, &before);
    }
    for (at, len) in [(8, 8), (4090, 6), (4090, 7), (-1, 1), (0, 0)] {
        let before = pair.memory.clone();
        let mine = ours::random_get(&mut pair.host, &mut pair.memory, at, len);
        let memory = &mut GuestMemory::Unshared(&mut pair.their_memory);
        let their = settle(theirs::random_get(&mut pair.context, memory, at, len));
        let (memory, their_memory) = (&mut pair.memory, &mut pair.their_memory);
        if mine == Ok(0) && len > 0 {
            let filled = at as usize..(at + len) as usize;
            assert_ne!(memory[filled.clone()], their_memory[filled.clone()]);
            memory[filled.clone()].fill(0);
            their_memory[filled].fill(0);
        }
        pair.compare("random_get", mine.expect("no stop"), their, &before);
    }
}
