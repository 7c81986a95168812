//! The order of versions as people write them in tags, charts and wheels: for lists that show the newest first.

use std::cmp::Ordering;

/// Compares two versions so that the newer one comes first. Numbers count as numbers; what follows a `-` or stands between
/// letters (`-rc1`, `a2`, `.dev3`) comes before the release; a text without a number (`latest`) comes last.
pub fn newest_first(a: &str, b: &str) -> Ordering {
    let has_number = |text: &str| text.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    has_number(b).cmp(&has_number(a)).then_with(|| compare(b, a))
}

/// A run of digits, or of anything else but separators.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Word(&'a str),
    Number(&'a str),
}

/// Whether a word says that this is not yet the release.
fn is_before(word: &str) -> bool {
    ["a", "alpha", "b", "beta", "c", "rc", "pre", "preview", "dev", "snapshot", "m"]
        .contains(&word.to_ascii_lowercase().as_str())
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    let text = text.strip_prefix('v').unwrap_or(text);
    for chunk in text.split(['.', '-', '_', '+', '!']) {
        let mut rest = chunk;
        while let Some(first) = rest.chars().next() {
            let digits = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
            let (part, more) = rest.split_at(end);
            found.push(if digits { Part::Number(part.trim_start_matches('0')) } else { Part::Word(part) });
            rest = more;
        }
    }
    found
}

fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    for i in 0..a.len().max(b.len()) {
        let order = match (a.get(i), b.get(i)) {
            (Some(Part::Number(a)), Some(Part::Number(b))) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Some(Part::Word(a)), Some(Part::Word(b))) => is_before(b).cmp(&is_before(a)).then_with(|| a.cmp(b)),
            (Some(Part::Number(_)), Some(Part::Word(_))) => Ordering::Greater,
            (Some(Part::Word(_)), Some(Part::Number(_))) => Ordering::Less,
            (Some(Part::Word(word)), None) if is_before(word) => Ordering::Less,
            (None, Some(Part::Word(word))) if is_before(word) => Ordering::Greater,
            (Some(Part::Number("")), None) => Ordering::Equal,
            (None, Some(Part::Number(""))) => Ordering::Equal,
            (Some(_), None) => Ordering::Greater,
            (None, _) => Ordering::Less,
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_comes_first() {
        let sorted =
            ["v3.10.0", "3.9.1", "3.9", "3.9.0-rc.2", "3.9.0-rc.1", "3.9.0a1", "2", "0.12.5", "main", "latest"];
        let mut all = sorted;
        all.reverse();
        all.sort_by(|a, b| newest_first(a, b));
        assert_eq!(all, sorted);
        let mut wide = ["3.9-alpine", "99999999999999999999999.1", "3.9"];
        wide.sort_by(|a, b| newest_first(a, b));
        assert_eq!(wide, ["99999999999999999999999.1", "3.9-alpine", "3.9"]);
    }
}
