//! The store: a directory of blobs named by their SHA-256, the roots that keep them, and the bundle file.
//!
//! ```text
//! $LABIMG_STORE/
//!   format                  "1\n"; another number is refused
//!   lock                    flock: shared by every command, exclusive by gc
//!   blobs/sha256/<hex>      0444, never changed once there
//!   cache/<kind>/<hex>      what was worked out from a blob: the digest of the blob that holds it
//!   realisations/           build key -> digest of what the step produced (see `realisation`)
//!   scratch/                where build steps work; what a failed one left stays until gc
//!   toolchains/             trees of locked packages that build steps run in (see `toolchain`)
//!   roots/<lab>/            one OCI image layout per lab (oci-layout, index.json, blobs -> ../../blobs)
//!   roots/.<lab>.lock       flock: one writer of a root at a time
//!   roots/<lab>/root.json   every digest the lab keeps from the garbage collector, and those of the files beside it (see `sealed`)
//!   scratch/                what failed and interrupted build steps left, for people to look into
//!   tmp/                    downloads under way; <hex>.part or url-<hex>.part, each with a flock
//! ```
//!
//! **Guarantee.** A file under `blobs/sha256/` holds the bytes its name says: the store itself hashed them while they were
//! written to `tmp/`, then synced, renamed and synced the directory. Roots are written after all their blobs. A crash at
//! any moment leaves whole blobs and resumable parts, nothing else.

pub mod blob;
pub mod bundle;
pub mod cache;
pub mod check;
mod check_records;
pub mod error;
pub mod gc;
pub mod image;
pub mod image_index;
pub mod layout;
pub mod partial;
pub mod realisation;
pub mod root;
mod root_images;
mod sealed;
pub mod toolchain;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use blob::BlobSource;
pub use error::StoreError;
pub use partial::{Claim, Partial, PartialKey};

use crate::base::flock::{self, FileLock, Mode};
use crate::base::{atomic, digest::Digest, regular};

/// The store's on-disk format. Another number means another layout: it is refused, never migrated silently.
pub const FORMAT: u32 = 1;

/// How long a command waits for the store's lock before it says who is in the way.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// What a command wants to do with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read and add blobs, beside other commands.
    Shared,
    /// Remove blobs: nobody else may be in.
    Exclusive,
}

/// An open store.
pub struct Store {
    root: PathBuf,
    _lock: FileLock,
    access: Access,
    /// One mutex per download under way in this process (across processes, the part's own flock does it).
    in_flight: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Store {
    /// Opens the store at `root`, making it when it is not there.
    ///
    /// # Errors
    /// A store of another format, a directory that is something else, one that can not be written when it has to be made,
    /// or one that another process keeps locked.
    pub fn open(root: &Path, access: Access) -> Result<Self, StoreError> {
        Self::open_or(root, access, create)
    }

    /// Opens the store at `root` for a verb that only looks after what is there; makes none.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], and as [`Self::open`].
    pub fn open_existing(root: &Path, access: Access) -> Result<Self, StoreError> {
        Self::open_or(root, access, |root| {
            refuse_foreign(root)?;
            Err(StoreError::NoStore { path: root.to_owned() })
        })
    }

    fn open_or(
        root: &Path,
        access: Access,
        absent: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).map_err(|e| StoreError::io(root, "resolve", e))?;
        match fs_err::read_to_string(root.join("format")) {
            Ok(text) => check_format(&root, &text)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => absent(&root)?,
            Err(e) => return Err(StoreError::io(&root, "read", e)),
        }
        no_links(&root)?;
        let mode = match access {
            Access::Shared => Mode::Shared,
            Access::Exclusive => Mode::Exclusive,
        };
        let lock = flock::lock(&root.join("lock"), mode, LOCK_PATIENCE)?;
        Ok(Self { root, _lock: lock, access, in_flight: Mutex::default() })
    }

    /// The store's directory, absolute.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where the blob lies when it is there.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs_dir().join(digest.hex())
    }

    /// A nameless file for bytes that are read once and forgotten (an index to be searched), on the store's own file system.
    ///
    /// # Errors
    /// When it can not be made.
    pub fn scratch(&self) -> Result<std::fs::File, StoreError> {
        tempfile::tempfile_in(self.tmp_dir()).map_err(|e| StoreError::io(&self.tmp_dir(), "write in", e))
    }

    fn blobs_dir(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn tmp_dir(&self) -> PathBuf {
        self.root.join("tmp")
    }

    fn roots_dir(&self) -> PathBuf {
        self.root.join("roots")
    }
}

/// Folders of a store, which are written to and tidied.
const FOLDERS: [&str; 7] =
    ["blobs/sha256", "cache", "realisations/last", "roots", "scratch/built-again", "toolchains", "tmp"];

/// That the folders are the store's own: who tidies would tidy where a link leads.
fn no_links(root: &Path) -> Result<(), StoreError> {
    FOLDERS
        .iter()
        .try_for_each(|folder| regular::refuse_links(root, Path::new(folder)))
        .map_err(|source| StoreError::Link { store: root.to_owned(), source })
}

fn check_format(root: &Path, text: &str) -> Result<(), StoreError> {
    match text.trim().parse::<u32>() {
        Ok(FORMAT) => Ok(()),
        Ok(found) => Err(StoreError::Format { path: root.to_owned(), found, known: FORMAT }),
        Err(_) => Err(StoreError::NotAStore { path: root.to_owned() }),
    }
}

fn create(root: &Path) -> Result<(), StoreError> {
    let failed = |e| StoreError::io(root, "create", e);
    refuse_foreign(root)?;
    for dir in ["blobs/sha256", "realisations", "roots", "tmp"] {
        fs_err::create_dir_all(root.join(dir)).map_err(failed)?;
    }
    atomic::write_file(&root.join("format"), format!("{FORMAT}\n").as_bytes()).map_err(failed)
}

/// A directory that holds other things is somebody else's.
fn refuse_foreign(root: &Path) -> Result<(), StoreError> {
    let foreign = match fs_err::read_dir(root) {
        Ok(entries) => entries.filter_map(Result::ok).any(|e| !is_ours(&e.file_name())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(StoreError::io(root, "read", e)),
    };
    if foreign { Err(StoreError::NotAStore { path: root.to_owned() }) } else { Ok(()) }
}

/// Names that two commands making one store at the same moment leave there.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    let ours = ["blobs", "cache", "realisations", "roots", "scratch", "toolchains", "tmp", "lock", "format"];
    ours.contains(&&*name) || name.starts_with(".format.")
}
