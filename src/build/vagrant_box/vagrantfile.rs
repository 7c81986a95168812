//! The Vagrantfile inside a box: what its machines need whatever the person's own says. Vagrant reads it first, so that one
//! can say otherwise.

use super::Machine;
use super::template::fill;
use crate::build::BuildError;
use crate::build::disk::DiskSpec;
use crate::model::profile::{Boot, Provider};

const TEMPLATE: &str = include_str!("../../../vagrant/box.rb.in");

/// The CPU that machines of amd64 get where it is emulated: x86-64-v2, and nothing QEMU can not emulate.
const CPU_X64: &str = "Nehalem";
/// The CPU that machines of arm64 get where it is emulated.
const CPU_ARM64: &str = "cortex-a57";
/// Where distributions have the firmware for UEFI.
const FIRMWARE_X64: &str =
    "/usr/share/OVMF/OVMF_CODE.fd /usr/share/OVMF/OVMF_CODE_4M.fd /usr/share/edk2/ovmf/OVMF_CODE.fd";
const FIRMWARE_ARM64: &str = "/usr/share/AAVMF/AAVMF_CODE.fd /usr/share/edk2/aarch64/QEMU_EFI.fd";

/// Without firmware libvirt would start the machine by BIOS, in silence, and nothing would come up. Vagrant reads this also for
/// other verbs, and for people who do not have vagrant-libvirt.
const FIRMWARE: &str = r#"    firmware = ENV["LABIMG_FIRMWARE"] || %w[PATHS].find { |f| File.exist?(f) }
    if firmware.nil? && defined?(VagrantPlugins::ProviderLibvirt) && !(ARGV & %w[up reload]).empty?
      raise "this machine boots by UEFI, and its firmware is at none of: PATHS; install it (Debian: ovmf, qemu-efi-aarch64), " \
        "or say where it is: LABIMG_FIRMWARE=/path vagrant up"
    end
    libvirt.loader = firmware
"#;

/// The text for a disk's box for `provider`.
///
/// # Errors
/// A defect of the template.
pub fn embedded(spec: &DiskSpec, machine: &Machine, provider: Provider) -> Result<String, BuildError> {
    let arm64 = spec.platform.arch() == "arm64";
    let pick = |x64, arm| if arm64 { arm } else { x64 };
    let mut libvirt = String::new();
    if arm64 {
        libvirt.push_str("    libvirt.machine_type = \"virt\"\n");
    }
    // Whoever takes another provider's box needs no firmware of libvirt's.
    if spec.boot == Boot::Efi && provider != Provider::Virtualbox {
        libvirt.push_str(&FIRMWARE.replace("PATHS", pick(FIRMWARE_X64, FIRMWARE_ARM64)));
    }
    fill(
        TEMPLATE,
        &[
            ("arch", pick("x86_64", "aarch64")),
            ("cpu_model", pick(CPU_X64, CPU_ARM64)),
            ("machine", pick("q35", "virt")),
            ("libvirt_efi", &libvirt),
            ("memory", &machine.memory.to_string()),
            ("cpus", &machine.cpus.to_string()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::platform::Platform;
    use crate::model::profile::{Compression, Table};

    #[test]
    fn each_architecture_has_its_machine() {
        let spec = |boot, platform| DiskSpec {
            size: 4,
            boot,
            table: Table::Gpt,
            compression: Compression::Zstd,
            platform,
            seed: "lab/box".to_owned(),
        };
        let machine = Machine { name: "box".to_owned(), memory: 768, cpus: 3, debian: true };
        let text = embedded(&spec(Boot::Hybrid, Platform::LinuxAmd64), &machine, Provider::Libvirt).unwrap();
        assert!(text.contains("libvirt.cpu_model = \"Nehalem\" unless kvm") && !text.contains("libvirt.loader"));
        assert!(text.contains("qemu.machine = \"q35,accel=\"") && text.contains("qemu.memory = \"768M\""));
        let text = embedded(&spec(Boot::Efi, Platform::LinuxArm64), &machine, Provider::Libvirt).unwrap();
        assert!(text.contains("libvirt.machine_type = \"virt\"") && text.contains("AAVMF_CODE.fd"));
        assert!(text.contains("none of: /usr/share/AAVMF/AAVMF_CODE.fd /usr/"), "{text}");
        let text = embedded(&spec(Boot::Efi, Platform::LinuxAmd64), &machine, Provider::Virtualbox).unwrap();
        assert!(!text.contains("libvirt.loader"), "{text}");
    }
}
