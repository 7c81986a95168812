//! ext4 file systems (Linux, Documentation/filesystems/ext4): fields of the superblock, then path by path, then what no path
//! shows. Read as they stand: no journal is replayed.
//!
//! The reader is our own, because the comparison needs what libraries hide: inode numbers, extended attributes, and where on
//! the disk each thing is.

pub(in crate::build) mod inode;
mod places;
pub(in crate::build) mod superblock;
pub(in crate::build) mod walk;
pub(in crate::build) mod xattr;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use self::inode::Inode;
use self::superblock::Fs;
use super::bytes::{Shared, le16};
use super::{Walk, What, causes};

/// Whether what starts so is an ext2, ext3 or ext4 file system.
pub fn is_ext4(head: &[u8]) -> bool {
    le16(head, 1024 + 0x38) == superblock::MAGIC
}

/// A file system and the inode of each of its paths.
struct Side {
    fs: Fs,
    paths: BTreeMap<Vec<u8>, u32>,
}

fn side(bytes: &Shared) -> io::Result<Side> {
    let fs = Fs::open(bytes)?;
    let paths = walk::paths(&fs)?;
    Ok(Side { fs, paths })
}

impl Walk<'_> {
    /// Tells how two file systems differ; gives how they do when nothing of them that has a name does.
    pub(super) fn ext4(&mut self, a: &Shared, b: &Shared) -> io::Result<String> {
        let (first, second) = (side(a)?, side(b)?);
        let before = self.report.mark();
        for ((name, x), (_, y)) in first.fs.fields().iter().zip(&second.fs.fields()) {
            self.property("superblock", name, x, y);
        }
        let fields_differ = self.report.mark() != before;
        let between = self.report.mark();
        let all: BTreeSet<&Vec<u8>> = first.paths.keys().chain(second.paths.keys()).collect();
        for path in all {
            let name = String::from_utf8_lossy(path);
            match (first.paths.get(path), second.paths.get(path)) {
                (Some(x), Some(y)) => self.path(&name, (&first.fs, *x), (&second.fs, *y))?,
                (Some(_), None) => self.tell_at(&name, What::OnlyInFirst, causes::of_path(&name)),
                (None, Some(_)) => self.tell_at(&name, What::OnlyInSecond, causes::of_path(&name)),
                (None, None) => {}
            }
        }
        if self.report.mark() == between {
            for found in places::differences(&first, &second, fields_differ)? {
                let cause = causes::of_field(&found.name);
                self.tell(What::Structure { name: found.name, byte: found.byte, count: found.count }, cause);
            }
        }
        Ok("file systems differ in parts that mean nothing".to_owned())
    }

    fn path(&mut self, name: &str, (a, x): (&Fs, u32), (b, y): (&Fs, u32)) -> io::Result<()> {
        let (first, second) = (a.inode(x)?, b.inode(y)?);
        self.property(name, "type", first.kind(), second.kind());
        if first.kind() != second.kind() {
            return Ok(());
        }
        let mode = |i: &Inode| format!("{:04o}", i.mode() & 0o7777);
        self.property(name, "mode", mode(&first), mode(&second));
        let owner = |i: &Inode| format!("{}:{}", i.uid(), i.gid());
        self.property(name, "owner", owner(&first), owner(&second));
        self.property(name, "mtime", first.mtime(), second.mtime());
        self.property(name, "hard links", first.links(), second.links());
        if first.is_symlink() {
            let target = |fs: &Fs, i: &Inode| fs.target(i).map(|t| format!("`{}`", String::from_utf8_lossy(&t)));
            self.property(name, "target", target(a, &first)?, target(b, &second)?);
        }
        if first.is_device() {
            self.property(name, "device", first.device(), second.device());
        }
        self.xattrs(name, &xattr::read(a, &first)?, &xattr::read(b, &second)?);
        match first.is_file() {
            true => self.below(name, &a.content(&first)?, &b.content(&second)?),
            false => Ok(()),
        }
    }
}
