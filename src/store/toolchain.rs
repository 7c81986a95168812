//! Where toolchain trees lie in the store: directories that can be made again from locked packages at any time.
//!
//! ```text
//! toolchains/<key hex>/root       the tree
//! toolchains/<key hex>/complete   written last; its time of modification is that of the last use
//! toolchains/.<key hex>.lock      flock: one builder at a time
//! ```
//!
//! No root keeps a tree: the garbage collector removes those that nobody has used for the grace period.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Store, StoreError};
use crate::base::digest::Digest;
use crate::base::dirs;

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

    /// Where build steps get their scratch directories: those of failed and interrupted steps stay until the garbage collector
    /// finds them old enough.
    pub fn scratch_root(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Removes scratch directories last written before `before`; says how many.
    pub(super) fn collect_scratch(&self, before: SystemTime, dry_run: bool) -> Result<usize, StoreError> {
        let mut removed = 0;
        for (path, meta) in directories(&self.scratch_root())? {
            if meta.modified().is_ok_and(|t| t > before) {
                continue;
            }
            removed += 1;
            if !dry_run {
                dirs::remove(&path).map_err(|e| StoreError::io(&path, "remove", e))?;
            }
        }
        Ok(removed)
    }

    /// Removes toolchains that were last used, and unfinished ones last written, before `before`; says how many.
    pub(super) fn collect_toolchains(&self, before: SystemTime, dry_run: bool) -> Result<usize, StoreError> {
        let mut removed = 0;
        for (path, meta) in directories(&self.toolchains_dir())? {
            let mark = path.join("complete");
            let used = fs_err::metadata(&mark).unwrap_or(meta).modified();
            if used.is_ok_and(|t| t > before) {
                continue;
            }
            removed += 1;
            if !dry_run {
                // The mark first: half a tree must never look whole.
                super::realisation::remove(&mark)?;
                dirs::remove(&path).map_err(|e| StoreError::io(&path, "remove", e))?;
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                super::realisation::remove(&path.with_file_name(format!(".{name}.lock")))?;
            }
        }
        Ok(removed)
    }
}

/// The directories in `dir`; none when it is not there.
fn directories(dir: &Path) -> Result<Vec<(PathBuf, Metadata)>, StoreError> {
    let failed = |e| StoreError::io(dir, "read", e);
    let listed = match fs_err::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(failed)?;
        let meta = entry.metadata().map_err(failed)?;
        if meta.is_dir() {
            found.push((entry.path(), meta));
        }
    }
    Ok(found)
}
