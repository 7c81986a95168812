//! A toolchain of real packages, a tree that boots, and a machine to boot it on. What this machine lacks is said aloud.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use labimg::base::report::{Reporter, Silent, Task};
use labimg::build::BuildError;
use labimg::build::debian::{RootOptions, build_root, unpack_all, write_tree};
use labimg::build::disk::programs::Programs;
use labimg::build::disk::{DiskSpec, PROGRAMS, RootTree, programs_of, raw};
use labimg::build::toolchain::Toolchain;
use labimg::model::lock::{Lock, LockedPackage, toolchain_set};
use labimg::model::platform::Platform;
use labimg::model::profile::{Boot, Compression, Table};
use labimg::store::{Access, Store};

/// Seconds since 1970 of everything made here.
pub const EPOCH: u64 = 1_750_000_000;

/// What the tests share: kept in the folder that `LABIMG_TEST_DISKS` names.
pub struct Bed {
    /// The root tree's archive.
    pub tree: PathBuf,
    /// The private key that logs in.
    pub key: PathBuf,
    /// The store with the toolchain.
    pub store: Arc<Store>,
    /// The toolchain.
    pub toolchain: Arc<Toolchain>,
    /// The package with GRUB's modules for arm64, which nothing here can run.
    pub arm64: PathBuf,
}

/// labimg, which is its own helper.
pub fn helper() -> PathBuf {
    env!("CARGO_BIN_EXE_labimg").into()
}

/// The bed, or the reason for there being none, which the caller says.
pub fn bed() -> Option<&'static Bed> {
    static BED: OnceLock<Result<Bed, String>> = OnceLock::new();
    match BED.get_or_init(make) {
        Ok(bed) => Some(bed),
        Err(why) => {
            skipped(why);
            None
        }
    }
}

/// Says that something is not tested.
pub fn skipped(why: &str) {
    eprintln!("NOT TESTED: {why}");
}

/// Whether this machine has a program; said where not.
pub fn has(program: &str) -> bool {
    let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|d| Path::new(d).join(program).exists());
    if !found {
        skipped(&format!("{program} is not installed"));
    }
    found
}

fn make() -> Result<Bed, String> {
    let Some(at) = std::env::var_os("LABIMG_TEST_DISKS").map(PathBuf::from) else {
        return Err("`scripts/test disks` makes and boots disks; LABIMG_TEST_DISKS=FOLDER does so here".to_owned());
    };
    std::fs::create_dir_all(&at).unwrap();
    let (tree, key) = (at.join("tree.tar"), at.join("key"));
    if !tree.exists() {
        if rustix::process::getuid().as_raw() != 0 {
            return Err("a tree is made by root only".to_owned());
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disks/make-tree");
        ran(Command::new(script).arg(&tree).arg(&key))?;
    }
    let lock = lock(&at)?;
    let store = Arc::new(Store::open(&at.join("store"), Access::Shared).map_err(|e| e.to_string())?);
    let toolchain = Arc::new(toolchain(&lock, &store));
    let arm64 = lock.packages.iter().find(|p| p.name == "grub-efi-arm64-bin").ok_or("no GRUB for arm64 is locked")?;
    let arm64 = store.blob_path(&arm64.digest);
    Ok(Bed { tree, key, store, toolchain, arm64 })
}

fn ran(command: &mut Command) -> Result<(), String> {
    let ended = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    if ended.status.success() { Ok(()) } else { Err(format!("{command:?}: {}\n{said}", ended.status)) }
}

/// The programs as a profile's toolchain, and GRUB's modules, which Debian has for their own architecture only, as the packages
/// of an image.
fn lock(at: &Path) -> Result<Lock, String> {
    let quoted = |names: &[&str]| names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    let profile = at.join("programs.toml");
    let text = format!(
        "schema = 1\nname = \"programs\"\n\n[debian.trixie]\nsuites = [\"trixie\", \"trixie-updates\", \"trixie-security\"]\n\n\
         [toolchain]\ndebian = \"trixie\"\npackages = [{}]\n\n\
         [[image]]\nref = \"lab.test/grub:1\"\nbuild = \"grub/amd64\"\nplatforms = [\"linux/amd64\"]\n\n\
         [[image]]\nref = \"lab.test/arm:1\"\nbuild = \"grub/arm64\"\nplatforms = [\"linux/arm64\"]\n",
        quoted(&PROGRAMS)
    );
    std::fs::create_dir_all(at.join("grub")).unwrap();
    for architecture in ["amd64", "arm64"] {
        let packages = quoted(programs_of(architecture));
        let image = format!("schema = 1\ndebian = \"trixie\"\nessential = false\npackages = [{packages}]\n");
        std::fs::write(at.join("grub").join(architecture), image).unwrap();
    }
    let (file, store) = (at.join("programs.lock"), at.join("store"));
    if std::fs::read_to_string(&profile).ok().as_deref() != Some(&text) || !file.exists() {
        std::fs::write(&profile, &text).unwrap();
        for verb in ["lock", "fetch"] {
            let mut command = Command::new(helper());
            ran(command.arg(verb).arg(&profile).arg("--store").arg(&store).arg("--quiet"))?;
        }
    }
    labimg::model::lock::wire::parse(&std::fs::read_to_string(file).unwrap()).map_err(|e| e.to_string())
}

fn toolchain(lock: &Lock, store: &Arc<Store>) -> Toolchain {
    let mut packages: Vec<LockedPackage> = lock.packages_of(&toolchain_set("amd64")).cloned().collect();
    let grub = lock.packages.iter().filter(|p| programs_of("amd64").contains(&p.name.as_str()));
    packages.extend(grub.cloned());
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    packages.dedup_by(|a, b| a.digest == b.digest);
    let (key, store) = (packages.clone(), store.clone());
    Toolchain::new(&key, move |dir, reporter| unpack(&store, &packages, dir, reporter))
}

fn unpack(store: &Store, packages: &[LockedPackage], dir: &Path, reporter: &dyn Reporter) -> Result<(), BuildError> {
    let scratch = tempfile::tempdir().unwrap();
    let unpacked = unpack_all(store, packages, scratch.path(), 2, reporter)?;
    let options = RootOptions {
        epoch: 0,
        without_scripts: packages.iter().map(|p| p.name.clone()).collect(),
        architecture: "amd64".to_owned(),
        essential_names: Default::default(),
    };
    let mut root = build_root(unpacked, &options)?;
    root.full.entries.values_mut().for_each(|e| (e.uid, e.gid, e.mode) = (0, 0, e.mode & 0o777));
    write_tree(&root.full, dir, 0)
}

/// A disk of one GiB for this machine.
pub fn spec(boot: Boot, table: Table) -> DiskSpec {
    let compression = Compression::Zstd;
    DiskSpec { size: 1, boot, table, compression, platform: Platform::LinuxAmd64, seed: "disks/test".to_owned() }
}

impl Bed {
    /// Programs over an empty scratch directory.
    pub fn programs(&self, scratch: &Path) -> Programs {
        Programs {
            tree: self.toolchain.tree(&self.store, &Silent).unwrap(),
            helper: helper(),
            scratch: scratch.to_owned(),
            epoch: EPOCH,
            threads: 2,
        }
    }

    /// Makes a disk.
    pub fn disk(&self, programs: &Programs, spec: &DiskSpec) -> Result<PathBuf, BuildError> {
        let tree = RootTree::open(&self.tree, spec)?;
        raw(programs, spec, &tree, &Task::begin(&Silent, "disk", None))
    }
}
