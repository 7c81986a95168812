//! The superblock and the group descriptors (Documentation/filesystems/ext4: super.rst, group_descr.rst).

use std::io;
use std::rc::Rc;

use super::super::bytes::{Shared, damaged, le16, le32, read, read_vec};
use super::inode::Inode;

/// `s_magic`.
pub const MAGIC: u16 = 0xef53;
/// Incompatible features that change where things are: compression, journal device, meta_bg, data in directories.
const UNREADABLE: u32 = 0x1 | 0x8 | 0x10 | 0x1000;
/// The journal holds what is not in its place yet (`EXT4_FEATURE_INCOMPAT_RECOVER`).
const RECOVER: u32 = 0x4;
const BITS_64: u32 = 0x80;
/// Groups a file system may have here: 16 TiB of them.
const GROUPS: u64 = 1 << 17;

/// An open file system.
pub struct Fs {
    /// Its bytes.
    pub bytes: Shared,
    /// Its block size in bytes.
    pub block: u64,
    /// Its length in blocks.
    pub blocks: u64,
    /// The size of an inode in bytes.
    pub inode_size: u64,
    /// Inodes of each group.
    pub inodes_per_group: u32,
    /// Blocks of each group.
    pub blocks_per_group: u32,
    /// The block of the superblock.
    pub first_block: u64,
    /// Its groups.
    pub groups: Vec<Group>,
    /// Blocks that the group descriptors take, those kept for growth included.
    pub descriptors: u64,
    sb: [u8; 1024],
}

/// Where a group's tables are, by block.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The bitmap of its blocks.
    pub block_bitmap: u64,
    /// The bitmap of its inodes.
    pub inode_bitmap: u64,
    /// Its inodes.
    pub inode_table: u64,
}

impl Fs {
    /// Reads the superblock and the groups.
    ///
    /// # Errors
    /// Features that are not read here, and numbers that can not be.
    pub fn open(bytes: &Shared) -> io::Result<Self> {
        let sb: [u8; 1024] = read(bytes.as_ref(), 1024)?;
        let shift = le32(&sb, 0x18);
        let incompatible = le32(&sb, 0x60);
        if le16(&sb, 0x38) != MAGIC || shift > 6 || incompatible & UNREADABLE != 0 {
            return Err(damaged("an ext4 file system with features that are not read here"));
        }
        let wide = incompatible & BITS_64 != 0;
        let block = 1024u64 << shift;
        let blocks = u64::from(le32(&sb, 4)) | if wide { u64::from(le32(&sb, 0x150)) << 32 } else { 0 };
        let inode_size = if le32(&sb, 0x4c) == 0 { 128 } else { u64::from(le16(&sb, 0x58)) };
        let (per_group, inodes_per_group) = (le32(&sb, 0x20), le32(&sb, 0x28));
        let first_block = u64::from(le32(&sb, 0x14));
        let sizes_fit = inode_size.is_power_of_two() && (128..=block).contains(&inode_size);
        let fits = blocks.checked_mul(block).is_some_and(|size| size <= bytes.size());
        if !sizes_fit || !fits || per_group == 0 || inodes_per_group == 0 || first_block > 1 || blocks <= first_block {
            return Err(damaged("an ext4 superblock whose numbers can not be"));
        }
        let groups = (blocks - first_block).div_ceil(u64::from(per_group));
        let descriptor = if wide { usize::from(le16(&sb, 0xfe)).max(32) } else { 32 };
        if groups > GROUPS || descriptor > 1024 {
            return Err(damaged("an ext4 file system with too many groups"));
        }
        let table = read_vec(bytes.as_ref(), (first_block + 1) * block, groups as usize * descriptor)?;
        let descriptors = (table.len() as u64).div_ceil(block) + u64::from(le16(&sb, 0xce));
        let groups = table.chunks_exact(descriptor).map(group).collect();
        Ok(Self {
            bytes: Rc::clone(bytes),
            block,
            blocks,
            inode_size,
            inodes_per_group,
            blocks_per_group: per_group,
            first_block,
            groups,
            descriptors,
            sb,
        })
    }

