//! A path inside an image or tree: relative to its root, normalised, never leading out of it.

use std::fmt;
use std::str::FromStr;

/// A path inside a tree, without leading `/`, `.`, `..` or empty parts; the root itself is the empty path.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestPath(String);

/// A text that is no path inside a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a path inside the tree: {why}")]
pub struct GuestPathError {
    /// The text.
    pub path: String,
    /// Why not.
    pub why: &'static str,
}

/// Linux's longest path (`PATH_MAX`, linux/limits.h), its closing NUL left out.
const MAX_PATH: usize = 4095;
/// Linux's longest name (`NAME_MAX`).
const MAX_NAME: usize = 255;

impl GuestPath {
    /// The root of the tree.
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a path; `./x`, `/x` and `x/` are all `x`.
    ///
    /// # Errors
    /// `..`, NUL, and names longer than a file system takes.
    pub fn parse(text: &str) -> Result<Self, GuestPathError> {
        let wrong = |why| GuestPathError { path: text.to_owned(), why };
        let mut parts = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(wrong("it holds `..`")),
                _ if part.contains('\0') => return Err(wrong("it holds a NUL")),
                _ if part.len() > MAX_NAME => return Err(wrong("a name has more than 255 bytes")),
                _ => parts.push(part),
            }
        }
        let path = parts.join("/");
        if path.len() > MAX_PATH { Err(wrong("it has more than 4095 bytes")) } else { Ok(Self(path)) }
    }

    /// Without leading `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory it is in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(Self(self.0.rsplit_once('/').map_or_else(String::new, |(dir, _)| dir.to_owned())))
    }

    /// The last part; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// This path and `rest` under it.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn join(&self, rest: &str) -> Result<Self, GuestPathError> {
        Self::parse(&format!("{}/{rest}", self.0))
    }

    /// Whether it is `other` or lies under it.
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_root() || self == other || self.0.strip_prefix(&other.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for GuestPath {
    type Err = GuestPathError;
    fn from_str(text: &str) -> Result<Self, GuestPathError> {
        Self::parse(text)
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_stay_inside() {
        for text in ["usr/bin", "/usr/bin", "./usr//bin/", "usr/./bin"] {
            assert_eq!(GuestPath::parse(text).unwrap().as_str(), "usr/bin", "{text}");
        }
        for text in ["../x", "a/../../x", "a/..", "a\0b", &"x".repeat(256)] {
            assert!(GuestPath::parse(text).is_err(), "{text}");
        }
        let path = GuestPath::parse("/usr/bin").unwrap();
        assert_eq!((path.to_string(), path.name()), ("/usr/bin".to_owned(), "bin"));
        assert_eq!(path.parent().unwrap().as_str(), "usr");
        assert_eq!(GuestPath::parse("x").unwrap().parent(), Some(GuestPath::root()));
        assert!(path.is_within(&GuestPath::parse("usr").unwrap()) && path.is_within(&GuestPath::root()));
        assert!(!GuestPath::parse("usr-x").unwrap().is_within(&GuestPath::parse("usr").unwrap()));
    }
}
