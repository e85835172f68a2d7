//! Tests of the pool as a whole: a sandbox always gets pristine memory.

pub(super) mod faults;

mod failing;
#[cfg(target_os = "linux")]
mod leaks;
mod pristine;
mod sharing;

use std::os::fd::AsRawFd;

use super::reservation::page_size;
use super::{Image, PoolConfig, ResetMode, Slot};
use crate::limits::PAGE;

const WASM_PAGE: usize = PAGE as usize;

/// 192 KiB of image with holes in it, then 128 KiB of zeros: small enough for every reset mode.
const SPAN: usize = 3 * WASM_PAGE;
const LEN: usize = 5 * WASM_PAGE;

fn config(reset: ResetMode) -> PoolConfig {
    PoolConfig {
        slots: 32,
        keep_resident: 2 << 20,
        keep_resident_total: 64 << 20,
        reset,
    }
}

/// The bytes of an image, different for every `seed`; every third page is a hole.
fn bytes(seed: u64) -> Vec<u8> {
    let mut random = Random(seed + 1);
    let mut bytes = vec![0; LEN];
    for (index, page) in bytes[..SPAN].chunks_mut(page_size()).enumerate() {
        if index % 3 != 1 {
            page.fill_with(|| random.next() as u8 | 1);
        }
    }
    bytes
}

fn image(bytes: &[u8]) -> Image {
    Image::from_bytes(bytes).expect("an image")
}

/// The same image as [`image`], which shares most of its pages with another one.
fn image_over_another(bytes: &[u8]) -> Image {
    let mut initial = bytes.to_vec();
    for at in [2 * page_size(), SPAN - 9 * page_size()] {
        initial[at] ^= 1;
    }
    Image::from_bytes_over(bytes, &image(&initial)).expect("an image")
}

/// A small random generator with a seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn read(slot: &Slot, offset: usize) -> u8 {
    assert!(offset < slot.len());
    // SAFETY: accessible, and the slot is ours.
    unsafe { slot.base().add(offset).read_volatile() }
}

fn write(slot: &mut Slot, offset: usize, byte: u8) {
    assert!(offset < slot.len());
    // SAFETY: accessible, and the slot is ours alone.
    unsafe { slot.base().add(offset).write_volatile(byte) }
}

fn content(slot: &Slot) -> &[u8] {
    // SAFETY: accessible, and writing needs `&mut Slot`, so not while `slot` is borrowed.
    unsafe { std::slice::from_raw_parts(slot.base(), slot.len()) }
}

/// Whether the byte at `offset` can be read. Asks the kernel, so that the test does not crash if it cannot.
fn is_accessible(slot: &Slot, offset: usize) -> bool {
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let from = slot.base().wrapping_add(offset);
    // SAFETY: reads one byte at `from`, or fails where that is not readable.
    unsafe { libc::write(writer.as_raw_fd(), from.cast(), 1) == 1 }
}

fn assert_pristine(slot: &Slot, expected: &[u8]) {
    assert_eq!(slot.len(), expected.len());
    let wrong = content(slot).iter().zip(expected).position(|(a, b)| a != b);
    if let Some(offset) = wrong {
        panic!(
            "byte {offset} is {:#x}, expected {:#x}",
            read(slot, offset),
            expected[offset]
        );
    }
    for offset in [
        slot.len(),
        slot.len() + WASM_PAGE,
        super::RESERVED - 1,
        super::RESERVED,
        super::RESERVED + super::GUARD - 1,
    ] {
        assert!(!is_accessible(slot, offset), "{offset} is accessible");
    }
}
