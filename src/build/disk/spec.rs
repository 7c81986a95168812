//! What a disk shall be, and the two texts that a tree needs to boot from it.

use super::grub::Target;
use super::layout::Layout;
use super::seed::Seed;
use crate::build::BuildError;
use crate::model::platform::Platform;
use crate::model::profile::{Boot, Compression, Table};

/// Largest disk, in GiB: what an MBR's 32-bit sector numbers reach, less one.
const LARGEST: u32 = 2047;

/// What a disk shall be. Its bytes depend on this, the tree, the epoch and the toolchain alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// Size in GiB: Vagrant's `virtual_size` knows no fractions.
    pub size: u32,
    /// How it boots.
    pub boot: Boot,
    /// Its partition table.
    pub table: Table,
    /// How the clusters of a qcow2 image of it are compressed.
    pub compression: Compression,
    /// The machine it is for.
    pub platform: Platform,
    /// What identifiers are derived from: `lab/box`.
    pub seed: String,
}

/// Where in the tree GRUB's configuration goes, without the leading `/`.
pub const GRUB_CFG: &str = "boot/grub/grub.cfg";
/// Where in the tree the table of file systems goes.
pub const FSTAB: &str = "etc/fstab";

impl DiskSpec {
    /// Whether such a disk can be.
    ///
    /// # Errors
    /// Sizes out of range, and BIOS on a machine that has none.
    pub fn check(&self) -> Result<(), BuildError> {
        if self.size == 0 || self.size > LARGEST {
            let message = format!("{}: a disk of {} GiB can not be made", self.seed, self.size);
            return Err(BuildError::user(message, format!("write a size from \"1GiB\" to \"{LARGEST}GiB\"")));
        }
        if self.platform.arch() == "arm64" && self.boot != Boot::Efi {
            let message = format!("{}: a {} machine has no BIOS to boot from", self.seed, self.platform);
            return Err(BuildError::user(message, "write boot = \"efi\", or leave it out"));
        }
        Ok(())
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.size) << 30
    }

    /// Where identifiers come from.
    pub fn seed(&self) -> Seed {
        Seed::new(self.seed.as_str())
    }

    /// Where what stands.
    pub fn layout(&self) -> Layout {
        Layout::new(self)
    }

    /// The boot loaders it gets.
    pub fn grub_targets(&self) -> Vec<Target> {
        let efi = if self.platform.arch() == "arm64" { Target::Arm64Efi } else { Target::X64Efi };
        match self.boot {
            Boot::Bios => vec![Target::Bios],
            Boot::Efi => vec![efi],
            Boot::Hybrid => vec![Target::Bios, efi],
        }
    }

    /// Identifier of the root file system, as `root=UUID=` has it.
    pub fn root_uuid(&self) -> String {
        self.seed().uuid("root file system").to_string()
    }

    /// `/etc/fstab`. The EFI system partition is not in it: nothing in the machine needs it, and nothing may write to it.
    pub fn fstab(&self) -> String {
        format!("UUID={} / ext4 defaults,noatime,errors=remount-ro 0 1\n", self.root_uuid())
    }

    /// `/boot/grub/grub.cfg`: this kernel at once, the last console of the two being the serial one, where logs and a login
    /// are. `kernel` and `initrd` are absolute paths in the tree.
    pub fn grub_cfg(&self, kernel: &str, initrd: Option<&str>) -> String {
        let uuid = self.root_uuid();
        let serial = if self.platform.arch() == "arm64" { "ttyAMA0" } else { "ttyS0,115200" };
        let initrd = initrd.map(|i| format!("initrd {i}\n")).unwrap_or_default();
        format!(
            "# Made with the disk; nothing updates it when another kernel is installed.\n\
             search --no-floppy --fs-uuid --set=root {uuid}\n\
             linux {kernel} root=UUID={uuid} ro console=tty0 console={serial} net.ifnames=0 loglevel=4\n\
             {initrd}boot\n"
        )
    }
}

#[cfg(test)]
pub(crate) fn example(boot: Boot, table: Table) -> DiskSpec {
    let compression = Compression::Zstd;
    DiskSpec { size: 2, boot, table, compression, platform: Platform::LinuxAmd64, seed: "lab/box".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_can_not_be_is_refused() {
        let good = example(Boot::Bios, Table::Mbr);
        good.check().unwrap();
        for size in [0, 2048] {
            DiskSpec { size, ..good.clone() }.check().unwrap_err();
        }
        let arm = DiskSpec { platform: Platform::LinuxArm64, ..good };
        assert_eq!(arm.check().unwrap_err().to_string(), "lab/box: a linux/arm64 machine has no BIOS to boot from");
        let arm = DiskSpec { boot: Boot::Efi, table: Table::Gpt, ..arm };
        arm.check().unwrap();
        assert_eq!(arm.grub_targets(), [Target::Arm64Efi]);
        assert!(arm.grub_cfg("/boot/vmlinuz-1", None).contains("console=ttyAMA0 "));
    }

    #[test]
    fn texts_name_the_root_by_its_identifier() {
        let spec = example(Boot::Hybrid, Table::Gpt);
        let cfg = spec.grub_cfg("/boot/vmlinuz-6.1", Some("/boot/initrd.img-6.1"));
        assert!(cfg.contains(&format!("linux /boot/vmlinuz-6.1 root=UUID={} ro ", spec.root_uuid())), "{cfg}");
        assert!(cfg.ends_with("\ninitrd /boot/initrd.img-6.1\nboot\n"), "{cfg}");
        assert_eq!(spec.fstab().split(' ').next().unwrap(), format!("UUID={}", spec.root_uuid()));
    }
}
