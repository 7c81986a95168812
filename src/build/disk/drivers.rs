//! Whether a tree's kernel can start on the machines its disk is for.

use fs_err::File;

use super::contents::{Contents, Part};
use super::initrd;
use crate::build::BuildError;

/// What a machine's kernel must be able to drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Driver {
    /// The module's name.
    pub name: &'static str,
    /// What it drives, for people.
    pub what: &'static str,
    /// Whether the root file system can not be reached without it: it must be in the kernel or the initial ramdisk.
    pub early: bool,
}

const fn driver(name: &'static str, what: &'static str, early: bool) -> Driver {
    Driver { name, what, early }
}

/// What every disk made here needs.
pub const ALWAYS: [Driver; 1] = [driver("ext4", "the root file system", true)];
/// What machines of libvirt and QEMU need.
pub const VIRTIO: [Driver; 3] = [
    driver("virtio_pci", "virtio devices", true),
    driver("virtio_blk", "virtio disks", true),
    driver("virtio_net", "virtio network cards", false),
];
/// SCSI disks: everything on a SATA or IDE controller.
pub const SCSI_DISK: Driver = driver("sd_mod", "SATA and IDE disks", true);
/// A SATA controller.
pub const AHCI: Driver = driver("ahci", "SATA controllers", true);
/// Intel's IDE controllers, PIIX4 among them.
pub const PIIX: Driver = driver("ata_piix", "IDE controllers", true);

/// What a kernel, its modules and its ramdisk can drive.
#[derive(Debug, Clone, Default)]
pub struct Drivers {
    early: Vec<String>,
    late: Vec<String>,
}

impl Drivers {
    /// Of a tree's newest kernel; `what` names the tree in messages.
    ///
    /// # Errors
    /// An initial ramdisk that can not be read.
    pub fn of(contents: &Contents, archive: &mut File, what: &str) -> Result<Self, BuildError> {
        let mut early: Vec<String> = contents.builtin.lines().filter_map(module).collect();
        if let Some(part) = contents.initrd {
            let names = ramdisk(archive, part).map_err(|e| {
                let path = contents.initrd_path().unwrap_or_default();
                BuildError::bad(what, format!("its initial ramdisk {path} can not be read: {e}"))
            })?;
            early.extend(names.iter().filter_map(|n| module(n)));
        }
        Ok(Self { early, late: contents.modules.iter().filter_map(|n| module(n)).collect() })
    }

    /// Whether there is such a driver, as early as it is needed.
    pub fn has(&self, driver: &Driver) -> bool {
        let has = |all: &[String]| all.iter().any(|m| m == driver.name);
        has(&self.early) || !driver.early && has(&self.late)
    }

    /// Whether all of these are there.
    ///
    /// # Errors
    /// The first that is not, by name.
    pub fn need(&self, drivers: &[Driver], contents: &Contents, what: &str) -> Result<(), BuildError> {
        let Some(missing) = drivers.iter().find(|d| !self.has(d)) else { return Ok(()) };
        let Driver { name, what: for_what, early } = missing;
        let place = if *early { " or in its initial ramdisk" } else { " or among its modules" };
        let late = self.late.iter().any(|m| m == name);
        let message = format!("{what}: kernel {} has no driver `{name}` ({for_what}) built in{place}", contents.kernel);
        let hint = match late {
            true => format!("it is among its modules: add `{name}` to `modules` of the box"),
            false => {
                "choose another `kernel` package, or another `base`; fewer `providers` need fewer drivers".to_owned()
            }
        };
        Err(BuildError::user(message, hint))
    }
}

fn ramdisk(archive: &mut File, (at, size): Part) -> std::io::Result<std::collections::BTreeSet<String>> {
    use std::io::{Read, Seek, SeekFrom};
    archive.seek(SeekFrom::Start(at))?;
    initrd::file_names(archive.take(size))
}

/// A module's name from its file's: `kernel/drivers/block/virtio_blk.ko.xz`.
fn module(path: &str) -> Option<String> {
    let name = path.trim_end().rsplit('/').next()?;
    let stem = name.strip_suffix(".ko").or_else(|| name.split_once(".ko.").map(|(stem, _)| stem))?;
    Some(stem.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_drivers_must_be_early() {
        let names = |all: &[&str]| all.iter().filter_map(|n| module(n)).collect::<Vec<_>>();
        let drivers = Drivers {
            early: names(&["kernel/fs/ext4/ext4.ko", "virtio-pci.ko.xz"]),
            late: names(&["virtio_net.ko", "ahci.ko"]),
        };
        let contents = Contents { kernel: "6.1".to_owned(), ..Contents::default() };
        drivers.need(&ALWAYS, &contents, "box a").unwrap();
        let error = drivers.need(&VIRTIO, &contents, "box a").unwrap_err();
        assert_eq!(
            error.to_string(),
            "box a: kernel 6.1 has no driver `virtio_blk` (virtio disks) built in or in its initial ramdisk"
        );
        let hint = drivers.need(&[AHCI], &contents, "box a").unwrap_err().hint().unwrap();
        assert_eq!(hint, "it is among its modules: add `ahci` to `modules` of the box");
        assert!(drivers.has(&VIRTIO[0]) && drivers.has(&VIRTIO[2]) && !drivers.has(&SCSI_DISK));
    }
}
