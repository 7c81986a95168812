//! The step that makes a disk of a tree and boxes of the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err::File;
use serde_json::json;

use super::ovf::{Controller, DISK_ROLE, ovf};
use super::{Machine, archive, box_of, name, vagrantfile};
use crate::base::report::Task;
use crate::base::shell;
use crate::build::BuildError;
use crate::build::disk::drivers::{AHCI, PIIX, SCSI_DISK, VIRTIO};
use crate::build::disk::programs::Programs;
use crate::build::disk::{DiskSpec, RootTree, qcow2, raw, vmdk};
use crate::build::sandbox::Spec;
use crate::build::step::{Action, Cost, Input, Output, Outputs, Run};
use crate::build::toolchain::Toolchain;
use crate::model::profile::Provider;

/// Moves whenever the same tree could give other bytes: another layout, other options, other templates.
const BUILDER: &str = "vagrant-box/1";
/// The label of the one input.
pub const TREE: &str = "tree";
/// The VMDK's name in a box.
const VMDK: &str = "box.vmdk";
/// The qcow2 image's name in a box.
const IMAGE: &str = "box.img";

/// Boxes of a tree. Its outputs are called as the providers whose boxes they are: `libvirt`, `virtualbox`.
pub struct BoxAction {
    /// Its name in the plan: `box node linux/amd64`.
    pub name: String,
    /// The tree: an uncompressed tar archive, normalised.
    pub tree: Input,
    /// Its disk.
    pub disk: DiskSpec,
    /// What machines start with.
    pub machine: Machine,
    /// Providers; `qemu` asks for libvirt's box.
    pub providers: BTreeSet<Provider>,
    /// The programs.
    pub toolchain: Arc<Toolchain>,
    /// labimg itself, which makes the sandbox.
    pub helper: PathBuf,
    /// The command that runs a program in the toolchain, for messages: `labimg toolchain exec profiles/x.toml`.
    pub exec: String,
}

