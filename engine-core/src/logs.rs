//! The log lines of one call: stderr split into lines, and `gojinn.host_log` records, in the order they came.
//!
//! They are kept packed, as they cross the C ABI: per line one byte of level, four bytes of length (little endian), the
//! bytes. Nothing is interpreted here; escaping and JSON lines are the business of whoever writes the log.

/// The level byte of a line of stderr, which has no level of its own.
pub const STDERR: u8 = 255;

/// Bytes in front of each packed line.
const HEADER: usize = 5;

/// The longest line kept whole; the rest of a longer one is dropped and counted.
const LINE_MAX: usize = 8 * 1024;

/// Bounded log lines.
#[derive(Debug)]
pub struct Logs {
    packed: Vec<u8>,
    /// The unfinished last line of stderr.
    partial: Vec<u8>,
    limit: usize,
    dropped: u64,
}

impl Logs {
    /// No lines yet; at most `limit` packed bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            packed: Vec::new(),
            partial: Vec::new(),
            limit,
            dropped: 0,
        }
    }

    /// Takes bytes the guest wrote to stderr. Never fails: what exceeds the bounds is counted as dropped.
    pub fn stderr(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.extend_partial(&rest[..end]);
            self.finish_partial();
            rest = &rest[end + 1..];
        }
        self.extend_partial(rest);
    }

    /// Takes one `host_log` record. Levels: 0 debug, 1 info, 2 warn, 3 error; others count as the nearest.
    pub fn record(&mut self, level: i32, bytes: &[u8]) {
        let kept = &bytes[..bytes.len().min(LINE_MAX)];
        self.dropped += (bytes.len() - kept.len()) as u64;
        self.push(level.clamp(0, 3) as u8, kept);
    }

    /// Ends an unfinished line and hands out the packed lines and how many bytes were dropped.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, u64) {
        if !self.partial.is_empty() {
            self.finish_partial();
        }
        (self.packed, self.dropped)
    }

    fn extend_partial(&mut self, bytes: &[u8]) {
        let room = LINE_MAX - self.partial.len();
        let kept = &bytes[..bytes.len().min(room)];
        self.partial.extend_from_slice(kept);
        self.dropped += (bytes.len() - kept.len()) as u64;
    }

    fn finish_partial(&mut self) {
        let line = std::mem::take(&mut self.partial);
        self.push(STDERR, &line);
        self.partial = line;
        self.partial.clear();
    }

    fn push(&mut self, level: u8, line: &[u8]) {
        if self.packed.len() + HEADER + line.len() > self.limit {
            self.dropped += line.len() as u64;
            return;
        }
        self.packed.push(level);
        self.packed
            .extend_from_slice(&(line.len() as u32).to_le_bytes());
        self.packed.extend_from_slice(line);
    }
}

/// Takes packed lines apart: (level, bytes). Stops at the first malformed one.
pub fn lines(mut packed: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&level, rest) = packed.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (line, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        packed = rest;
        Some((level, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(packed: &[u8]) -> Vec<(u8, String)> {
        lines(packed)
            .map(|(level, line)| (level, String::from_utf8_lossy(line).into_owned()))
            .collect()
    }

    #[test]
    fn stderr_is_split_into_lines_and_keeps_its_place_among_records() {
        let mut logs = Logs::new(1000);
        logs.stderr(b"one\ntw");
        logs.record(2, b"careful");
        logs.stderr(b"o\nthree");
        let (packed, dropped) = logs.finish();
        assert_eq!(dropped, 0);
        assert_eq!(
            all(&packed),
            [
                (STDERR, "one".into()),
                (2, "careful".into()),
                (STDERR, "two".into()),
                (STDERR, "three".into())
            ]
        );
    }

    #[test]
    fn what_exceeds_the_bounds_is_counted() {
        let mut logs = Logs::new(20);
        logs.stderr(b"0123456789\n0123456789\nabc");
        let (packed, dropped) = logs.finish();
        assert_eq!(all(&packed), [(STDERR, "0123456789".into())]);
        assert_eq!(dropped, 13);

        let mut logs = Logs::new(1 << 20);
        logs.stderr(&vec![b'x'; LINE_MAX + 7]);
        logs.stderr(b"y\n");
        let (packed, dropped) = logs.finish();
        assert_eq!(all(&packed)[0].1.len(), LINE_MAX);
        assert_eq!(dropped, 8);
    }
}
