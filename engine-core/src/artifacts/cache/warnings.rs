//! The warnings about the cache, as texts for the log, and bounded in number.

use parking_lot::Mutex;

/// The maximum number of warnings of one family. Further ones are not kept; the problems are counted in the stats.
const PER_FAMILY: usize = 32;

/// Families of warnings. Each has its own bound, so that many of one family do not displace those of another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum About {
    Entry,
    Directory,
    Key,
    Process,
    Write,
}

/// A list of warnings that only grows, up to a bound for each family.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    list: Mutex<Vec<(About, String)>>,
}

impl Warnings {
    pub(super) fn add(&self, about: About, mut text: String) {
        let mut list = self.list.lock();
        let before = list.iter().filter(|(family, _)| *family == about).count();
        if before >= PER_FAMILY {
            return;
        }
        if before + 1 == PER_FAMILY {
            text.push_str(" (further warnings of this kind are only counted)");
        }
        list.push((about, text));
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.list
            .lock()
            .iter()
            .map(|(_, text)| text.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_family_displaces_another() {
        let warnings = Warnings::default();
        for index in 0..1000 {
            warnings.add(About::Entry, format!("entry {index}"));
        }
        warnings.add(About::Write, "the disk is full".into());
        let all = warnings.all();
        assert_eq!(all.len(), PER_FAMILY + 1);
        assert_eq!(all[0], "entry 0");
        assert!(all[PER_FAMILY - 1].contains("only counted"));
        assert_eq!(all[PER_FAMILY], "the disk is full");
    }
}
