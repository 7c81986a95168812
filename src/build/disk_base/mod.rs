//! A locked disk of another distribution as a box's tree: a cloud image, by its digest.
//!
//! ```text
//! qcow2 │ raw ── image: the guest's bytes ── partitions: what each holds ── mounts: root, /boot … ── files: ext4 ─▶ tree
//! ```
//!
//! Nothing is mounted and no program runs: what of the disk is code stays data. Its own boot loader, identities, logs and file
//! systems that are no ext4 stay behind; what makes the tree a machine of a lab is put on top as for a box of packages.

mod check;
mod files;
mod image;
mod mounts;
mod partitions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::json;

use self::mounts::Mount;
use self::partitions::Parts;
use crate::base::report::Task;
use crate::build::BuildError;
use crate::build::descent::bytes::{FileBytes, Shared};
use crate::build::rootfs::{TREE, write_tree};
use crate::build::spool::Spool;
use crate::build::step::{Action, Cost, Input, Outputs, Run};
use crate::build::tree::Tree;
use crate::model::platform::Platform;

/// Moves whenever the same disk could give another tree.
const BUILDER: &str = "disk-base/1";
/// The label of the one input.
const DISK: &str = "disk";
/// Memory it takes, in MiB: every path and entry of the disk, caches of the image's tables and clusters.
const MEMORY: u64 = 512;

/// Makes a tree of a disk. Its output is called [`TREE`].
pub struct DiskBase {
    /// Its name in the plan: `box web amd64 base`.
    pub name: String,
    /// What messages call the disk: `base file:ubuntu`.
    pub what: String,
    /// The disk: a qcow2 or raw image.
    pub disk: Input,
    /// What the machine's programs are for.
    pub platform: Platform,
    /// Bytes that its files may have: those of the box's own disk.
    pub limit: u64,
}

impl Action for DiskBase {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        BUILDER
    }

    fn params(&self) -> serde_json::Value {
        json!({"limit": self.limit, "platform": self.platform})
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        BTreeMap::from([(DISK.to_owned(), self.disk.clone())])
    }

    fn cost(&self) -> Cost {
        Cost { cores: 1, memory: MEMORY }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let disk = run.inputs.get(DISK).ok_or_else(|| BuildError::Internal(format!("{}: no disk", self.name)))?;
        let task = Task::begin(run.reporter, &self.name, None);
        let (file, path) = run.store.blob_file(&disk.digest)?.into_parts();
        let file = FileBytes::new(file).map_err(|e| BuildError::io(&path, "read", e))?;
        let tree = self.tree(&(Rc::new(file) as Shared), run.scratch, run.epoch, &task)?;
        Ok(Outputs::from([(TREE.to_owned(), write_tree(&tree, run.epoch, run.store)?)]))
    }
}

impl DiskBase {
    /// The tree of a disk; contents are in a nameless file in `scratch`.
    fn tree(&self, file: &Shared, scratch: &Path, epoch: u64, task: &Task<'_>) -> Result<Tree, BuildError> {
        let disk = image::open(file, &self.what)?;
        let parts = Parts::of(&disk, &self.what)?;
        let root = mounts::root(&parts, &self.what)?;
        let mut spool = Spool::new(scratch)?;
        let mut left = self.limit;
        let origin: Arc<str> = self.what.as_str().into();
        let mut tree = Tree::default();
        for Mount { at, fs, .. } in mounts::all(&parts, root, &self.what)? {
            task.say(&at.to_string());
            // What a mounted file system hides is not there.
            tree.entries.retain(|path, _| !path.is_within(&at) || *path == at);
            let mut reader = files::Reader { fs: &fs, at, origin: &origin, spool: &mut spool, left: &mut left, task };
            reader.put(&mut tree)?;
        }
        spool.flush()?;
        check::machine(&tree, self.platform, &self.what)?;
        check::adapt(&mut tree, epoch)?;
        check::kernel(&tree, &self.what)?;
        Ok(tree)
    }
}
