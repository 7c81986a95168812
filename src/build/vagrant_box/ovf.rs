//! `box.ovf`: a machine as VirtualBox imports it (DMTF DSP0243, "Open Virtualization Format", version 1.1, section 7;
//! VirtualBox's own part after its settings files). Everything random is derived, and there is no time in it.

use super::Machine;
use super::template::{fill, xml};
use crate::build::BuildError;
use crate::build::disk::DiskSpec;
use crate::build::disk::drivers::{AHCI, Drivers, PIIX};
use crate::model::profile::Boot;

const TEMPLATE: &str = include_str!("../../../vagrant/box.ovf.in");

/// Role of the disk's identifier, which stands in the VMDK, too.
pub const DISK_ROLE: &str = "VirtualBox disk";

/// What the disk is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// SATA by AHCI.
    Sata,
    /// IDE as of an Intel PIIX4: kernels for clouds know no SATA.
    Ide,
}

impl Controller {
    /// The better one that a kernel can drive, or SATA, which it can not.
    pub fn of(drivers: &Drivers) -> Self {
        if !drivers.has(&AHCI) && drivers.has(&PIIX) { Self::Ide } else { Self::Sata }
    }
}

/// The text for a disk of `capacity` bytes whose VMDK has the name and size `vmdk`.
///
/// # Errors
/// A defect of the template.
pub fn ovf(
    spec: &DiskSpec,
    machine: &Machine,
    controller: Controller,
    (vmdk, size): (&str, u64),
) -> Result<String, BuildError> {
    let seed = spec.seed();
    let (os_id, os_type) = if machine.debian { ("96", "Debian_64") } else { ("101", "Linux_64") };
    // Resource types of CIM_ResourceAllocationSettingData: 5 is an IDE controller, 20 another storage device.
    let [id, name, kind, resource, ports] = match controller {
        Controller::Sata => ["sataController0", "SATA", "AHCI", "20", "1"],
        Controller::Ide => ["ideController0", "IDE", "PIIX4", "5", "2"],
    };
    let disk_uuid = seed.uuid(DISK_ROLE).to_string();
    fill(
        TEMPLATE,
        &[
            ("vmdk", &xml(vmdk)),
            ("vmdk_size", &size.to_string()),
            ("capacity", &spec.bytes().to_string()),
            ("disk_uuid", &disk_uuid),
            ("machine_uuid", &seed.uuid("VirtualBox machine").to_string()),
            ("mac", &seed.mac("VirtualBox network card")),
            ("name", &xml(&machine.name)),
            ("os_id", os_id),
            ("os_type", os_type),
            ("cpus", &machine.cpus.to_string()),
            ("memory", &machine.memory.to_string()),
            ("firmware", if spec.boot == Boot::Efi { "EFI" } else { "BIOS" }),
            ("controller_id", id),
            ("controller_name", name),
            ("controller_type", kind),
            ("controller_resource", resource),
            ("ports", ports),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::model::platform::Platform;
    use crate::model::profile::{Compression, Table};

    #[test]
    fn a_machine_as_virtualbox_reads_it() {
        let spec = DiskSpec {
            size: 4,
            boot: Boot::Bios,
            table: Table::Mbr,
            compression: Compression::Zstd,
            platform: Platform::LinuxAmd64,
            seed: "lab/box".to_owned(),
        };
        let machine = Machine { name: "a & b".to_owned(), memory: 2048, cpus: 2, debian: true };
        let text = ovf(&spec, &machine, Controller::Ide, ("box.vmdk", 77)).unwrap();
        let uuid = spec.seed().uuid(DISK_ROLE).to_string();
        assert_eq!(text.matches(&uuid).count(), 2, "the disk section's and the attached device's");
        assert!(text.contains("ovf:size=\"77\"") && text.contains("ovf:capacity=\"4294967296\""));
        assert!(text.contains("name=\"a &amp; b\"") && text.contains("type=\"PIIX4\" PortCount=\"2\""));
        assert!(
            Digest::of(text.as_bytes()).to_string().starts_with("sha256:45fada0543cb5f5d"),
            "{}",
            Digest::of(text.as_bytes())
        );
        let efi = DiskSpec { boot: Boot::Efi, table: Table::Gpt, ..spec };
        let text = ovf(&efi, &machine, Controller::Sata, ("box.vmdk", 77)).unwrap();
        assert!(text.contains("<Firmware type=\"EFI\"/>") && text.contains(">AHCI<"));
    }
}
