//! A large file while it grows: beside its target under a fixed hidden name, locked, and renamed when it is whole.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use super::BundleError;
use crate::base::{atomic, flock, regular};

/// A file under way. Dropped without [`PartFile::commit`], it is removed.
///
/// The name is fixed (`.<name>.part`), so what a killed process left behind is found and overwritten by the next run rather
/// than piling up.
#[derive(Debug)]
pub struct PartFile {
    file: fs_err::File,
    path: PathBuf,
    target: PathBuf,
    done: bool,
}

impl PartFile {
    /// Opens the part of `target`, empty and locked.
    ///
    /// # Errors
    /// [`BundleError::Busy`] when another process writes the same target; a target that is no regular file (nothing may be
    /// renamed over a device); I/O errors.
    pub fn create(target: &Path) -> Result<Self, BundleError> {
        if fs_err::metadata(target).is_ok_and(|meta| !meta.is_file()) {
            let why = std::io::Error::other("it is no regular file");
            return Err(BundleError::io(target, "replace", why));
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = atomic::parent(target).join(format!(".{name}.part"));
        loop {
            let file = open(&path)?;
            match file.file().try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(BundleError::Busy { path: target.to_owned(), part: path }),
                Err(TryLockError::Error(e)) => return Err(BundleError::io(&path, "lock", e)),
            }
            // Its last owner may have renamed or removed it between our open and our lock: then this is no part any more.
            if flock::same_file(&file, &path) {
                empty(&file, &path)?;
                return Ok(Self { file, path, target: target.to_owned(), done: false });
            }
        }
    }

    /// The open file.
    pub fn file(&self) -> &std::fs::File {
        self.file.file()
    }

    /// Where it grows.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name; with `sync`, only after its bytes are on disk, and makes the new name durable too.
    ///
    /// # Errors
    /// When it can not be synced (a full disk may show only now) or renamed; the target then is what it was before.
    pub fn commit(mut self, sync: bool) -> Result<(), BundleError> {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o644);
        self.file.set_permissions(mode).map_err(|e| BundleError::io(&self.path, "chmod", e))?;
        if sync {
            self.file.sync_data().map_err(|e| BundleError::io(&self.path, "sync", e))?;
        }
        fs_err::rename(&self.path, &self.target).map_err(|e| BundleError::io(&self.target, "write", e))?;
        self.done = true;
        if sync {
            atomic::sync_dir(atomic::parent(&self.target)).map_err(|e| BundleError::io(&self.target, "sync", e))?;
        }
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.done {
            // We still hold the lock, so nobody else's part can stand under the name.
            let _ = fs_err::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> Result<fs_err::File, BundleError> {
    regular::open_own(path).map_err(|e| BundleError::io(path, "write", e))
}

/// Truncates what a killed process left. A file that is empty already is let be: ext4 writes a file that was truncated to
/// nothing out when it is closed (`auto_da_alloc`), which takes time nobody asked for.
fn empty(file: &fs_err::File, path: &Path) -> Result<(), BundleError> {
    let len = file.metadata().map_err(|e| BundleError::io(path, "read", e))?.len();
    if len > 0 {
        file.set_len(0).map_err(|e| BundleError::io(path, "empty", e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_link_in_the_place_of_the_part_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, target) = (dir.path().join("victim"), dir.path().join("x.labimg"));
        fs_err::write(&victim, "victim").unwrap();
        fs_err::os::unix::fs::symlink(&victim, dir.path().join(".x.labimg.part")).unwrap();
        let error = PartFile::create(&target).unwrap_err().to_string();
        assert!(error.contains(".x.labimg.part` is a link to"), "{error}");
        assert_eq!(fs_err::read(&victim).unwrap(), b"victim");
        // A link of the target's own name is replaced, not written through.
        fs_err::remove_file(dir.path().join(".x.labimg.part")).unwrap();
        fs_err::os::unix::fs::symlink(&victim, &target).unwrap();
        PartFile::create(&target).unwrap().commit(false).unwrap();
        assert_eq!(fs_err::read(&victim).unwrap(), b"victim");
    }

    #[test]
    fn two_writers_of_one_file_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("lab.labimg");
        let part = PartFile::create(&target).unwrap();
        assert!(matches!(PartFile::create(&target), Err(BundleError::Busy { .. })));
        assert!(PartFile::create(&dir.path().join("other.labimg")).is_ok());
        part.file().write_all(b"whole").unwrap();
        part.commit(true).unwrap();
        assert_eq!(fs_err::read(&target).unwrap(), b"whole");
        assert_eq!(fs_err::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for target in [dir.path(), Path::new("/dev/null"), &socket] {
            let error = PartFile::create(target).unwrap_err().to_string();
            assert!(error.contains("no regular file"), "{error}");
        }
    }

    #[test]
    fn an_abandoned_part_is_gone_and_a_stale_one_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("lab.labimg");
        fs_err::write(&target, b"old").unwrap();
        drop(PartFile::create(&target).unwrap());
        assert_eq!(fs_err::read(&target).unwrap(), b"old");
        fs_err::write(dir.path().join(".lab.labimg.part"), b"left by a killed process").unwrap();
        PartFile::create(&target).unwrap().commit(false).unwrap();
        assert_eq!(fs_err::read(&target).unwrap(), b"");
    }
}
