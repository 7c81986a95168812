//! The master boot record (UEFI 2.10, section 5.2): code, a disk signature, four partitions.

use super::layout::{Layout, Partition, Role};

/// Bytes of code before the disk signature.
pub const CODE: usize = 440;
/// Sector numbers of 2^32 and above, and CHS addresses nobody uses any more.
const NO_CHS: [u8; 3] = [0xfe, 0xff, 0xff];
/// Partition types: Linux, EFI system partition, GPT protective.
const LINUX: u8 = 0x83;
const ESP: u8 = 0xef;
const PROTECTIVE: u8 = 0xee;

/// The record of a disk with MBR partitions; with code for a BIOS the root partition is marked to boot from.
pub fn table(layout: &Layout, signature: u32, code: Option<&[u8; CODE]>) -> [u8; 512] {
    let mut record = empty(signature, code);
    for (slot, partition) in layout.partitions.iter().take(4).enumerate() {
        let kind = if partition.role == Role::Esp { ESP } else { LINUX };
        entry(&mut record, slot, partition, kind, code.is_some() && partition.role == Role::Root);
    }
    record
}

/// The record that keeps other tools from what is a GPT disk (UEFI 2.10, section 5.2.3). Its signature is zero.
pub fn protective(layout: &Layout, code: Option<&[u8; CODE]>) -> [u8; 512] {
    let mut record = empty(0, code);
    let sectors = (layout.sectors - 1).min(u64::from(u32::MAX));
    entry(&mut record, 0, &Partition { role: Role::Root, first: 1, sectors }, PROTECTIVE, false);
    // "Starting CHS: 0x000200" for the sector of the GPT header.
    record[447..450].copy_from_slice(&[0, 2, 0]);
    record
}

fn empty(signature: u32, code: Option<&[u8; CODE]>) -> [u8; 512] {
    let mut record = [0; 512];
    if let Some(code) = code {
        record[..CODE].copy_from_slice(code);
    }
    record[440..444].copy_from_slice(&signature.to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    record
}

fn entry(record: &mut [u8; 512], slot: usize, partition: &Partition, kind: u8, active: bool) {
    let at = 446 + 16 * slot;
    // A disk of at most 2047 GiB has no sector number beyond 32 bits.
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    record[at] = if active { 0x80 } else { 0 };
    record[at + 1..at + 4].copy_from_slice(&NO_CHS);
    record[at + 4] = kind;
    record[at + 5..at + 8].copy_from_slice(&NO_CHS);
    record[at + 8..at + 12].copy_from_slice(&number(partition.first));
    record[at + 12..at + 16].copy_from_slice(&number(partition.sectors));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::build::disk::spec::example;
    use crate::model::profile::{Boot, Table};

    #[test]
    fn fields_stand_where_firmware_looks() {
        let spec = example(Boot::Hybrid, Table::Mbr);
        let record = table(&spec.layout(), 0x11223344, Some(&[0x90; CODE]));
        assert_eq!(&record[438..446], &[0x90, 0x90, 0x44, 0x33, 0x22, 0x11, 0, 0]);
        assert_eq!((record[446], record[450]), (0, ESP));
        assert_eq!((record[462], record[466], &record[470..474]), (0x80, LINUX, &[0, 8, 2, 0][..]));
        assert_eq!((&record[478..510], &record[510..]), (&[0; 32][..], &[0x55, 0xaa][..]));
        let golden = "sha256:c9f54544ed6ce898";
        assert!(Digest::of(&record).to_string().starts_with(golden), "{}", Digest::of(&record));
    }

    #[test]
    fn a_protective_record_covers_the_disk() {
        let record = protective(&example(Boot::Efi, Table::Gpt).layout(), None);
        assert_eq!(
            (record[450], &record[447..450], &record[454..458]),
            (PROTECTIVE, &[0, 2, 0][..], &[1, 0, 0, 0][..])
        );
        assert_eq!(&record[458..462], &(4 * 1024 * 1024 - 1u32).to_le_bytes());
    }
}
