//! Tests of parking and rewinding a program of a dozen functions, and of states that must be refused.

mod dates;
mod park;
mod random;
mod rewind;
mod stamps;

use super::park::MainFrame;
use super::*;
use crate::go::recognise;
use crate::go::testing::*;
use crate::start::Patch;

/// Addresses in its memory.
const PCLNTAB: u64 = 0x1000;
const MODULE_DATA: u64 = 0x5000;
const VARIABLES: u64 = 0x4800;
const BSS: u64 = 0x7800;
const GLOBAL_RAND: u64 = 0xa800;
const MEMSTATS: u64 = 0xb000;
const END: u64 = 0xd000;
/// On its heap: the main goroutine and its stack.
const G1: u64 = 0x10000;
const LO: u64 = 0x11000;
const HI: u64 = 0x12000;

/// Where the generator of `m0` is.
const OWN_RAND: u64 = M0 + CHEAPRAND_AT - 304;

/// A stopped program.
#[derive(Clone)]
struct Stopped {
    go: GoCommand,
    memory: Vec<u8>,
    globals: Vec<(String, GlobalValue)>,
}

impl Stopped {
    /// Stopped in a read of stdin, as [`text`] is.
    fn new() -> Self {
        let mut globals: Vec<_> = (0..8)
            .map(|index| (format!("gojinn:global:{index}"), GlobalValue::I64(0)))
            .collect();
        globals[SP as usize].1 = GlobalValue::I32(0);
        globals[PAUSE as usize].1 = GlobalValue::I32(0);
        let mut stopped = Self {
            go: recognise(&module(&text())).unwrap(),
            memory: vec![0; 0x20000],
            globals,
        };
        // Read-only data.
        stopped.set(PCLNTAB, 0x0801_0000_ffff_fff1);
        stopped.set(MAIN_PC, pc(RUNTIME_MAIN, 0));
        stopped.set(MAIN_CLOSURE, pc(MAIN, 0));
        for (index, value) in [
            (0, PCLNTAB),
            (20, 0x1000 << 16),
            (21, pc(CHEAPRAND + 1, 0)),
            (24, VARIABLES),
            (25, BSS - 0x800),
            (26, BSS - 0x800),
            (27, BSS),
            (28, BSS),
            (29, END),
            (30, END),
            (31, END),
            (32, END),
            (33, END),
            (34, END),
        ] {
            stopped.set(MODULE_DATA + 8 * index, value);
        }
        // The scheduler and its thread.
        stopped.set(M0, G0);
        stopped.set(G0 + 48, M0);
        stopped.generator(GLOBAL_RAND, 0, 32, 0);
        stopped.set(GLOBAL_RAND + 304, 1);
        stopped.generator(OWN_RAND, 6, 28, 12);
        stopped.set(OWN_RAND + 304, 0xfef1_50af_7fc5_81e6);
        // The main goroutine.
        stopped.set(G1, LO);
        stopped.set(G1 + 8, HI);
        stopped.set(G1 + 48, M0);
        stopped.register(G, G1);
        stopped.goroutine(&[
            (RUNTIME_MAIN, 2, RUNTIME_MAIN_FRAME),
            (MAIN, 1, MAIN_FRAME),
            (SYSCALL_READ, 1, SYSCALL_READ_FRAME),
        ]);
        stopped
    }

    /// Stopped in `proc_exit(0)` after `main.main` has returned.
    fn exited() -> Self {
        let mut stopped = Self::new();
        stopped.goroutine(&[(RUNTIME_MAIN, 3, RUNTIME_MAIN_FRAME)]);
        stopped
    }

    /// Writes a new stack: the functions from the outermost on, the points at which they continue, and their frames.
    fn goroutine(&mut self, calls: &[(u32, u16, u64)]) {
        let (lo, hi) = (self.word(G1) as usize, self.word(G1 + 8) as usize);
        // The rest of the old stack stays.
        self.memory[lo..hi - 32].fill(0xa5);
        let mut at = hi as u64 - 40;
        self.set(at, pc(GOEXIT, 1));
        for &(function, point, frame) in calls {
            at -= frame + 8;
            self.set(at, pc(function, point));
        }
        self.register(SP, at);
        // Arguments: fd 0 and anything.
        self.memory[at as usize + 8..][..4].fill(0);
    }

