//! Regular files under names that may hold anything: a link, a pipe nobody writes into, a device without end. They are opened
//! without waiting for anybody, and looked at once more when they are open.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Opens a regular file to be read. Links are followed.
///
/// Looks before it opens: opening a FIFO waits for somebody to write into it, and opening a device may do something.
///
/// # Errors
/// [`io::ErrorKind::IsADirectory`] for a directory; whatever is neither that nor a regular file; any I/O error.
pub fn open(path: &Path) -> io::Result<fs_err::File> {
    judge(path, &fs_err::metadata(path)?)?;
    // `open(2)`: O_NONBLOCK means nothing to a regular file. It is here for what took its place meanwhile.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = fs_err::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    judge(path, &file.metadata()?)?;
    Ok(file)
}

/// Opens the regular file `below` the directory `root`, both without any link in them, as [`fs_err::canonicalize`] gives
/// them. A link that took the place of a part of `below` meanwhile is refused, not followed (`openat2(2)`; where the kernel
/// or a filter of system calls does not have it, only the last part is guarded).
///
/// # Errors
/// As [`open`].
pub fn open_below(root: &Path, below: &Path) -> io::Result<fs_err::File> {
    let path = root.join(below);
    judge(&path, &fs_err::symlink_metadata(&path)?)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // `open(2)`: O_PATH asks for no permission to list the folder.
    let dir = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| super::atomic::at(root, "open", e.into()))?;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let opened: OwnedFd = match openat2(&dir, below, flags, Mode::empty(), how) {
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(&dir, below, flags, Mode::empty()),
        other => other,
    }
    .map_err(|e| super::atomic::at(&path, "open", e.into()))?;
    let file = fs_err::File::from_parts(std::fs::File::from(opened), &path);
    judge(&path, &file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`]; a file that is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_all(open(path)?, path, most)
}

/// Reads an open file to its end, which must come after at most `most` bytes; `path` is for the message.
///
/// # Errors
/// A file that is larger; any I/O error.
pub fn read_all(file: impl Read, path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()).is_ok_and(|len| len <= most) {
        true => Ok(bytes),
        false => Err(io::Error::other(format!("`{}` is larger than {} KiB", path.display(), most / 1024))),
    }
}

/// Opens a file of our own to write (and read) it, making it where it is not there. A link under its name is not followed.
///
/// # Errors
/// A link, anything else that is no regular file, and I/O errors.
pub fn open_own(path: &Path) -> io::Result<fs_err::File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).unwrap_or_default();
    let mut options = fs_err::OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o644).custom_flags(flags);
    let file = options.open(path).map_err(|e| if is_link(path) { link(path) } else { e })?;
    judge(path, &file.metadata()?)?;
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

pub(super) fn no_file(path: &Path) -> io::Error {
    io::Error::other(format!("`{}` is no regular file", path.display()))
}

fn judge(path: &Path, meta: &std::fs::Metadata) -> io::Result<()> {
    match (meta.is_file(), meta.is_dir()) {
        (true, _) => Ok(()),
        (_, true) => {
            Err(io::Error::new(io::ErrorKind::IsADirectory, format!("`{}` is a directory, not a file", path.display())))
        }
        _ => Err(no_file(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_files_is_opened_and_nobody_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs_err::write(at("file"), "text").unwrap();
        fs_err::os::unix::fs::symlink("file", at("link")).unwrap();
        fs_err::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        assert_eq!(read(&at("link"), 4).unwrap(), b"text");
        assert!(read(&at("file"), 3).unwrap_err().to_string().contains("is larger than"));
        assert_eq!(open(dir.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        for name in ["fifo", "zero"] {
            assert!(open(&at(name)).unwrap_err().to_string().contains("no regular file"), "{name}");
        }
        assert!(open_below(dir.path(), Path::new("fifo")).is_err());
        assert!(open_below(dir.path(), Path::new("link")).is_err(), "whoever calls it has resolved links");
        assert!(open_below(dir.path(), Path::new("file")).is_ok());
    }

    #[test]
    fn a_folder_that_became_a_link_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs_err::create_dir_all(at("root")).unwrap();
        fs_err::create_dir_all(at("other")).unwrap();
        fs_err::write(at("other/file"), "x").unwrap();
        fs_err::os::unix::fs::symlink("../other", at("root/sub")).unwrap();
        assert!(open_below(&at("root"), Path::new("sub/file")).is_err());
        assert!(open_below(&at("root"), Path::new("../other/file")).is_err());
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
