//! The EFI system partition: FAT32 with one file, GRUB at the place firmware looks by itself.

use super::DiskSpec;
use super::grub::Target;
use super::layout::{Partition, SECTOR};
use super::programs::Programs;
use crate::build::BuildError;

/// `$1`: first sector, `$2`: size in KiB, `$3`: serial number, `$4`: the file's name, `$5`: offset in bytes. The file's time
/// is the epoch, as are (by `SOURCE_DATE_EPOCH`) the folders'.
const SCRIPT: &str = "\
mkfs.vfat -F 32 -S 512 -s 1 -g 255/63 -h \"$1\" --offset \"$1\" -i \"$3\" -n ESP --invariant /out/disk.raw \"$2\" > /dev/null
touch -d \"@$SOURCE_DATE_EPOCH\" /out/core.efi
disk=/out/disk.raw@@$5
mmd -i \"$disk\" ::/EFI
mmd -i \"$disk\" ::/EFI/BOOT
mcopy -m -i \"$disk\" /out/core.efi \"::/EFI/BOOT/$4\"
rm /out/core.efi
";

/// Writes the file system of `partition` into `/out/disk.raw` and moves `/out/core.efi` into it.
///
/// # Errors
/// Whatever mkfs.vfat and mtools say.
pub fn write(programs: &Programs, spec: &DiskSpec, partition: &Partition, target: Target) -> Result<(), BuildError> {
    let serial = format!("{:08X}", spec.seed().number("EFI system partition"));
    let args = [
        partition.first.to_string(),
        (partition.sectors * SECTOR / 1024).to_string(),
        serial,
        target.efi_name().to_owned(),
        partition.offset().to_string(),
    ];
    programs.run("mkfs.vfat, mtools", SCRIPT, &[], &args)
}
