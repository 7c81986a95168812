//! Order of Debian versions (deb-version(7), "Sorting algorithm"), for `Replaces` with a version.

use std::cmp::Ordering;

/// Which of two versions is later.
pub fn compare(a: &str, b: &str) -> Ordering {
    let ((ea, ua, ra), (eb, ub, rb)) = (split(a), split(b));
    ea.cmp(&eb).then_with(|| part(ua, ub)).then_with(|| part(ra, rb))
}

/// Whether `version` stands in `relation` (`<<`, `<=`, `=`, `>=`, `>>`) to `bound`.
pub fn satisfies(version: &str, relation: &str, bound: &str) -> bool {
    let order = compare(version, bound);
    match relation {
        "<<" => order.is_lt(),
        "<=" | "<" => order.is_le(),
        "=" => order.is_eq(),
        ">=" | ">" => order.is_ge(),
        ">>" => order.is_gt(),
        _ => false,
    }
}

/// Epoch, upstream version, revision.
fn split(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch.parse().unwrap_or(0), upstream, revision)
}

fn part(mut a: &str, mut b: &str) -> Ordering {
    loop {
        let (ta, tb) = (cut(&mut a, |c| !c.is_ascii_digit()), cut(&mut b, |c| !c.is_ascii_digit()));
        let (na, nb) = (cut(&mut a, |c| c.is_ascii_digit()), cut(&mut b, |c| c.is_ascii_digit()));
        let (na, nb) = (na.trim_start_matches('0'), nb.trim_start_matches('0'));
        let order = text(ta, tb).then(na.len().cmp(&nb.len())).then(na.cmp(nb));
        if order.is_ne() || (a.is_empty() && b.is_empty()) {
            return order;
        }
    }
}

/// Takes the longest start of `text` whose characters all are `of` a kind.
fn cut<'a>(text: &mut &'a str, of: impl Fn(char) -> bool) -> &'a str {
    let (start, rest) = text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()));
    *text = rest;
    start
}

/// `~` before the end, the end before letters, letters before all else.
fn text(a: &str, b: &str) -> Ordering {
    let rank = |c: Option<char>| match c {
        Some('~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => c as i64,
        Some(c) => c as i64 + 256,
    };
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (x, y) = (a.next(), b.next());
        let order = rank(x).cmp(&rank(y));
        if order.is_ne() || x.is_none() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_dpkg_sorts_them() {
        let sorted = ["1.0~rc1-1", "1.0-1", "1.0-1+b2", "1.0a-1", "1.0+x-1", "1.2-1", "1.10-1", "1:0.1-1"];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("1.01", "1.1"), Ordering::Equal);
        assert!(satisfies("5.4.1-1", "<<", "5.4.1-2~"));
    }
}
