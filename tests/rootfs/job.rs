//! One bootstrap in a process of its own: the test program runs itself, so that who runs it and with what environment can vary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use labimg::base::report::Silent;
use labimg::build::BuildError;
use labimg::build::debian::{RootOptions, build_root, unpack_all, write_tree};
use labimg::build::rootfs::{Bootstrap, TREE};
use labimg::build::step::{Action, Output, Run};
use labimg::build::toolchain::Toolchain;
use labimg::model::lock::LockedPackage;
use labimg::store::{Access, Store};

use crate::debs;

/// The lock's epoch.
pub const EPOCH: u64 = 1_750_000_000;
/// Names the folder a job works in; packages are in `box` and `tool` of [`DEBS`].
pub const DIR: &str = "LABIMG_ROOTFS_DIR";
/// The folder of packages.
pub const DEBS: &str = "LABIMG_ROOTFS_DEBS";
/// labimg's own program.
pub const HELPER: &str = "LABIMG_TEST_HELPER";
/// What stands before the digest a job says, before its error, and before that one's hint.
pub const SAYS: [&str; 3] = ["DIGEST ", "ERROR ", "HINT "];

/// Not a test by itself: what [`crate::bootstrap`] starts.
#[test]
fn job() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let debs = PathBuf::from(std::env::var_os(DEBS).unwrap());
    let store = Arc::new(Store::open(&dir.join("store"), Access::Shared).unwrap());
    let started = Instant::now();
    match bootstrap(&store, &dir, &debs) {
        Ok(output) => println!("{}{} {}", SAYS[0], output.digest, store.blob_path(&output.digest).display()),
        Err(e) => println!("{}{e}\n{}{}", SAYS[1], SAYS[2], e.hint().unwrap_or_default()),
    }
    println!("took {:?}", started.elapsed());
}

fn bootstrap(store: &Arc<Store>, dir: &Path, from: &Path) -> Result<Output, BuildError> {
    let (packages, tools) = (debs::locked(store, &from.join("box")), debs::locked(store, &from.join("tool")));
    let started = Instant::now();
    let toolchain = Arc::new(toolchain(store, tools));
    toolchain.tree(store, &Silent)?;
    println!("packages stored, toolchain unpacked in {:?}", started.elapsed());
    let action = Bootstrap {
        name: "box test packages".into(),
        architecture: "amd64".into(),
        packages,
        modules: vec!["dm_mod".into()],
        toolchain,
        helper: std::env::var_os(HELPER).map_or_else(|| env!("CARGO_BIN_EXE_labimg").into(), PathBuf::from),
    };
    let scratch = dir.join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let started = Instant::now();
    let run = Run { store, scratch: &scratch, inputs: &BTreeMap::new(), epoch: EPOCH, threads: 2, reporter: &Silent };
    let out = action.run(&run)?;
    println!("bootstrap: {:?}", started.elapsed());
    let left: Vec<_> = std::fs::read_dir(scratch.join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    Ok(out[TREE].clone())
}

/// A toolchain as labimg makes it from a lock.
fn toolchain(store: &Arc<Store>, packages: Vec<LockedPackage>) -> Toolchain {
    let (store, all) = (store.clone(), packages.clone());
    Toolchain::new(&packages, move |dir, reporter| {
        let beside = dir.parent().unwrap();
        let unpacked = unpack_all(&store, &all, beside, 2, reporter)?;
        let options = RootOptions {
            epoch: 0,
            without_scripts: all.iter().map(|p| p.name.clone()).collect(),
            architecture: "amd64".to_owned(),
            essential_names: Default::default(),
        };
        let mut root = build_root(unpacked, &options)?;
        for entry in root.full.entries.values_mut() {
            (entry.uid, entry.gid) = (0, 0);
            entry.mode &= 0o777;
        }
        write_tree(&root.full, dir, 0)
    })
}
