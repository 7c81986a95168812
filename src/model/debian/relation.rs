//! Relations between packages (Debian policy 7.1): `a (>= 1) | b:any, c [amd64]`.

use std::cmp::Ordering;
use std::fmt;

use super::version;

/// How a version must stand to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Less,
    /// `<=` (and `<`, which means the same)
    AtMost,
    /// `=`
    Equal,
    /// `>=` (and `>`, which means the same)
    AtLeast,
    /// `>>`
    Greater,
}

/// A package asked for, perhaps with a restriction of its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The package's name.
    pub name: &'a str,
    /// What stands after its colon: `any`, `native`, an architecture.
    pub qualifier: Option<&'a str>,
    /// The version it must have.
    pub version: Option<(Operator, &'a str)>,
}

/// A text that is no relation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{relation}` is no relation between packages: {why}")]
pub struct RelationError {
    /// The text.
    pub relation: String,
    /// What is wrong with it.
    pub why: String,
}

impl Operator {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<<",
            Self::AtMost => "<=",
            Self::Equal => "=",
            Self::AtLeast => ">=",
            Self::Greater => ">>",
        }
    }

    /// Whether `found` stands to `wanted` as it must.
    pub fn holds(self, found: &str, wanted: &str) -> bool {
        let order = version::compare(found, wanted);
        match self {
            Self::Less => order == Ordering::Less,
            Self::AtMost => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::AtLeast => order != Ordering::Less,
            Self::Greater => order == Ordering::Greater,
        }
    }
}

impl Relation<'_> {
    /// Whether a package of that version will do; `None` is a virtual package provided without a version, which fits no
    /// restriction (policy 7.5).
    pub fn accepts(&self, found: Option<&str>) -> bool {
        match (self.version, found) {
            (None, _) => true,
            (Some((operator, wanted)), Some(found)) => operator.holds(found, wanted),
            (Some(_), None) => false,
        }
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        match self.version {
            Some((operator, version)) => write!(f, " ({} {version})", operator.as_str()),
            None => Ok(()),
        }
    }
}

/// The groups of a field that stand between commas, each of one or more alternatives. Empty ones (a comma at the end) are
/// passed over, as dpkg does.
pub fn groups(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').map(str::trim).filter(|group| !group.is_empty())
}

/// The alternatives of one group, in order.
pub fn alternatives(group: &str) -> impl Iterator<Item = Result<Relation<'_>, RelationError>> {
    group.split('|').map(parse)
}

/// Whether a whole field is as it must be.
///
/// # Errors
/// The first relation that is not.
pub fn check(field: &str) -> Result<(), RelationError> {
    groups(field).flat_map(alternatives).try_for_each(|relation| relation.map(drop))
}

/// Reads one relation. Restrictions to architectures and build profiles (`[…]`, `<…>`) mean nothing in binary packages
/// and are passed over.
///
/// # Errors
/// When it is none.
pub fn parse(text: &str) -> Result<Relation<'_>, RelationError> {
    let bad = |why: &str| RelationError { relation: text.trim().chars().take(100).collect(), why: why.to_owned() };
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| c.is_ascii_whitespace() || "([<".contains(c)).unwrap_or(trimmed.len());
    let (full, rest) = trimmed.split_at(end);
    let (name, qualifier) = match full.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (full, None),
    };
    if !is_package_name(name) {
        return Err(bad("it has no package's name"));
    }
    if qualifier.is_some_and(|q| q.is_empty() || !q.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')) {
        return Err(bad("after the colon stands no architecture"));
    }
    let rest = rest.trim_start();
    let (version, rest) = match rest.strip_prefix('(') {
        None => (None, rest),
        Some(inside) => {
            let (inside, rest) = inside.split_once(')').ok_or_else(|| bad("a bracket is not closed"))?;
            (Some(restriction(inside.trim()).map_err(|why| bad(&why))?), rest.trim_start())
        }
    };
    if !(rest.is_empty() || rest.starts_with(['[', '<']) && rest.ends_with([']', '>'])) {
        return Err(bad("something stands after it"));
    }
    Ok(Relation { name, qualifier, version })
}

fn restriction(text: &str) -> Result<(Operator, &str), String> {
    let end = text.find(|c| !"<>=".contains(c)).unwrap_or(text.len());
    let (operator, version) = text.split_at(end);
    let operator = match operator {
        "<<" => Operator::Less,
        "<=" | "<" => Operator::AtMost,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::AtLeast,
        ">>" => Operator::Greater,
        // As dpkg and apt read it.
        "" => Operator::Equal,
        _ => return Err("versions are compared with << <= = >= >>".to_owned()),
    };
    let version = version.trim();
    version::check(version).map_err(|e| e.to_string())?;
    Ok((operator, version))
}

/// Whether a package may have that name (policy 5.6.7; upper case and `_`, which some archives have, are let pass).
pub fn is_package_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-._".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        let field = "libc6 (>= 2.36), default-mta | mail-transport-agent, python3:any (<< 3.12),\n x [amd64 !i386] <!nocheck>, y(=1:2-3),";
        let read: Vec<Vec<Relation>> = groups(field).map(|g| alternatives(g).map(Result::unwrap).collect()).collect();
        assert_eq!(read.len(), 5);
        assert_eq!(read[0][0].version, Some((Operator::AtLeast, "2.36")));
        assert_eq!(read[1].iter().map(|r| r.name).collect::<Vec<_>>(), ["default-mta", "mail-transport-agent"]);
        assert_eq!((read[2][0].qualifier, read[2][0].to_string().as_str()), (Some("any"), "python3:any (<< 3.12)"));
        assert_eq!((read[3][0].name, read[3][0].version), ("x", None));
        assert_eq!(read[4][0].version, Some((Operator::Equal, "1:2-3")));
        assert_eq!(parse("a (1)").unwrap().version, Some((Operator::Equal, "1")));
        assert_eq!(groups(" ").count(), 0);
    }

    #[test]
    fn versions_are_held_against_them() {
        for (relation, version, fits) in [
            ("a (>= 2)", Some("2"), true),
            ("a (>> 2)", Some("2"), false),
            ("a (<< 2)", Some("2~rc1"), true),
            ("a (<= 2)", Some("2.1"), false),
            ("a (= 2)", Some("0:2"), true),
            ("a (< 2)", Some("2"), true),
            ("a", None, true),
            ("a (>= 2)", None, false),
        ] {
            assert_eq!(parse(relation).unwrap().accepts(version), fits, "{relation} {version:?}");
        }
    }

    #[test]
    fn what_is_no_relation() {
        for text in
            ["", "(>= 1)", "a (>= )", "a (>= 1", "a b", "a:", "a (=> 1)", "a (>= 1) b", "a (>= 1 2)", "|", "a |"]
        {
            assert!(check(text).is_err() || text.is_empty(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ab1(<=>)|,: \\[\\]ä-]{0,40}") {
            let _ = check(&text);
        }
    }
}
