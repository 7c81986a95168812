//! Puts a disk together: one sparse raw file.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fs_err::File;

use super::contents::{self, Contents};
use super::drivers::{ALWAYS, Driver, Drivers};
use super::grub::{self, Target};
use super::layout::{Layout, Role, SECTOR};
use super::programs::Programs;
use super::{DiskSpec, esp, ext4, gpt, mbr};
use crate::base::report::Task;
use crate::build::BuildError;
use crate::model::profile::Table;

/// The disk's name in `/out`.
pub const NAME: &str = "disk.raw";

/// A tree that was looked at: whether a disk of it can start is known before one is made.
#[derive(Debug, Clone)]
pub struct RootTree {
    /// Its archive: uncompressed tar, which does not change meanwhile.
    pub archive: PathBuf,
    /// What it holds.
    pub contents: Contents,
    /// What its kernel can drive.
    pub drivers: Drivers,
    /// How messages call it: `box lab/node`.
    what: String,
}

impl RootTree {
    /// Looks at the tree of a disk.
    ///
    /// # Errors
    /// A tree without a kernel, or one that can not read the root file system; archives that can not be read.
    pub fn open(archive: &Path, spec: &DiskSpec) -> Result<Self, BuildError> {
        let what = format!("box {}", spec.seed);
        let mut file = File::open(archive).map_err(|e| BuildError::io(archive, "open", e))?;
        let contents = contents::scan(&mut file, &what)?;
        let drivers = Drivers::of(&contents, &mut file, &what)?;
        let tree = Self { archive: archive.to_owned(), contents, drivers, what };
        tree.need(&ALWAYS)?;
        Ok(tree)
    }

    /// Whether its kernel has these drivers.
    ///
    /// # Errors
    /// The first it has not, by name.
    pub fn need(&self, drivers: &[Driver]) -> Result<(), BuildError> {
        self.drivers.need(drivers, &self.contents, &self.what)
    }
}

/// Makes the disk of a tree in the scratch directory of `programs` and gives its path: a sparse file.
///
/// # Errors
/// A disk that is too small or can not be, programs that fail.
pub fn raw(programs: &Programs, spec: &DiskSpec, tree: &RootTree, task: &Task<'_>) -> Result<PathBuf, BuildError> {
    spec.check()?;
    let layout = spec.layout();
    let path = programs.out(NAME);
    let disk = create(&path, spec.bytes())?;
    let root = layout.partition(Role::Root).ok_or_else(|| BuildError::Internal("a disk without a root".to_owned()))?;
    task.say("ext4");
    ext4::write(programs, spec, &tree.contents, &tree.archive, &root)?;
    task.say("boot loader");
    let mut code = None;
    for target in spec.grub_targets() {
        let modules = grub::modules_dir(programs, spec, tree, target)?;
        match (target, layout.core, layout.partition(Role::Esp)) {
            (Target::Bios, Some(core), _) => {
                grub::core_image(programs, spec, &modules, target, "core.img")?;
                code = Some(embed(&programs.out("core.img"), &modules.join("boot.img"), core, &disk, &path)?);
            }
            (_, _, Some(partition)) => {
                grub::core_image(programs, spec, &modules, target, "core.efi")?;
                esp::write(programs, spec, &partition, target)?;
            }
            _ => return Err(BuildError::Internal(format!("no place for GRUB's {}", target.name()))),
        }
    }
    write_table(spec, &layout, code.as_ref(), &disk).map_err(|e| BuildError::io(&path, "write", e))?;
    Ok(path)
}

/// An empty sparse file.
fn create(path: &Path, bytes: u64) -> Result<File, BuildError> {
    let failed = |e| BuildError::io(path, "create", e);
    fs_err::create_dir_all(crate::base::atomic::parent(path)).map_err(failed)?;
    let file = File::create(path).map_err(failed)?;
    file.set_len(bytes).map_err(failed)?;
    Ok(file)
}

/// Puts the core image at `image` into its place and gives the first sector's code.
fn embed(
    image: &Path,
    boot: &Path,
    place: (u64, u64),
    disk: &File,
    path: &Path,
) -> Result<[u8; mbr::CODE], BuildError> {
    let core = fs_err::read(image).map_err(|e| BuildError::io(image, "read", e))?;
    let boot = fs_err::read(boot).map_err(|e| BuildError::io(boot, "read", e))?;
    let (code, core) = grub::embed(&boot, &core, place)?;
    disk.file().write_all_at(&core, place.0 * SECTOR).map_err(|e| BuildError::io(path, "write", e))?;
    fs_err::remove_file(image).map_err(|e| BuildError::io(image, "remove", e))?;
    Ok(code)
}

fn write_table(spec: &DiskSpec, layout: &Layout, code: Option<&[u8; mbr::CODE]>, disk: &File) -> std::io::Result<()> {
    let seed = spec.seed();
    match spec.table {
        Table::Mbr => disk.file().write_all_at(&mbr::table(layout, seed.number("disk"), code), 0),
        Table::Gpt => {
            let gpt = gpt::table(layout, &seed, spec.platform.arch() == "arm64");
            disk.file().write_all_at(&mbr::protective(layout, code), 0)?;
            disk.file().write_all_at(&gpt.primary, SECTOR)?;
            disk.file().write_all_at(&gpt.backup, gpt.backup_at)
        }
    }
}
