//! Tests of which ends are rewound, and to where.

use super::*;
use crate::go::CTXT;

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
    // It gets to the same read again.
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
    // In another goroutine, even with the same frames.
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
    // With deferred calls, which would be there twice.
    refuses(|stopped| stopped.set(G1 + 40, 0x1234), "deferred");
}
