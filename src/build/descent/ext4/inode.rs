//! Inodes and where their content is (Documentation/filesystems/ext4: inodes.rst, ifork.rst).

use std::io;
use std::rc::Rc;

use super::super::bytes::{Bytes, Shared, damaged, le16, le32, within};
use super::superblock::Fs;

/// The content is encrypted.
const ENCRYPTED: u32 = 0x800;
/// The content is in extents.
const EXTENTS: u32 = 0x0008_0000;
/// The content is in the inode itself.
const INLINE: u32 = 0x1000_0000;
const EXTENT_MAGIC: u16 = 0xf30a;
/// Levels of an extent tree, the root included.
const LEVELS: u16 = 6;
/// Extents of one file.
const EXTENT_MAX: usize = 1 << 20;
/// The longest target of a symbolic link.
const TARGET_MAX: u64 = 64 * 1024;

/// An inode as it stands.
pub struct Inode {
    raw: Vec<u8>,
}

/// Blocks of a file that are in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first one's number in the file.
    pub logical: u64,
    /// Its place.
    pub physical: u64,
    /// How many.
    pub len: u64,
    /// They hold nothing yet, and read as zeros.
    pub unwritten: bool,
}

impl Inode {
    /// One of these bytes.
    pub fn new(raw: Vec<u8>) -> Self {
        Self { raw }
    }

    /// Its bytes.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Type and permissions.
    pub fn mode(&self) -> u16 {
        le16(&self.raw, 0)
    }

    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self.mode() >> 12 {
            1 => "a pipe",
            2 => "a character device",
            4 => "a directory",
            6 => "a block device",
            8 => "a file",
            10 => "a symbolic link",
            12 => "a socket",
            _ => "something else",
        }
    }

    /// A regular file.
    pub fn is_file(&self) -> bool {
        self.mode() >> 12 == 8
    }

    /// A directory.
    pub fn is_dir(&self) -> bool {
        self.mode() >> 12 == 4
    }

    /// A symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.mode() >> 12 == 10
    }

    /// A device.
    pub fn is_device(&self) -> bool {
        matches!(self.mode() >> 12, 2 | 6)
    }

    /// Owner.
    pub fn uid(&self) -> u32 {
        u32::from(le16(&self.raw, 2)) | u32::from(le16(&self.raw, 0x78)) << 16
    }

    /// Group.
    pub fn gid(&self) -> u32 {
        u32::from(le16(&self.raw, 0x18)) | u32::from(le16(&self.raw, 0x7a)) << 16
    }

    /// Bytes of its content.
    pub fn size(&self) -> u64 {
        u64::from(le32(&self.raw, 4)) | u64::from(le32(&self.raw, 0x6c)) << 32
    }

    /// Names it has.
    pub fn links(&self) -> u16 {
        le16(&self.raw, 0x1a)
    }

    /// When its content changed: seconds since 1970, nanoseconds behind a dot where there are some.
    pub fn mtime(&self) -> String {
        let extra = if self.extra() >= 0x8c - 0x80 { le32(&self.raw, 0x88) } else { 0 };
        let seconds = i64::from(le32(&self.raw, 0x10).cast_signed()) + (i64::from(extra & 3) << 32);
        match extra >> 2 {
            0 => seconds.to_string(),
            nanos => format!("{seconds}.{nanos:09}"),
        }
    }

    /// Bytes behind the first 128 that are in use.
    pub fn extra(&self) -> usize {
        if self.raw.len() > 0x84 { usize::from(le16(&self.raw, 0x80)) } else { 0 }
    }

    /// The block of its extended attributes; 0 where there is none.
    pub fn attributes(&self) -> u64 {
        u64::from(le32(&self.raw, 0x68)) | u64::from(le16(&self.raw, 0x76)) << 32
    }

    /// A device's numbers.
    pub fn device(&self) -> String {
        match (le32(&self.raw, 0x28), le32(&self.raw, 0x2c)) {
            (0, new) => format!("{}:{}", (new >> 8) & 0xfff, (new & 0xff) | ((new >> 12) & 0xf_ff00)),
            (old, _) => format!("{}:{}", (old >> 8) & 0xff, old & 0xff),
        }
    }

    /// Whether its content or its names are encrypted (`EXT4_ENCRYPT_FL`).
    pub fn is_encrypted(&self) -> bool {
        self.flags() & ENCRYPTED != 0
    }

    fn flags(&self) -> u32 {
        le32(&self.raw, 0x20)
    }

    fn root(&self) -> &[u8] {
        self.raw.get(0x28..0x64).unwrap_or_default()
    }

    /// Whether its content is found by extents.
    pub fn has_extents(&self) -> bool {
        self.flags() & EXTENTS != 0
    }
}

