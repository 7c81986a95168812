//! What can go wrong while building.

use std::path::{Path, PathBuf};

use crate::model::guest_path::{GuestPath, GuestPathError};
use crate::store::StoreError;

/// A build that failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reading or writing failed.
    #[error("can not {action} `{path}`: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Bytes that are not what they should be: a package, a wheel.
    #[error("{what}: {why}")]
    Bad {
        /// The thing, for people: `package hello 1.0 amd64`.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two parts of a tree want one path.
    #[error("{one} and {other} both have `{path}`")]
    Clash {
        /// The path.
        path: GuestPath,
        /// Who has it.
        one: String,
        /// Who wants it, too.
        other: String,
    },
    /// Something a person must change.
    #[error("{message}")]
    User {
        /// What is wrong.
        message: String,
        /// What to type or write next.
        hint: String,
    },
    /// A path that leads out of a tree.
    #[error(transparent)]
    Path(#[from] GuestPathError),
    /// A defect of labimg.
    #[error("{0}")]
    Internal(String),
}

impl BuildError {
    /// An I/O error at `path` while trying to `action` (a verb).
    pub fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source }
    }

    /// Bytes that are not what they should be.
    pub fn bad(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Bad { what: what.into(), why: why.into() }
    }

    /// Something a person must change, and how.
    pub fn user(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::User { message: message.into(), hint: hint.into() }
    }
}
