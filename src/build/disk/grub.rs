//! GRUB: its core image is made by the toolchain's grub-mkimage, and put where a BIOS finds it by code of our own.
//!
//! A BIOS runs the master boot record: `boot.img`, which knows the sector of the core image; the core image's own first sector
//! (`diskboot.img`) knows where the rest of it stands (GRUB manual, "Images"; grub-core/boot/i386/pc/{boot,diskboot}.S and
//! include/grub/{i386/pc/boot.h,offsets.h}: the offsets below).

use std::path::{Path, PathBuf};

use fs_err::File;

use super::contents::read_part;
use super::layout::SECTOR;
use super::programs::Programs;
use super::raw::RootTree;
use super::{DiskSpec, mbr};
use crate::build::BuildError;

/// Where `boot.img` has the sector of the core image, eight bytes (GRUB_BOOT_MACHINE_KERNEL_SECTOR).
const KERNEL_SECTOR: usize = 0x5c;
/// Where the core image's first sector has its one block list: first sector (eight bytes), sectors (two), segment (two).
const BLOCK_LIST: usize = 0x1f4;
/// The segment the rest is loaded to (GRUB_BOOT_MACHINE_KERNEL_SEG).
const SEGMENT: u16 = 0x820;
/// Longest file of GRUB's.
const LIMIT: u64 = 16 << 20;

/// What GRUB is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A PC's BIOS.
    Bios,
    /// UEFI on amd64.
    X64Efi,
    /// UEFI on arm64.
    Arm64Efi,
}

impl Target {
    /// Its name for grub-mkimage, which is the name of its folder of modules, too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios => "i386-pc",
            Self::X64Efi => "x86_64-efi",
            Self::Arm64Efi => "arm64-efi",
        }
    }

    /// Debian's package of its modules.
    pub fn package(self) -> &'static str {
        match self {
            Self::Bios => "grub-pc-bin",
            Self::X64Efi => "grub-efi-amd64-bin",
            Self::Arm64Efi => "grub-efi-arm64-bin",
        }
    }

    /// Its name on a removable medium (UEFI 2.10, section 3.5.1.1), which needs no entry in a machine's variables.
    pub fn efi_name(self) -> &'static str {
        if self == Self::Arm64Efi { "BOOTAA64.EFI" } else { "BOOTX64.EFI" }
    }

    /// Modules in the core image: enough to read the configuration and start Linux, so the disk needs no others.
    fn modules(self) -> &'static str {
        match self {
            Self::Bios => "biosdisk part_msdos part_gpt ext2 search search_fs_uuid configfile normal linux",
            _ => "part_msdos part_gpt ext2 fat search search_fs_uuid configfile normal linux",
        }
    }
}

/// Makes `/out/<name>`, the core image for `target`, of the modules in `dir`.
///
/// # Errors
/// Whatever grub-mkimage says.
pub fn core_image(
    programs: &Programs,
    spec: &DiskSpec,
    dir: &Path,
    target: Target,
    name: &str,
) -> Result<(), BuildError> {
    let early = format!(
        "search.fs_uuid {} root\nset prefix=($root)/boot/grub\nconfigfile /boot/grub/grub.cfg\n",
        spec.root_uuid()
    );
    let early = programs.input("early.cfg", early.as_bytes())?;
    let (target_name, modules) = (target.name(), target.modules());
    let script =
        format!("grub-mkimage -d /in/grub -O {target_name} -p /boot/grub -c /in/early.cfg -o /out/{name} {modules}\n");
    programs.run("grub-mkimage", &script, &[("grub", dir), ("early.cfg", &early)], &[])
}

