//! The step that makes the disk which steps start from: the tree and the server of module `agent`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fs_err::File;
use serde_json::json;

use super::agent;
use crate::base::report::Task;
use crate::build::BuildError;
use crate::build::disk::drivers::VIRTIO;
use crate::build::disk::programs::Programs;
use crate::build::disk::{DiskSpec, RootTree, contents, qcow2, raw};
use crate::build::rootfs::{TREE, read_tree, write_tree};
use crate::build::step::{Action, Cost, Input, Output, Outputs, Run};
use crate::build::toolchain::Toolchain;
use crate::model::profile::Compression;

/// The output that is the disk, a qcow2 image.
pub(super) const DISK: &str = "disk";
/// The output that is the kernel.
pub(super) const KERNEL: &str = "kernel";
/// The output that is the initial ramdisk.
pub(super) const INITRD: &str = "initrd";
/// The image's name in `/out`.
const IMAGE: &str = "start.qcow2";
/// Largest kernel and largest ramdisk, in bytes: they are in memory for a moment.
const BOOT_LIMIT: u64 = 512 << 20;

/// Makes the disk a box's steps start from.
pub struct StartDisk {
    /// Its name in the plan: `box m amd64 disk for its steps`.
    pub name: String,
    /// The tree.
    pub tree: Input,
    /// The disk.
    pub disk: DiskSpec,
    /// The programs.
    pub toolchain: Arc<Toolchain>,
    /// labimg itself, which makes the sandbox.
    pub helper: PathBuf,
}

impl Action for StartDisk {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        "provision-disk/1"
    }

    fn params(&self) -> serde_json::Value {
        let disk = &self.disk;
        json!({
            "boot": disk.boot,
            "platform": disk.platform,
            "seed": disk.seed,
            "size": disk.size,
            "table": disk.table,
            "toolchain": self.toolchain.key(),
        })
    }

    fn inputs(&self) -> BTreeMap<String, Input> {
        BTreeMap::from([(TREE.to_owned(), self.tree.clone())])
    }

    fn cost(&self) -> Cost {
        Cost { cores: 2, memory: 512 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let from = run.inputs.get(TREE).ok_or_else(|| BuildError::Internal(format!("{}: no tree", self.name)))?;
        let mut tree = read_tree(&run.store.blob_path(&from.digest), &self.name)?;
        agent::put(&mut tree, &self.name)?;
        let whole = write_tree(&tree, run.epoch, run.store)?;
        let programs = Programs {
            tree: self.toolchain.tree(run.store, run.reporter)?,
            helper: self.helper.clone(),
            scratch: run.scratch.to_owned(),
            epoch: run.epoch,
            threads: run.threads,
        };
        let task = Task::begin(run.reporter, &self.name, None);
        let archive = run.store.blob_path(&whole.digest);
        let tree = RootTree::open(&archive, &self.disk)?;
        tree.need(&VIRTIO)?;
        let disk = raw(&programs, &self.disk, &tree, &task)?;
        task.say("qcow2");
        let image = qcow2::convert(&programs, Compression::None, IMAGE)?;
        fs_err::remove_file(&disk).map_err(|e| BuildError::io(&disk, "remove", e))?;
        let (kernel, initrd) = self.boot_files(run, &whole, &tree)?;
        let read = File::open(&image).map_err(|e| BuildError::io(&image, "open", e))?;
        let disk = stored(run.store.put_reader(read, None, "a disk")?);
        Ok(Outputs::from([(DISK.to_owned(), disk), (KERNEL.to_owned(), kernel), (INITRD.to_owned(), initrd)]))
    }
}

impl StartDisk {
    /// Kernel and ramdisk, which QEMU starts without a boot loader.
    fn boot_files(&self, run: &Run<'_>, whole: &Output, tree: &RootTree) -> Result<(Output, Output), BuildError> {
        let bad = |e: std::io::Error| BuildError::bad(self.name.as_str(), e.to_string());
        let path = run.store.blob_path(&whole.digest);
        let all = read_tree(&path, &self.name)?;
        let kernel = crate::model::guest_path::GuestPath::parse(tree.contents.kernel_path().trim_start_matches('/'))?;
        let kernel = match all.get(&kernel).map(|e| &e.kind) {
            Some(crate::build::tree::Kind::File(content)) => content.read(BOOT_LIMIT).map_err(bad)?,
            _ => return Err(BuildError::bad(self.name.as_str(), format!("`{kernel}` is no file"))),
        };
        let Some(part) = tree.contents.initrd else {
            let message = format!("{}: its kernel has no initial ramdisk", self.name);
            return Err(BuildError::user(message, "add initramfs-tools to its packages"));
        };
        let mut archive = File::open(&path).map_err(|e| BuildError::io(&path, "open", e))?;
        let initrd = contents::read_part(&mut archive, part, BOOT_LIMIT).map_err(bad)?;
        let put = |bytes: &[u8]| Ok::<_, BuildError>(stored((run.store.put(bytes)?, bytes.len() as u64)));
        Ok((put(&kernel)?, put(&initrd)?))
    }
}

/// An output without facts.
pub(super) fn stored((digest, size): (crate::base::digest::Digest, u64)) -> Output {
    Output { digest, size, facts: BTreeMap::new() }
}
