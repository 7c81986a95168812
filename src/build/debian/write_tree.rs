//! A tree on disk: for toolchains, and for looking at what was made.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use crate::build::BuildError;
use crate::build::tree::{Content, Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;

/// Writes a tree into the directory `dir`, which must be there, as the current user: modes are kept; owners only when root,
/// times are `epoch`. Never follows a link: every directory is opened by name from the one above it.
///
/// # Errors
/// Whatever can not be written; a path that is under a link.
pub fn write_tree(tree: &Tree, dir: &Path, epoch: u64) -> Result<(), BuildError> {
    let at = |path: &GuestPath| dir.join(path.as_str());
    let root = open(CWD, dir).map_err(|e| BuildError::io(dir, "open", e))?;
    let owners = rustix::process::geteuid().is_root();
    for (path, entry) in &tree.entries {
        if !matches!(entry.kind, Kind::Hardlink(_)) {
            make(&root, path, entry, owners, epoch).map_err(|e| BuildError::io(&at(path), "make", e))?;
        }
    }
    for (path, entry) in &tree.entries {
        if let Kind::Hardlink(target) = &entry.kind {
            link(&root, path, target).map_err(|e| BuildError::io(&at(path), "link", e))?;
        }
    }
    // Deepest first: modes may forbid writing, and every new name moves its directory's time.
    for (path, entry) in tree.entries.iter().rev().filter(|(_, e)| matches!(e.kind, Kind::Dir)) {
        finish_dir(&root, path, entry, epoch).map_err(|e| BuildError::io(&at(path), "set the mode of", e))?;
    }
    Ok(())
}

fn open(at: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    Ok(fs::openat(at, name, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// The directory of `path`, reached without following a link.
fn above(root: &OwnedFd, path: &GuestPath) -> io::Result<OwnedFd> {
    let mut at = root.try_clone()?;
    let parent = path.parent().unwrap_or_default();
    for part in parent.as_str().split('/').filter(|p| !p.is_empty()) {
        at = open(&at, part)?;
    }
    Ok(at)
}

fn make(root: &OwnedFd, path: &GuestPath, entry: &Entry, owners: bool, epoch: u64) -> io::Result<()> {
    let (dir, name) = (above(root, path)?, path.name());
    match &entry.kind {
        Kind::Dir => fs::mkdirat(&dir, name, Mode::RWXU)?,
        Kind::Symlink(target) => fs::symlinkat(target.as_str(), &dir, name)?,
        Kind::File(content) => return file(&dir, name, entry, content, owners, epoch),
        Kind::Hardlink(_) => return Ok(()),
    }
    if owners {
        chown(&dir, name, entry)?;
    }
    if matches!(entry.kind, Kind::Symlink(_)) {
        fs::utimensat(&dir, name, &times(epoch), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn chown(dir: &OwnedFd, name: &str, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    Ok(fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn file(dir: &OwnedFd, name: &str, entry: &Entry, content: &Content, owners: bool, epoch: u64) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
    if io::copy(&mut content.open()?, &mut file)? != content.size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if owners {
        chown(dir, name, entry)?;
    }
    // After the owner: changing that drops set-user-id bits (chown(2)).
    fs::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
    Ok(fs::futimens(&file, &times(epoch))?)
}

fn link(root: &OwnedFd, path: &GuestPath, target: &GuestPath) -> io::Result<()> {
    let (from, to) = (above(root, target)?, above(root, path)?);
    Ok(fs::linkat(&from, target.name(), &to, path.name(), AtFlags::empty())?)
}

fn finish_dir(root: &OwnedFd, path: &GuestPath, entry: &Entry, epoch: u64) -> io::Result<()> {
    let dir = open(above(root, path)?, path.name())?;
    fs::fchmod(&dir, Mode::from_raw_mode(entry.mode))?;
    Ok(fs::futimens(&dir, &times(epoch))?)
}

fn times(epoch: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(epoch).unwrap_or(i64::MAX), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
