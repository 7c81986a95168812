//! A directory that is ours to write and tidy, by its descriptor: a name in it leads to what stands in it and nowhere else, even
//! when somebody puts a link in its place meanwhile.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{atomic, regular};

/// How often another name is tried for a temporary file.
const TRIES: u32 = 1000;

/// An open directory.
#[derive(Debug)]
pub struct OwnDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl OwnDir {
    /// The directory at `path`, `None` where nothing stands there. Its last component is no link; those before it are the
    /// person's who named them.
    ///
    /// # Errors
    /// A link or anything else that is no directory, and I/O errors.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let path = bare(path);
        opened(CWD, path.as_os_str(), &path, OFlags::NOFOLLOW)
    }

    /// As [`Self::open`] of a directory that a person named: it may be a link of theirs.
    ///
    /// # Errors
    /// Anything that is no directory, and I/O errors.
    pub fn open_named(path: &Path) -> io::Result<Option<Self>> {
        opened(CWD, path.as_os_str(), path, OFlags::empty())
    }

    /// As [`Self::open`], made where it is not there, with those above it.
    ///
    /// # Errors
    /// As [`Self::open`], and one that can not be made.
    pub fn make(path: &Path) -> io::Result<Self> {
        regular::refuse_link(&bare(path))?;
        fs_err::create_dir_all(path)?;
        Self::open(path)?.ok_or_else(|| vanished(path))
    }

    /// As [`Self::open_named`], made where it is not there, with those above it.
    ///
    /// # Errors
    /// As [`Self::open_named`], and one that can not be made.
    pub fn make_named(path: &Path) -> io::Result<Self> {
        fs_err::create_dir_all(path)?;
        Self::open_named(path)?.ok_or_else(|| vanished(path))
    }

    /// The directory `name` in this one, `None` where nothing stands there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn sub(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Self>> {
        let name = plain(name.as_ref())?;
        opened(self.fd.as_fd(), name, &self.path.join(name), OFlags::NOFOLLOW)
    }

    /// The directory `name` in this one, made where it is not there.
    ///
    /// # Errors
    /// As [`Self::open`], and one that can not be made.
    pub fn make_sub(&self, name: &str) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.fd, plain(name.as_ref())?, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(self.failed("make", name, e)),
        }
        self.sub(name)?.ok_or_else(|| vanished(&self.path.join(name)))
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, sorted; of those that are not UTF-8, something like them.
    ///
    /// # Errors
    /// I/O errors.
    pub fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.entries()?.iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn entries(&self) -> io::Result<Vec<OsString>> {
        let failed = |e: Errno| atomic::at(&self.path, "read", e.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let name = OsStr::from_bytes(entry.map_err(failed)?.file_name().to_bytes()).to_owned();
            names.extend((name != "." && name != "..").then_some(name));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The size in bytes of a regular file in it; of anything else (links are not followed), `None`.
    pub fn size(&self, name: &str) -> Option<u64> {
        let stat = rustix::fs::statat(&self.fd, plain(name.as_ref()).ok()?, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| u64::try_from(stat.st_size).ok())?
    }

    /// Whether anything stands in it under this name.
    pub fn has(&self, name: &str) -> bool {
        plain(name.as_ref()).is_ok_and(|name| rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// Reads a regular file in it, `None` where nothing stands there.
    ///
    /// # Errors
    /// A link or anything else that is no regular file, a file of more than `limit` bytes, I/O errors.
    pub fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.path.join(name);
        let file = match rustix::fs::openat(&self.fd, plain(name.as_ref())?, flags, Mode::empty()) {
            Ok(fd) => fs_err::File::from_parts(std::fs::File::from(fd), &path),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(regular::link(&path)),
            Err(e) => return Err(self.failed("open", name, e)),
        };
        match file.metadata()?.is_file() {
            true => regular::read_all(file, &path, limit).map(Some),
            false => Err(regular::no_file(&path)),
        }
    }

    /// A new file in it, which must not be there: nothing is followed and nothing overwritten.
    ///
    /// # Errors
    /// Anything that stands there, and I/O errors.
    pub fn new_file(&self, name: &str) -> io::Result<fs_err::File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.fd, plain(name.as_ref())?, flags, Mode::from_raw_mode(0o644));
        let fd = made.map_err(|e| self.failed("write", name, e))?;
        let file = fs_err::File::from_parts(std::fs::File::from(fd), self.path.join(name));
        // Whatever the umask, so that equal runs leave equal files.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        Ok(file)
    }

    /// A new file under a name of its own that starts with `prefix`, and that name.
    ///
    /// # Errors
    /// I/O errors.
    pub fn temporary(&self, prefix: &str) -> io::Result<(String, fs_err::File)> {
        for at in 0..TRIES {
            let name = format!("{prefix}{}-{at}", std::process::id());
            match self.new_file(&name) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => return Ok((name, made?)),
            }
        }
        Err(io::Error::other(format!("`{}` is full of temporary files", self.path.display())))
    }

    /// Replaces a file in it atomically and durably. A link of that name goes, what it leads to stays as it is.
    ///
    /// # Errors
    /// I/O errors; the file then is what it was before.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        plain(name.as_ref())?;
        let (temporary, mut file) = self.temporary(&format!(".{name}."))?;
        let done = file.write_all(bytes).and_then(|()| file.sync_all());
        let done = done.and_then(|()| self.rename(&temporary, self, name));
        if done.is_err() {
            // The failure is what must be told.
            let _ = self.remove_file(&temporary);
        }
        done?;
        self.sync()
    }

    /// Gives what is called `from` here the name `to` in another directory; a file or link that stands there goes.
    ///
    /// # Errors
    /// I/O errors.
    pub fn rename(&self, from: &str, into: &Self, to: &str) -> io::Result<()> {
        rustix::fs::renameat(&self.fd, plain(from.as_ref())?, &into.fd, plain(to.as_ref())?)
            .map_err(|e| into.failed("write", to, e))
    }

    /// Removes a file, or a link itself; what is not there is no error.
    ///
    /// # Errors
    /// I/O errors.
    pub fn remove_file(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, plain(name.as_ref())?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(self.failed("remove", name, e)),
        }
    }

    /// Removes a file, a link itself, or a directory with all in it; what is not there is no error.
    ///
    /// # Errors
    /// I/O errors.
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = plain(name.as_ref())?;
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(self.failed("remove", name, e)),
        }
        let Some(dir) = self.sub(name)? else { return Ok(()) };
        for inner in dir.entries()? {
            dir.remove_all(&inner)?;
        }
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR).map_err(|e| self.failed("remove", name, e))
    }

    /// Sets its mode.
    ///
    /// # Errors
    /// I/O errors.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode)).map_err(|e| atomic::at(&self.path, "chmod", e.into()))
    }

    /// Makes its names durable. File systems that can not sync directories are no error.
    ///
    /// # Errors
    /// I/O errors.
    pub fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.fd) {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(e) => Err(atomic::at(&self.path, "sync", e.into())),
        }
    }

    fn failed(&self, verb: &str, name: impl AsRef<Path>, error: Errno) -> io::Error {
        atomic::at(&self.path.join(name), verb, error.into())
    }
}