    /// A generator of which `i` values are used.
    fn generator(&mut self, at: u64, i: u32, n: u32, c: u32) {
        let seed: [u8; 32] = std::array::from_fn(|index| index as u8 ^ at as u8 ^ 0x5a);
        let place = at as usize;
        self.memory[place..place + 256].copy_from_slice(&super::random::block(&seed, c));
        self.memory[place + 256..place + 288].copy_from_slice(&seed);
        for (index, field) in [i, n, c].into_iter().enumerate() {
            self.memory[place + 288 + 4 * index..][..4].copy_from_slice(&field.to_le_bytes());
        }
    }

    /// Writes the times at which the collector ended its cycles.
    fn collected(&mut self, times: &[u64]) {
        self.set(MEMSTATS, times.last().copied().unwrap_or(0));
        for (cycle, end) in (0..).zip(times) {
            self.set(MEMSTATS + 16 + 8 * cycle, 30_000);
            self.set(MEMSTATS + 2064 + 8 * cycle, *end);
        }
        let cycles = times.len() as u64;
        self.set(MEMSTATS + 8, 30_000 * cycles);
        self.set(MEMSTATS + 4112, cycles | 1 << 32);
    }

    fn word(&self, at: u64) -> u64 {
        word(&self.memory, at).unwrap()
    }

    fn set(&mut self, at: u64, value: u64) {
        write(&mut self.memory, at, value).unwrap();
    }

    fn register(&mut self, index: u32, to: u64) {
        set(&mut self.globals, index, to);
    }

    fn sp(&self) -> u64 {
        value(&self.globals, SP).unwrap()
    }

    fn park(&mut self) -> Result<(), String> {
        park(&self.go, &mut self.memory, &mut self.globals)
    }

    fn main_frame(&self) -> Result<MainFrame, String> {
        main_frame(&self.go, &self.memory, &self.globals)
    }

    fn rewind(&mut self, main: &MainFrame) -> Result<(), String> {
        rewind(&self.go, main, &mut self.memory, &mut self.globals)
    }

    fn generators(&self) -> Result<Vec<Patch>, String> {
        generators(&self.go, &self.memory, &self.globals)
    }

    /// Changes the program so that it must be refused.
    #[track_caller]
    fn refuses(change: impl FnOnce(&mut Self)) -> String {
        let mut stopped = Self::new();
        change(&mut stopped);
        let before = stopped.clone();
        let why = stopped.park().unwrap_err();
        assert!(stopped.main_frame().is_err());
        assert!(before.memory == stopped.memory && before.globals == stopped.globals);
        why
    }
}

/// A part of the reason for a refusal, and the change that causes it.
type Change = (&'static str, fn(&mut Stopped));

#[test]
fn no_state_causes_a_panic() {
    let main = Stopped::new().main_frame().unwrap();
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..4000 {
        let mut stopped = if round % 2 == 0 {
            Stopped::new()
        } else {
            Stopped::exited()
        };
        let wild = match next() % 4 {
            0 => next(),
            1 => u64::MAX - next() % 64,
            2 => next() % 0x30000,
            _ => pc((0x0fff + next() % 16) as u32, (next() % 5) as u16),
        };
        let place = (next() % 0x20000) & !7;
        match next() % 6 {
            0 => stopped.register((next() % 8) as u32, wild),
            1 => stopped.set(G1 + 8 * (next() % 8), wild),
            2 => stopped.set(MODULE_DATA + 8 * (next() % 36), wild),
            3 => stopped.set(stopped.sp() + 8 * (next() % 4), wild),
            4 => stopped.memory.truncate(place as usize),
            _ => stopped.set(place, wild),
        }
        let _ = stopped.main_frame();
        let _ = stopped.generators();
        let _ = collector_stamps(&stopped.go, &stopped.memory);
        let _ = stopped.clone().rewind(&main);
        let _ = stopped.park();
    }
}
