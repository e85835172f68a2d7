//! Tests of which generators get new seeds.

use super::*;

#[test]
fn generators_get_new_seeds() {
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
fn a_cheap_generator_at_another_offset_is_left_alone() {
    let mut stopped = Stopped::new();
    stopped.memory[OWN_RAND as usize..][..304].fill(0);
    stopped.generator(OWN_RAND - 8, 6, 28, 12);
    assert_eq!(stopped.generators().unwrap().len(), 4);
}

#[test]
fn a_block_is_what_go_computes() {
    // From the tests of Go's internal/chacha8rand, and of c2sp.org/chacha8rand.
    let block = super::super::random::block(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ123456", 0);
    let value = |index: usize| u64::from_le_bytes(block[8 * index..][..8].try_into().unwrap());
    assert_eq!(value(0), 0xb773_b606_3d46_16a5);
    assert_eq!(value(1), 0x1160_af22_a66a_bc3c);
}

#[test]
fn generators_of_the_program_must_repeat() {
    // On the heap or in a stack they belong to the program, and stay.
    let mut stopped = Stopped::new();
    let patches = stopped.generators().unwrap();
    stopped.generator(0x18000, 3, 32, 4);
    stopped.generator(END, 3, 32, 4);
    stopped.set(END + 304, 1);
    assert_eq!(stopped.generators().unwrap(), patches);
    // Among its variables they cannot be told from the runtime's.
    for at in [VARIABLES, 0x7000, 0x9000, 0xac00, END - 304] {
        let mut stopped = Stopped::new();
        stopped.generator(at, 3, 32, 4);
        let why = stopped.generators().unwrap_err();
        assert!(why.contains("others like them"), "{why}");
    }
}

#[test]
fn uncertain_generators_are_refused() {
    let changes: [Change; 13] = [
        // The block is not that of the seed.
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
        // They are at other addresses.
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
        // The variables are not found.
        ("no table", |stopped| {
            stopped.set(PCLNTAB, 0x0801_0000_ffff_fff0)
        }),
        ("no table", |stopped| {
            stopped.set(MODULE_DATA + 8 * 24, END + 8)
        }),
        ("too many", |stopped| {
            // i = 8, n = 32, c = 8, i = 32, … at consecutive addresses, none of which is a generator.
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
