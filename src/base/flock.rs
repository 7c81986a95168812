//! Advisory locks between processes (`flock(2)`), by way of the standard library.

use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::regular;

/// Whether others may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Any number of holders.
    Shared,
    /// One holder.
    Exclusive,
}

/// A held lock; let go when dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: fs_err::File,
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockFailure {
    /// Somebody else held it all the time.
    #[error("another labimg holds `{path}`{}", for_a_while(waited))]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// How long we tried.
        waited: Duration,
    },
    /// The file could not be opened or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn for_a_while(waited: &Duration) -> String {
    if waited.as_secs() == 0 { String::new() } else { format!(" (waited {} s)", waited.as_secs()) }
}

/// Opens `path` (made when absent, read-only where it can not be written) and locks it, waiting at most `patience`.
///
/// # Errors
/// [`LockFailure::Busy`] after `patience`; I/O errors at once.
pub fn lock(path: &Path, mode: Mode, patience: Duration) -> Result<FileLock, LockFailure> {
    let file = open(path)?;
    let start = Instant::now();
    loop {
        let tried = match mode {
            Mode::Shared => file.file().try_lock_shared(),
            Mode::Exclusive => file.file().try_lock(),
        };
        match tried {
            Ok(()) => return Ok(FileLock { _file: file }),
            Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(50))
            }
            Err(TryLockError::WouldBlock) => {
                return Err(LockFailure::Busy { path: path.to_owned(), waited: start.elapsed() });
            }
            Err(TryLockError::Error(e)) => return Err(super::atomic::at(path, "lock", e).into()),
        }
    }
}

/// Whether `path` still names the open `file`: its last holder may have renamed or removed it between our open and our lock.
pub fn same_file(file: &fs_err::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs_err::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn open(path: &Path) -> io::Result<fs_err::File> {
    match regular::open_own(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            regular::open(path)
        }
        other => other,
    }
}
