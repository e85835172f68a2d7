//! A scenario: the sequence of steps that a guest runs, and how it is written as bytes.

use std::fmt;

use engine_core::sandbox::hostcalls::{Import, ParamType};

use super::driver::{ARENA, MEMORY, RECORD, STEPS_MAX, hostcalls};
use crate::cursor::Cursor;

/// What one guest does.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scenario {
    /// Whether it has a mount (read-only, descriptor 3).
    pub mounted: bool,
    /// The steps, at most 100.
    pub steps: Vec<Op>,
}

/// One step of a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Op {
    /// Stores eight bytes in the arena.
    Poke {
        /// The offset, modulo the arena's size.
        at: u16,
        /// The value, which is stored little endian.
        value: u64,
    },
    /// Asks for more pages of memory.
    Grow {
        /// The number of pages.
        pages: u8,
    },
    /// Fills a run of the arena (or a bit beyond it) with a byte.
    Fill {
        /// The offset.
        at: u16,
        /// The number of bytes.
        len: u8,
        /// The byte.
        byte: u8,
    },
    /// Makes the hostcall with this index in the list of `driver::hostcalls`.
    Call {
        /// The index.
        import: usize,
        /// One value for each parameter; those of type `i32` are cut.
        args: Vec<i64>,
    },
}

/// The number of steps that are not calls. Their numbers come first.
pub(super) const PLAIN: usize = 3;

/// The rest of stdin after the script.
const STDIN: &[u8] = b"What is left of stdin for the guest.\n";

/// Values at the edges of ranges.
const EDGES: [i64; 8] = [
    -1,
    i32::MIN as i64,
    i32::MAX as i64,
    i64::MIN,
    i64::MAX,
    1 << 32,
    4096,
    1024,
];

impl Scenario {
    /// The scenario that any bytes mean.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let mut cursor = Cursor::new(bytes);
        let mounted = cursor.byte() & 1 == 1;
        let mut steps = Vec::new();
        while !cursor.is_empty() && steps.len() < STEPS_MAX {
            let step = usize::from(cursor.byte()) % (PLAIN + hostcalls().len());
            let mut value = || decode_value(&mut cursor);
            steps.push(match step {
                0 => Op::Poke {
                    at: value() as u16,
                    value: value().cast_unsigned(),
                },
                1 => Op::Grow {
                    pages: value() as u8,
                },
                2 => Op::Fill {
                    at: value() as u16,
                    len: value() as u8,
                    byte: value() as u8,
                },
                _ => {
                    let import = step - PLAIN;
                    let args = hostcalls()[import].params.iter().map(|_| value()).collect();
                    Op::Call { import, args }
                }
            });
        }
        Self { mounted, steps }
    }

    /// Bytes that decode to this scenario: the form of a seed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.mounted)];
        for step in &self.steps {
            let (number, values) = step.numbers();
            bytes.push(number as u8);
            for value in values {
                encode_value(&mut bytes, value);
            }
        }
        bytes
    }

    /// The guest's stdin: the number of steps, a record for each, and some more bytes for the steps to read.
    pub(super) fn stdin(&self) -> Vec<u8> {
        let mut stdin = (self.steps.len() as u32).to_le_bytes().to_vec();
        for step in &self.steps {
            let (number, values) = step.numbers();
            let mut record = [0; RECORD];
            record[..4].copy_from_slice(&(number as u32).to_le_bytes());
            for (place, value) in record[8..].chunks_exact_mut(8).zip(values) {
                place.copy_from_slice(&value.to_le_bytes());
            }
            stdin.extend_from_slice(&record);
        }
        stdin.extend_from_slice(STDIN);
        stdin
    }

    /// Whether it may wait for its deadline.
    pub(super) fn may_wait(&self) -> bool {
        // A call may overwrite the number of a later step too, and so make a `poll_oneoff` that waits. This has not
        // been seen.
        let polls = |step: &Op| match step {
            Op::Call { import, .. } => hostcalls()[*import].name == "poll_oneoff",
            _ => false,
        };
        self.steps.iter().any(polls)
    }
}

impl Op {
    /// The call of the function `name`.
    ///
    /// # Panics
    /// If there is no such hostcall.
    #[must_use]
    pub fn call(name: &str, args: &[i64]) -> Self {
        let import = hostcalls().iter().position(|import| import.name == name);
        Self::Call {
            import: import.unwrap_or_else(|| panic!("no hostcall has the name {name}")),
            args: args.to_vec(),
        }
    }

    /// Its number in a script, and its values in order.
    fn numbers(&self) -> (usize, Vec<i64>) {
        match self {
            Self::Poke { at, value } => (0, vec![i64::from(*at), value.cast_signed()]),
            Self::Grow { pages } => (1, vec![i64::from(*pages)]),
            Self::Fill { at, len, byte } => {
                (2, vec![i64::from(*at), i64::from(*len), i64::from(*byte)])
            }
            Self::Call { import, args } => (PLAIN + import, args.clone()),
        }
    }
}

