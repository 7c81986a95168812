//! Packages that boxes need without being asked for: in the machine, and among the programs that make its disk.

/// Packages of every machine made here, beside what the author names: it boots, is logged into, and gets an address.
pub fn machine(arch: &str, kernel: Option<&str>) -> impl Iterator<Item = String> {
    const ALWAYS: [&str; 12] = [
        "ca-certificates",
        "dbus",
        "e2fsprogs",
        "initramfs-tools",
        "iproute2",
        "libpam-systemd",
        "openssh-server",
        "sudo",
        "systemd",
        "systemd-sysv",
        "udev",
        "zstd",
    ];
    let kernel = kernel.map_or_else(|| format!("linux-image-cloud-{arch}"), str::to_owned);
    ALWAYS.into_iter().map(str::to_owned).chain([kernel])
}

/// Packages of the toolchain that make a disk on a machine of the architecture `arch`; with `steps`, also those that run one.
pub fn programs(arch: &str, steps: bool) -> impl Iterator<Item = &'static str> {
    const ALWAYS: [&str; 14] = [
        "apt",
        "bash",
        "coreutils",
        "diffutils",
        "dosfstools",
        "e2fsprogs",
        "grub-common",
        "libarchive13t64",
        "libc-bin",
        "mmdebstrap",
        "mount",
        "mtools",
        "qemu-utils",
        "zstd",
    ];
    // Debian has GRUB's modules for their own architecture only.
    let grub: &[&str] = match arch {
        "arm64" => &["grub-efi-arm64-bin"],
        _ => &["grub-efi-amd64-bin", "grub-pc-bin"],
    };
    let vm: &[&str] = match (steps, arch) {
        (false, _) => &[],
        (true, "arm64") => &["qemu-system-arm"],
        (true, _) => &["qemu-system-x86"],
    };
    ALWAYS.into_iter().chain(grub.iter().copied()).chain(vm.iter().copied())
}
