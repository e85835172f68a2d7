//! Finds the generators behind Go's `math/rand`, `maphash.MakeSeed` and the order of maps, which need a new seed in every
//! sandbox.
//!
//! They are ChaCha8 (`internal/chacha8rand`, Go 1.22 and later): one in the variable `runtime.globalRand`, and one in
//! the only thread, `m0`. A program's own `rand.NewChaCha8(seed)` is the same structure, but must keep its seed.
//!
//! ```text
//!   offset 0    buf  [32]uint64   the block for the seed and c
//!          256  seed [4]uint64
//!          288  i    uint32       values used of buf
//!          292  n    uint32       values in buf
//!          296  c    uint32       the block's counter, which grows by 4 up to 12; then the end of buf becomes the seed
//! ```
//!
//! The program's state must hold the exact blocks. So generators that were patched and have not run since are not found.

use super::{Globals, Goroutine, half_word, statics, word};
use crate::go::GoCommand;
use crate::start::Patch;

const BLOCK: usize = 256;
const SEED: usize = 32;
/// The size of a generator, which ends with four unused bytes.
const STATE: u64 = 304;

/// The maximum number of addresses at which a block is computed. In Go's variables there are about a hundred candidates.
const MOST_TRIED: usize = 10_000;

/// The maximum size of an `m`, which is allocated in a size class of this size, so that pointers to it have room for
/// flags.
const M_SIZE: u64 = 2048;

/// The patches that give the runtime's generators new seeds and mark their blocks as used up.
///
/// `Err` if they are not found, or if the program's variables contain others.
pub(crate) fn generators(
    go: &GoCommand,
    memory: &[u8],
    globals: &Globals,
) -> Result<Vec<Patch>, String> {
    // This checks that the only thread is m0.
    Goroutine::running(go, memory, globals)?;
    let variables = statics::variables(go, memory)?;
    let strange = |what: &str| {
        Err(format!(
            "the state of Go's random generators is not found: {what}"
        ))
    };
    let mut tried = 0;
    let found: Vec<u64> = variables
        .step_by(8)
        .filter(|&at| is_generator(memory, at, &mut tried))
        .take(3)
        .collect();
    if tried > MOST_TRIED {
        return strange("too many addresses look like one");
    }
    if found.len() > 2 {
        return strange("the program has others like them among its variables");
    }
    let (global, others): (Vec<u64>, Vec<u64>) =
        found.into_iter().partition(|&at| is_global(memory, at));
    let m0 = u64::from(go.m0);
    match (&global[..], &others[..]) {
        ([_], [own]) if *own > m0 && own + STATE <= m0 + M_SIZE => {}
        ([], []) => return strange("there is none, as up to Go 1.21"),
        _ => return strange("there are not the two that belong to the runtime"),
    }
    let mut patches = Vec::new();
    for at in [global[0], others[0]] {
        // i = n marks the block as used up. The next block's counter is c + 4.
        let n = half_word(memory, at + 292).unwrap_or_default();
        let mut used = [0; 12];
        used[..4].copy_from_slice(&n.to_le_bytes());
        used[4..8].copy_from_slice(&n.to_le_bytes());
        patches.push(Patch::Random {
            at: at + BLOCK as u64,
            len: SEED as u32,
        });
        patches.push(Patch::Bytes {
            at: at + (BLOCK + SEED) as u64,
            bytes: Box::new(used),
        });
    }
    // After the thread's generator is the state of a cheap generator, which chooses between the ready cases of a
    // select: eight bytes, of which not both halves are 0. It cannot be recognised by its value, but by the code that
    // steps it.
    let cheap = others[0] + STATE;
    if u32::try_from(cheap - m0).is_ok_and(|offset| go.steps_cheaprand(offset)) {
        patches.push(Patch::Random { at: cheap, len: 8 });
    }
    Ok(patches)
}

/// Whether the fields around a generator are those of `runtime.globalRand`: a lock, a seed that was cleared, and `init`.
fn is_global(memory: &[u8], at: u64) -> bool {
    let before = at
        .checked_sub(40)
        .is_some_and(|start| (start..at).step_by(8).all(|at| word(memory, at) == Some(0)));
    before && word(memory, at + STATE) == Some(1)
}

/// Whether there is a generator in use at an address. Counts in `tried` the blocks that it computes, and stops at a
/// maximum.
fn is_generator(memory: &[u8], at: u64, tried: &mut usize) -> bool {
    let Some(state) = usize::try_from(at)
        .ok()
        .and_then(|at| memory.get(at..)?.first_chunk::<{ STATE as usize }>())
    else {
        return false;
    };
    let field = |offset: usize| {
        u32::from_le_bytes([
            state[offset],
            state[offset + 1],
            state[offset + 2],
            state[offset + 3],
        ])
    };
    let (i, n, c) = (field(288), field(292), field(296));
    // The last block of a seed reserves four values for the next seed.
    let counts = matches!((n, c), (32, 0 | 4 | 8) | (28, 12)) && i <= n;
    if !counts || *tried > MOST_TRIED {
        return false;
    }
    *tried += 1;
    let mut seed = [0; SEED];
    seed.copy_from_slice(&state[BLOCK..BLOCK + SEED]);
    block(&seed, c) == state[..BLOCK]
}

/// A block of ChaCha8 as `chacha8rand` makes it: four blocks with consecutive counters, interlaced, and the key added
/// to the words of the key only.
pub(super) fn block(seed: &[u8; SEED], counter: u32) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    for lane in 0..4 {
        let mut key = [0u32; 16];
        key[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
        for (word, bytes) in key[4..12].iter_mut().zip(seed.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        key[12] = counter + lane;
        let mut x = key;
        for _ in 0..4 {
            for [a, b, c, d] in ROUNDS {
                quarter(&mut x, a, b, c, d);
            }
        }
        for (index, (word, key)) in x.iter().zip(key).enumerate() {
            let word = if (4..12).contains(&index) {
                word.wrapping_add(key)
            } else {
                *word
            };
            let at = 16 * index + 4 * lane as usize;
            out[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
    }
    out
}

/// A column round and a diagonal round.
const ROUNDS: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

fn quarter(x: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    x[a] = x[a].wrapping_add(x[b]);
    x[d] = (x[d] ^ x[a]).rotate_left(16);
    x[c] = x[c].wrapping_add(x[d]);
    x[b] = (x[b] ^ x[c]).rotate_left(12);
    x[a] = x[a].wrapping_add(x[b]);
    x[d] = (x[d] ^ x[a]).rotate_left(8);
    x[c] = x[c].wrapping_add(x[d]);
    x[b] = (x[b] ^ x[c]).rotate_left(7);
}
