//! The GUID partition table (UEFI 2.10, section 5.3): a header and 128 entries at the start of a disk, and again at its end.

use flate2::Crc;

use super::layout::{Layout, Role, SECTOR};
use super::seed::{Seed, Uuid};

/// Entries: the least the specification allows (16 KiB of them).
const ENTRIES: usize = 128;
/// Bytes of an entry.
const ENTRY: usize = 128;
/// Sectors of all entries.
const ENTRY_SECTORS: u64 = (ENTRIES * ENTRY) as u64 / SECTOR;
/// Bytes of a header that count for its checksum.
const HEADER: usize = 92;

/// Type of GRUB's BIOS boot partition (GRUB manual, "BIOS installation").
const BIOS_BOOT: Uuid = Uuid::of(0x21686148_6449_6E6F_744E_656564454649);
/// Type of the EFI system partition (UEFI 2.10, table 5.7).
const ESP: Uuid = Uuid::of(0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B);
/// Types of root partitions (UAPI group, Discoverable Partitions Specification), by architecture.
const ROOT_X64: Uuid = Uuid::of(0x4F68BCE3_E8CD_4DB1_96E7_FBCAF984B709);
const ROOT_ARM64: Uuid = Uuid::of(0xB921B045_1DF0_41C3_AF44_4C6F280D3FAE);

/// Both copies of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// Sectors 1 to 33: header, entries.
    pub primary: Vec<u8>,
    /// The last 33 sectors: entries, header.
    pub backup: Vec<u8>,
    /// Where the backup starts, in bytes.
    pub backup_at: u64,
}

/// The table of a layout; identifiers come from `seed`.
pub fn table(layout: &Layout, seed: &Seed, arm64: bool) -> Gpt {
    let entries = entries(layout, seed, arm64);
    let last = layout.sectors - 1;
    let header = |here, other, entries_at| header(layout, seed, &entries, [here, other, entries_at]);
    let mut primary = header(1, last, 2);
    primary.extend_from_slice(&entries);
    let mut backup = entries.clone();
    backup.extend_from_slice(&header(last, 1, last - ENTRY_SECTORS));
    Gpt { primary, backup, backup_at: (last - ENTRY_SECTORS) * SECTOR }
}

fn entries(layout: &Layout, seed: &Seed, arm64: bool) -> Vec<u8> {
    let mut all = Vec::with_capacity(ENTRIES * ENTRY);
    for partition in &layout.partitions {
        let (kind, name) = match partition.role {
            Role::BiosBoot => (BIOS_BOOT, "bios"),
            Role::Esp => (ESP, "esp"),
            Role::Root if arm64 => (ROOT_ARM64, "root"),
            Role::Root => (ROOT_X64, "root"),
        };
        let end = all.len() + ENTRY;
        all.extend_from_slice(&kind.guid());
        all.extend_from_slice(&seed.uuid(&format!("partition {name}")).guid());
        all.extend_from_slice(&partition.first.to_le_bytes());
        all.extend_from_slice(&partition.last().to_le_bytes());
        all.extend_from_slice(&0u64.to_le_bytes());
        all.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
        all.resize(end, 0);
    }
    all.resize(ENTRIES * ENTRY, 0);
    all
}

/// One header sector: `[its own sector, the other header's, the first of its entries]`.
fn header(layout: &Layout, seed: &Seed, entries: &[u8], [here, other, entries_at]: [u64; 3]) -> Vec<u8> {
    let mut h = Vec::with_capacity(SECTOR as usize);
    h.extend_from_slice(b"EFI PART");
    h.extend_from_slice(&0x0001_0000u32.to_le_bytes());
    h.extend_from_slice(&(HEADER as u32).to_le_bytes());
    // The checksum's place, and four reserved bytes.
    h.extend_from_slice(&[0; 8]);
    let (first_usable, last_usable) = (2 + ENTRY_SECTORS, layout.sectors - 2 - ENTRY_SECTORS);
    for sector in [here, other, first_usable, last_usable] {
        h.extend_from_slice(&sector.to_le_bytes());
    }
    h.extend_from_slice(&seed.uuid("disk").guid());
    h.extend_from_slice(&entries_at.to_le_bytes());
    h.extend_from_slice(&(ENTRIES as u32).to_le_bytes());
    h.extend_from_slice(&(ENTRY as u32).to_le_bytes());
    h.extend_from_slice(&crc(entries).to_le_bytes());
    let sum = crc(&h).to_le_bytes();
    h[16..20].copy_from_slice(&sum);
    h.resize(SECTOR as usize, 0);
    h
}

/// CRC-32 as UEFI has it: the polynomial of ISO 3309, as in gzip.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::build::disk::spec::example;
    use crate::model::profile::{Boot, Table};

    #[test]
    fn both_headers_name_each_other_and_sum_up() {
        let spec = example(Boot::Hybrid, Table::Gpt);
        let layout = spec.layout();
        let gpt = table(&layout, &spec.seed(), false);
        assert_eq!((gpt.primary.len(), gpt.backup.len()), (33 * 512, 33 * 512));
        assert_eq!(gpt.backup_at + gpt.backup.len() as u64, spec.bytes());
        assert_eq!(gpt.primary[512..], gpt.backup[..32 * 512]);
        let last = layout.sectors - 1;
        for (header, here, other) in [(&gpt.primary[..512], 1, last), (&gpt.backup[32 * 512..], last, 1)] {
            let mut plain = header[..92].to_vec();
            plain[16..20].fill(0);
            assert_eq!(header[16..20], crc(&plain).to_le_bytes());
            assert_eq!((&header[..8], &header[24..32]), (&b"EFI PART"[..], &u64::to_le_bytes(here)[..]));
            assert_eq!(
                (&header[32..40], &header[88..92]),
                (&other.to_le_bytes()[..], &crc(&gpt.primary[512..]).to_le_bytes()[..])
            );
        }
        assert_eq!(crc(b"123456789"), 0xcbf4_3926, "CRC-32/ISO-HDLC's check value");
        let both = [&gpt.primary[..], &gpt.backup].concat();
        assert!(Digest::of(&both).to_string().starts_with("sha256:f5f2259bb49b7bf5"), "{}", Digest::of(&both));
    }
}
