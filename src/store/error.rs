//! What can go wrong with a store.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::digest::Digest;
use crate::base::flock::LockFailure;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system said no.
    #[error("can not {verb} `{path}`: {source}")]
    Io {
        /// What we were at.
        path: PathBuf,
        /// What we tried.
        verb: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// No room left (ENOSPC or EDQUOT); what was written so far is kept for the next run.
    #[error("no space left on the file system of `{path}`")]
    Full {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// A store of another version of labimg.
    #[error("`{path}` is a store of format {found}; this labimg knows format {known}")]
    Format {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Nothing to look at: only verbs that fill a store make one.
    #[error("there is no store at `{path}`")]
    NoStore {
        /// Where it should be.
        path: PathBuf,
    },
    /// A folder of the store that leads elsewhere.
    #[error("the store `{store}` is not all its own: {source}")]
    Link {
        /// The store.
        store: PathBuf,
        /// Which, and what to do.
        source: io::Error,
    },
    /// A directory with other things in it.
    #[error("`{path}` is not empty and not a labimg store")]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// Bytes that are not what they must be.
    #[error("{what} has digest {found}, not {expected}")]
    Mismatch {
        /// What was hashed: a blob, a URL, a bundle's member.
        what: String,
        /// The digest it must have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// A blob that is not there.
    #[error("blob {digest} is not in the store `{store}`")]
    Missing {
        /// The blob.
        digest: Digest,
        /// The store.
        store: PathBuf,
    },
    /// A blob that is there and can not be right.
    #[error("blob {digest} in the store is damaged: {why}")]
    BadBlob {
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// Data that can not be what it claims to be (a root, an index).
    #[error("`{path}` is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The lock of the store was not to be had.
    #[error(transparent)]
    Lock(#[from] LockFailure),
}

impl StoreError {
    /// Whether bytes are not what they must be (rather than missing, or in the way).
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Mismatch { .. } | Self::BadBlob { .. } | Self::Damaged { .. })
    }

    /// Wraps an I/O error with its path; a full disk gets its own variant.
    pub fn io(path: &Path, verb: &'static str, source: io::Error) -> Self {
        let source = plain(source);
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), verb, source },
        }
    }
}

/// `fs_err` names verb and path, too, and keeps the error inside to itself: its number ends the message. Here is that error.
pub fn plain(error: io::Error) -> io::Error {
    let text = error.to_string();
    let code = text.strip_prefix("failed to ").and_then(|t| t.rsplit_once("(os error ")?.1.strip_suffix(')'));
    code.and_then(|code| code.parse().ok()).map_or(error, io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_once() {
        let error = fs_err::File::open("nope").map_err(|e| StoreError::io(Path::new("nope"), "open", e)).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("can not open `nope`: No such file") && text.matches("nope").count() == 1, "{text}");
        let own = StoreError::io(Path::new("x"), "read", io::Error::other("short"));
        assert_eq!(own.to_string(), "can not read `x`: short");
    }
}
