//! Directories that programs of others have written into.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::regular;

/// Removes a directory and all in it, also where somebody took away the right to write into parts of it. One that is not there
/// is no error.
///
/// # Errors
/// Any I/O error.
pub fn remove(dir: &Path) -> io::Result<()> {
    match fs_err::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open(dir)?;
            fs_err::remove_dir_all(dir)
        }
        other => other,
    }
}

/// Gives us every right to the directories in `dir`.
fn open(dir: &Path) -> io::Result<()> {
    // Never those of what a link leads to.
    regular::refuse_link(dir)?;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        fs_err::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        for entry in fs_err::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}
