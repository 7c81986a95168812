//! The toolchain: a tree of locked packages, unpacked into the store once and run in sandboxes.
//!
//! The tree is made in a directory beside its place and renamed into it when it is whole, so a place holds a whole tree or
//! none. It can be made again at any time; the garbage collector removes one that nobody has used for long.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::base::digest::Digest;
use crate::base::flock::{self, Mode};
use crate::base::report::Reporter;
use crate::build::BuildError;
use crate::model::lock::LockedPackage;
use crate::store::toolchain::ToolchainPlace;
use crate::store::{Store, StoreError};

/// Moves whenever the same packages give another tree.
const VERSION: u32 = 2;
/// How long we wait for another labimg that unpacks the same toolchain.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Writes the tree into an empty directory.
pub type WriteTree = dyn Fn(&Path, &dyn Reporter) -> Result<(), BuildError> + Send + Sync;

/// A toolchain, whether its tree is there or not.
pub struct Toolchain {
    key: Digest,
    write: Box<WriteTree>,
}

/// What a toolchain is known by: its packages, and how they are unpacked.
pub fn key(packages: &[LockedPackage]) -> Digest {
    let mut digests: Vec<String> = packages.iter().map(|p| p.digest.to_string()).collect();
    digests.sort();
    digests.dedup();
    let rules = crate::build::debian::rules::table::digest();
    Digest::of(format!("toolchain/{VERSION}\n{rules}\n{}\n", digests.join("\n")).as_bytes())
}

/// Where the tree of these packages is, once it is there.
pub fn tree_dir(store: &Store, packages: &[LockedPackage]) -> PathBuf {
    store.toolchain(&key(packages)).root
}

impl Toolchain {
    /// The toolchain of `packages`, whose tree `write` makes when somebody needs it.
    pub fn new(
        packages: &[LockedPackage],
        write: impl Fn(&Path, &dyn Reporter) -> Result<(), BuildError> + Send + Sync + 'static,
    ) -> Self {
        Self { key: key(packages), write: Box::new(write) }
    }

    /// What it is known by.
    pub fn key(&self) -> Digest {
        self.key
    }

    /// The tree, made when it is not there. One of several that ask at the same time makes it, the others wait.
    ///
    /// # Errors
    /// Whatever keeps it from being made; nothing is left then.
    pub fn tree(&self, store: &Store, reporter: &dyn Reporter) -> Result<PathBuf, BuildError> {
        let place = store.toolchain(&self.key);
        if used(&place) {
            return Ok(place.root);
        }
        let dir = store.toolchains_dir();
        fs_err::create_dir_all(&dir).map_err(|e| BuildError::io(&dir, "create", e))?;
        let _turn = flock::lock(&place.lock, Mode::Exclusive, PATIENCE).map_err(StoreError::from)?;
        if !used(&place) {
            self.make(&dir, &place, reporter)?;
        }
        Ok(place.root)
    }

    fn make(&self, dir: &Path, place: &ToolchainPlace, reporter: &dyn Reporter) -> Result<(), BuildError> {
        let failed = |e: std::io::Error| BuildError::from(StoreError::io(&place.dir, "write", e));
        let made = tempfile::Builder::new().prefix(".made-").tempdir_in(dir).map_err(failed)?;
        let root = made.path().join("root");
        fs_err::create_dir(&root).map_err(failed)?;
        (self.write)(&root, reporter)?;
        fs_err::write(made.path().join("complete"), "").map_err(failed)?;
        // A tree that looks whole after the machine lost power must be whole.
        let synced = fs_err::File::open(made.path()).map_err(failed)?;
        rustix::fs::syncfs(synced.file()).map_err(|e| failed(e.into()))?;
        // What stands there without its mark is what gc left when it was stopped.
        match fs_err::remove_dir_all(&place.dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        fs_err::rename(made.path(), &place.dir).map_err(failed)?;
        // It has moved: nothing is there to be removed.
        let _ = made.keep();
        mode_755(&place.dir).map_err(failed)
    }
}

/// Whether the tree is there; the garbage collector learns that somebody uses it.
fn used(place: &ToolchainPlace) -> bool {
    let Ok(mark) = fs_err::OpenOptions::new().write(true).open(&place.complete) else {
        return place.complete.is_file();
    };
    // A store that can not be written to has no garbage collector either.
    let _ = mark.file().set_modified(SystemTime::now());
    true
}

/// Temporary directories are for their owner alone.
fn mode_755(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::report::Silent;
    use crate::store::Access;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn package(text: &str) -> LockedPackage {
        let field = |s: &str| s.to_owned();
        LockedPackage {
            debian: field("d"),
            name: field(text),
            version: field("1"),
            architecture: field("all"),
            suite: field("s"),
            archive: field("debian"),
            path: field("p"),
            digest: Digest::of(text.as_bytes()),
            size: 1,
            sets: Vec::new(),
        }
    }

    #[test]
    fn a_tree_is_made_once_whoever_asks() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let packages = [package("a"), package("b")];
        let toolchain = Toolchain::new(&packages, move |root, _| {
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(50));
            fs_err::write(root.join("file"), "x").map_err(|e| BuildError::io(root, "write", e))
        });
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(toolchain.tree(&store, &Silent).unwrap().join("file").is_file()));
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert_eq!(tree_dir(&store, &packages), toolchain.tree(&store, &Silent).unwrap());
        assert_eq!(key(&packages), key(&[package("b"), package("a"), package("b")]));
        assert_ne!(key(&packages), key(&[package("b")]));
    }

    #[test]
    fn half_a_tree_is_none_and_old_ones_are_collected() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Shared).unwrap();
        let fails = Toolchain::new(&[package("a")], |root, _| {
            fs_err::write(root.join("file"), "x").map_err(|e| BuildError::io(root, "write", e))?;
            Err(BuildError::bad("package a", "it is broken"))
        });
        fails.tree(&store, &Silent).unwrap_err();
        let place = store.toolchain(&fails.key());
        assert!(!place.dir.exists() && fs_err::read_dir(store.toolchains_dir()).unwrap().count() == 1, "but its lock");
        fs_err::create_dir_all(place.root.join("half")).unwrap();
        let good = Toolchain::new(&[package("a")], |_, _| Ok(()));
        assert!(!good.tree(&store, &Silent).unwrap().join("half").exists());
        let hour = Duration::from_secs(3600);
        drop(store);
        let store = Store::open(dir.path(), Access::Exclusive).unwrap();
        assert_eq!(store.collect(SystemTime::now() - hour, false).unwrap().toolchains, 0);
        assert_eq!(store.collect(SystemTime::now() + hour, false).unwrap().toolchains, 1);
        assert_eq!(fs_err::read_dir(store.toolchains_dir()).unwrap().count(), 0);
    }
}