/// A path without a slash at its end, by which a link would be followed all the same.
fn bare(path: &Path) -> PathBuf {
    path.components().collect()
}

fn opened(at: impl AsFd, name: &OsStr, path: &Path, follow: OFlags) -> io::Result<Option<OwnDir>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
    match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(OwnDir { fd, path: path.to_owned() })),
        Err(Errno::NOENT) => Ok(None),
        // With both flags, Linux says of a link that it is no directory.
        Err(Errno::LOOP | Errno::NOTDIR)
            if follow.contains(OFlags::NOFOLLOW) && regular::refuse_link(path).is_err() =>
        {
            Err(regular::link(path))
        }
        Err(e) => Err(atomic::at(path, "open the folder", e.into())),
    }
}

/// That a name is one of something in the directory itself.
fn plain(name: &OsStr) -> io::Result<&OsStr> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(one)), None) if one == name => Ok(one),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of a file"))),
    }
}

fn vanished(path: &Path) -> io::Error {
    io::Error::other(format!("`{}` was taken away meanwhile", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;

    #[test]
    fn a_link_is_no_directory_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let (link, victim) = (dir.path().join("link"), dir.path().join("victim"));
        fs_err::create_dir(&victim).unwrap();
        fs_err::write(victim.join("file"), "x").unwrap();
        symlink(&victim, &link).unwrap();
        let here = OwnDir::open(dir.path()).unwrap().unwrap();
        let slash = PathBuf::from(format!("{}/", link.display()));
        for refused in [OwnDir::open(&link).map(drop), OwnDir::open(&slash).map(drop), OwnDir::make(&link).map(drop)] {
            let error = refused.unwrap_err().to_string();
            assert!(error.contains("is a link to") && error.contains("victim"), "{error}");
        }
        assert!(here.sub("link").is_err() && here.make_sub("link").is_err());
        assert!(OwnDir::open_named(&link).unwrap().is_some());
        assert!(OwnDir::open(&dir.path().join("none")).unwrap().is_none());
        // A link goes, what it leads to stays.
        here.remove_all("link").unwrap();
        assert!(!link.exists() && victim.join("file").is_file());
    }

    #[test]
    fn files_are_read_written_and_removed_in_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs_err::write(&outside, "before").unwrap();
        let own = OwnDir::make(&dir.path().join("a/own")).unwrap();
        symlink(&outside, own.path().join("link")).unwrap();
        assert!(own.read("link", 10).unwrap_err().to_string().contains("is a link"));
        assert_eq!((own.size("link"), own.has("link")), (None, true));
        own.write("link", b"ours").unwrap();
        assert_eq!(own.read("link", 10).unwrap().unwrap(), b"ours");
        assert_eq!(fs_err::read(&outside).unwrap(), b"before");
        assert!(own.new_file("link").is_err());
        for evil in ["", ".", "..", "../outside", "/etc/passwd", "a/b", "a/"] {
            assert!(own.remove_all(evil).is_err() && own.write(evil, b"").is_err() && own.read(evil, 1).is_err());
        }
        let deep = own.make_sub("x").unwrap().make_sub("y").unwrap();
        deep.write("z", b"").unwrap();
        symlink(dir.path(), deep.path().join("up")).unwrap();
        own.remove_all("x").unwrap();
        assert_eq!(own.names().unwrap(), ["link"]);
        assert!(outside.is_file());
    }
}
