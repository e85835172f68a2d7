//! A small mutator without coverage, with which [`crate::standalone`] changes seeds.

/// Xorshift random numbers: the same seed gives the same run on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        // Xorshift never leaves the state 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // Use the high half: the low bits of xorshift are the least random.
        ((self.next() >> 32) as usize)
            .checked_rem(bound)
            .unwrap_or(0)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// Bytes at the edges of ranges.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b' ', b'"', b'\\'];

/// One of the `seeds`, with a few changes.
pub(crate) fn mutate(
    rng: &mut Rng,
    seeds: &[Vec<u8>],
    dictionary: &[&[u8]],
    max_len: usize,
) -> Vec<u8> {
    let mut bytes = rng.pick(seeds).cloned().unwrap_or_default();
    // Mostly one or two changes: many changes would leave nothing of a seed's meaning.
    let changes = 1 + rng.below(3) * rng.below(4);
    for _ in 0..changes {
        change(rng, &mut bytes, seeds, dictionary);
    }
    bytes.truncate(max_len);
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], dictionary: &[&[u8]]) {
    let at = rng.below(bytes.len() + 1);
    let end = (at + 1 + rng.below(8)).min(bytes.len());
    match rng.below(10) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.next() as u8;
            }
        }
        2 => {
            if let (Some(byte), Some(edge)) = (bytes.get_mut(at), rng.pick(&EDGES)) {
                *byte = *edge;
            }
        }
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = byte.wrapping_add(rng.below(9) as u8).wrapping_sub(4);
            }
        }
        4 => bytes.insert(at, rng.next() as u8),
        5 => drop(bytes.drain(at..end)),
        6 => {
            let copy = bytes[at..end].to_vec();
            let to = rng.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        7 | 8 => {
            if let Some(word) = rng.pick(dictionary) {
                // Half of the time it replaces something.
                let end = if rng.below(2) == 0 { at } else { end };
                bytes.splice(at..end, word.iter().copied());
            }
        }
        _ => {
            // The front of this seed and the back of another.
            if let Some(other) = rng.pick(seeds) {
                let from = rng.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_run_and_another_one_another() {
        let seeds = [b"hello, world".to_vec(), b"{}".to_vec()];
        let run = |seed| -> Vec<Vec<u8>> {
            let mut rng = Rng::new(seed);
            (0..100)
                .map(|_| mutate(&mut rng, &seeds, &[b"word"], 20))
                .collect()
        };
        assert_eq!(run(0), run(0));
        assert_ne!(run(0), run(1));
        assert!(run(7).iter().all(|bytes| bytes.len() <= 20));
        assert!(run(7).iter().collect::<HashSet<_>>().len() > 50);
    }

    #[test]
    fn it_starts_from_nothing_too() {
        let mut rng = Rng::new(3);
        let made = (0..200).map(|_| mutate(&mut rng, &[], &[b"ab"], 8));
        assert!(made.collect::<HashSet<_>>().contains(b"ab".as_slice()));
    }
}
