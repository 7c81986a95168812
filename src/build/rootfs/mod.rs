//! Root file systems of virtual machines: locked packages installed with their own scripts, everything that varies made the
//! same, and what a box needs put on top.
//!
//! ```text
//! locked packages ─ Bootstrap (mmdebstrap in a sandbox, no network) ─▶ tree ─ Compose (users, files, units, k3s) ─▶ tree
//! ```
//!
//! A tree travels as one uncompressed tar blob: sorted, every time the lock's epoch, numeric owners, hard links and file
//! capabilities kept, no devices, `./` left off. [`read_tree`] reads it without unpacking it.

pub mod archive;
pub mod bootstrap;
pub mod compose;
pub mod normalise;
mod repository;
mod status;
pub mod tree_tar;

pub use archive::{ImageArchive, ImageSource};
pub use bootstrap::Bootstrap;
pub use compose::Compose;
pub use tree_tar::{read_tree, write_tree};

/// The output of [`Bootstrap`] and `compose::Compose`: the tree.
pub const TREE: &str = "tree";

/// Debian packages whose programs [`Bootstrap`] runs: they must be in the toolchain, beside the essential packages.
pub const PROGRAMS: [&str; 6] = ["apt", "diffutils", "libc-bin", "mmdebstrap", "mount", "zstd"];

/// What a machine's packages are called beside the author's: it boots, answers SSH and can be administered. `kernel` is a
/// kernel package of the author's choice; the default is the small one for virtual machines, whose drivers are
/// `virtio_blk`, `virtio_scsi`, `virtio_net` and `ata_piix`, but neither `ahci` nor `e1000`: disks on a SATA controller
/// (VirtualBox's usual one) need `linux-image-<arch>`.
pub fn base_packages(architecture: &str, kernel: Option<&str>) -> Vec<String> {
    let mut all: Vec<String> = crate::model::box_packages::machine(architecture, kernel).collect();
    all.sort();
    all.dedup();
    all
}
