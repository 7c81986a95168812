//! Where what stands on a disk. Partitions start and end on whole MiB.
//!
//! ```text
//! MBR:  sector 0 table, boot.img │ 1.. core.img (bios) │ 1 MiB.. [ESP] root
//! GPT:  sector 0 protective MBR, boot.img │ 1..33 GPT │ 1 MiB.. [BIOS boot] [ESP] root │ last 33 sectors GPT
//! ```

use super::DiskSpec;
use crate::model::profile::{Boot, Table};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Sectors of a MiB.
const MIB: u64 = (1 << 20) / SECTOR;
/// The EFI system partition, in MiB: enough sectors for FAT32 (at least 65,525 clusters, here of one sector).
const ESP_MIB: u64 = 64;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// GRUB's core image, where GPT leaves no gap for it.
    BiosBoot,
    /// What firmware reads.
    Esp,
    /// The root file system.
    Root,
}

/// A partition, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// Its first sector.
    pub first: u64,
    /// How many it has.
    pub sectors: u64,
}

/// Where what stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The whole disk, in sectors.
    pub sectors: u64,
    /// Partitions in the order they stand, the root last.
    pub partitions: Vec<Partition>,
    /// First sector of the space for GRUB's core image, and how many it has.
    pub core: Option<(u64, u64)>,
}

impl Layout {
    /// The layout of a disk of at least one GiB.
    pub fn new(spec: &DiskSpec) -> Self {
        let sectors = spec.bytes() / SECTOR;
        let (bios, efi) = (spec.boot != Boot::Efi, spec.boot != Boot::Bios);
        let mut partitions = Vec::new();
        let mut at = MIB;
        let mut put = |role, sectors| {
            partitions.push(Partition { role, first: at, sectors });
            at += sectors;
            at - sectors
        };
        let core = match spec.table {
            _ if !bios => None,
            Table::Mbr => Some((1, MIB - 1)),
            Table::Gpt => Some((put(Role::BiosBoot, MIB), MIB)),
        };
        if efi {
            put(Role::Esp, ESP_MIB * MIB);
        }
        // The last MiB is the backup GPT's; an MBR needs nothing there.
        let end = if spec.table == Table::Gpt { sectors - MIB } else { sectors };
        let first = at;
        partitions.push(Partition { role: Role::Root, first, sectors: end - first });
        Self { sectors, partitions, core }
    }

    /// The partition of a role.
    pub fn partition(&self, role: Role) -> Option<Partition> {
        self.partitions.iter().copied().find(|p| p.role == role)
    }
}

impl Partition {
    /// Where it starts, in bytes.
    pub fn offset(&self) -> u64 {
        self.first * SECTOR
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.sectors * SECTOR
    }

    /// Its last sector.
    pub fn last(&self) -> u64 {
        self.first + self.sectors - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::disk::spec::example;

    #[test]
    fn partitions_follow_each_other_and_end_in_time() {
        for (boot, table, roles) in [
            (Boot::Bios, Table::Mbr, &[Role::Root][..]),
            (Boot::Efi, Table::Mbr, &[Role::Esp, Role::Root]),
            (Boot::Bios, Table::Gpt, &[Role::BiosBoot, Role::Root]),
            (Boot::Efi, Table::Gpt, &[Role::Esp, Role::Root]),
            (Boot::Hybrid, Table::Gpt, &[Role::BiosBoot, Role::Esp, Role::Root]),
        ] {
            let layout = example(boot, table).layout();
            let found: Vec<Role> = layout.partitions.iter().map(|p| p.role).collect();
            assert_eq!(found, roles);
            for pair in layout.partitions.windows(2) {
                assert_eq!(pair[0].last() + 1, pair[1].first);
            }
            assert!(layout.partitions.iter().all(|p| p.first % 2048 == 0 && p.sectors % 2048 == 0));
            let spare = if table == Table::Gpt { 2048 } else { 0 };
            assert_eq!(layout.partitions.last().unwrap().last() + 1 + spare, layout.sectors);
            assert_eq!(layout.core.is_some(), boot != Boot::Efi);
        }
    }
}
