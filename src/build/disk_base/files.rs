//! An ext4 file system's files into a tree: modes, owners, links, capabilities; holes stay holes. Times are the tree's writer's.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::base::report::Task;
use crate::build::BuildError;
use crate::build::descent::ext4::inode::Inode;
use crate::build::descent::ext4::superblock::Fs;
use crate::build::descent::ext4::{walk, xattr};
use crate::build::rootfs::normalise::goes;
use crate::build::spool::Spool;
use crate::build::tree::{Content, Entry, Kind, Tree};
use crate::model::guest_path::GuestPath;

/// Bytes copied at a time.
const STEP: usize = 256 * 1024;
/// Directories that hold nothing of a machine that is off.
const VOLATILE: [&str; 3] = ["dev", "proc", "sys"];
/// The extended attribute that is kept.
const CAPABILITY: &str = "security.capability";
/// Longest value of it (linux/capability.h: `XATTR_CAPS_SZ_3` is 24).
const CAPABILITY_MAX: usize = 64;

/// Reads one file system.
pub(super) struct Reader<'a> {
    /// The file system.
    pub fs: &'a Fs,
    /// Where it is mounted.
    pub at: GuestPath,
    /// Who brings its files, for messages.
    pub origin: &'a Arc<str>,
    /// Where contents go.
    pub spool: &'a mut Spool,
    /// Bytes that may still come.
    pub left: &'a mut u64,
    /// Who is told of them.
    pub task: &'a Task<'a>,
}

impl Reader<'_> {
    /// Puts its files into `tree`. Those that no machine's tree keeps (logs, caches) are not read.
    ///
    /// # Errors
    /// Names that are not UTF-8, devices, encrypted files, damage; more bytes than may be.
    pub(super) fn put(&mut self, tree: &mut Tree) -> Result<(), BuildError> {
        let paths = walk::paths(self.fs).map_err(|e| self.bad(&self.at, e.to_string()))?;
        let mut first: BTreeMap<u32, GuestPath> = BTreeMap::new();
        for (bytes, number) in paths {
            let text = String::from_utf8(bytes).map_err(|e| {
                let shown = String::from_utf8_lossy(e.as_bytes()).into_owned();
                BuildError::bad(&**self.origin, format!("the name `{shown}` is not UTF-8"))
            })?;
            let at = self.at.join(&text)?;
            if at.is_root() || is_volatile(&at) || text == "/lost+found" || text.starts_with("/lost+found/") {
                continue;
            }
            let failed = |e: io::Error| BuildError::bad(&**self.origin, format!("`{at}`: {e}"));
            let inode = self.fs.inode(number).map_err(failed)?;
            if let Some(own) = first.get(&number).filter(|_| inode.is_file()) {
                let kind = Kind::Hardlink(own.clone());
                let entry = self.entry(&inode, kind);
                tree.put(at, entry);
                continue;
            }
            let Some(entry) = self.one(&at, &inode)? else { continue };
            if inode.is_file() {
                first.insert(number, at.clone());
            }
            tree.put(at, entry);
        }
        Ok(())
    }

    /// What stands at `at`; nothing where no tree keeps it.
    fn one(&mut self, at: &GuestPath, inode: &Inode) -> Result<Option<Entry>, BuildError> {
        if inode.is_dir() {
            return Ok(Some(self.entry(inode, Kind::Dir)));
        }
        let gone = goes(at, &self.entry(inode, Kind::Symlink(String::new())));
        if gone && (!inode.is_file() || inode.links() == 1) {
            return Ok(None);
        }
        if inode.is_symlink() {
            let target = self.fs.target(inode).map_err(|e| self.bad(at, e.to_string()))?;
            let target = String::from_utf8(target).map_err(|_| self.bad(at, "its target is not UTF-8"))?;
            return Ok(Some(Entry { mode: 0o777, ..self.entry(inode, Kind::Symlink(target)) }));
        }
        if !inode.is_file() {
            // Sockets and pipes are made by whoever listens.
            return match inode.is_device() {
                false => Ok(None),
                true => Err(BuildError::user(
                    format!("{}: `{at}` is a device, and boxes have them in /dev only", self.origin),
                    "take an image without it",
                )),
            };
        }
        if inode.is_encrypted() {
            return Err(BuildError::user(
                format!("{}: `{at}` is encrypted", self.origin),
                "take an image that is not encrypted",
            ));
        }
        let xattrs = xattr::read(self.fs, inode).map_err(|e| self.bad(at, e.to_string()))?;
        let capability = xattrs.get(CAPABILITY).filter(|v| v.len() <= CAPABILITY_MAX).map(|v| v.as_slice().into());
        let content = self.content(at, inode)?;
        Ok(Some(Entry { capability, ..self.entry(inode, Kind::File(content)) }))
    }

    fn entry(&self, inode: &Inode, kind: Kind) -> Entry {
        let mode = u32::from(inode.mode() & 0o7777);
        Entry { kind, mode, uid: inode.uid(), gid: inode.gid(), capability: None, origin: self.origin.clone() }
    }

    /// Copies a file's bytes into the spool.
    fn content(&mut self, at: &GuestPath, inode: &Inode) -> Result<Content, BuildError> {
        let size = inode.size();
        *self.left = self.left.checked_sub(size).ok_or_else(|| {
            BuildError::user(
                format!("{}: its files do not fit onto the box's disk (at `{at}`)", self.origin),
                "write a larger size, as the image's own disk has: size = \"8GiB\"",
            )
        })?;
        let failed = |e: io::Error| BuildError::bad(&**self.origin, format!("`{at}`: {e}"));
        let content = self.fs.content(inode).map_err(failed)?;
        let start = self.spool.position();
        let mut done = 0;
        let mut buffer = vec![0; STEP.min(usize::try_from(size).unwrap_or(STEP))];
        while done < size {
            let hole = content.hole(done).map_err(failed)?.min(size - done);
            if hole > 0 {
                self.spool.skip(hole)?;
                done += hole;
                continue;
            }
            let n = usize::try_from(size - done).unwrap_or(STEP).min(STEP);
            let part = buffer.get_mut(..n).unwrap_or_default();
            content.read_at(done, part).map_err(failed)?;
            self.spool.append(part)?;
            done += n as u64;
        }
        self.task.advance(size);
        Ok(self.spool.since(start))
    }

    fn bad(&self, at: &GuestPath, why: impl Into<String>) -> BuildError {
        BuildError::bad(&**self.origin, format!("`{at}`: {}", why.into()))
    }
}

fn is_volatile(path: &GuestPath) -> bool {
    path.as_str().split_once('/').is_some_and(|(top, _)| VOLATILE.contains(&top))
}