/// Small numbers are one byte. Others follow a byte that says how they are written.
fn decode_value(cursor: &mut Cursor<'_>) -> i64 {
    let tag = cursor.byte();
    if tag < 0x80 {
        return tag.into();
    }
    match tag & 7 {
        0 => u16::from_le_bytes(cursor.array()).into(),
        1 => i32::from_le_bytes(cursor.array()).into(),
        2 => i64::from_le_bytes(cursor.array()),
        3 => -i64::from(cursor.byte()),
        4 => i64::from(MEMORY) - i64::from(cursor.byte()),
        5 => EDGES[usize::from(cursor.byte()) % EDGES.len()],
        6 => i64::from(ARENA) - i64::from(cursor.byte()),
        _ => i64::from(u32::MAX) - i64::from(cursor.byte()),
    }
}

fn encode_value(bytes: &mut Vec<u8>, value: i64) {
    if let Ok(value @ 0..=0x7f) = u8::try_from(value) {
        bytes.push(value);
    } else if let Ok(value) = u16::try_from(value) {
        bytes.push(0x80);
        bytes.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        bytes.push(0x81);
        bytes.extend_from_slice(&value.to_le_bytes());
    } else {
        bytes.push(0x82);
        bytes.extend_from_slice(&value.to_le_bytes());
    }
}

impl fmt::Display for Scenario {
    /// One step on each line, like the source of a C program.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mounted: {}", self.mounted)?;
        self.steps
            .iter()
            .try_for_each(|step| write!(f, "\n    {step}"))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poke { at, value } => write!(
                f,
                "poke {at}: {value:#018x} \"{}\"",
                value.to_le_bytes().escape_ascii()
            ),
            Self::Grow { pages } => write!(f, "grow {pages}"),
            Self::Fill { at, len, byte } => write!(f, "fill {at}: {len} x {byte:#04x}"),
            Self::Call { import, args } => {
                let Import { name, params, .. } = hostcalls()[*import];
                write!(f, "{name}(")?;
                for (index, (value, ty)) in args.iter().zip(params).enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    match ty {
                        ParamType::I32 => write!(f, "{comma}{}", *value as i32)?,
                        ParamType::I64 => write!(f, "{comma}{value}")?,
                    }
                }
                f.write_str(")")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_survives_its_form_as_bytes() {
        let mut steps = vec![
            Op::Poke {
                at: 65_528,
                value: u64::MAX,
            },
            Op::Grow { pages: 255 },
            Op::Fill {
                at: 40_000,
                len: 200,
                byte: 0xff,
            },
        ];
        steps.extend(hostcalls().iter().enumerate().map(|(import, of)| {
            Op::Call {
                import,
                args: EDGES
                    .iter()
                    .cycle()
                    .take(of.params.len())
                    .copied()
                    .collect(),
            }
        }));
        for mounted in [false, true] {
            let scenario = Scenario {
                mounted,
                steps: steps.clone(),
            };
            assert_eq!(Scenario::decode(&scenario.encode()), scenario);
        }
    }

    #[test]
    fn any_bytes_are_a_scenario_of_bounded_length() {
        assert_eq!(Scenario::decode(b""), Scenario::default());
        let long = Scenario::decode(&[4; 10_000]);
        assert_eq!(long.steps.len(), STEPS_MAX);
        let values = |bytes: &[u8]| decode_value(&mut Cursor::new(bytes));
        assert_eq!(values(&[0x7f]), 127);
        assert_eq!(values(&[0x83, 5]), -5);
        assert_eq!(values(&[0x84, 4]), i64::from(MEMORY) - 4);
        assert_eq!(values(&[0x87, 0]), 0xffff_ffff);
        assert_eq!(values(&[0x81, 0xff, 0xff, 0xff, 0xff]), -1);
    }

    #[test]
    fn it_reads_like_a_program() {
        let scenario = Scenario {
            mounted: true,
            steps: vec![
                Op::Poke {
                    at: 8,
                    value: u64::from_le_bytes(*b"secret\0\0"),
                },
                Op::call("fd_seek", &[3, -1, 1 << 32, 16]),
            ],
        };
        assert_eq!(
            scenario.to_string(),
            "mounted: true\n    poke 8: 0x0000746572636573 \"secret\\x00\\x00\"\n    fd_seek(3, -1, 0, 16)"
        );
        assert!(!scenario.may_wait());
        let poll = Scenario {
            mounted: false,
            steps: vec![Op::call("poll_oneoff", &[0; 4])],
        };
        assert!(poll.may_wait());
    }
}
