//! Compares answers that differ, and decides whether a difference is chance, time, or something frozen.

/// The parts of an answer that are compared, in this order.
pub(super) type Parts = Vec<Vec<u8>>;

/// Checks whether the differences between the answers of two snapshots are chance. Each pair was answered in one world.
/// A difference is chance if in another world it is another one, or there is none. `Err` is the number of the part in
/// which a difference is the same in all worlds.
pub(super) fn chance(pairs: &[(Parts, Parts)]) -> Result<(), usize> {
    let Some((first, other)) = pairs.first() else {
        return Ok(());
    };
    for part in (0..first.len()).filter(|part| first[*part] != other[*part]) {
        // If the lengths differ, it is not known which byte belongs to which.
        let differing: Vec<_> = pairs
            .iter()
            .filter(|(one, other)| one[part].len() == other[part].len())
            .map(|(one, other)| segments(&one[part], &other[part]))
            .collect();
        let [base, more @ ..] = &differing[..] else {
            return Err(part);
        };
        let always = |segment| more.iter().all(|segments| segments.contains(segment));
        if more.is_empty() || base.iter().any(always) {
            return Err(part);
        }
        let runs: Vec<_> = pairs
            .iter()
            .map(|(one, _)| vec![one[part].clone()])
            .collect();
        let one_length = runs.iter().all(|run| run[0].len() == first[part].len());
        if one_length {
            by_chance(&runs, &vec![other[part].clone()]).map_err(|_| part)?;
        }
    }
    Ok(())
}

/// The ranges in which two texts of the same length differ.
fn segments<'a>(one: &'a [u8], other: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < one.len() {
        let differ = |at: &usize| one.get(*at) != other.get(*at);
        let end = (at..one.len()).take_while(differ).count() + at;
        if end > at {
            found.push((&one[at..end], &other[at..end]));
        }
        at = end + 1;
    }
    found
}

/// Checks that all have the same length, and that `other` differs from the first of `runs` only in bytes in which the
/// runs differ from each other. `Err` is the number of a part where this is not so.
fn by_chance(runs: &[Parts], other: &Parts) -> Result<(), usize> {
    for (part, got) in other.iter().enumerate() {
        let first = &runs[0][part];
        if first == got {
            continue;
        }
        if got.len() != first.len() || runs.iter().any(|run| run[part].len() != first.len()) {
            return Err(part);
        }
        for (at, byte) in got.iter().enumerate() {
            if *byte != first[at] && runs.iter().all(|run| run[part][at] == first[at]) {
                return Err(part);
            }
        }
    }
    Ok(())
}

/// Like [`by_chance`]. If the runs have different lengths, `other` must begin and end as all of them do.
pub(super) fn by_time_or_chance(runs: &[Parts], other: &Parts) -> Result<(), usize> {
    for (part, got) in other.iter().enumerate() {
        let first = &runs[0][part];
        let many_lengths = runs.iter().any(|run| run[part].len() != first.len());
        if !many_lengths {
            let only = |parts: &Parts| vec![parts[part].clone()];
            let runs: Vec<_> = runs.iter().map(only).collect();
            by_chance(&runs, &vec![got.clone()]).map_err(|_| part)?;
            continue;
        }
        let common = |alike: fn(&[u8], &[u8]) -> usize| {
            let all = runs.iter().map(|run| alike(first, &run[part]));
            all.min().unwrap_or(0)
        };
        let begins = alike_at_begin(first, got) >= common(alike_at_begin);
        let ends = alike_at_end(first, got) >= common(alike_at_end);
        if !(begins && ends) {
            return Err(part);
        }
    }
    Ok(())
}

fn alike_at_begin(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

fn alike_at_end(one: &[u8], other: &[u8]) -> usize {
    let pairs = one.iter().rev().zip(other.iter().rev());
    pairs.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(texts: &[&str]) -> Vec<Parts> {
        let part = |text: &&str| vec![text.as_bytes().to_vec()];
        texts.iter().map(part).collect()
    }

    fn pairs(texts: &[(&str, &str)]) -> Vec<(Parts, Parts)> {
        let part = |text: &str| vec![text.as_bytes().to_vec()];
        texts
            .iter()
            .map(|(one, other)| (part(one), part(other)))
            .collect()
    }

    #[test]
    fn what_differs_in_the_same_way_in_each_world_is_frozen() {
        let frozen = |texts: &[(&str, &str)]| chance(&pairs(texts)).is_err();
        assert!(frozen(&[("id 12", "id 34"), ("id 12", "id 34")]));
        assert!(frozen(&[
            ("id 12, map ab", "id 34, map ab"),
            ("id 12, map ba", "id 34, map ab")
        ]));
        // Also where lengths differ from world to world.
        assert!(frozen(&[
            ("n 7, id 12, m ab", "n 7, id 34, m ba"),
            ("n 123, id 12, m ab", "n 123, id 34, m ab")
        ]));
        assert!(
            frozen(&[("map ab", "map ba")]),
            "one world cannot show that it is chance"
        );
        assert!(
            frozen(&[("id 1", "id 22"), ("id 1", "id 22")]),
            "lengths differ"
        );
        assert!(!frozen(&[("map ab", "map ba"), ("map ba", "map ba")]));
        assert!(!frozen(&[
            ("n 7, map abc", "n 7, map bca"),
            ("n 12, map cba", "n 12, map abc")
        ]));
    }

    fn only_by_chance(runs: &[&str], other: &str) -> bool {
        by_chance(&parts(runs), &parts(&[other])[0]).is_ok()
    }

    fn time_or_chance(runs: &[&str], other: &str) -> bool {
        by_time_or_chance(&parts(runs), &parts(&[other])[0]).is_ok()
    }

    #[test]
    fn only_bytes_that_differ_by_chance_may_differ() {
        assert!(only_by_chance(
            &["id 1 map ab", "id 1 map ba"],
            "id 1 map ba"
        ));
        assert!(!only_by_chance(
            &["id 1 map ab", "id 1 map ba"],
            "id 2 map ba"
        ));
        assert!(
            !only_by_chance(&["id 1 map ab"], "id 1 map ba"),
            "one run cannot show that it is chance"
        );
        assert!(!only_by_chance(&["a1", "a22"], "b1"), "lengths differ");
        assert!(!only_by_chance(&["a1", "a2"], "a12"));
    }

    #[test]
    fn what_all_cold_runs_agree_on_must_be_in_a_warmed_one() {
        assert!(time_or_chance(
            &["at 17, count 1", "at 23, count 1"],
            "at 99, count 1"
        ));
        assert!(!time_or_chance(
            &["at 17, count 1", "at 23, count 1"],
            "at 17, count 4"
        ));
        assert!(time_or_chance(
            &["took 17, n 1", "took 9, n 1"],
            "took 123, n 1"
        ));
        assert!(!time_or_chance(
            &["took 17, n 1", "took 9, n 1"],
            "took 17, n 4"
        ));
        assert!(!time_or_chance(&["took 17, n 1", "took 9, n 1"], "took 17"));
        assert!(!time_or_chance(
            &["n 1, took 17", "n 1, took 9"],
            "n 4, took 9"
        ));
    }
}
