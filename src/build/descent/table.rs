//! Partition tables: the master boot record (UEFI Specification 2.10, 5.2) and GUID partition tables (5.3), sectors of 512
//! bytes. Logical partitions are not read.

use std::collections::BTreeMap;
use std::io;

use super::bytes::{Shared, array, damaged, le16, le32, le64, read, read_vec};

const SECTOR: u64 = 512;
/// Entries a GUID partition table may have here.
const ENTRIES: u32 = 1024;
/// The type of the one partition that protects a GUID partition table.
const PROTECTIVE: u8 = 0xee;

/// A disk's partition table.
pub struct Table {
    /// `MBR` or `GPT`.
    pub label: &'static str,
    /// What it says of the whole disk, by name.
    pub fields: Vec<(&'static str, String)>,
    /// Its partitions by number.
    pub partitions: BTreeMap<u32, Partition>,
    /// Where the first table ends, in bytes.
    end: u64,
    /// Where its copy starts, in bytes; nothing for an MBR.
    copy: Option<u64>,
}

/// One partition.
pub struct Partition {
    /// Where it starts, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
    /// What the table says of it, by name.
    pub fields: Vec<(&'static str, String)>,
}

/// A part of a disk that is in no partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside {
    /// What it is.
    pub name: &'static str,
    /// Its first byte.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
    /// Whether it is a table.
    pub is_table: bool,
}

/// Whether a disk of `size` bytes that starts so has a table: the boot signature, and entries that are possible.
pub fn is_table(head: &[u8], size: u64) -> bool {
    let entries = || (0..4).map(|n| 446 + 16 * n);
    let possible = |at: usize| head.get(at).is_some_and(|flag| flag & 0x7f == 0);
    let used = |at: usize| head.get(at + 4).is_some_and(|kind| *kind != 0) && le32(head, at + 12) > 0;
    let within = |at: usize| !used(at) || u64::from(le32(head, at + 8)) < size.div_ceil(SECTOR);
    array(head, 510) == Some([0x55, 0xaa]) && entries().all(|at| possible(at) && within(at)) && entries().any(used)
}

impl Table {
    /// Reads the table of a disk.
    ///
    /// # Errors
    /// Numbers that can not be.
    pub fn read(disk: &Shared) -> io::Result<Self> {
        let mbr: [u8; 512] = read(disk.as_ref(), 0)?;
        let protective = (0..4).any(|n| mbr.get(450 + 16 * n) == Some(&PROTECTIVE));
        match protective && disk.size() > 2 * SECTOR && read::<8>(disk.as_ref(), SECTOR)? == *b"EFI PART" {
            true => gpt(disk),
            false => Ok(of_mbr(&mbr)),
        }
    }