/// The first sector's code and the core image for a BIOS, which is to stand at sector `first` and may have `room` sectors.
///
/// # Errors
/// Images that are not as GRUB 2 has them, or do not fit.
pub fn embed(boot: &[u8], core: &[u8], (first, room): (u64, u64)) -> Result<([u8; mbr::CODE], Vec<u8>), BuildError> {
    let bad = |why: &str| BuildError::bad("GRUB's images for a BIOS", why);
    let mut code = [0; mbr::CODE];
    code.copy_from_slice(boot.get(..mbr::CODE).ok_or_else(|| bad("boot.img is too short"))?);
    put(&mut code, KERNEL_SECTOR, &first.to_le_bytes()).ok_or_else(|| bad("boot.img is too short"))?;
    let sectors = (core.len() as u64).div_ceil(SECTOR);
    let rest = u16::try_from(sectors.saturating_sub(1)).ok().filter(|r| *r > 0 && sectors <= room);
    let rest =
        rest.ok_or_else(|| bad(&format!("the core image has {sectors} sectors, and there is room for {room}")))?;
    if core.get(BLOCK_LIST + 10..BLOCK_LIST + 12) != Some(&SEGMENT.to_le_bytes()[..]) {
        return Err(bad("the core image has no list of its blocks"));
    }
    let mut core = core.to_vec();
    core.resize((sectors * SECTOR) as usize, 0);
    let list = [&(first + 1).to_le_bytes()[..], &rest.to_le_bytes(), &SEGMENT.to_le_bytes()].concat();
    put(&mut core, BLOCK_LIST, &list).ok_or_else(|| bad("the core image is too short"))?;
    Ok((code, core))
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) -> Option<()> {
    bytes.get_mut(at..at + new.len())?.copy_from_slice(new);
    Some(())
}

/// The folder of GRUB's modules for `target`: the toolchain's where it has one, else one with what the tree has.
///
/// # Errors
/// Modules that are nowhere; I/O errors.
pub fn modules_dir(
    programs: &Programs,
    spec: &DiskSpec,
    tree: &RootTree,
    target: Target,
) -> Result<PathBuf, BuildError> {
    let own = programs.tree.join("usr/lib/grub").join(target.name());
    if own.is_dir() {
        return Ok(own);
    }
    let dir = programs.scratch.join("grub").join(target.name());
    let mut archive = File::open(&tree.archive).map_err(|e| BuildError::io(&tree.archive, "open", e))?;
    fs_err::create_dir_all(&dir).map_err(|e| BuildError::io(&dir, "create", e))?;
    let mut any = false;
    for (path, part) in &tree.contents.grub {
        let Some(name) = path.strip_prefix(target.name()).and_then(|p| p.strip_prefix('/')) else { continue };
        // Some versions have debug folders in it; nothing there is wanted.
        if name.contains('/') || Path::new(name).file_name().is_none() {
            continue;
        }
        let to = dir.join(name);
        let bytes = read_part(&mut archive, *part, LIMIT).map_err(|e| BuildError::io(&to, "unpack", e))?;
        fs_err::write(&to, bytes).map_err(|e| BuildError::io(&to, "write", e))?;
        any = true;
    }
    if any {
        return Ok(dir);
    }
    let package = target.package();
    Err(BuildError::user(
        format!("{}: GRUB's modules for {} are neither in the toolchain nor in the box", spec.seed, target.name()),
        format!("add \"{package}\" to the packages of the box, or to those of [toolchain] where Debian has it"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(sectors: usize) -> Vec<u8> {
        let mut core = vec![7; sectors * 512 - 100];
        core[BLOCK_LIST..BLOCK_LIST + 12].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x20, 0x08]);
        core
    }

    #[test]
    fn sectors_are_written_into_both_images() {
        let (code, core) = embed(&[1; 512], &core(9), (2048, 9)).unwrap();
        assert_eq!(&code[KERNEL_SECTOR..KERNEL_SECTOR + 9], &[0, 8, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(core.len(), 9 * 512);
        assert_eq!(&core[BLOCK_LIST..BLOCK_LIST + 12], &[1, 8, 0, 0, 0, 0, 0, 0, 8, 0, 0x20, 8]);
    }

    #[test]
    fn images_that_can_not_be_are_refused() {
        assert!(embed(&[1; 300], &core(9), (1, 9)).is_err());
        let error = embed(&[1; 512], &core(9), (1, 8)).unwrap_err().to_string();
        assert!(error.contains("the core image has 9 sectors, and there is room for 8"), "{error}");
        for core in [&[0; 9 * 512][..], &[0; 512], &[]] {
            assert!(embed(&[1; 512], core, (1, 99)).is_err());
        }
    }
}
