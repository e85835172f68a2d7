//! The log lines of one call: stderr split into lines, and `gojinn.host_log` records, in the order they came.
//!
//! They are kept packed, as they cross the C ABI: for each line one byte with the level, four bytes with the length
//! (little endian), and the bytes. Nothing is interpreted here: the host that writes the log escapes the bytes and
//! parses JSON lines.

/// The level byte of a line of stderr, which has no level.
pub const STDERR: u8 = 255;

/// Bytes in front of each packed line.
const HEADER: usize = 5;

/// The longest line that is kept whole. The rest of a longer line is dropped and counted.
const LINE_MAX: usize = 8 * 1024;

/// The limit has room for one line in each so many bytes. Writing a line to the log costs much more than its bytes: it
/// becomes a record with a time, a function and a trace id.
const BYTES_FOR_LINE: usize = 64;

/// The number of lines for which there is always room.
const LINES_LEAST: usize = 16;

/// The log lines of one call, up to a limit.
#[derive(Debug)]
pub struct Logs {
    packed: Vec<u8>,
    /// The unfinished last line of stderr.
    partial: Vec<u8>,
    /// Packed bytes and lines that there is still room for.
    room: (usize, usize),
    dropped: Dropped,
}

/// What was not kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dropped {
    /// Bytes of whole lines, and of the ends of lines that were too long.
    pub bytes: u64,
    /// Whole lines.
    pub lines: u64,
}

impl Logs {
    /// No lines yet, and room for `limit` packed bytes and for one line in each `BYTES_FOR_LINE` of them.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            packed: Vec::new(),
            partial: Vec::new(),
            room: (limit, LINES_LEAST.max(limit / BYTES_FOR_LINE)),
            dropped: Dropped::default(),
        }
    }

    /// Adds bytes that the guest wrote to stderr. Never fails: bytes beyond the limits are counted as dropped.
    pub fn stderr(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.extend_partial(&rest[..end]);
            self.finish_partial();
            rest = &rest[end + 1..];
        }
        self.extend_partial(rest);
    }

    /// Adds one `host_log` record. Levels: 0 debug, 1 info, 2 warn, 3 error. Any other level counts as the nearest of
    /// these.
    pub fn record(&mut self, level: i32, bytes: &[u8]) {
        let kept = &bytes[..bytes.len().min(LINE_MAX)];
        self.dropped.bytes += (bytes.len() - kept.len()) as u64;
        self.push(level.clamp(0, 3) as u8, kept);
    }

    /// Ends an unfinished line. Returns the packed lines, and what was dropped.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, Dropped) {
        if !self.partial.is_empty() {
            self.finish_partial();
        }
        (self.packed, self.dropped)
    }

    fn extend_partial(&mut self, bytes: &[u8]) {
        let room = LINE_MAX - self.partial.len();
        let kept = &bytes[..bytes.len().min(room)];
        self.partial.extend_from_slice(kept);
        self.dropped.bytes += (bytes.len() - kept.len()) as u64;
    }

    fn finish_partial(&mut self) {
        let line = std::mem::take(&mut self.partial);
        self.push(STDERR, &line);
        self.partial = line;
        self.partial.clear();
    }

    fn push(&mut self, level: u8, line: &[u8]) {
        let (bytes, lines) = self.room;
        let (Some(bytes), Some(lines)) =
            (bytes.checked_sub(HEADER + line.len()), lines.checked_sub(1))
        else {
            self.dropped.bytes += line.len() as u64;
            self.dropped.lines += 1;
            return;
        };
        self.room = (bytes, lines);
        self.packed.push(level);
        self.packed
            .extend_from_slice(&(line.len() as u32).to_le_bytes());
        self.packed.extend_from_slice(line);
    }
}

/// The lines in `packed`, as (level, bytes). Ends at the first malformed line.
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
        assert_eq!(dropped, Dropped::default());
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
    fn bytes_beyond_the_limits_are_counted() {
        let mut logs = Logs::new(20);
        logs.stderr(b"0123456789\n0123456789\nabc");
        let (packed, dropped) = logs.finish();
        assert_eq!(all(&packed), [(STDERR, "0123456789".into())]);
        assert_eq!((dropped.bytes, dropped.lines), (13, 2));

        let mut logs = Logs::new(1 << 20);
        logs.stderr(&vec![b'x'; LINE_MAX + 7]);
        logs.stderr(b"y\n");
        let (packed, dropped) = logs.finish();
        assert_eq!(all(&packed)[0].1.len(), LINE_MAX);
        assert_eq!((dropped.bytes, dropped.lines), (8, 0));
    }

    /// Lines without a byte are bounded too, and told of.
    #[test]
    fn the_number_of_lines_is_bounded() {
        for (limit, most) in [(64 * 1024, 1024), (1 << 20, 16 * 1024), (200, 16)] {
            let mut logs = Logs::new(limit);
            logs.record(2, b"x");
            logs.stderr(&vec![b'\n'; 3 * most]);
            logs.record(2, b"yz");
            let (packed, dropped) = logs.finish();
            assert_eq!(lines(&packed).count(), most, "{limit}");
            assert_eq!((dropped.bytes, dropped.lines), (2, 2 * most as u64 + 2));
        }
        // Lines of an ordinary length are bounded by their bytes.
        let mut logs = Logs::new(64 * 1024);
        for _ in 0..1100 {
            logs.stderr(&[[b'x'; 60].as_slice(), b"\n"].concat());
        }
        let (packed, dropped) = logs.finish();
        assert_eq!(packed.len(), 64 * 1024 / 65 * 65);
        assert_eq!(dropped.lines, 1100 - 64 * 1024 / 65);
    }
}
