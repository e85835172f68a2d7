//! Makes an input that shows a fault smaller, while it still shows the fault.

/// The maximum number of tries for one input.
const TRIES: usize = 2000;

/// A smaller `input` for which `bad` is still true. Removes runs of bytes, long ones first, and then replaces bytes by
/// simple ones.
pub(crate) fn shrink(input: &[u8], mut bad: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut tries = 0;
    let mut run = best.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < best.len() && tries < TRIES {
            tries += 1;
            let mut shorter = best.clone();
            shorter.drain(at..(at + run).min(best.len()));
            if bad(&shorter) {
                best = shorter;
            } else {
                at += run;
            }
        }
        if run == 1 || tries >= TRIES {
            break;
        }
        run = run.div_ceil(2);
    }
    for at in 0..best.len() {
        if best[at] == b'0' || tries >= TRIES {
            continue;
        }
        tries += 1;
        let mut plainer = best.clone();
        plainer[at] = b'0';
        if bad(&plainer) {
            best = plainer;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_makes_it_bad_stays() {
        let bad = |bytes: &[u8]| {
            let x = bytes.iter().position(|&byte| byte == b'x');
            x.is_some_and(|x| bytes[x..].contains(&b'y'))
        };
        assert_eq!(shrink(b"some x and then y, and more", bad), b"xy");
        assert_eq!(shrink(b"four", |bytes| bytes.len() >= 3), b"000");
        assert_eq!(shrink(b"", |_| true), b"");
    }
}
