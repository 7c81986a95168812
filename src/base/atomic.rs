//! Files that are either whole or not there: temporary file, sync, rename, directory sync.

use std::io::{self, Write};
use std::path::Path;

/// Makes a directory's entries durable (a rename is not on disk before its directory is).
///
/// # Errors
/// When the directory can not be opened or synced. File systems that can not sync directories are no error.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    match fs_err::File::open(dir)?.sync_all() {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// Replaces `path` with `bytes` atomically and durably. Mode 0644 whatever the umask, so that equal runs leave equal files.
///
/// # Errors
/// Any I/O error; `path` then is what it was before.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let dir = parent(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut temp = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(dir)
        .map_err(|e| at(dir, "create a file in", e))?;
    temp.write_all(bytes).map_err(|e| at(path, "write", e))?;
    temp.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(|e| at(path, "write", e))?;
    temp.as_file().sync_all().map_err(|e| at(path, "sync", e))?;
    temp.persist(path).map_err(|e| at(path, "write", e.error))?;
    sync_dir(dir)
}

/// The directory that holds `path`; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Says what failed on which path; the kind of the error stays.
pub fn at(path: &Path, verb: &str, error: io::Error) -> io::Error {
    let text = error.to_string();
    // `tempfile` adds the path of a file that nobody knows.
    let why = text.split_once(" at path ").map_or(text.as_str(), |(why, _)| why);
    io::Error::new(error.kind(), format!("can not {verb} `{}`: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_not_be_written_is_named_once() {
        let error = write_file(Path::new("/proc/self/lab.lock"), b"x").unwrap_err().to_string();
        assert!(error.starts_with("can not create a file in `/proc/self`: ") && !error.contains("at path"), "{error}");
    }
}
