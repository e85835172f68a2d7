//! The generators behind Go's `math/rand`, `maphash.MakeSeed` and the order of maps, which must start anew in every sandbox.
//!
//! They are ChaCha8 (`internal/chacha8rand`, Go 1.22 and later): one in the variable `runtime.globalRand`, and one in the only
//! thread, `m0`. A program's own `rand.NewChaCha8(seed)` is the same structure, and must repeat.
//!
//! ```text
//!   offset 0    buf  [32]uint64   the block that the seed and c give
//!          256  seed [4]uint64
//!          288  i    uint32       values used of buf
//!          292  n    uint32       values in buf
//!          296  c    uint32       the block's counter, which grows by 4 up to 12; then the end of buf becomes the seed
//! ```
//!
//! Before it is patched, the program's state must hold the very blocks: what was patched and has not run since is not found.

use super::{Globals, Goroutine, half_word, statics, word};
use crate::go::GoCommand;
use crate::start::Patch;

const BLOCK: usize = 256;
const SEED: usize = 32;
/// Size of a generator, which ends in four bytes that are not used.
const STATE: u64 = 304;

/// The most places at which a block is computed: in Go's variables there are about a hundred that could be a generator.
const MOST_TRIED: usize = 10_000;

/// The most bytes an `m` has: in memory of a size class of its own, it must have room for flags in pointers to it.
const M_SIZE: u64 = 2048;

/// What makes the runtime's generators start anew: fresh seeds, and blocks that are used up.
///
/// `Err`: they are not found, or there are others among the program's variables.
pub(crate) fn generators(
    go: &GoCommand,
    memory: &[u8],
    globals: &Globals,
) -> Result<Vec<Patch>, String> {
    // That its thread is m0 is part of it.
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
        return strange("too many places look like it");
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
        // Used up: i = n. The next block's counter is c + 4.
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
    // Behind the thread's own generator is the state of a cheap one, which decides between the ready cases of a select: eight
    // bytes, not both halves 0. There is no telling it by its value, but by the code that steps it.
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

/// Whether a generator in use stands at an address. Counts the blocks that are computed, and computes no more than enough.
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
    // The last block of a seed keeps four values back for the next.
    let counts = matches!((n, c), (32, 0 | 4 | 8) | (28, 12)) && i <= n;
    if !counts || *tried > MOST_TRIED {
        return false;
    }
    *tried += 1;
    let mut seed = [0; SEED];
    seed.copy_from_slice(&state[BLOCK..BLOCK + SEED]);
    block(&seed, c) == state[..BLOCK]
}

/// A block of ChaCha8 as `chacha8rand` makes it: four blocks with successive counters, interlaced, without the key added to the
/// words that are known.
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
