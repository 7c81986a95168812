//! Versions and their order (Debian policy 5.6.12; deb-version(7)): `[epoch:]upstream[-revision]`.

use std::cmp::Ordering;
use std::fmt;

/// A valid version. Two that differ only in leading zeros or an epoch of 0 are equal.
#[derive(Debug, Clone)]
pub struct Version(String);

/// A text that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{version}` is no version: {why}")]
pub struct VersionError {
    /// The text.
    pub version: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Version {
    /// A version, checked.
    ///
    /// # Errors
    /// When [`check`] finds something.
    pub fn parse(text: &str) -> Result<Self, VersionError> {
        check(text)?;
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

/// Whether `text` is a version.
///
/// # Errors
/// An epoch that is no number, characters that may not be there, nothing at all.
pub fn check(text: &str) -> Result<(), VersionError> {
    let bad = |why| Err(VersionError { version: text.chars().take(80).collect(), why });
    let (epoch, upstream, revision) = split(text);
    if text.contains(':') && (epoch.is_empty() || epoch.parse::<i32>().is_err() || !all(epoch, "")) {
        return bad("the epoch must be a number");
    }
    if upstream.is_empty() {
        return bad("it is empty");
    }
    if !all(upstream, ".+-~:") || !all(revision, "+.~") || text.ends_with('-') {
        return bad("only letters, digits and . + - ~ may be in it");
    }
    Ok(())
}

fn all(text: &str, more: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_alphanumeric() || more.as_bytes().contains(&c))
}

/// Orders two versions; what is no version is ordered all the same.
pub fn compare(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let ((epoch_a, upstream_a, revision_a), (epoch_b, upstream_b, revision_b)) = (split(a), split(b));
    numbers(epoch_a.as_bytes(), epoch_b.as_bytes())
        .then_with(|| part(upstream_a.as_bytes(), upstream_b.as_bytes()))
        .then_with(|| part(revision_a.as_bytes(), revision_b.as_bytes()))
}

/// Epoch (empty is 0), upstream version, revision (empty is 0).
fn split(text: &str) -> (&str, &str, &str) {
    let (epoch, rest) = text.split_once(':').unwrap_or(("", text));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Compares by turns what is no digit and what is a number, from the left.
fn part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = cut(a, |c| !c.is_ascii_digit());
        let (text_b, rest_b) = cut(b, |c| !c.is_ascii_digit());
        let (number_a, next_a) = cut(rest_a, |c| c.is_ascii_digit());
        let (number_b, next_b) = cut(rest_b, |c| c.is_ascii_digit());
        let order = texts(text_a, text_b).then_with(|| numbers(number_a, number_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (next_a, next_b);
    }
    Ordering::Equal
}

fn cut(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|c| !belongs(*c)).unwrap_or(bytes.len()))
}

/// Letters before all else, and `~` before everything, even the end.
fn texts(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |c: Option<&u8>| match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    };
    let mut pairs = (0..a.len().max(b.len())).map(|at| weight(a.get(at)).cmp(&weight(b.get(at))));
    pairs.find(|order| *order != Ordering::Equal).unwrap_or(Ordering::Equal)
}

/// Numbers of any length; none is 0.
fn numbers(a: &[u8], b: &[u8]) -> Ordering {
    let (_, a) = cut(a, |c| c == b'0');
    let (_, b) = cut(b, |c| c == b'0');
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_orders() {
        // The example of policy 5.6.12, and cases of ours.
        let parts = ["~~", "~~a", "~", "", "a"];
        for pair in parts.windows(2) {
            assert_eq!(part(pair[0].as_bytes(), pair[1].as_bytes()), Ordering::Less, "{pair:?}");
        }
        for (a, b) in [
            ("1.0~rc1", "1.0"),
            ("1.0~rc1-1", "1.0~rc2-1"),
            ("1.9", "1.10"),
            ("1.0", "1.0-1"),
            ("1.0-1", "1.0-1+b1"),
            ("1.0-1+b1", "1.0-1.1"),
            ("1.0a", "1.0+"),
            ("1.0", "1.0a"),
            ("9", "1:1"),
            ("1:9", "2:1"),
            ("1.2.3-4", "1.2.3-10"),
            ("2.36-9+deb12u9", "2.36-9+deb12u10"),
            ("1.0-1~bpo12+1", "1.0-1"),
            ("1-2", "1-1-1"),
            ("0.99999999999999999999999", "0.100000000000000000000000"),
        ] {
            assert_eq!(compare(a, b), Ordering::Less, "{a} {b}");
            assert_eq!(compare(b, a), Ordering::Greater, "{b} {a}");
        }
        for (a, b) in [("0:1", "1"), ("1.0", "1.00"), ("1.0", "1.0-0"), ("1.01", "1.1")] {
            assert_eq!(Version::parse(a).unwrap(), Version::parse(b).unwrap());
        }
    }

    #[test]
    fn what_is_no_version() {
        for text in ["", ":1", "a:1", "1:", "-1:1", "1 2", "1-", "1_2", "1-a:b", "ä", "99999999999:1"] {
            assert!(check(text).is_err(), "{text}");
        }
        for text in ["1", "1:2.3-4+b1", "2.0~git20200101.abc-1~exp1", "20200101"] {
            assert!(check(text).is_ok(), "{text}");
        }
    }

    fn any() -> impl Strategy<Value = String> {
        "([0-3]:)?[0-2a-b.+~]{1,6}(-[0-2a~+]{1,3})?"
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in any(), b in any(), c in any()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            if compare(&a, &b) != Ordering::Greater && compare(&b, &c) != Ordering::Greater {
                prop_assert_ne!(compare(&a, &c), Ordering::Greater);
            }
        }

        #[test]
        fn anything_can_be_compared(a in ".{0,20}", b in ".{0,20}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}