    /// What the superblock says, by name; counts and checksums that follow from the rest are left out.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let sb = &self.sb;
        let hex = |at: usize, len: usize| -> String {
            sb.get(at..at + len).unwrap_or_default().iter().map(|b| format!("{b:02x}")).collect()
        };
        let text = |at: usize, len: usize| {
            let bytes: Vec<u8> =
                sb.get(at..at + len).unwrap_or_default().iter().copied().take_while(|b| *b != 0).collect();
            format!("`{}`", String::from_utf8_lossy(&bytes))
        };
        vec![
            ("blocks", self.blocks.to_string()),
            ("block size", self.block.to_string()),
            ("inodes", le32(sb, 0).to_string()),
            ("inode size", self.inode_size.to_string()),
            ("reserved blocks", le32(sb, 8).to_string()),
            ("features", format!("{:x}/{:x}/{:x}", le32(sb, 0x5c), le32(sb, 0x60), le32(sb, 0x64))),
            ("UUID", hex(0x68, 16)),
            ("label", text(0x78, 16)),
            ("last mount point", text(0x88, 64)),
            ("hash seed", hex(0xec, 16)),
            ("hash version", sb[0xfc].to_string()),
            ("default mount options", format!("{:#x}", le32(sb, 0x100))),
            ("mount options", text(0x200, 64)),
            ("time of creation", le32(sb, 0x108).to_string()),
            ("time of the last mount", le32(sb, 0x2c).to_string()),
            ("time of the last write", le32(sb, 0x30).to_string()),
            ("time of the last check", le32(sb, 0x40).to_string()),
            ("mounts", le16(sb, 0x34).to_string()),
            ("mounts before a check", le16(sb, 0x36).to_string()),
            ("state", le16(sb, 0x3a).to_string()),
            ("behaviour on errors", le16(sb, 0x3c).to_string()),
            ("creator", le32(sb, 0x48).to_string()),
            ("flags", format!("{:#x}", le32(sb, 0x160))),
            ("checksum seed", hex(0x270, 4)),
        ]
    }

    /// Whether it was left mounted: what its journal holds is not in its place.
    pub fn needs_recovery(&self) -> bool {
        le32(&self.sb, 0x60) & RECOVER != 0
    }

    /// Its identifier, in the usual form.
    pub fn uuid(&self) -> String {
        let hex: String = self.sb.get(0x68..0x78).unwrap_or_default().iter().map(|b| format!("{b:02x}")).collect();
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }

    /// Its label; empty where it has none.
    pub fn label(&self) -> String {
        let bytes: Vec<u8> =
            self.sb.get(0x78..0x88).unwrap_or_default().iter().copied().take_while(|b| *b != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads an inode.
    ///
    /// # Errors
    /// A number that no inode has.
    pub fn inode(&self, number: u32) -> io::Result<Inode> {
        let raw = read_vec(self.bytes.as_ref(), self.inode_at(number)?, self.inode_size as usize)?;
        Ok(Inode::new(raw))
    }

    fn inode_at(&self, number: u32) -> io::Result<u64> {
        let place = number.checked_sub(1).and_then(|n| {
            let group = self.groups.get((n / self.inodes_per_group) as usize)?;
            let inside = u64::from(n % self.inodes_per_group) * self.inode_size;
            group.inode_table.checked_mul(self.block)?.checked_add(inside)
        });
        place.ok_or_else(|| damaged(format!("there is no inode {number}")))
    }

    /// Reads a block.
    ///
    /// # Errors
    /// One beyond the end.
    pub fn read_block(&self, number: u64) -> io::Result<Vec<u8>> {
        let at = number.checked_mul(self.block).ok_or_else(|| damaged(format!("there is no block {number}")))?;
        read_vec(self.bytes.as_ref(), at, self.block as usize)
    }
}

fn group(raw: &[u8]) -> Group {
    let wide = |low: usize, high: usize| {
        let upper = if raw.len() >= 64 { u64::from(le32(raw, high)) << 32 } else { 0 };
        u64::from(le32(raw, low)) | upper
    };
    Group { block_bitmap: wide(0, 0x20), inode_bitmap: wide(4, 0x24), inode_table: wide(8, 0x28) }
}
