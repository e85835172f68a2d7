//! Finds a program's package-level variables. Everything outside of them is its heap.

use std::ops::Range;

use super::word;
use crate::go::GoCommand;

/// The beginning of the table of functions: its magic number since Go 1.20, and the sizes of an instruction and of a
/// pointer.
const PCLNTAB: u64 = 0x0801_0000_ffff_fff1;

/// The lowest program counter.
const FIRST_PC: u64 = 0x1000 << 16;

/// Offsets of fields of `runtime.firstmoduledata`, in words.
const PC_HEADER: usize = 0;
const MIN_PC: usize = 20;
const MAX_PC: usize = 21;
const NOPTRDATA: usize = 24;
const BSS: usize = 28;
const EBSS: usize = 29;
const NOPTRBSS: usize = 30;
const ENOPTRBSS: usize = 31;
const END: usize = 34;

/// The addresses of all variables, initialised or not, and of nothing else. They are in `runtime.firstmoduledata`,
/// which is found by what it must contain.
pub(super) fn variables(go: &GoCommand, memory: &[u8]) -> Result<Range<u64>, String> {
    let mut found = None;
    // It is before the variables that are zero at the start, such as m0.
    let end = u64::from(go.m0).min(memory.len() as u64);
    for at in (0..end).step_by(8) {
        if word(memory, at + 8 * MIN_PC as u64) != Some(FIRST_PC) {
            continue;
        }
        let Some(range) = module_data(go, memory, at) else {
            continue;
        };
        if found.replace(range).is_some() {
            return Err(
                "its variables are not found: two tables could say where they are".to_owned(),
            );
        }
    }
    found.ok_or_else(|| "its variables are not found: no table says where they are".to_owned())
}

/// Reads `moduledata` at an address, if there is one.
fn module_data(go: &GoCommand, memory: &[u8], at: u64) -> Option<Range<u64>> {
    let mut words = [0; END + 1];
    for (index, field) in words.iter_mut().enumerate() {
        *field = word(memory, at + 8 * index as u64)?;
    }
    let bounds = &words[NOPTRDATA..=END];
    let zeroed = [words[BSS]..words[EBSS], words[NOPTRBSS]..words[ENOPTRBSS]];
    let is_zeroed = |at: u32| zeroed.iter().any(|range| range.contains(&at.into()));
    let plausible = word(memory, words[PC_HEADER]) == Some(PCLNTAB)
        && words[MAX_PC] > FIRST_PC
        && bounds.is_sorted()
        && words[END] <= memory.len() as u64
        && bounds[0] % 8 == 0
        && is_zeroed(go.m0)
        && is_zeroed(go.g0);
    plausible.then(|| words[NOPTRDATA]..words[END])
}