    /// Everything outside partitions, in order.
    pub fn outside(&self, size: u64) -> Vec<Outside> {
        let whole = |name, start, end| Outside { name, start, end, is_table: true };
        let mut found = vec![
            Outside { name: "boot code", start: 0, end: 440, is_table: false },
            whole("the partition table's other bytes", 440, SECTOR),
        ];
        if self.end > SECTOR {
            found.push(whole("the partition table's other bytes", SECTOR, self.end));
        }
        let mut taken: Vec<(u64, u64)> =
            self.partitions.values().map(|p| (p.start, p.start.saturating_add(p.size))).collect();
        taken.extend(self.copy.map(|at| (at, size)));
        taken.sort_unstable();
        let mut at = self.end;
        for (start, end) in taken.iter().copied().chain([(size, size)]) {
            if start > at {
                found.push(Outside {
                    name: "the space between partitions",
                    start: at,
                    end: start.min(size),
                    is_table: false,
                });
            }
            at = at.max(end);
        }
        found.extend(self.copy.map(|at| whole("the partition table's copy", at, size)));
        found.retain(|part| part.start < part.end.min(size));
        found
    }
}

fn of_mbr(mbr: &[u8; 512]) -> Table {
    let mut partitions = BTreeMap::new();
    for number in 1..=4u32 {
        let at = 446 + 16 * (number as usize - 1);
        let (flag, kind) = (mbr.get(at).copied().unwrap_or(0), mbr.get(at + 4).copied().unwrap_or(0));
        let (start, count) = (le32(mbr, at + 8), le32(mbr, at + 12));
        if kind == 0 || count == 0 {
            continue;
        }
        let fields = vec![
            ("boot flag", format!("{flag:#04x}")),
            ("type", format!("{kind:#04x}")),
            ("first sector", start.to_string()),
            ("sectors", count.to_string()),
        ];
        let (start, size) = (u64::from(start) * SECTOR, u64::from(count) * SECTOR);
        partitions.insert(number, Partition { start, size, fields });
    }
    let fields = vec![("disk identifier", format!("{:#010x}", le32(mbr, 440)))];
    Table { label: "MBR", fields, partitions, end: SECTOR, copy: None }
}

fn gpt(disk: &Shared) -> io::Result<Table> {
    let head: [u8; 512] = read(disk.as_ref(), SECTOR)?;
    let (at, count, len) = (le64(&head, 72), le32(&head, 80), le32(&head, 84));
    if count > ENTRIES || !(128..=4096).contains(&len) {
        return Err(damaged("a GUID partition table with too many or too long entries"));
    }
    let at = at.checked_mul(SECTOR).ok_or_else(|| damaged("a partition table beyond the disk"))?;
    let entries = read_vec(disk.as_ref(), at, count as usize * len as usize)?;
    let mut partitions = BTreeMap::new();
    for (number, entry) in (1..).zip(entries.chunks_exact(len as usize)) {
        let (first, last) = (le64(entry, 32), le64(entry, 40));
        if entry.get(..16).is_none_or(|kind| kind.iter().all(|b| *b == 0)) {
            continue;
        }
        let size = last.checked_sub(first).and_then(|n| (n + 1).checked_mul(SECTOR));
        let (Some(start), Some(size)) = (first.checked_mul(SECTOR), size) else {
            return Err(damaged(format!("partition {number} ends before it starts")));
        };
        partitions.insert(number, Partition { start, size, fields: entry_fields(entry, first, last) });
    }
    let fields = vec![
        ("disk GUID", guid(&head, 56)),
        ("first usable sector", le64(&head, 40).to_string()),
        ("last usable sector", le64(&head, 48).to_string()),
        ("copy's sector", le64(&head, 32).to_string()),
        ("entries", count.to_string()),
    ];
    let table_len = (entries.len() as u64).next_multiple_of(SECTOR);
    let copy = disk.size().checked_sub(SECTOR + table_len);
    Ok(Table { label: "GPT", fields, partitions, end: at.saturating_add(table_len), copy })
}

fn entry_fields(entry: &[u8], first: u64, last: u64) -> Vec<(&'static str, String)> {
    let units = (0..36).map(|n| le16(entry, 56 + 2 * n)).take_while(|unit| *unit != 0);
    let name: String = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    vec![
        ("type", guid(entry, 0)),
        ("unique GUID", guid(entry, 16)),
        ("first sector", first.to_string()),
        ("last sector", last.to_string()),
        ("attributes", format!("{:#x}", le64(entry, 48))),
        ("name", format!("`{name}`")),
    ]
}

/// A GUID in its usual form: the first three groups are little-endian.
fn guid(bytes: &[u8], at: usize) -> String {
    let rest: [u8; 8] = array(bytes, at + 8).unwrap_or_default();
    let hex: String = rest.iter().map(|b| format!("{b:02x}")).collect();
    let (left, right) = hex.split_at(4);
    format!("{:08x}-{:04x}-{:04x}-{left}-{right}", le32(bytes, at), le16(bytes, at + 4), le16(bytes, at + 6))
}
