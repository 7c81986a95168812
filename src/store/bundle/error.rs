//! What can go wrong with a bundle file.

use std::path::{Path, PathBuf};

use super::FORMAT;
use crate::base::digest::Digest;
use crate::base::size::shown;
use crate::base::tarfmt::TarError;
use crate::store::StoreError;

/// A failure of writing or reading a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The blobs or the file underneath.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name, time or size that a bundle can not hold.
    #[error("a bundle can not hold this: {0}")]
    Tar(#[from] TarError),
    /// A name that is not what it looks like.
    #[error("a bundle can not hold the name {0:?}: it has characters that steer a terminal, hide, or turn text around")]
    Name(String),
    /// An index beyond what readers accept.
    #[error("the index of the bundle would take {size} bytes; the limit is {limit}")]
    IndexTooLarge {
        /// Its size in bytes.
        size: u64,
        /// The largest a reader accepts.
        limit: u64,
    },
    /// One digest with two sizes: the lock or a manifest is wrong.
    #[error("{digest} has {one} bytes by one account and {other} by another")]
    TwoSizes {
        /// The blob.
        digest: Digest,
        /// One size.
        one: u64,
        /// The other.
        other: u64,
    },
    /// A stored blob whose size is not what was planned for.
    #[error("blob {digest} has {found} bytes in the store, not {planned} (try `labimg store check`)")]
    BlobSize {
        /// The blob.
        digest: Digest,
        /// What lock and manifests say.
        planned: u64,
        /// What is there.
        found: u64,
    },
    /// Too little room, known before the first byte is written.
    #[error("no room for `{path}`: it takes {}, {} are free, {} are missing", shown(*.needed), shown(*.free), shown(needed - free))]
    NoRoom {
        /// The bundle.
        path: PathBuf,
        /// Its size in bytes.
        needed: u64,
        /// Free bytes on its file system.
        free: u64,
    },
    /// Two writers of one file.
    #[error("another labimg is writing `{path}` (it holds `{part}`)")]
    Busy {
        /// The bundle.
        path: PathBuf,
        /// The file it grows in.
        part: PathBuf,
    },
    /// Some other file.
    #[error("`{path}` is not a labimg bundle: {why}")]
    NotABundle {
        /// The file.
        path: PathBuf,
        /// How we know.
        why: String,
    },
    /// A bundle of another version of labimg.
    #[error("`{path}` is a bundle of format {found}; this labimg knows format {FORMAT}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// A bundle whose end is missing.
    #[error(
        "`{path}` is cut off: it has {found} of {expected} bytes; the first member that is not whole is `{member}`"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The length the index states.
        expected: u64,
        /// The first member that is cut.
        member: String,
    },
    /// A bundle that is not what it claims to be.
    #[error("`{path}` is damaged at `{member}`: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The member.
        member: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something asked for that the bundle does not hold.
    #[error("`{path}` holds no {what}")]
    NotFound {
        /// The bundle.
        path: PathBuf,
        /// What was asked for.
        what: String,
    },
}

impl BundleError {
    /// Wraps an I/O error with its path; a full disk gets its own variant.
    pub fn io(path: &Path, verb: &'static str, source: std::io::Error) -> Self {
        Self::Store(StoreError::io(path, verb, source))
    }

    /// Whether bytes are not what they must be (rather than missing, or in the way).
    pub fn is_integrity(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Truncated { .. }
                | Self::BlobSize { .. }
                | Self::TwoSizes { .. }
                | Self::Store(StoreError::Mismatch { .. } | StoreError::Damaged { .. })
        )
    }
}
