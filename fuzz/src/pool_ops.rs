//! Compares the slots of a memory pool with plain vectors, whatever is done to them in whatever order.
//!
//! ```text
//!   bytes ──▶ take an image's slot, write, grow, reset, renew, give back, drop an image ──▶ each slot = its vector?
//! ```

use std::rc::Rc;
use std::sync::OnceLock;

use engine_core::PAGE;
use engine_core::memory::{Image, Pool, PoolConfig, ResetMode, Slot};

use crate::Target;
use crate::cursor::Cursor;
use crate::report::Disagreement;

/// The target, as the module documentation describes it.
pub const TARGET: Target = Target {
    name: "pool_ops",
    check,
    dictionary: &[],
    max_len: 2048,
};

const WASM_PAGE: usize = PAGE as usize;

/// How far a slot may grow.
const MOST: usize = 6 * WASM_PAGE;

/// How many slots there are.
const SLOTS: usize = 3;

/// The ways in which slots are reset. A mode that the system does not have is left out.
const MODES: [ResetMode; 3] = [ResetMode::Copy, ResetMode::Madvise, ResetMode::Scan];

fn check(input: &[u8]) -> Result<(), Disagreement> {
    static POOLS: OnceLock<Vec<Pool>> = OnceLock::new();
    let pools = POOLS.get_or_init(|| {
        let make = |reset| {
            let config = PoolConfig {
                slots: SLOTS,
                keep_resident: 3 * 4096,
                keep_resident_total: 1 << 20,
                reset,
            };
            Pool::new(config).ok()
        };
        MODES.into_iter().filter_map(make).collect()
    });
    if pools.is_empty() {
        return Err(wrong("pools", 0, "none can be made"));
    }
    pools.iter().try_for_each(|pool| agrees(pool, input))
}

/// A slot that was taken.
struct Taken {
    slot: Slot,
    /// The content of its image, which may be dropped before it.
    content: Rc<Vec<u8>>,
    /// What must be in it.
    expected: Vec<u8>,
}

fn agrees(pool: &Pool, input: &[u8]) -> Result<(), Disagreement> {
    let mut bytes = Cursor::new(input);
    let mut images: Vec<Option<(Image, Rc<Vec<u8>>)>> = (0..3).map(|_| None).collect();
    let mut taken: Vec<Taken> = Vec::new();
    let mut step = 0;
    while !bytes.is_empty() {
        step += 1;
        let op = bytes.byte();
        let at = usize::from(bytes.byte());
        let value = u16::from_le_bytes(bytes.array()) as usize;
        match op % 8 {
            0 => {
                images[at % 3] =
                    Some(image(at, value).map_err(|error| wrong("image", step, &error))?)
            }
            1 => {
                // Those that hold the image's slots keep them.
                images[at % 3] = None;
            }
            2 | 3 => {
                let Some((image, content)) = &images[at % 3] else {
                    continue;
                };
                match pool.slot(image, MOST as u64) {
                    Ok(slot) if taken.len() < SLOTS => taken.push(Taken {
                        slot,
                        content: Rc::clone(content),
                        expected: content.to_vec(),
                    }),
                    Ok(_) => return Err(wrong("slots", step, "more than there are")),
                    Err(_) if taken.len() == SLOTS => {}
                    Err(error) => return Err(wrong("a slot", step, &error.to_string())),
                }
            }
            4 => {
                let Some(one) = pick(&mut taken, at) else {
                    continue;
                };
                // Writes a run of bytes, whose place and length the value says.
                let len = one.expected.len();
                if len == 0 {
                    continue;
                }
                let from = value * 7 % len;
                let to = (from + 1 + value % 9000).min(len);
                one.expected[from..to].fill(op);
                // SAFETY: the slot's first `len` bytes are accessible (`len` is that of the slot, which is compared below), no
                // other reference into them exists, and they belong to this slot.
                unsafe { std::slice::from_raw_parts_mut(one.slot.base(), len)[from..to].fill(op) };
            }
            5 => {
                let Some(one) = pick(&mut taken, at) else {
                    continue;
                };
                let to = value * 11 % (MOST + WASM_PAGE);
                match one.slot.grow_to(to) {
                    Ok(()) if to <= MOST => {
                        let to = to.next_multiple_of(WASM_PAGE).max(one.expected.len());
                        one.expected.resize(to, 0);
                    }
                    Err(_) if to > MOST => {}
                    other => return Err(wrong("a growth", step, &format!("{other:?} to {to}"))),
                }
            }
            6 => {
                if taken.is_empty() {
                    continue;
                }
                let mut one = taken.swap_remove(at % taken.len());
                // An instance that is used again keeps its slot.
                let pristine = if value.is_multiple_of(4) {
                    one.slot.renew()
                } else {
                    one.slot.reset()
                };
                one.slot = pristine.map_err(|error| wrong("a reset", step, &error.to_string()))?;
                one.expected.clone_from(&one.content);
                taken.push(one);
            }
            _ => {
                if !taken.is_empty() {
                    drop(taken.swap_remove(at % taken.len()));
                }
            }
        }
        for one in &taken {
            compare(pool, step, one)?;
        }
    }
    Ok(())
}

fn pick(taken: &mut [Taken], at: usize) -> Option<&mut Taken> {
    let count = taken.len();
    taken.get_mut(at.checked_rem(count)?)
}

/// An image of one to four pages with some runs of bytes, and its content.
fn image(at: usize, value: usize) -> Result<(Image, Rc<Vec<u8>>), String> {
    let len = (1 + at % 4) * WASM_PAGE;
    let mut content = vec![0; len];
    for run in 0..value % 5 {
        let from = (value * 131 * (run + 1)) % len;
        let to = (from + 1 + value % 5000).min(len);
        content[from..to].fill((value + run) as u8);
    }
    let image = Image::from_bytes(&content).map_err(|error| error.to_string())?;
    Ok((image, Rc::new(content)))
}

fn compare(pool: &Pool, step: usize, one: &Taken) -> Result<(), Disagreement> {
    let len = one.slot.len();
    if len != one.expected.len() {
        return Err(wrong(
            "a length",
            step,
            &format!("{len}, not {}", one.expected.len()),
        ));
    }
    // SAFETY: the slot's first `len` bytes are accessible, and nothing writes to them here.
    let memory = unsafe { std::slice::from_raw_parts(one.slot.base(), len) };
    if memory == one.expected {
        return Ok(());
    }
    let at = memory
        .iter()
        .zip(&one.expected)
        .position(|(is, must)| is != must)
        .unwrap_or(0);
    Err(wrong(
        "what a slot holds",
        step,
        &format!(
            "byte {at} of {len} is {}, not {}, with the reset {:?}",
            memory[at],
            one.expected[at],
            pool.reset_mode()
        ),
    ))
}

fn wrong(about: &str, step: usize, is: &str) -> Disagreement {
    Disagreement::new(
        about,
        ("pool", format!("{is}, in step {step}")),
        ("expected", "as the model".to_owned()),
    )
}
