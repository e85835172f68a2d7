//! Tests of which states are parked, and which are refused.

use super::*;

#[test]
fn parking_writes_where_to_continue_and_nothing_else() {
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
        // main.main, but not called by runtime.main.
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
fn states_that_are_not_of_a_running_goroutine_are_refused() {
    let changes: [Change; 15] = [
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
fn stacks_that_do_not_lead_from_a_read_to_goexit_are_refused() {
    let changes: [Change; 14] = [
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
        // A wrong stack pointer, or frames of another size.
        ("return address", |stopped| {
            stopped.register(SP, stopped.sp() - 8);
        }),
        ("end at goexit", |stopped| stopped.set(G1 + 8, HI - 16)),
        // Changes at its end.
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
