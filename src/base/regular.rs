//! Files that may be anything: what a folder that somebody handed over holds under a name can be a link, a pipe nobody writes
//! into, or a device without end.

use std::io::{self, Read};
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt;

/// Opens a regular file for reading. Links are followed: for what is only read, they do no harm.
///
/// # Errors
/// One that is not there, and anything that is no regular file: a pipe is not waited for.
pub fn open(path: &Path) -> io::Result<fs_err::File> {
    let file = fs_err::OpenOptions::new().read(true).custom_flags(nonblock()).open(path)?;
    require(&file, path)?;
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`], and a file that is larger.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    all(open(path)?, path, limit)
}

/// Opens a file of our own to write (and read) it, making it where it is not there. A link under its name is not followed.
///
/// # Errors
/// A link, anything else that is no regular file, and I/O errors.
pub fn open_own(path: &Path) -> io::Result<fs_err::File> {
    let flags = nonblock() | nofollow();
    let mut options = fs_err::OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o644).custom_flags(flags);
    let file = options.open(path).map_err(|e| if is_link(path) { link(path) } else { e })?;
    require(&file, path)?;
    Ok(file)
}

/// Refuses a link at `path`; what is not there is none.
///
/// # Errors
/// The link, with where it leads and what to do.
pub fn refuse_link(path: &Path) -> io::Result<()> {
    if is_link(path) { Err(link(path)) } else { Ok(()) }
}

/// Refuses links on the way from `root` to `below` it, `root` itself not counted: that one a person named.
///
/// # Errors
/// The first link.
pub fn refuse_links(root: &Path, below: &Path) -> io::Result<()> {
    let mut at = root.to_owned();
    below.components().try_for_each(|part| {
        at.push(part);
        refuse_link(&at)
    })
}

/// That `path` is a link, where labimg writes and tidies in folders and files of its own only.
pub(super) fn link(path: &Path) -> io::Error {
    let to = fs_err::read_link(path).map_or_else(|_| String::new(), |to| format!(" to `{}`", to.display()));
    io::Error::other(format!(
        "`{}` is a link{to}. labimg follows no link to where it writes and deletes: move the link away, or work in another \
         folder",
        path.display()
    ))
}

fn is_link(path: &Path) -> bool {
    fs_err::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_symlink())
}

/// The bytes of an open file, of which there may be `limit`.
pub(super) fn all(file: impl Read, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::other(format!("`{}` is too large: it may have {limit} bytes", path.display()))),
        false => Ok(bytes),
    }
}

fn require(file: &fs_err::File, path: &Path) -> io::Result<()> {
    if file.metadata()?.is_file() { Ok(()) } else { Err(no_file(path)) }
}

pub(super) fn no_file(path: &Path) -> io::Error {
    io::Error::other(format!("`{}` is no regular file", path.display()))
}

fn nonblock() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits() as i32
}

fn nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_a_folder_and_a_device_are_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        for path in [pipe.as_path(), dir.path(), Path::new("/dev/zero")] {
            assert!(read(path, 10).unwrap_err().to_string().contains("no regular file"), "{}", path.display());
            assert!(open_own(path).is_err(), "{}", path.display());
        }
        let file = dir.path().join("file");
        fs_err::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert!(read(&file, 4).unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn a_file_of_our_own_is_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (link, victim) = (dir.path().join("link"), dir.path().join("victim"));
        fs_err::write(&victim, "x").unwrap();
        fs_err::os::unix::fs::symlink(&victim, &link).unwrap();
        assert_eq!(read(&link, 9).unwrap(), b"x");
        let error = open_own(&link).unwrap_err().to_string();
        assert!(error.contains("is a link to") && error.contains("victim"), "{error}");
        assert!(refuse_link(&link).is_err() && refuse_link(&victim).is_ok());
        assert!(open_own(&victim).is_ok() && open_own(&dir.path().join("new")).is_ok());
    }
}
