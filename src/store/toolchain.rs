//! Where toolchain trees lie in the store: directories that can be made again from locked packages at any time.
//!
//! ```text
//! toolchains/<key hex>/root       the tree
//! toolchains/<key hex>/complete   written last; its time of modification is that of the last use
//! toolchains/.<key hex>.lock      flock: one builder at a time
//! ```
//!
//! No root keeps a tree: the garbage collector removes those that nobody has used for the grace period.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use super::{Store, StoreError};
use crate::base::digest::Digest;

/// A toolchain's place in the store.
#[derive(Debug, Clone)]
pub struct ToolchainPlace {
    /// The directory of the toolchain.
    pub dir: PathBuf,
    /// The tree in it.
    pub root: PathBuf,
    /// The file that says the tree is whole.
    pub complete: PathBuf,
    /// The file that its builders lock.
    pub lock: PathBuf,
}

impl Store {
    /// Where the toolchain of `key` lies, whether it is there or not.
    pub fn toolchain(&self, key: &Digest) -> ToolchainPlace {
        let hex = key.hex();
        let dir = self.toolchains_dir().join(&hex);
        let lock = self.toolchains_dir().join(format!(".{hex}.lock"));
        ToolchainPlace { root: dir.join("root"), complete: dir.join("complete"), dir, lock }
    }

    /// The folder of all toolchains; a store that never had one has no such folder.
    pub fn toolchains_dir(&self) -> PathBuf {
        self.root.join("toolchains")
    }

    /// Where build steps get their scratch directories; those of failed steps stay here for people to look into.
    pub fn scratch_dir(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Removes what failed steps left before `before`; says how many.
    pub(super) fn collect_scratch(&self, before: SystemTime, dry_run: bool) -> Result<usize, StoreError> {
        let dir = self.scratch_dir();
        let failed = |e| StoreError::io(&dir, "read", e);
        let listed = match fs_err::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(failed)?,
        };
        let mut removed = 0;
        for entry in listed {
            let path = entry.map_err(failed)?.path();
            if fs_err::symlink_metadata(&path).and_then(|m| m.modified()).is_ok_and(|t| t > before) {
                continue;
            }
            removed += 1;
            if !dry_run {
                fs_err::remove_dir_all(&path).map_err(|e| StoreError::io(&path, "remove", e))?;
            }
        }
        Ok(removed)
    }

    /// Removes toolchains that were last used, and unfinished ones last written, before `before`; says how many.
    pub(super) fn collect_toolchains(&self, before: SystemTime, dry_run: bool) -> Result<usize, StoreError> {
        let dir = self.toolchains_dir();
        let failed = |e| StoreError::io(&dir, "read", e);
        let listed = match fs_err::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(failed)?,
        };
        let mut removed = 0;
        for entry in listed {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let mark = path.join("complete");
            let used = fs_err::metadata(&mark).or_else(|_| entry.metadata()).and_then(|m| m.modified());
            if !entry.file_type().is_ok_and(|t| t.is_dir()) || used.is_ok_and(|t| t > before) {
                continue;
            }
            removed += 1;
            if !dry_run {
                // The mark first: half a tree must never look whole.
                super::realisation::remove(&mark)?;
                fs_err::remove_dir_all(&path).map_err(|e| StoreError::io(&path, "remove", e))?;
                let name = entry.file_name();
                super::realisation::remove(&dir.join(format!(".{}.lock", name.to_string_lossy())))?;
            }
        }
        Ok(removed)
    }
}
