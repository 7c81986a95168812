//! Disks that boot: a root tree (one tar archive of the store) → partition table, ext4, GRUB → qcow2, VMDK.
//!
//! ```text
//! tar ── contents: kernel, drivers, sizes ──▶ mke2fs -d - (offset) ─┐
//! DiskSpec ── layout, seed ──▶ mbr/gpt, boot.img + core.img, ESP ───┴▶ disk.raw (sparse) ──▶ qcow2 │ vmdk
//! ```
//!
//! No root, no loop device, nothing is mounted, and no code of the machine that will boot is run. Programs come from the
//! toolchain and run in the sandbox; everything random is derived from the disk's seed (module [`seed`]).

pub mod contents;
pub mod drivers;
pub mod esp;
pub mod ext4;
pub mod gpt;
pub mod grub;
pub mod initrd;
pub mod layout;
pub mod mbr;
pub mod programs;
pub mod qcow2;
pub mod raw;
pub mod seed;
pub mod spec;
pub mod vmdk;
mod vmdk_format;

pub use raw::{RootTree, raw};
pub use spec::DiskSpec;

/// Packages of the toolchain that disks are made with, on every machine that builds (Debian trixie's names): mke2fs, debugfs
/// and e2fsck at least 1.47.1 with the library that reads tar archives; qemu-img; grub-mkimage; mkfs.vfat; mtools; a shell, dd.
pub const PROGRAMS: [&str; 8] =
    ["bash", "coreutils", "dosfstools", "e2fsprogs", "grub-common", "libarchive13t64", "mtools", "qemu-utils"];

/// Packages with GRUB's modules, by the architecture (Debian's name) of the machine that *builds*: Debian has them for their
/// own architecture only. A disk for the other architecture takes them from its own tree ([`modules_for`]).
pub fn programs_of(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "amd64" => &["grub-efi-amd64-bin", "grub-pc-bin"],
        "arm64" => &["grub-efi-arm64-bin"],
        _ => &[],
    }
}

/// Packages a *tree* must have so that its disk can be made on a machine of another architecture: they are for its own
/// architecture, and nothing of them is run.
pub fn modules_for(spec: &DiskSpec) -> Vec<&'static str> {
    spec.grub_targets().iter().map(|t| t.package()).collect()
}