impl Action for BoxAction {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn builder(&self) -> &'static str {
        BUILDER
    }

    fn params(&self) -> serde_json::Value {
        let (disk, machine) = (&self.disk, &self.machine);
        json!({
            "boot": disk.boot,
            "compression": disk.compression,
            "cpus": machine.cpus,
            "debian": machine.debian,
            "machine": machine.name,
            "memory": machine.memory,
            "platform": disk.platform,
            "providers": self.boxes(),
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
        // mke2fs keeps its maps in memory, qemu-img a few clusters.
        Cost { cores: 2, memory: 512 }
    }

    fn run(&self, run: &Run<'_>) -> Result<Outputs, BuildError> {
        let tree = run.inputs.get(TREE).ok_or_else(|| BuildError::Internal(format!("{}: no tree", self.name)))?;
        self.check()?;
        let programs = Programs {
            tree: self.toolchain.tree(run.store, run.reporter)?,
            helper: self.helper.clone(),
            scratch: run.scratch.to_owned(),
            epoch: run.epoch,
            threads: run.threads,
        };
        let task = Task::begin(run.reporter, &self.name, None);
        let tree = RootTree::open(&run.store.blob_path(&tree.digest), &self.disk)?;
        need_drivers(&self.boxes(), &tree)?;
        let disk = raw(&programs, &self.disk, &tree, &task)?;
        let mut outputs = Outputs::new();
        for provider in self.boxes() {
            task.say(name(provider));
            let made = match provider {
                Provider::Virtualbox => self.virtualbox(run, &disk, Controller::of(&tree.drivers), &task)?,
                _ => self.libvirt(run, &programs, &task)?,
            };
            outputs.insert(name(provider).to_owned(), made);
        }
        Ok(outputs)
    }

    fn look_inside(&self, scratch: &Path) -> Option<String> {
        // Before a program ran there is nothing to look into.
        Spec::load(scratch).ok()?;
        Some(format!("{} --scratch {} -- /bin/sh", self.exec, shell::word(scratch)))
    }
}

impl BoxAction {
    /// Providers that get a file.
    fn boxes(&self) -> BTreeSet<Provider> {
        self.providers.iter().map(|p| box_of(*p)).collect()
    }

    fn check(&self) -> Result<(), BuildError> {
        if self.disk.platform.arch() == "arm64" && self.boxes().contains(&Provider::Virtualbox) {
            let message = format!("{}: there are no VirtualBox boxes for {}", self.name, self.disk.platform);
            return Err(BuildError::user(message, "write providers = [\"libvirt\", \"qemu\"]"));
        }
        Ok(())
    }

    fn libvirt(&self, run: &Run<'_>, programs: &Programs, task: &Task<'_>) -> Result<Output, BuildError> {
        let image = qcow2::convert(programs, self.disk.compression, IMAGE)?;
        let texts = [
            ("Vagrantfile", vagrantfile::embedded(&self.disk, &self.machine, Provider::Libvirt)?),
            ("metadata.json", archive::metadata(Provider::Libvirt, &self.disk)),
        ];
        self.pack(run, &texts, (IMAGE, &image), task)
    }

    fn virtualbox(
        &self,
        run: &Run<'_>,
        disk: &Path,
        controller: Controller,
        task: &Task<'_>,
    ) -> Result<Output, BuildError> {
        let path = disk.with_file_name(VMDK);
        let size = self.write_vmdk(disk, &path, run.threads)?;
        let texts = [
            ("Vagrantfile", vagrantfile::embedded(&self.disk, &self.machine, Provider::Virtualbox)?),
            ("box.ovf", ovf(&self.disk, &self.machine, controller, (VMDK, size))?),
            ("metadata.json", archive::metadata(Provider::Virtualbox, &self.disk)),
        ];
        self.pack(run, &texts, (VMDK, &path), task)
    }

    /// Writes the VMDK and gives its size.
    fn write_vmdk(&self, disk: &Path, path: &Path, threads: usize) -> Result<u64, BuildError> {
        let failed = |e| BuildError::io(path, "write", e);
        let seed = self.disk.seed();
        let uuid = seed.uuid(DISK_ROLE).to_string();
        let identity = vmdk::Identity { name: VMDK, cid: seed.number("VMDK content"), uuid: &uuid };
        let from = File::open(disk).map_err(|e| BuildError::io(disk, "open", e))?;
        let mut out = std::io::BufWriter::with_capacity(256 * 1024, File::create(path).map_err(failed)?);
        vmdk::write(&from, self.disk.bytes(), identity, threads, &mut out, &|_| ()).map_err(failed)?;
        fs_err::metadata(path).map(|m| m.len()).map_err(failed)
    }

    /// Stores a box and removes its large file, which nobody needs twice.
    fn pack(
        &self,
        run: &Run<'_>,
        texts: &[(&str, String)],
        (name, path): (&str, &Path),
        task: &Task<'_>,
    ) -> Result<Output, BuildError> {
        let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let made = archive::pack(run.store, &texts, (name, path), run.epoch, &|n| task.advance(n))?;
        fs_err::remove_file(path).map_err(|e| BuildError::io(path, "remove", e))?;
        Ok(made)
    }
}

/// Whether the tree's kernel can start in the machines of these providers.
fn need_drivers(boxes: &BTreeSet<Provider>, tree: &RootTree) -> Result<(), BuildError> {
    if boxes.contains(&Provider::Libvirt) {
        tree.need(&VIRTIO)?;
    }
    if boxes.contains(&Provider::Virtualbox) {
        let controller = match Controller::of(&tree.drivers) {
            Controller::Sata => AHCI,
            Controller::Ide => PIIX,
        };
        // Its network card is a virtio one, which every kernel for virtual machines drives.
        let [pci, _, network] = VIRTIO;
        tree.need(&[controller, SCSI_DISK, pci, network])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tarball::{Kind, Member, TarWriter};
    use crate::build::disk::spec::example;
    use crate::model::profile::{Boot, Table};

    /// The verdict on a tree whose kernel has `builtin` built in and `module` among its modules.
    fn verdict(builtin: &[&str], module: &str, provider: Provider) -> Result<(), BuildError> {
        let list: String = builtin.iter().map(|name| format!("kernel/x/{name}.ko\n")).collect();
        let module = format!("usr/lib/modules/6.1/kernel/{module}.ko.xz");
        let mut tar = TarWriter::new(Vec::new());
        for (path, text) in
            [("boot/vmlinuz-6.1", "kernel"), (&module, "x"), ("usr/lib/modules/6.1/modules.builtin", list.as_str())]
        {
            let kind = Kind::File(text.len() as u64);
            tar.put(&Member { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: 7 }, &mut text.as_bytes()).unwrap();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), tar.finish().unwrap()).unwrap();
        let tree = RootTree::open(file.path(), &example(Boot::Bios, Table::Mbr))?;
        need_drivers(&BTreeSet::from([provider]), &tree)
    }

    #[test]
    fn the_driver_that_a_providers_machines_lack_is_named() {
        let virtio = ["ext4", "virtio_pci", "virtio_blk", "virtio_net"];
        let with = |more: &[&'static str]| [&virtio[..], more].concat();
        let said = |builtin: &[&str], module, provider| {
            let error = verdict(builtin, module, provider).unwrap_err();
            (error.to_string(), error.hint().unwrap())
        };
        let (message, _) = said(&["ext4x"], "loop", Provider::Libvirt);
        assert_eq!(
            message,
            "box lab/box: kernel 6.1 has no driver `ext4` (the root file system) built in or in its initial ramdisk"
        );
        let (message, hint) = said(&["ext4", "virtio_pci"], "virtio_blk", Provider::Libvirt);
        assert!(message.contains("no driver `virtio_blk` (virtio disks)"), "{message}");
        assert_eq!(hint, "it is among its modules: add `virtio_blk` to `modules` of the box");
        verdict(&virtio, "loop", Provider::Libvirt).unwrap();
        let (message, hint) = said(&virtio, "loop", Provider::Virtualbox);
        assert!(message.contains("no driver `ahci` (SATA controllers)"), "{message}");
        assert_eq!(hint, "choose another `kernel` package, or another `base`; fewer `providers` need fewer drivers");
        let (message, _) = said(&with(&["ata_piix"]), "loop", Provider::Virtualbox);
        assert!(message.contains("no driver `sd_mod` (SATA and IDE disks)"), "{message}");
        verdict(&with(&["ata_piix", "sd_mod"]), "loop", Provider::Virtualbox).unwrap();
    }
}
