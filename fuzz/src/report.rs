//! The report that is printed when the code under test and an oracle disagree.

use std::fmt::Write as _;

/// Two results that should be equal and are not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disagreement {
    /// What was compared.
    pub about: String,
    /// The name of each side, and its result.
    pub sides: Vec<(String, String)>,
}

/// How many characters of one side are printed at most.
const MOST: usize = 8000;

impl Disagreement {
    /// A disagreement of two sides `about` something.
    #[must_use]
    pub fn new(about: &str, one: (&str, String), other: (&str, String)) -> Self {
        Self {
            about: about.to_owned(),
            sides: [one, other]
                .map(|(name, said)| (name.to_owned(), said))
                .into(),
        }
    }

    /// Adds a text that helps to understand it.
    #[must_use]
    pub fn with(mut self, name: &str, text: String) -> Self {
        self.sides.push((name.to_owned(), text));
        self
    }

    /// The report: the input, both sides, and the command that repeats it.
    #[must_use]
    pub fn report(&self, target: &str, input: &[u8]) -> String {
        let hex = hex(input);
        let mut report = format!(
            "DISAGREEMENT in {target}: {}\n  input ({} bytes): {}\n",
            self.about,
            input.len(),
            input.escape_ascii()
        );
        for (name, said) in &self.sides {
            let kept: String = said.chars().take(MOST).collect();
            let more = if kept.len() < said.len() { " ..." } else { "" };
            // Writing to a String does not fail.
            let _ = writeln!(report, "  {name}: {kept}{more}");
        }
        let _ = write!(
            report,
            "  replay: cargo build --release --workspace --bins && ${{CARGO_TARGET_DIR:-target}}/release/{target} --hex {hex}"
        );
        report
    }
}

/// Fails with both values unless they are equal.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
    about: &str,
    (one_name, one): (&str, &T),
    (other_name, other): (&str, &T),
) -> Result<(), Disagreement> {
    if one == other {
        return Ok(());
    }
    Err(Disagreement::new(
        about,
        (one_name, format!("{one:?}")),
        (other_name, format!("{other:?}")),
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The bytes of hexadecimal digits, as [`Disagreement::report`] prints them.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len() / 2)
        .map(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        for wrong in ["1", "xy", "+1", "é"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn equal_things_agree_and_others_are_both_shown() {
        assert_eq!(same("n", ("a", &1), ("b", &1)), Ok(()));
        let found = same("n", ("a", &1), ("b", &2)).expect_err("1 is not 2");
        assert_eq!(found.about, "n");
        assert_eq!(
            found.sides,
            [("a".into(), "1".into()), ("b".into(), "2".into())]
        );
    }
}
