//! Parking and rewinding a program of a dozen functions, and everything that must not be taken for one that can be.

use super::*;
use crate::snapshot::Patch;
use crate::wasm::go::testing::*;
use crate::wasm::go::{CTXT, recognise};

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

    /// Makes the stack anew: the functions from the outermost on, the points at which they go on, and their frames.
    fn goroutine(&mut self, calls: &[(u32, u16, u64)]) {
        let (lo, hi) = (self.word(G1) as usize, self.word(G1 + 8) as usize);
        // What was there before is still there.
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

    /// A generator that is used as far as `i`.
    fn generator(&mut self, at: u64, i: u32, n: u32, c: u32) {
        let seed: [u8; 32] = std::array::from_fn(|index| index as u8 ^ at as u8 ^ 0x5a);
        let place = at as usize;
        self.memory[place..place + 256].copy_from_slice(&random::block(&seed, c));
        self.memory[place + 256..place + 288].copy_from_slice(&seed);
        for (index, field) in [i, n, c].into_iter().enumerate() {
            self.memory[place + 288 + 4 * index..][..4].copy_from_slice(&field.to_le_bytes());
        }
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

    /// Changes it so that nothing can be done with it.
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

#[test]
fn parking_writes_where_to_go_on_and_nothing_else() {
    let mut stopped = Stopped::new();
    let before = stopped.clone();
    stopped.park().unwrap();
    let below = stopped.sp() - 8;
    assert_eq!(stopped.word(below), pc(READ, 0));
    stopped.set(below, before.word(below));
    assert!(stopped.memory == before.memory && stopped.globals == before.globals);
}

#[test]
fn a_program_that_is_parked_can_be_parked_again() {
    let mut stopped = Stopped::new();
    stopped.park().unwrap();
    let once = stopped.memory.clone();
    stopped.park().unwrap();
    assert!(stopped.memory == once);
}

#[test]
fn reads_in_initialisers_and_other_goroutines_are_parked_but_not_rewound() {
    for calls in [
        &[
            (RUNTIME_MAIN, 1, RUNTIME_MAIN_FRAME),
            (INIT, 1, 16),
            (SYSCALL_READ, 1, SYSCALL_READ_FRAME),
        ][..],
        &[(GOROUTINE, 1, 40), (SYSCALL_READ, 1, SYSCALL_READ_FRAME)],
        &[(SYSCALL_READ, 1, SYSCALL_READ_FRAME)],
        // As main.main, but called by another than runtime.main.
        &[
            (GOROUTINE, 1, 40),
            (MAIN, 1, MAIN_FRAME),
            (SYSCALL_READ, 1, SYSCALL_READ_FRAME),
        ],
    ] {
        let mut stopped = Stopped::new();
        stopped.goroutine(calls);
        assert!(stopped.main_frame().unwrap_err().contains("main.main"));
        stopped.park().unwrap();
    }
}

#[test]
fn frameless_functions_and_deep_stacks_are_followed() {
    let mut stopped = Stopped::new();
    stopped.goroutine(&[
        (RUNTIME_MAIN, 2, RUNTIME_MAIN_FRAME),
        (MAIN, 3, MAIN_FRAME),
        (FRAMELESS, 1, 0),
        (FRAMELESS, 1, 0),
        (SYSCALL_READ, 1, SYSCALL_READ_FRAME),
    ]);
    assert_eq!(stopped.main_frame().unwrap().function, MAIN);
    stopped.memory.resize(0x200000, 0);
    stopped.set(G1 + 8, 0x200000);
    let mut calls = vec![(RUNTIME_MAIN, 2, RUNTIME_MAIN_FRAME), (MAIN, 3, MAIN_FRAME)];
    calls.extend([(FRAMELESS, 1, 0); 99_990]);
    calls.push((SYSCALL_READ, 1, SYSCALL_READ_FRAME));
    stopped.goroutine(&calls);
    stopped.park().unwrap();
    calls.splice(2..2, [(FRAMELESS, 1, 0); 10]);
    stopped.goroutine(&calls);
    assert!(stopped.park().unwrap_err().contains("too deep"));
}

#[test]
fn what_is_not_the_state_of_a_running_goroutine_is_refused() {
    let changes: [(&str, fn(&mut Stopped)); 15] = [
        ("pauses", |stopped| stopped.register(PAUSE, 1)),
        ("pauses", |stopped| {
            stopped.globals.push(("more".into(), GlobalValue::I32(0)));
        }),
        ("missing", |stopped| stopped.globals.truncate(7)),
        ("missing", |stopped| {
            stopped.globals[0].1 = GlobalValue::F64(0)
        }),
        ("scheduler", |stopped| stopped.register(G, G0)),
        ("goroutine", |stopped| stopped.register(G, G1 + 8)),
        ("goroutine", |stopped| stopped.register(G, G1 + 1)),
        ("goroutine", |stopped| stopped.register(G, u64::MAX)),
        ("goroutine", |stopped| stopped.set(G1 + 48, M0 + 8)),
        ("thread", |stopped| stopped.set(M0, G1)),
        ("thread", |stopped| stopped.set(G0 + 48, 0)),
        ("stack", |stopped| stopped.register(SP, HI)),
        ("stack", |stopped| stopped.register(SP, LO)),
        ("stack", |stopped| stopped.register(SP, stopped.sp() + 4)),
        ("stack", |stopped| stopped.set(G1 + 8, 1 << 40)),
    ];
    for (why, change) in changes {
        let refused = Stopped::refuses(change);
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn what_is_not_a_stack_that_leads_from_a_read_to_goexit_is_refused() {
    let changes: [(&str, fn(&mut Stopped)); 14] = [
        // Another descriptor, another import.
        ("stdin", |stopped| stopped.set(stopped.sp() + 8, 3)),
        ("fd_read", |stopped| {
            stopped.goroutine(&[
                (RUNTIME_MAIN, 2, RUNTIME_MAIN_FRAME),
                (MAIN, 2, MAIN_FRAME),
                (OS_EXIT, 1, OS_EXIT_FRAME),
            ]);
        }),
        ("fd_read", |stopped| stopped.register(SP, stopped.sp() + 40)),
        // Not a return address: none, no such call, the function's entry, no such function.
        ("return address", |stopped| stopped.set(stopped.sp(), 0)),
        ("return address", |stopped| {
            stopped.set(stopped.sp(), pc(SYSCALL_READ, 2));
        }),
        ("return address", |stopped| {
            stopped.set(stopped.sp(), pc(SYSCALL_READ, 0));
        }),
        ("return address", |stopped| {
            stopped.set(stopped.sp(), pc(CHEAPRAND + 1, 1));
        }),
        ("return address", |stopped| {
            stopped.set(stopped.sp(), u64::MAX)
        }),
        ("return address", |stopped| {
            stopped.set(stopped.sp() + 40, pc(RT0, 4));
        }),
        // A stack pointer that is off, or frames of another size.
        ("return address", |stopped| {
            stopped.register(SP, stopped.sp() - 8);
        }),
        ("end at goexit", |stopped| stopped.set(G1 + 8, HI - 16)),
        // What is at its end.
        ("begin with goexit", |stopped| {
            stopped.set(HI - 40, pc(GOEXIT, 2))
        }),
        ("begin with goexit", |stopped| {
            stopped.set(HI - 40, pc(MAIN, 1))
        }),
        ("begin with goexit", |stopped| stopped.set(HI - 32, 1)),
    ];
    for (why, change) in changes {
        let refused = Stopped::refuses(change);
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn a_return_address_that_is_not_reached_by_frames_is_not_found() {
    // Two words of the outermost frame look like the end of a stack.
    let refused = Stopped::refuses(|stopped| {
        stopped.set(HI - 40, 0);
        stopped.set(HI - 56, pc(GOEXIT, 1));
        stopped.set(HI - 48, 0);
    });
    assert!(refused.contains("begin with goexit"), "{refused}");
}

#[test]
fn main_is_entered_again_as_runtime_main_does_it() {
    let main = Stopped::new().main_frame().unwrap();
    assert_eq!(main.function, MAIN);
    let mut stopped = Stopped::exited();
    stopped.rewind(&main).unwrap();
    let sp = stopped.sp();
    assert_eq!(sp, HI - 40 - RUNTIME_MAIN_FRAME - 8);
    assert_eq!(stopped.word(sp), pc(RUNTIME_MAIN, 2));
    assert_eq!(stopped.word(sp - 8), pc(MAIN, 0));
    assert_eq!(value(&stopped.globals, CTXT), Some(MAIN_CLOSURE));
    // And it comes to the same read.
    let before = Stopped::new();
    stopped.register(SP, before.sp());
    let (from, to) = (before.sp() as usize, sp as usize);
    stopped.memory[from..to].copy_from_slice(&before.memory[from..to]);
    assert_eq!(stopped.main_frame().unwrap(), main);
}

#[test]
fn a_stack_that_has_moved_is_followed() {
    let main = Stopped::new().main_frame().unwrap();
    let mut stopped = Stopped::exited();
    stopped.set(G1, 0x14000);
    stopped.set(G1 + 8, 0x16000);
    stopped.goroutine(&[(RUNTIME_MAIN, 3, RUNTIME_MAIN_FRAME)]);
    stopped.rewind(&main).unwrap();
    assert_eq!(stopped.sp(), 0x16000 - 40 - RUNTIME_MAIN_FRAME - 8);
}

#[test]
fn an_exit_from_within_main_is_rewound_if_nothing_is_deferred() {
    let main = Stopped::new().main_frame().unwrap();
    let exits = |change: fn(&mut Stopped)| {
        let mut stopped = Stopped::new();
        stopped.goroutine(&[
            (RUNTIME_MAIN, 2, RUNTIME_MAIN_FRAME),
            (MAIN, 2, MAIN_FRAME),
            (OS_EXIT, 1, OS_EXIT_FRAME),
        ]);
        change(&mut stopped);
        stopped.rewind(&main).map(|()| stopped.sp())
    };
    assert_eq!(exits(|_| ()), Ok(HI - 40 - RUNTIME_MAIN_FRAME - 8));
    assert!(exits(|stopped| stopped.set(G1 + 32, 0x1234)).is_err());
    assert!(exits(|stopped| stopped.set(G1 + 40, 0x1234)).is_err());
}

#[test]
fn exits_elsewhere_are_not_rewound() {
    let main = Stopped::new().main_frame().unwrap();
    let refuses = |change: fn(&mut Stopped), why: &str| {
        let mut stopped = Stopped::exited();
        change(&mut stopped);
        let before = stopped.clone();
        let refused = stopped.rewind(&main).unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
        assert!(before.memory == stopped.memory && before.globals == stopped.globals);
    };
    // Another goroutine, even with the same frames.
    refuses(
        |stopped| {
            stopped.set(0x18000, LO);
            stopped.set(0x18008, HI);
            stopped.set(0x18030, M0);
            stopped.register(G, 0x18000);
        },
        "another goroutine",
    );
    // In an initialiser; in a function that runtime.main calls at another depth.
    refuses(
        |stopped| {
            stopped.goroutine(&[
                (RUNTIME_MAIN, 1, RUNTIME_MAIN_FRAME),
                (INIT, 1, 16),
                (OS_EXIT, 1, OS_EXIT_FRAME),
            ]);
        },
        "outside of main",
    );
    refuses(
        |stopped| stopped.goroutine(&[(GOROUTINE, 1, 40), (OS_EXIT, 1, OS_EXIT_FRAME)]),
        "outside of main",
    );
    refuses(|stopped| stopped.goroutine(&[]), "goexit");
    // Deferred calls that would be there twice.
    refuses(|stopped| stopped.set(G1 + 40, 0x1234), "deferred");
}

#[test]
fn generators_start_anew_from_fresh_seeds() {
    let stopped = Stopped::new();
    let patches = stopped.generators().unwrap();
    let used = |n: u8| Box::new([n, 0, 0, 0, n, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        patches,
        [
            Patch::Random {
                at: GLOBAL_RAND + 256,
                len: 32
            },
            Patch::Bytes {
                at: GLOBAL_RAND + 288,
                bytes: used(32)
            },
            Patch::Random {
                at: OWN_RAND + 256,
                len: 32
            },
            Patch::Bytes {
                at: OWN_RAND + 288,
                bytes: used(28)
            },
            Patch::Random {
                at: M0 + CHEAPRAND_AT,
                len: 8
            },
        ]
    );
}

#[test]
fn a_cheap_generator_at_another_place_is_left_alone() {
    let mut stopped = Stopped::new();
    stopped.memory[OWN_RAND as usize..][..304].fill(0);
    stopped.generator(OWN_RAND - 8, 6, 28, 12);
    assert_eq!(stopped.generators().unwrap().len(), 4);
}

#[test]
fn a_block_is_what_go_computes() {
    // From the tests of Go's internal/chacha8rand, and of c2sp.org/chacha8rand.
    let block = random::block(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ123456", 0);
    let value = |index: usize| u64::from_le_bytes(block[8 * index..][..8].try_into().unwrap());
    assert_eq!(value(0), 0xb773_b606_3d46_16a5);
    assert_eq!(value(1), 0x1160_af22_a66a_bc3c);
}

#[test]
fn generators_of_the_program_must_repeat() {
    // On the heap, or in a stack: they are the program's, and stay.
    let mut stopped = Stopped::new();
    let patches = stopped.generators().unwrap();
    stopped.generator(0x18000, 3, 32, 4);
    stopped.generator(END, 3, 32, 4);
    stopped.set(END + 304, 1);
    assert_eq!(stopped.generators().unwrap(), patches);
    // Among its variables: they cannot be told apart.
    for at in [VARIABLES, 0x7000, 0x9000, 0xac00, END - 304] {
        let mut stopped = Stopped::new();
        stopped.generator(at, 3, 32, 4);
        let why = stopped.generators().unwrap_err();
        assert!(why.contains("others like them"), "{why}");
    }
}

#[test]
fn generators_that_are_not_certain_are_none() {
    let changes: [(&str, fn(&mut Stopped)); 13] = [
        // Not as the block says.
        ("two", |stopped| {
            stopped.memory[GLOBAL_RAND as usize + 17] ^= 1
        }),
        ("two", |stopped| {
            stopped.memory[OWN_RAND as usize + 256] ^= 1
        }),
        ("two", |stopped| stopped.memory[OWN_RAND as usize + 296] = 8),
        ("two", |stopped| {
            stopped.memory[OWN_RAND as usize + 288] = 29
        }),
        // Not where they belong.
        ("two", |stopped| stopped.set(GLOBAL_RAND - 8, 1)),
        ("two", |stopped| stopped.set(GLOBAL_RAND - 40, 1)),
        ("two", |stopped| stopped.set(GLOBAL_RAND + 304, 2)),
        ("two", |stopped| {
            stopped.memory[OWN_RAND as usize..][..304].fill(0);
            stopped.generator(M0 + 2048, 3, 32, 4);
        }),
        ("none", |stopped| {
            stopped.memory[OWN_RAND as usize..][..304].fill(0);
            stopped.memory[GLOBAL_RAND as usize..][..304].fill(0);
        }),
        // Nobody knows where the variables are.
        ("no table", |stopped| {
            stopped.set(PCLNTAB, 0x0801_0000_ffff_fff0)
        }),
        ("no table", |stopped| {
            stopped.set(MODULE_DATA + 8 * 24, END + 8)
        }),
        ("too many", |stopped| {
            // i = 8, n = 32, c = 8, i = 32, … in one place after another, of which none is a generator.
            stopped.memory.resize(0x40000, 0);
            stopped.set(MODULE_DATA + 8 * 34, 0x40000);
            for at in (0x20000..0x40000).step_by(8) {
                stopped.set(at, 8 | 32 << 32);
            }
        }),
        ("two tables", |stopped| {
            let table = MODULE_DATA as usize;
            stopped.memory.copy_within(table..table + 280, table + 320);
        }),
    ];
    for (why, change) in changes {
        let mut stopped = Stopped::new();
        change(&mut stopped);
        let refused = stopped.generators().unwrap_err();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn stamps_of_the_collector_are_found() {
    let mut stopped = Stopped::new();
    assert!(collector_stamps(&stopped.go, &stopped.memory).is_empty());
    let times = [1_795_000_000_123_456_789, 1_795_000_000_223_456_789];
    stopped.set(MEMSTATS, times[1]);
    stopped.set(MEMSTATS + 8, 70_000);
    for (cycle, (pause, end)) in [30_000, 40_000].into_iter().zip(times).enumerate() {
        stopped.set(MEMSTATS + 16 + 8 * cycle as u64, pause);
        stopped.set(MEMSTATS + 2064 + 8 * cycle as u64, end);
    }
    stopped.set(MEMSTATS + 4112, 2 | 1 << 32);
    let found = |stopped: &Stopped| collector_stamps(&stopped.go, &stopped.memory);
    assert_eq!(found(&stopped), times);
    // A program's own readings are none, wherever they stand.
    stopped.set(VARIABLES, times[0] + 1);
    assert_eq!(found(&stopped), times);
    for (at, value) in [
        (0, times[0]),
        (8, 70_001),
        (16 + 8 * 2, 1),
        (2064, 0),
        (2064 + 8, times[0]),
        (2064 + 8 * 200, times[0]),
        (4112, 3),
        (4112, 257),
        (4112, 0),
    ] {
        let mut stopped = stopped.clone();
        stopped.set(MEMSTATS + at, value);
        assert!(found(&stopped).is_empty(), "{at} {value}");
    }
}

#[test]
fn any_state_is_survived() {
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
        let place = next() % 0x20000 & !7;
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
