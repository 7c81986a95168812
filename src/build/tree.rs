//! A file system tree on its way into a layer: what stands where, without a copy of the contents.
//!
//! Trees are merged and sorted by path; contents stay where they are (in memory, in a spool, in a file) until a layer is
//! written. There are no times: every member of a layer has the lock's epoch. There are no devices: nothing made here has any.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::model::guest_path::GuestPath;

/// A tree: entries by path, so always sorted. The root itself has no entry.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// What stands where.
    pub entries: BTreeMap<GuestPath, Entry>,
}

/// One entry of a tree.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// A file's capabilities: the value of its extended attribute `security.capability` (capabilities(7), "File
    /// capabilities"). Trees of machines have some; layers leave them out.
    pub capability: Option<Arc<[u8]>>,
    /// Who brought it, for messages: `package coreutils`, `wheel flask`, `image.toml`.
    pub origin: Arc<str>,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File(Content),
    /// A symbolic link, its target as it is written.
    Symlink(String),
    /// Another name of a file in the same tree.
    Hardlink(GuestPath),
}

/// The content of a file.
#[derive(Debug, Clone)]
pub struct Content {
    /// Bytes.
    pub size: u64,
    /// Where they are.
    pub source: Source,
}

/// Where contents are.
#[derive(Debug, Clone)]
pub enum Source {
    /// In memory: small generated files only.
    Bytes(Arc<[u8]>),
    /// In a spool, from an offset on.
    Spool(Arc<std::fs::File>, u64),
    /// A file that nobody changes meanwhile: a blob of the store.
    Path(Arc<Path>),
}

impl Content {
    /// Generated content.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { size: bytes.len() as u64, source: Source::Bytes(bytes) }
    }

    /// A reader of exactly [`Self::size`] bytes.
    ///
    /// # Errors
    /// A file that can not be opened; reading fails when fewer bytes are there.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(match &self.source {
            Source::Bytes(bytes) => Box::new(&bytes[..]),
            Source::Spool(file, offset) => Box::new(At { file, offset: *offset, left: self.size }),
            Source::Path(path) => Box::new(fs_err::File::open(path.as_ref())?.take(self.size)),
        })
    }

    /// The whole content in memory.
    ///
    /// # Errors
    /// As [`Self::open`], and content of more than `limit` bytes.
    pub fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        if self.size > limit {
            return Err(io::Error::other(format!("{} bytes, more than {limit}", self.size)));
        }
        let mut bytes = Vec::with_capacity(self.size as usize);
        self.open()?.read_to_end(&mut bytes)?;
        if bytes.len() as u64 == self.size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Reads a part of a shared file without moving its cursor.
struct At<'a> {
    file: &'a std::fs::File,
    offset: u64,
    left: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.file.read_at(&mut buffer[..want], self.offset)?;
        self.offset += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

impl Entry {
    /// A directory of root's with mode 0755.
    pub fn dir(origin: &Arc<str>) -> Self {
        Self { kind: Kind::Dir, mode: 0o755, uid: 0, gid: 0, capability: None, origin: origin.clone() }
    }

    /// A file of root's.
    pub fn file(origin: &Arc<str>, mode: u32, content: Content) -> Self {
        Self { kind: Kind::File(content), mode, uid: 0, gid: 0, capability: None, origin: origin.clone() }
    }

    /// A symbolic link.
    pub fn symlink(origin: &Arc<str>, target: impl Into<String>) -> Self {
        Self {
            kind: Kind::Symlink(target.into()),
            mode: 0o777,
            uid: 0,
            gid: 0,
            capability: None,
            origin: origin.clone(),
        }
    }
}

impl Tree {
    /// Puts an entry, and the directories above it that are not there yet.
    pub fn put(&mut self, path: GuestPath, entry: Entry) {
        self.ensure_parents(&path, &entry.origin);
        self.entries.insert(path, entry);
    }

    /// Makes the directories above `path` that are not there yet.
    pub fn ensure_parents(&mut self, path: &GuestPath, origin: &Arc<str>) {
        let mut at = path.parent();
        while let Some(dir) = at.filter(|d| !d.is_root() && !self.entries.contains_key(d)) {
            at = dir.parent();
            self.entries.insert(dir, Entry::dir(origin));
        }
    }

    /// The entry at `path`, symbolic links not followed.
    pub fn get(&self, path: &GuestPath) -> Option<&Entry> {
        self.entries.get(path)
    }
}
