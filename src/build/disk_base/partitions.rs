//! What is on a disk: its partitions, and what each of them holds.

use std::io;

use super::image::{head, truncated, unreadable};
use crate::build::BuildError;
use crate::build::descent::bytes::{Shared, Window, array, read_vec};
use crate::build::descent::ext4::{is_ext4, superblock::Fs};
use crate::build::descent::table::{self, Partition, Table};

/// Types of partitions with a root file system, by architecture (UAPI Group, "Discoverable Partitions Specification").
const ROOTS: [&str; 2] = ["4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "b921b045-1df0-41c3-af44-4c6f280d3fae"];
/// The type of one that is `/boot` (the same, "Extended Boot Loader Partition").
const XBOOTLDR: &str = "bc13c2ff-59e6-4262-a352-b275fd6f7172";
/// Types of an MBR that hold logical partitions.
const EXTENDED: [&str; 3] = ["0x05", "0x0f", "0x85"];
/// File systems and volumes by what stands where (libblkid's probes have the same).
const KINDS: [(u64, &[u8], &str); 16] = [
    (0, b"XFSB", "xfs"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (0, b"LUKS\xba\xbe", "encrypted (LUKS)"),
    (512, b"LABELONE", "an LVM volume"),
    (0, b"LABELONE", "an LVM volume"),
    (1024, b"LABELONE", "an LVM volume"),
    (1536, b"LABELONE", "an LVM volume"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a part of a RAID"),
    (0x400, &[0x10, 0x20, 0xf5, 0xf2], "f2fs"),
    (0x400, &[0xe2, 0xe1, 0xf5, 0xe0], "erofs"),
    (0, b"hsqs", "squashfs"),
    (3, b"NTFS", "NTFS"),
    (82, b"FAT", "FAT"),
    (54, b"FAT", "FAT"),
    (4086, b"SWAPSPACE2", "swap"),
    (0, b"-FVE-FS-", "encrypted (BitLocker)"),
];

/// The partitions of a disk.
pub(super) struct Parts {
    /// By number, sorted; a disk that is one file system has the one with number 0.
    pub all: Vec<Part>,
}

/// A partition.
pub(super) struct Part {
    /// Its number.
    pub number: u32,
    /// Its bytes.
    pub bytes: Shared,
    /// What it holds, in words.
    pub holds: &'static str,
    /// Its label in the partition table (GPT), without quotes.
    pub name: String,
    /// Its own GUID (GPT).
    pub guid: String,
    kind: String,
}

impl Parts {
    /// Those of `disk`.
    ///
    /// # Errors
    /// Tables that can not be, partitions beyond the end of the disk.
    pub(super) fn of(disk: &Shared, what: &str) -> Result<Self, BuildError> {
        let bad = |e: io::Error| unreadable(what, &e);
        let head = head(disk).map_err(bad)?;
        if is_ext4(&head) {
            let bytes = Window::of(disk, 0, disk.size());
            let (name, guid, kind) = Default::default();
            return Ok(Self { all: vec![Part { number: 0, bytes, holds: EXT4, name, guid, kind }] });
        }
        if !table::is_table(&head, u64::MAX) {
            let holds = kind_of(disk);
            let message = match holds {
                UNKNOWN => format!("{what} is a disk without a partition table"),
                _ => format!("{what} is a disk without a partition table: all of it is {holds}"),
            };
            return Err(BuildError::user(message, "a base is a disk that boots, its root file system ext4"));
        }
        let table = Table::read(disk).map_err(bad)?;
        let mut all = Vec::new();
        for (number, partition) in &table.partitions {
            let end = partition.start.saturating_add(partition.size);
            if end > disk.size() {
                let why = format!("partition {number} ends at byte {end}, the disk at {}", disk.size());
                return Err(truncated(what, &why));
            }
            all.push(Part::of(*number, partition, disk));
        }
        Ok(Self { all })
    }

    /// All of them in a message: `1 (1.0 GiB, xfs), 2 (100 MiB, FAT)`.
    pub(super) fn list(&self) -> String {
        let one = |p: &Part| {
            let mib = p.bytes.size().div_ceil(1 << 20);
            let size = if mib < 1024 { format!("{mib} MiB") } else { format!("{:.1} GiB", mib as f64 / 1024.0) };
            format!("{} ({size}, {})", p.number, p.holds)
        };
        match self.all.is_empty() {
            true => "none".to_owned(),
            false => self.all.iter().map(one).collect::<Vec<_>>().join(", "),
        }
    }
}

impl Part {
    fn of(number: u32, partition: &Partition, disk: &Shared) -> Self {
        let field = |name: &str| {
            let found = partition.fields.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
            found.unwrap_or_default().trim_matches('`').to_owned()
        };
        let bytes = Window::of(disk, partition.start, partition.size);
        let kind = field("type");
        let holds = match EXTENDED.contains(&kind.as_str()) {
            true => "logical partitions, which are not read",
            false => kind_of(&bytes),
        };
        Self { number, bytes, holds, name: field("name"), guid: field("unique GUID"), kind }
    }

    /// Whether its type says that it is a root file system.
    pub(super) fn is_root(&self) -> bool {
        ROOTS.contains(&self.kind.as_str())
    }

    /// Whether its type says that it is `/boot`.
    pub(super) fn is_boot(&self) -> bool {
        self.kind == XBOOTLDR
    }

    /// Its ext4 file system; `None` when it has none.
    ///
    /// # Errors
    /// One that can not be read as it stands.
    pub(super) fn ext4(&self, what: &str) -> Result<Option<Fs>, BuildError> {
        if self.holds != EXT4 {
            return Ok(None);
        }
        let fs = Fs::open(&self.bytes)
            .map_err(|e| BuildError::bad(what, format!("partition {} can not be read: {e}", self.number)))?;
        if fs.needs_recovery() {
            let message = format!("{what}: the file system of partition {} was never unmounted", self.number);
            return Err(BuildError::user(
                message,
                "take an image that was shut down; `e2fsck` over its partition writes what is in its journal",
            ));
        }
        Ok(Some(fs))
    }
}

const EXT4: &str = "ext4";
const UNKNOWN: &str = "unknown";

fn kind_of(bytes: &Shared) -> &'static str {
    let starts = |at: u64, magic: &[u8]| read_vec(bytes.as_ref(), at, magic.len()).is_ok_and(|b| b == magic);
    if let Some((_, _, kind)) = KINDS.iter().find(|(at, magic, _)| starts(*at, magic)) {
        return kind;
    }
    let magic = read_vec(bytes.as_ref(), 1024 + 0x38, 2).ok();
    let is_ext = magic.and_then(|m| array(&m, 0)).map(u16::from_le_bytes) == Some(0xef53);
    if is_ext { EXT4 } else { UNKNOWN }
}