impl Fs {
    /// A file's or directory's content.
    ///
    /// # Errors
    /// Content that is not in extents, and damaged extents.
    pub fn content(&self, inode: &Inode) -> io::Result<Shared> {
        let extents = match inode.size() {
            0 => Vec::new(),
            _ => self.extents(inode)?.0,
        };
        Ok(Rc::new(Content { fs: Rc::clone(&self.bytes), block: self.block, size: inode.size(), extents }))
    }

    /// Where a symbolic link points.
    ///
    /// # Errors
    /// A target that is too long or damaged.
    pub fn target(&self, inode: &Inode) -> io::Result<Vec<u8>> {
        let size = inode.size();
        if size > TARGET_MAX {
            return Err(damaged("a symbolic link that is too long"));
        }
        if size < 60 && !inode.has_extents() {
            return Ok(inode.root().get(..size as usize).unwrap_or_default().to_vec());
        }
        super::super::bytes::read_vec(self.content(inode)?.as_ref(), 0, size as usize)
    }

    /// The extents of an inode in order, and the blocks that hold its tree.
    ///
    /// # Errors
    /// Content that is not in extents, and damaged ones.
    pub fn extents(&self, inode: &Inode) -> io::Result<(Vec<Extent>, Vec<u64>)> {
        if inode.flags() & INLINE != 0 || !inode.has_extents() {
            return Err(damaged("its files are not in extents"));
        }
        // The root is in the inode. Blocks are read when it is their turn: of those that wait there may be many.
        let mut nodes = vec![(None, LEVELS)];
        let (mut found, mut tree) = (Vec::new(), Vec::new());
        while let Some((block, most)) = nodes.pop() {
            let node = block.map_or_else(|| Ok(inode.root().to_vec()), |block| self.read_block(block))?;
            let (count, depth) = (usize::from(le16(&node, 2)), le16(&node, 6));
            if le16(&node, 0) != EXTENT_MAGIC || 12 + 12 * count > node.len() || depth >= most {
                return Err(damaged("an extent tree that can not be"));
            }
            for entry in node.get(12..).unwrap_or_default().chunks_exact(12).take(count) {
                if found.len() + tree.len() > EXTENT_MAX {
                    return Err(damaged("a file with too many extents"));
                }
                if depth > 0 {
                    let block = u64::from(le32(entry, 4)) | u64::from(le16(entry, 8)) << 32;
                    tree.push(block);
                    nodes.push((Some(block), depth));
                } else {
                    found.push(extent(entry));
                }
            }
        }
        found.sort_unstable_by_key(|e| e.logical);
        match found.is_sorted_by(|a, b| a.logical + a.len <= b.logical) {
            true => Ok((found, tree)),
            false => Err(damaged("extents that lie over each other")),
        }
    }
}

fn extent(entry: &[u8]) -> Extent {
    let len = u64::from(le16(entry, 4));
    Extent {
        logical: u64::from(le32(entry, 0)),
        physical: u64::from(le32(entry, 8)) | u64::from(le16(entry, 6)) << 32,
        len: if len > 32768 { len - 32768 } else { len },
        unwritten: len > 32768,
    }
}

/// A file's content.
struct Content {
    fs: Shared,
    block: u64,
    size: u64,
    extents: Vec<Extent>,
}

impl Content {
    /// The place of `at` and how many bytes follow it there; no place in a hole.
    fn place(&self, at: u64) -> (Option<u64>, u64) {
        let (block, inside) = (at / self.block, at % self.block);
        let next = self.extents.partition_point(|e| e.logical <= block);
        let before = next.checked_sub(1).and_then(|n| self.extents.get(n));
        if let Some(e) = before.filter(|e| block < e.logical + e.len) {
            let place = (e.physical + (block - e.logical)).checked_mul(self.block).map(|p| p + inside);
            return (place.filter(|_| !e.unwritten), (e.logical + e.len - block) * self.block - inside);
        }
        let end = self.extents.get(next).map_or(u64::MAX, |e| e.logical * self.block);
        (None, end - at)
    }
}

impl Bytes for Content {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, mut at: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        within(self, at, buffer.len())?;
        while !buffer.is_empty() {
            let (place, run) = self.place(at);
            let n = usize::try_from(run).unwrap_or(usize::MAX).min(buffer.len());
            let (now, rest) = buffer.split_at_mut(n);
            match place {
                Some(place) => self.fs.read_at(place, now)?,
                None => now.fill(0),
            }
            at += n as u64;
            buffer = rest;
        }
        Ok(())
    }

    fn hole(&self, at: u64) -> io::Result<u64> {
        Ok(match self.place(at) {
            (None, run) => run.min(self.size.saturating_sub(at)),
            _ => 0,
        })
    }
}
